#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "carousel/rnn.hpp"
#include "carousel/tensor.hpp"

// Modules with an explicit forward and an explicit backward. There is no tape: a module keeps what
// it says it keeps, and backward takes the rest from the caller. Dims: n rows (usually T*N), V =
// vocabulary, E = embedding size; row-major, last index fastest, contiguous.

namespace carousel {

class Ops;

/// Where modules keep their numbers and run: a dtype (f32 or f64; on a CUDA device tf32, bf16 and f16
/// too), a device, a team of threads. A cheap handle; copies share the team. Objects made on one
/// context take turns; they are not to be called from two threads at once.
class CAROUSEL_API ModuleContext {
public:
    /// Errors: Unsupported (dtype or device, with the reason).
    explicit ModuleContext(DType dtype = DType::kF32, Device device = {},
                           std::shared_ptr<ThreadPool> pool = nullptr);
    DType dtype() const noexcept { return dtype_; }
    Device device() const noexcept { return device_; }
    const std::shared_ptr<ThreadPool>& pool() const noexcept { return pool_; }
    Ops& ops() const noexcept { return *ops_; }

private:
    DType dtype_;
    Device device_;
    std::shared_ptr<ThreadPool> pool_;
    std::shared_ptr<Ops> ops_;
};

/// Token ids or targets on a context's device, for calls that are to find new ones at the same address
/// (a replayed graph).
class CAROUSEL_API IdBuffer {
public:
    /// Room for `capacity` ids.
    IdBuffer(const ModuleContext& context, std::int64_t capacity);
    /// A view of ids in memory of the context's device that is the caller's, and may be written there
    /// in other ways than by upload().
    IdBuffer(const ModuleContext& context, std::int32_t* memory, std::int64_t capacity);
    /// Copies ids from host memory, which can be reused on return; only enqueues on a CUDA device.
    void upload(const std::int32_t* ids, std::int64_t n);
    const std::int32_t* data() const noexcept { return data_; }
    std::int64_t capacity() const noexcept { return capacity_; }

private:
    ModuleContext context_;
    std::int64_t capacity_;
    Buffer ids_;  ///< empty where the memory is the caller's
    std::int32_t* data_ = nullptr;
};

/// One tensor of a ParameterSet.
struct ParameterInfo {
    std::string name;
    std::vector<std::int64_t> shape;
    /// In elements into the flat buffers. The first tensor of each add() starts 64-byte aligned.
    std::int64_t offset = 0;
    std::int64_t numel = 0;
};

/// All parameters of a model and their gradients, each in one flat buffer, so that clipping and the
/// optimiser are one call. Modules add their tensors when they are made; then allocate() is called
/// once.
///
/// In bf16 and f16 every value lives twice: the master in f32, which the optimiser updates, and the
/// working copy that modules compute with, which the same update rounds from it. Gradients are f32
/// then: they are sums, and go to the masters.
class CAROUSEL_API ParameterSet {
public:
    explicit ParameterSet(const ModuleContext& context);

    /// Reserves a tensor; `group` tensors added in one call lie without gaps (the flat layout of an
    /// RNN). Returns the index of the first. InvalidArgument after allocate() or on a used name.
    std::size_t add(const std::vector<ParameterInfo>& group);
    std::size_t add(const std::string& name, const std::vector<std::int64_t>& shape);
    /// Makes the buffers, once; values and gradients are zero. OutOfMemory says how much they need.
    /// Before it, whatever uses a value or a gradient throws InvalidArgument.
    void allocate();

