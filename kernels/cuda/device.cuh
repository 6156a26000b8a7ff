#pragma once

// The device language, for both compilations of a kernel source: CUDA's own under nvcc, and under
// CAROUSEL_SIMT, where the C++ compiler reads the same file, the executor's stand-ins for it.
//
//   CAROUSEL_SHARED(float, tile, 32 * 33);        // __shared__ float tile[32 * 33];
//   CAROUSEL_DYNAMIC_SHARED(std::byte, scratch);  // std::byte* scratch = the launch's shared_bytes
//
// Dynamic shared memory is aligned to 128 bytes, what bulk copies ask for.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#if defined(CAROUSEL_SIMT)

#include "simt/device_shim.hpp"

#else

#include <cuda_runtime.h>

#define CAROUSEL_SHARED(type, name, count) __shared__ type name[count]
#define CAROUSEL_DYNAMIC_SHARED(type, name)                                   \
    extern __shared__ __align__(128) unsigned char carousel_dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(carousel_dynamic_shared)

#endif
