/* The C interface of Carousel (C11). A thin door to the C++ API: the headers rnn_spec.hpp, rnn.hpp
 * and so on state the meaning of every field in full; here stand names, types and ownership.
 *
 * Every function that can fail returns a carousel_status; carousel_last_error() then has a sentence
 * that names the argument, what was expected, and what to do. No C++ exception crosses this border.
 *
 * Structs that may grow begin with struct_size. Make them with their *_default() function, which
 * fills it in, and a program built against an old header runs with a newer library.
 *
 * Dims     T = seq_len, N = batch_size, I = input_size, H = hidden_size, P = proj_size, L =
 *          num_layers, D = num_directions, O = P if P > 0 else H, G = gates of the cell (LSTM 4,
 *          GRU 3, vanilla 1); row-major, last index fastest.
 * Units    sizes in elements, *_bytes in bytes.
 * Threads  one plan serves one thread at a time; different plans run concurrently. The last error
 *          is kept per thread. */
#ifndef CAROUSEL_CAROUSEL_H
#define CAROUSEL_CAROUSEL_H

#include <stddef.h>
#include <stdint.h>

#include "carousel/export.hpp"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------- */

/* What kind of failure a call reports; the values of carousel::ErrorCode. */
typedef enum carousel_status {
    CAROUSEL_OK = 0,
    CAROUSEL_INVALID_ARGUMENT = 1, /* your mistake: an argument breaks a rule */
    CAROUSEL_UNSUPPORTED = 2,      /* our limit: legal, but this build or device cannot do it */
    CAROUSEL_OUT_OF_MEMORY = 3,
    CAROUSEL_CUDA = 4,
    CAROUSEL_DEVICE_LOST = 5,
    CAROUSEL_IO = 6,
    CAROUSEL_INTERNAL = 7 /* a defect of Carousel; please report it */
} carousel_status;

/* Sentence about the last call on this thread that did not return CAROUSEL_OK; "" if there was
 * none. Valid until the next failing call on this thread. Cut at 2047 bytes. */
CAROUSEL_API const char* carousel_last_error(void);

/* "Ok", "InvalidArgument", ...; "?" for a number that is no status. */
CAROUSEL_API const char* carousel_status_name(carousel_status status);

/* Version of the library in use, such as "0.1.0". */
CAROUSEL_API const char* carousel_version(void);

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum carousel_device_type {
    CAROUSEL_CPU = 0,
    CAROUSEL_CUDA_DEVICE = 1
} carousel_device_type;

typedef struct carousel_device {
    int32_t type;  /* carousel_device_type */
    int32_t index; /* of the CUDA device; 0 on the CPU */
} carousel_device;

typedef enum carousel_dtype {
    CAROUSEL_F32 = 0,
    CAROUSEL_F64 = 1,
    CAROUSEL_TF32 = 2, /* stored as f32 */
    CAROUSEL_BF16 = 3,
    CAROUSEL_F16 = 4,
    CAROUSEL_I32 = 5,
    CAROUSEL_I64 = 6,
    CAROUSEL_U8 = 7
} carousel_dtype;

typedef enum carousel_cell {
    CAROUSEL_RNN_TANH = 0,
    CAROUSEL_RNN_RELU = 1,
    CAROUSEL_LSTM = 2,
    CAROUSEL_GRU = 3,             /* reset-after, as torch.nn.GRU and cuDNN */
    CAROUSEL_GRU_RESET_BEFORE = 4 /* as ONNX's default */
} carousel_cell;

typedef enum carousel_bias {
    CAROUSEL_BIAS_NONE = 0,
    CAROUSEL_BIAS_SINGLE = 1, /* b_ih only */
    CAROUSEL_BIAS_DOUBLE = 2
} carousel_bias;

typedef enum carousel_algorithm {
    CAROUSEL_ALGORITHM_AUTO = 0,
    CAROUSEL_ALGORITHM_CLUSTER = 1,
    CAROUSEL_ALGORITHM_GRID = 2,
    CAROUSEL_ALGORITHM_WAVEFRONT = 3,
    CAROUSEL_ALGORITHM_STEPWISE = 4
} carousel_algorithm;