    const ModuleContext& context() const noexcept { return context_; }
    const std::vector<ParameterInfo>& infos() const noexcept { return infos_; }
    std::size_t find(const std::string& name) const;  ///< InvalidArgument if there is none
    std::int64_t numel() const noexcept {
        return numel_;
    }  ///< of the flat buffers, padding included
    TensorView value(std::size_t index) const;
    TensorView grad(std::size_t index) const;  ///< in the optimiser's dtype, as master()
    void* flat_values() const noexcept { return values_.data(); }
    void* flat_grads() const noexcept { return grads_.data(); }
    /// Masters, or the values themselves where these are as wide; in the optimiser's dtype.
    TensorView master(std::size_t index) const;
    void* flat_masters() const noexcept {
        return masters_.data() != nullptr ? masters_.data() : values_.data();
    }
    /// After values were written directly: masters = values, or values = masters rounded.
    void masters_from_values();
    void values_from_masters();
    void zero_grads();

    /// A table of which the last backward touched only some rows (the gradient of an embedding);
    /// all other rows of its gradient are zero. Clipping and some optimisers read only these rows.
    struct TouchedRows {
        std::size_t parameter = 0;
        std::int64_t row_size = 0;
        std::vector<std::int64_t>
            rows;  ///< distinct, in the order in which they were first touched
    };
    std::vector<TouchedRows>& touched_rows() noexcept { return touched_; }
    const std::vector<TouchedRows>& touched_rows() const noexcept { return touched_; }

private:
    ModuleContext context_;
    std::vector<ParameterInfo> infos_;
    std::unordered_set<std::string> names_;
    std::vector<TouchedRows> touched_;
    std::int64_t numel_ = 0;
    Buffer values_, grads_;
    Buffer masters_;  ///< empty where values are as wide
};

/// Looks up rows of a table: y[r] = weight[ids[r]].
///
/// In       ids [n] i32, 0 <= id < V, host memory
/// Errors   InvalidArgument names the first position whose id is out of range; n negative or beyond an
///          IdBuffer's capacity; a tensor that is null.
/// Repeat   backward adds the rows of one id in the order of positions: the same bits at any thread
///          count.
class CAROUSEL_API Embedding {
public:
    /// Adds `<name>.weight` [V,E].
    Embedding(ParameterSet& params, const std::string& name, std::int64_t num_embeddings,
              std::int64_t embedding_size);
    void forward(const std::int32_t* ids, std::int64_t n, void* y) const;  ///< y [n,E]
    /// dweight[ids[r]] += dy[r]; without `accumulate` the gradient of the previous call is cleared
    /// first. Records the touched rows in the ParameterSet.
    void backward(const std::int32_t* ids, std::int64_t n, const void* dy, bool accumulate = false);
    /// The same with ids in the context's device memory. On a CUDA device an id out of range reads
    /// zeros and adds nothing, and is reported when the loss is read.
    void forward(const IdBuffer& ids, std::int64_t n, void* y) const;
    void backward(const IdBuffer& ids, std::int64_t n, const void* dy, bool accumulate = false);

    std::int64_t num_embeddings() const noexcept { return num_embeddings_; }
    std::int64_t embedding_size() const noexcept { return embedding_size_; }

private:
    void gather(const std::int32_t* device_ids, std::int64_t n, void* y) const;
    void scatter(const std::int32_t* device_ids, std::int64_t n, const void* dy);
    /// Clears the gradient of the previous call; records the rows that this one touches.
    void touch(const std::int32_t* ids, std::int64_t n, bool accumulate);
    /// The ids where kernels read them: on a CUDA device a copy that is made here.
    const std::int32_t* on_device(const std::int32_t* ids, std::int64_t n) const;

    ParameterSet* params_;
    std::size_t weight_, touched_;
    std::int64_t num_embeddings_, embedding_size_;
    mutable std::unique_ptr<IdBuffer> staged_;  ///< on_device()
    std::vector<std::uint32_t> stamp_;          ///< [V], generation in which a row was last touched
    std::uint32_t generation_ = 0;
};

/// y = x weightᵀ + bias.
class CAROUSEL_API Linear {
public:
    /// Adds `<name>.weight` [out,in] and, with bias, `<name>.bias` [out].
    Linear(ParameterSet& params, const std::string& name, std::int64_t in_size,
           std::int64_t out_size, bool bias = true);
    void forward(const void* x, std::int64_t n, void* y) const;  ///< x [n,in] -> y [n,out]
    /// As forward, without adding the bias (a loss can fuse it, see SoftmaxCrossEntropy).
    void forward_no_bias(const void* x, std::int64_t n, void* y) const;
    /// dx = dy weight (null: not wanted); dweight = dyᵀ x, dbias = column sums of dy.
    void backward(const void* x, std::int64_t n, const void* dy, void* dx, bool accumulate = false);

