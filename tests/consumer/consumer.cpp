#include <carousel/rnn_spec.hpp>
#include <carousel/tensor.hpp>
int main() { return 0; }