/* A borrowed view of a tensor; data NULL = no tensor. Strides are in elements and all 0 for
 * row-major contiguous data; else the last one must be 1. `data` of a tensor that a call only reads
 * is not written to. */
typedef struct carousel_tensor {
    void* data;
    int32_t dtype; /* carousel_dtype */
    int32_t ndim;  /* 0..4 */
    carousel_device device;
    int64_t shape[4];
    int64_t strides[4];
} carousel_tensor;

/* What to compute; see carousel::RnnSpec. */
typedef struct carousel_rnn_spec {
    size_t struct_size;
    int32_t cell;  /* carousel_cell */
    int32_t dtype; /* carousel_dtype: f32, f64, tf32, bf16 or f16 */
    int64_t input_size;
    int64_t hidden_size;
    int64_t proj_size; /* LSTM only; 0 = none */
    int64_t num_layers;
    int32_t bidirectional; /* 0 or 1 */
    int32_t bias;          /* carousel_bias */
    double dropout;        /* on the output of every layer but the last, in forward_training */
} carousel_rnn_spec;

typedef struct carousel_thread_pool carousel_thread_pool;
typedef struct carousel_buffer carousel_buffer;
typedef struct carousel_rnn_plan carousel_rnn_plan;
typedef struct carousel_packed_weights carousel_packed_weights;

/* How to run it; see carousel::RnnPlanOptions. */
typedef struct carousel_rnn_plan_options {
    size_t struct_size;
    int64_t seq_len;     /* the largest T that will be run */
    int64_t batch_size;  /* the largest N that will be run */
    int32_t training;    /* 0: forward_inference only, no reserve */
    int32_t num_threads; /* CPU: size of the plan's own pool; 0 = chosen */
    carousel_device device;
    carousel_thread_pool* pool; /* CPU: share this pool; NULL = own one. The plan keeps it alive. */
    int32_t algorithm;          /* carousel_algorithm */
    int32_t reserved;           /* 0 */
} carousel_rnn_plan_options;

/* Weights, or gradients of weights, of one (layer, direction):
 *   w_ih [G*H, I_layer]   w_hh [G*H, O]   b_ih [G*H]   b_hh [G*H]   w_hr [P, H] */
typedef struct carousel_rnn_layer {
    carousel_tensor w_ih, w_hh, b_ih, b_hh, w_hr;
} carousel_rnn_layer;

/* One tensor of the flat layout of a spec's weights (PyTorch's names and order). */
typedef struct carousel_rnn_param_info {
    char name[48]; /* "weight_ih_l0", ... */
    int64_t shape[2];
    int32_t ndim;
    int32_t reserved;
    int64_t offset; /* in elements, into one flat array without gaps */
    int64_t numel;
} carousel_rnn_param_info;

/* Tensors of a forward pass; see carousel::RnnForwardArgs. */
typedef struct carousel_rnn_forward_args {
    size_t struct_size;
    int64_t seq_len;
    int64_t batch_size;
    carousel_tensor x;                /* in  [T,N,I] */
    carousel_tensor hx;               /* in  [L*D,N,O], optional (zero) */
    carousel_tensor cx;               /* in  [L*D,N,H], optional (zero), LSTM only */
    carousel_tensor y;                /* out [T,N,D*O], written fully */
    carousel_tensor hy;               /* out [L*D,N,O], optional; may be hx */
    carousel_tensor cy;               /* out [L*D,N,H], optional, LSTM only; may be cx */
    const int64_t* lengths;           /* in [N], optional */
    const uint8_t* reset;             /* in [T,N], optional */
    const carousel_rnn_layer* layers; /* in [L*D]: plain weights; or NULL and `packed` */
    int64_t num_layer_entries;        /* L*D */
    const carousel_packed_weights* packed;
    carousel_tensor layer_outputs; /* out [L,T,N,D*O], optional */
    carousel_tensor cell_states;   /* out [L*D,T,N,H], optional, LSTM only */
    carousel_tensor gates;         /* out [L*D,T,N,G*H], optional */
    uint64_t dropout_seed;
    uint64_t dropout_step;
    void* workspace; /* >= carousel_rnn_plan_workspace_bytes, 64-byte aligned */
    size_t workspace_bytes;
    void* reserve; /* forward_training: >= carousel_rnn_plan_reserve_bytes, 64-byte aligned */
    size_t reserve_bytes;
    void* stream; /* cudaStream_t; NULL on the CPU */
} carousel_rnn_forward_args;

