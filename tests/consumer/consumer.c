/* A C11 program that uses Carousel as installed: one recurrent unit against the formula, and an
 * error with its sentence. */

#include <carousel/carousel.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 5 };

#define CHECK(call)                                                            \
    do {                                                                       \
        if ((call) != CAROUSEL_OK) {                                           \
            fprintf(stderr, "line %d: %s\n", __LINE__, carousel_last_error()); \
            return 1;                                                          \
        }                                                                      \
    } while (0)

static int run_unit(void) {
    carousel_rnn_spec spec = carousel_rnn_spec_default();
    spec.cell = CAROUSEL_RNN_TANH;
    spec.dtype = CAROUSEL_F64;
    spec.input_size = 1;
    spec.hidden_size = 1;
    spec.bias = CAROUSEL_BIAS_SINGLE;

    carousel_rnn_plan_options options = carousel_rnn_plan_options_default();
    options.seq_len = STEPS;
    options.batch_size = 1;
    options.training = 0;
    options.num_threads = 1;
    carousel_rnn_plan* plan = NULL;
    CHECK(carousel_rnn_plan_create(&spec, &options, &plan));

    const carousel_device cpu = {CAROUSEL_CPU, 0};
    carousel_buffer* workspace = NULL;
    CHECK(carousel_buffer_create(carousel_rnn_plan_workspace_bytes(plan), cpu, "workspace",
                                 &workspace));

    double weights[3] = {0.7, -1.3, 0.25}; /* weight_ih, weight_hh, bias_ih */
    carousel_rnn_layer layer;
    CHECK(carousel_rnn_layers_from_flat(&spec, weights, cpu, &layer, 1));

    double x[STEPS] = {1.0, -0.5, 0.25, 2.0, -3.0};
    double y[STEPS] = {0.0};
    carousel_rnn_forward_args args = carousel_rnn_forward_args_default();
    args.seq_len = STEPS;
    args.batch_size = 1;
    args.x = carousel_tensor_3d(x, CAROUSEL_F64, STEPS, 1, 1);
    args.y = carousel_tensor_3d(y, CAROUSEL_F64, STEPS, 1, 1);
    args.layers = &layer;
    args.num_layer_entries = 1;
    args.workspace = carousel_buffer_data(workspace);
    args.workspace_bytes = carousel_buffer_bytes(workspace);
    CHECK(carousel_rnn_forward_inference(plan, &args));

    carousel_buffer_destroy(workspace);
    carousel_rnn_plan_destroy(plan);

    double h = 0.0;
    for (int t = 0; t < STEPS; ++t) {
        h = tanh(weights[0] * x[t] + weights[1] * h + weights[2]);
        if (!(fabs(y[t] - h) < 1e-12)) {
            fprintf(stderr, "y[%d] is %.17g, expected %.17g\n", t, y[t], h);
            return 1;
        }
    }
    return 0;
}

int main(void) {
    carousel_device device;
    if (run_unit() != 0) {
        return 1;
    }
    if (carousel_device_parse("toaster", &device) != CAROUSEL_INVALID_ARGUMENT ||
        strstr(carousel_last_error(), "toaster") == NULL) {
        fprintf(stderr, "a wrong device name was not an InvalidArgument error that names it\n");
        return 1;
    }
    return 0;
}
