#pragma once

#include <cstdint>

#include "carousel/rnn.hpp"
#include "src/backend/cuda/device_api.hpp"
#include "src/plan/cuda_schedule.hpp"
#include "src/util/dtypes.hpp"

namespace carousel::cuda {

/// A CUDA plan without its device: what was decided, and where everything lies.
struct RnnPlanData {
    RnnSpec spec;
    RnnPlanOptions options;
    CudaRnnConfig config;
    CudaRnnSchedule schedule;
    std::vector<Rejection> rejections;
};

/// A matrix in row-major terms: `ld` elements between rows, `step` between matrices of a batch.
struct Matrix {
    const void* data = nullptr;
    std::int64_t ld = 0;
    std::int64_t step = 0;
};

/// Elements beyond a pointer, in a type given at run time.
inline void* offset(void* base, std::int64_t elements, DType dtype) noexcept {
    return static_cast<std::byte*>(base) + elements * static_cast<std::int64_t>(dtype_bytes(dtype));
}
inline const void* offset(const void* base, std::int64_t elements, DType dtype) noexcept {
    return static_cast<const std::byte*>(base) +
           elements * static_cast<std::int64_t>(dtype_bytes(dtype));
}

/// Weights of one (layer, direction) where the products read them.
struct WeightPointers {
    const void *w_ih = nullptr, *w_hh = nullptr, *w_hr = nullptr, *b_ih = nullptr, *b_hh = nullptr;
};

/// What forward and backward runs share: addresses, products, and the queues of one run.
class RnnOperands {
public:
    RnnOperands(const RnnPlanData& plan, DeviceApi& api, std::int64_t seq_len,
                std::int64_t batch_size, const CudaRnnSchedule::Workspace& work, void* workspace,
                const Queue* queues, std::vector<WeightPointers>& weights);

    /// Part `part` of a workspace array, `elements` into it.
    void* scratch(const StateArray& array, std::int64_t part, std::int64_t elements,
                  DType dtype) const noexcept {
        if (!array.defined()) return nullptr;
        return offset(work_.slices.at<std::byte>(workspace_, array.slice),
                      part * array.stride + elements, dtype);
    }
    /// The same of a reserve array.
    template <class Void>
    Void* saved(Void* reserve, const StateArray& array, std::int64_t part, std::int64_t elements,
                DType dtype) const noexcept {
        if (!array.defined()) return nullptr;
        return offset(schedule_.reserve.at<std::byte>(reserve, array.slice),
                      part * array.stride + elements, dtype);
    }

    std::int64_t time(std::int64_t state, std::int64_t walk) const noexcept {
        return walk_time(spec_, T_, state, walk);
    }
    /// First time step of walk steps [walk, walk + count).
    std::int64_t first_time(std::int64_t state, std::int64_t walk,
                            std::int64_t count) const noexcept {
        return reverse(state) ? T_ - walk - count : walk;
    }
    bool reverse(std::int64_t state) const noexcept { return state % D_ == 1; }
    std::int64_t layer(std::int64_t state) const noexcept { return state / D_; }
    std::int64_t slot(std::int64_t state) const noexcept { return config_.slot(spec_, state); }

    /// Finds weights: packed before, packed inside the run (`packs`), or plain.
    void bind_weights(const RnnParams* params, const PackedWeights* packed, bool packs);
    const WeightPointers& weights(std::int64_t state) const noexcept {
        return weights_[static_cast<std::size_t>(state)];
    }
    /// Copies one state's plain matrices to the workspace: the step kPackWeights.
    void pack_weights(const CudaStep& step, const RnnParams& params) const;

    /// Row-major products on a step's queue; C [rows,columns] in `out_dtype`.
    enum class Form { kNT, kNN, kTN };  ///< A B^T | A B | A^T B
    struct Product {
        Form form = Form::kNT;
        std::int64_t rows = 0, columns = 0, inner = 0, batch = 1;
        Matrix a, b;
        void* c = nullptr;
        std::int64_t ldc = 0, step_c = 0;
        DType out_dtype = DType::kF32;
        bool add = false;
        const void* bias = nullptr;
    };
    void multiply(int queue, const Product& product) const;
    /// The same over `steps` x N rows whose strides are free (batch-first tensors): A and C are given
    /// by their rows, `product` by the rest. One product where the rows of both lie evenly.
    struct Rows {
        const void* data = nullptr;
        std::int64_t stride_t = 0, stride_n = 0;
    };
    void multiply_rows(int queue, Product product, std::int64_t steps, const Rows& a,
                       const Rows& c) const;

    /// Elements between the operands of neighbouring states of a front, 0 for a single one.
    std::int64_t step_between(const void* first, const void* second, DType dtype) const noexcept {
        return (static_cast<const std::byte*>(second) - static_cast<const std::byte*>(first)) /
               static_cast<std::int64_t>(dtype_bytes(dtype));
    }
    /// `at(state, walk)` of every state of a front as one batched operand.
    template <class At>
    Matrix across(const CudaStep& step, std::int64_t ld, DType dtype, At&& at) const {
        Matrix m;
        m.data = at(step.first_state, step.walk);
        m.ld = ld;
        if (step.num_states > 1)
            m.step = step_between(m.data, at(step.first_state + 1, step.walk - step.lag), dtype);
        return m;
    }

    /// A weight of every state of a front, from `elements` into it on.
    Matrix weights_across(const CudaStep& step, std::int64_t ld,
                          const void* WeightPointers::*weight, std::int64_t elements = 0) const {
        return across(step, ld, S_, [&](std::int64_t state, std::int64_t) {
            return offset(weights(state).*weight, elements, S_);
        });
    }
    /// One step of a front: [N,columns] sums of each state, into its part of a scratch array.
    /// `product` says the rest: form, columns, inner, A, B, whether to add.
    void multiply_step(const CudaStep& step, Product product, const StateArray& sums) const;

    StepCommon common(const SequenceMask& mask) const noexcept;
    Queue queue(int index) const noexcept { return queues_[index]; }
    void launch(int index, const Launch& launch) const { api_.launch(queues_[index], launch); }
    const RnnLaunchers& kernels() const noexcept { return *api_.kernels().rnn; }

    const RnnPlanData& plan_;
    const RnnSpec& spec_;
    const CudaRnnConfig& config_;
    const CudaRnnSchedule& schedule_;
    DeviceApi& api_;
    const CudaRnnSchedule::Workspace& work_;
    void* workspace_;
    const Queue* queues_;
    std::int64_t T_, N_, H_, O_, D_, L_, G_, wide_;
    DType S_, A_;  ///< storage and accumulator types

private:
    std::vector<WeightPointers>& weights_;
};

}  // namespace carousel::cuda