/* Tensors of a backward pass; see carousel::RnnBackwardArgs. */
typedef struct carousel_rnn_backward_args {
    size_t struct_size;
    int64_t seq_len;
    int64_t batch_size;
    carousel_tensor x, hx, cx, y; /* in: as in forward_training */
    const int64_t* lengths;       /* in: as in forward_training */
    const uint8_t* reset;
    const carousel_rnn_layer* layers;
    int64_t num_layer_entries;
    const carousel_packed_weights* packed;
    carousel_tensor dy;  /* in  [T,N,D*O], optional (zero) */
    carousel_tensor dhy; /* in  [L*D,N,O], optional (zero) */
    carousel_tensor dcy; /* in  [L*D,N,H], optional (zero), LSTM only */
    carousel_tensor dx;  /* out [T,N,I], optional */
    carousel_tensor dhx; /* out [L*D,N,O], optional */
    carousel_tensor dcx; /* out [L*D,N,H], optional, LSTM only */
    const carousel_rnn_layer*
        grads;                /* out [L*D], optional; tensors without data are not computed */
    int64_t num_grad_entries; /* L*D */
    int32_t accumulate;       /* 1: grads are added to; 0: overwritten */
    int32_t reserved;         /* 0 */
    carousel_tensor dh_norms; /* out [L*D,T], optional */
    void* workspace;
    size_t workspace_bytes;
    const void* reserve; /* left unmutated */
    size_t reserve_bytes;
    void* stream;
} carousel_rnn_backward_args;

/* An LSTM in f32, one layer, two biases; sizes are 0 and must be set. */
static inline carousel_rnn_spec carousel_rnn_spec_default(void) {
    carousel_rnn_spec spec = {sizeof(carousel_rnn_spec),
                              CAROUSEL_LSTM,
                              CAROUSEL_F32,
                              0,
                              0,
                              0,
                              1,
                              0,
                              CAROUSEL_BIAS_DOUBLE,
                              0.0};
    return spec;
}
/* Training on the CPU with an own pool; seq_len and batch_size are 0 and must be set. */
static inline carousel_rnn_plan_options carousel_rnn_plan_options_default(void) {
    carousel_rnn_plan_options options = {
        sizeof(carousel_rnn_plan_options), 0, 0, 1, 0, {CAROUSEL_CPU, 0}, NULL,
        CAROUSEL_ALGORITHM_AUTO,           0};
    return options;
}
static inline carousel_tensor carousel_tensor_none(void) {
    carousel_tensor tensor = {NULL, CAROUSEL_F32, 0, {CAROUSEL_CPU, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}};
    return tensor;
}
/* Contiguous tensors in host memory. */
static inline carousel_tensor carousel_tensor_1d(void* data, carousel_dtype dtype, int64_t s0) {
    carousel_tensor tensor = {data,          (int32_t)dtype, 1, {CAROUSEL_CPU, 0},
                              {s0, 0, 0, 0}, {0, 0, 0, 0}};
    return tensor;
}
static inline carousel_tensor carousel_tensor_2d(void* data, carousel_dtype dtype, int64_t s0,
                                                 int64_t s1) {
    carousel_tensor tensor = {data,           (int32_t)dtype, 2, {CAROUSEL_CPU, 0},
                              {s0, s1, 0, 0}, {0, 0, 0, 0}};
    return tensor;
}
static inline carousel_tensor carousel_tensor_3d(void* data, carousel_dtype dtype, int64_t s0,
                                                 int64_t s1, int64_t s2) {
    carousel_tensor tensor = {data,        (int32_t)dtype, 3, {CAROUSEL_CPU, 0}, {s0, s1, s2, 0},
                              {0, 0, 0, 0}};
    return tensor;
}
/* Everything absent or 0. */
static inline carousel_rnn_forward_args carousel_rnn_forward_args_default(void) {
    const carousel_tensor none = carousel_tensor_none();
    carousel_rnn_forward_args args = {sizeof(carousel_rnn_forward_args),
                                      0,
                                      0,
                                      none,
                                      none,
                                      none,
                                      none,
                                      none,
                                      none,
                                      NULL,
                                      NULL,
                                      NULL,
                                      0,
                                      NULL,
                                      none,
                                      none,
                                      none,
                                      0,
                                      0,
                                      NULL,
                                      0,
                                      NULL,
                                      0,
                                      NULL};
    return args;
}
static inline carousel_rnn_backward_args carousel_rnn_backward_args_default(void) {
    const carousel_tensor none = carousel_tensor_none();
    carousel_rnn_backward_args args = {sizeof(carousel_rnn_backward_args),
                                       0,
                                       0,
                                       none,
                                       none,
                                       none,
                                       none,
                                       NULL,
                                       NULL,
                                       NULL,
                                       0,
                                       NULL,
                                       none,
                                       none,
                                       none,
                                       none,
                                       none,
                                       none,
                                       NULL,
                                       0,
                                       0,
                                       0,
                                       none,
                                       NULL,
                                       0,
                                       NULL,
                                       0,
                                       NULL};
    return args;
}

