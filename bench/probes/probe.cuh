#pragma once

#include "bench/probes/probes.hpp"
#include "kernels/cuda/kernel_table.hpp"
#include "kernels/cuda/ptx.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ != 900
#error "the probes use clusters, st.async and wgmma: compile them for sm_90a"
#endif

namespace carousel::bench::probes {

namespace ptx = CAROUSEL_KERNELS::ptx;

/// A wait that ends. The card's clock is read now and then: it costs more than a poll.
class Deadline {
public:
    __device__ explicit Deadline(const Common& common)
        : end_(ptx::global_timer_ns() + common.timeout_ns), status_(common.status) {}
    /// True when `ready()` was; false after the timeout, or once any thread met it.
    template <class Ready>
    __device__ bool wait(Ready ready) {
        for (unsigned polls = 1; !ready(); ++polls) {
            if (polls % 256 != 0) continue;
            if (ptx::global_timer_ns() > end_) fail(kTimedOut);
            if (ptx::load_relaxed<ptx::Scope::kDevice>(status_) != kFine) return false;
        }
        return true;
    }
    __device__ void fail(Status status) {
        ptx::store_relaxed<ptx::Scope::kDevice>(status_, static_cast<std::uint32_t>(status));
    }

private:
    std::uint64_t end_;
    std::uint32_t* status_;
};

}  // namespace carousel::bench::probes
