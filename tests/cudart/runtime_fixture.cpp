#include "tests/cudart/runtime_fixture.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "src/backend/cuda/runtime/cuda_device.hpp"

namespace carousel::cuda {

namespace {

constexpr int kKernel = 0;  // what it would be is never looked at

Launch note_bias(const RowBiasArgs& args) {
    test::added_biases().push_back(args);
    Launch launch;
    launch.kernel = "add_bias";
    launch.function = &kKernel;
    launch.grid = launch.block = {1, 1, 1};
    launch.args_bytes = sizeof(args);
    std::memcpy(launch.args, &args, sizeof(args));
    return launch;
}

}  // namespace

// No kernels here: nvcc's host code would bring the real runtime along.
const RnnLaunchers& rnn_launchers() {
    static const RnnLaunchers none{};
    return none;
}
const NnLaunchers& nn_launchers() {
    static const NnLaunchers launchers = [] {
        NnLaunchers all{};
        all.add_bias = &note_bias;
        return all;
    }();
    return launchers;
}

}  // namespace carousel::cuda

namespace carousel::test {

std::vector<cuda::RowBiasArgs>& added_biases() {
    static std::vector<cuda::RowBiasArgs> all;
    return all;
}

FakeCublasLt& fake_cublaslt() {
    static FakeCublasLt* const state = [] {
        setenv("CAROUSEL_CUBLASLT", CAROUSEL_FAKE_CUBLASLT, 1);
        void* library = dlopen(CAROUSEL_FAKE_CUBLASLT, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) throw std::runtime_error(dlerror());
        auto* find = reinterpret_cast<FakeCublasLt* (*)()>(dlsym(library, "fake_cublaslt_state"));
        return find();
    }();
    return *state;
}

RuntimeTest::RuntimeTest() {
    restart_fake_cudart();
    lt = FakeCublasLt{};
    added_biases().clear();
    caps = cuda::known_device("h100");
    device = make_device();
    queue = device->default_queue();
    // The stream that the status word was cleared on.
    default_stream = word(fake.log[static_cast<std::size_t>(fake.find("cudaMemsetAsync"))], 1);
}

RuntimeTest::~RuntimeTest() {
    device.reset();
    EXPECT_EQ(fake.current_device, 0) << "the caller's device was changed";
    EXPECT_EQ(fake.last_error, cudaSuccess) << "an error was left for the caller to find";
    restart_fake_cudart();
}

std::shared_ptr<cuda::DeviceApi> RuntimeTest::make_device() {
    return cuda::make_cuda_device(1, caps);
}

std::string RuntimeTest::word(const std::string& line, int index) {
    std::istringstream words(line);
    std::string found;
    for (int i = 0; i <= index; ++i) words >> found;
    return found;
}

}  // namespace carousel::test