/* ---- devices, threads, memory ---------------------------------------------------------------- */

/* Parses "cpu", "cuda", "cuda:1" or "auto" (the first CUDA device that can be used, else the CPU).
 * Out      *device
 * Errors   InvalidArgument: anything else. */
CAROUSEL_API carousel_status carousel_device_parse(const char* text, carousel_device* device);

/* CAROUSEL_OK if a plan for `device` can run in this process.
 * Errors   Unsupported, and the last error says why. */
CAROUSEL_API carousel_status carousel_device_usable(carousel_device device);

/* Makes a team of CPU threads that plans can share; num_threads 0 = one per usable core.
 * Out      *pool   to be destroyed by the caller; plans that use it keep what they need alive.
 * Errors   InvalidArgument, OutOfMemory. */
CAROUSEL_API carousel_status carousel_thread_pool_create(int32_t num_threads,
                                                         carousel_thread_pool** pool);
CAROUSEL_API int32_t carousel_thread_pool_num_threads(const carousel_thread_pool* pool);
CAROUSEL_API void carousel_thread_pool_destroy(carousel_thread_pool* pool); /* NULL is allowed */

/* Allocates device memory, 64-byte aligned and uninitialised.
 * In       what   what it is for, in the sentence of an OutOfMemory error; NULL is allowed.
 * Out      *buffer   to be destroyed by the caller.
 * Errors   OutOfMemory, with the number of bytes. */
CAROUSEL_API carousel_status carousel_buffer_create(size_t bytes, carousel_device device,
                                                    const char* what, carousel_buffer** buffer);
CAROUSEL_API void* carousel_buffer_data(const carousel_buffer* buffer);
CAROUSEL_API size_t carousel_buffer_bytes(const carousel_buffer* buffer);
CAROUSEL_API void carousel_buffer_destroy(carousel_buffer* buffer); /* NULL is allowed */

/* Copies between host memory and memory of `device`; done on return. On the CPU a plain copy.
 * Errors   InvalidArgument: a null pointer with bytes > 0; Unsupported: the device cannot be used;
 *          Cuda; DeviceLost. */
CAROUSEL_API carousel_status carousel_copy_to_device(void* to, const void* from, size_t bytes,
                                                     carousel_device device);
CAROUSEL_API carousel_status carousel_copy_to_host(void* to, const void* from, size_t bytes,
                                                   carousel_device device);

/* Waits for the library's own stream of `device`; nothing to wait for on the CPU.
 * Errors   InvalidArgument: a length, token id or target in device memory was out of range since the
 *          last call; Unsupported; DeviceLost. */
CAROUSEL_API carousel_status carousel_synchronize(carousel_device device);

/* ---- weights --------------------------------------------------------------------------------- */

/* Checks every rule of a spec.
 * Errors   InvalidArgument: names the field, its value and the rule. */
CAROUSEL_API carousel_status carousel_rnn_spec_validate(const carousel_rnn_spec* spec);

/* Number of tensors, and of elements, of a spec's weights. Either pointer may be NULL. */
CAROUSEL_API carousel_status carousel_rnn_param_count(const carousel_rnn_spec* spec,
                                                      int64_t* num_tensors, int64_t* num_elements);