    std::int64_t in_size() const noexcept { return in_size_; }
    std::int64_t out_size() const noexcept { return out_size_; }
    const void* bias_data() const;  ///< null without bias

private:
    ParameterSet* params_;
    std::size_t weight_, bias_;
    std::int64_t in_size_, out_size_;
    bool has_bias_;
};

/// Inverted dropout: y = x * m / (1-p), m Bernoulli(1-p) from Philox keyed by (seed, step, layer,
/// element), so a mask depends on nothing else and backward draws the same one again.
class CAROUSEL_API Dropout {
public:
    Dropout(const ModuleContext& context, double p, std::int64_t layer);
    /// y [numel]; y may be x. Backward is the same call on dy.
    void apply(const void* x, std::int64_t numel, std::uint64_t seed, std::uint64_t step,
               void* y) const;
    /// As above with seed and step in device memory, key [2]: a replayed graph reads new ones.
    void apply(const void* x, std::int64_t numel, const std::uint64_t* key, void* y) const;
    double p() const noexcept { return p_; }

private:
    ModuleContext context_;
    double p_;
    std::int64_t layer_;
};

/// A recurrent stack whose weights and gradients live in a ParameterSet under `<name>.`, with a
/// plan and scratch for up to `seq_len` steps of `batch_size` sequences. A window may be run as
/// several chunks; each chunk that backward is to visit has its own reserve, named by `chunk`.
class CAROUSEL_API Rnn {
public:
    Rnn(ParameterSet& params, const std::string& name, const RnnSpec& spec, std::int64_t seq_len,
        std::int64_t batch_size);

    const RnnSpec& spec() const noexcept { return spec_; }
    const RnnPlan& plan() const noexcept { return plan_; }
    /// Weights in the flat buffer; valid after ParameterSet::allocate().
    RnnParams weights() const;

    /// Runs the stack on inputs of another size from now on: layer 0 reads its input weights from
    /// `w_ih` [G*H,input_size] and writes their gradient to `dw_ih`, not to the ParameterSet. For
    /// inputs that are a linear function of smaller ones, whose matrix the caller folds into w_ih.
    void replace_input_weights(std::int64_t input_size, const void* w_ih, void* dw_ih);

    /// forward_training into the reserve of `chunk` (made on first use). The args give tensors,
    /// sizes, mask and dropout key; weights, workspace and reserve are filled in here.
    void forward_training(RnnForwardArgs args, std::size_t chunk = 0);
    void forward_inference(RnnForwardArgs args);
    /// Backward of the forward_training call of the same chunk, with its weights unchanged.
    void backward(RnnBackwardArgs args, std::size_t chunk = 0);

    /// Bytes of one state tensor: hx, hy [L*D,N,O]; cx, cy [L*D,N,H].
    std::size_t h_bytes() const noexcept;
    std::size_t c_bytes() const noexcept;

private:
    ParameterSet* params_;
    RnnSpec spec_;
    std::size_t first_;
    RnnPlan plan_;
    Buffer workspace_;
    std::vector<Buffer> reserves_;
    RnnParams weights_;  ///< views, made at first use
    RnnGrads grads_;
    ConstTensorView input_weights_;  ///< what replace_input_weights gave
    TensorView input_grads_;
    void make_plan(std::int64_t seq_len, std::int64_t batch_size);
    void bind();
};

}  // namespace carousel
