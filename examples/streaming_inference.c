/* Streaming inference through the C interface: weights are packed once, and an LSTM eats a signal
 * in pieces, its state carried from one to the next. In pieces or at once, the outputs agree. */

#include <carousel/carousel.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 24, PIECE = 8, INPUT = 3, HIDDEN = 16 };

/* Prints what went wrong and ends the program. */
static void check(carousel_status status) {
    if (status != CAROUSEL_OK) {
        fprintf(stderr, "%s: %s\n", carousel_status_name(status), carousel_last_error());
        exit(1);
    }
}

int main(void) {
    carousel_rnn_spec spec = carousel_rnn_spec_default();
    spec.input_size = INPUT;
    spec.hidden_size = HIDDEN;

    carousel_rnn_plan_options options = carousel_rnn_plan_options_default();
    options.seq_len = STEPS;
    options.batch_size = 1;
    options.training = 0;
    carousel_rnn_plan* plan = NULL;
    check(carousel_rnn_plan_create(&spec, &options, &plan));

    int64_t num_weights = 0;
    check(carousel_rnn_param_count(&spec, NULL, &num_weights));
    float* weights = malloc((size_t)num_weights * sizeof(float));
    if (weights == NULL) return 1;
    for (int64_t i = 0; i < num_weights; ++i) weights[i] = 0.3f * sinf(0.7f * (float)(i + 1));
    carousel_rnn_layer layer;
    check(carousel_rnn_layers_from_flat(&spec, weights, options.device, &layer, 1));
    carousel_packed_weights* packed = NULL;
    check(carousel_packed_weights_make(&spec, &layer, 1, options.device, NULL, &packed));

    carousel_buffer* workspace = NULL;
    check(carousel_buffer_create(carousel_rnn_plan_workspace_bytes(plan), options.device,
                                 "the workspace", &workspace));

    float x[STEPS * INPUT], y_whole[STEPS * HIDDEN], y_pieces[STEPS * HIDDEN];
    for (int i = 0; i < STEPS * INPUT; ++i) x[i] = cosf(0.4f * (float)i);

    carousel_rnn_forward_args args = carousel_rnn_forward_args_default();
    args.batch_size = 1;
    args.packed = packed;
    args.workspace = carousel_buffer_data(workspace);
    args.workspace_bytes = carousel_buffer_bytes(workspace);

    args.seq_len = STEPS;
    args.x = carousel_tensor_3d(x, CAROUSEL_F32, STEPS, 1, INPUT);
    args.y = carousel_tensor_3d(y_whole, CAROUSEL_F32, STEPS, 1, HIDDEN);
    check(carousel_rnn_forward_inference(plan, &args));

    float h[HIDDEN] = {0}, c[HIDDEN] = {0};
    args.seq_len = PIECE;
    args.hx = args.hy = carousel_tensor_3d(h, CAROUSEL_F32, 1, 1, HIDDEN); /* hy may be hx */
    args.cx = args.cy = carousel_tensor_3d(c, CAROUSEL_F32, 1, 1, HIDDEN);
    for (int begin = 0; begin < STEPS; begin += PIECE) {
        args.x = carousel_tensor_3d(x + begin * INPUT, CAROUSEL_F32, PIECE, 1, INPUT);
        args.y = carousel_tensor_3d(y_pieces + begin * HIDDEN, CAROUSEL_F32, PIECE, 1, HIDDEN);
        check(carousel_rnn_forward_inference(plan, &args));
    }

    float difference = 0.0f;
    for (int i = 0; i < STEPS * HIDDEN; ++i) {
        difference = fmaxf(difference, fabsf(y_whole[i] - y_pieces[i]));
    }
    printf("carousel %s: %d steps at once and in pieces of %d differ by %g\n", carousel_version(),
           STEPS, PIECE, (double)difference);

    carousel_buffer_destroy(workspace);
    carousel_packed_weights_destroy(packed);
    carousel_rnn_plan_destroy(plan);
    free(weights);
    return difference <= 1e-6f ? 0 : 1;
}