/* Name, shape and place of the tensor `index` of the flat layout.
 * Errors   InvalidArgument: the spec, or the index. */
CAROUSEL_API carousel_status carousel_rnn_param_get(const carousel_rnn_spec* spec, int64_t index,
                                                    carousel_rnn_param_info* info);

/* Views into one flat array laid out as carousel_rnn_param_get says: weights or their gradients.
 * In       flat     [num_elements] of the spec's dtype, on `device`
 *          num_layer_entries   room in `layers`, must be L*D
 * Out      layers   [L*D] */
CAROUSEL_API carousel_status carousel_rnn_layers_from_flat(const carousel_rnn_spec* spec,
                                                           void* flat, carousel_device device,
                                                           carousel_rnn_layer* layers,
                                                           int64_t num_layer_entries);

/* Makes an immutable copy of the weights in the layout that the kernels read. Make it again after
 * every change of the weights.
 * In       pool   threads to pack with; NULL = the calling one or a pool of its own
 * Out      *packed   to be destroyed by the caller, after the last run that uses it.
 * Errors   InvalidArgument naming the tensor; Unsupported; OutOfMemory. */
CAROUSEL_API carousel_status carousel_packed_weights_make(
    const carousel_rnn_spec* spec, const carousel_rnn_layer* layers, int64_t num_layer_entries,
    carousel_device device, carousel_thread_pool* pool, carousel_packed_weights** packed);
CAROUSEL_API size_t carousel_packed_weights_bytes(const carousel_packed_weights* packed);
CAROUSEL_API void carousel_packed_weights_destroy(carousel_packed_weights* packed);

/* ---- plan and run ---------------------------------------------------------------------------- */

/* Plans a spec for up to the T and N of the options.
 * Out      *plan   to be destroyed by the caller.
 * Errors   InvalidArgument (spec or options), Unsupported (dtype, device or algorithm, with the
 *          reason), OutOfMemory. */
CAROUSEL_API carousel_status carousel_rnn_plan_create(const carousel_rnn_spec* spec,
                                                      const carousel_rnn_plan_options* options,
                                                      carousel_rnn_plan** plan);
CAROUSEL_API void carousel_rnn_plan_destroy(carousel_rnn_plan* plan); /* NULL is allowed */
CAROUSEL_API size_t carousel_rnn_plan_workspace_bytes(const carousel_rnn_plan* plan);
CAROUSEL_API size_t carousel_rnn_plan_reserve_bytes(const carousel_rnn_plan* plan);

/* The plan as text: algorithm and why others were rejected, steps, slices with bytes.
 * Out      text   [capacity] gets as much as fits, closed by NUL; NULL with capacity 0 is allowed
 *          *needed   bytes of the whole text with its NUL; NULL is allowed */
CAROUSEL_API carousel_status carousel_rnn_plan_describe(const carousel_rnn_plan* plan, char* text,
                                                        size_t capacity, size_t* needed);

/* Runs the stack over a sequence; keeps nothing for backward and applies no dropout.
 *
 * Stream   CPU: returns when done. CUDA: enqueued on args->stream, returns before completion.
 * Errors   InvalidArgument: a tensor's shape, dtype, device or aliasing breaks a rule; nothing is
 *          written then.
 * Repeat   bitwise equal run to run on one device, build and thread count. */
CAROUSEL_API carousel_status carousel_rnn_forward_inference(const carousel_rnn_plan* plan,
                                                            const carousel_rnn_forward_args* args);

/* As carousel_rnn_forward_inference, with dropout between layers, and saves in `reserve` what
 * backward needs. */
CAROUSEL_API carousel_status carousel_rnn_forward_training(const carousel_rnn_plan* plan,
                                                           const carousel_rnn_forward_args* args);

/* Gradients of a scalar loss through carousel_rnn_forward_training, given dy, dhy, dcy. The call
 * that filled `reserve` must have had the same sizes, x, hx, cx, y, mask and weights, unchanged
 * since. */
CAROUSEL_API carousel_status carousel_rnn_backward(const carousel_rnn_plan* plan,
                                                   const carousel_rnn_backward_args* args);

#ifdef __cplusplus
}
#endif

#endif
