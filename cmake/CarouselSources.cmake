# Sources by folder, and the flags of the objects that are compiled once per instruction set.

set(CAROUSEL_SOURCES "")
foreach(folder src/api src/spec src/plan src/backend src/backend/cpu src/backend/cuda src/nn
               src/train src/data src/io src/util kernels/cpu)
    file(GLOB folder_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cpp")
    list(APPEND CAROUSEL_SOURCES ${folder_sources})
endforeach()
file(GLOB CAROUSEL_TOOL_SOURCES CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/cli/*.cpp")

# src/backend/cuda is plain C++ (plans, executors, the interface to a device); its runtime/ calls CUDA
# and cuBLAS, and the kernels need nvcc.
if(CAROUSEL_CUDA_ENABLED)
    file(GLOB cuda_sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/backend/cuda/runtime/*.cpp"
         "${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu")
    list(APPEND CAROUSEL_SOURCES ${cuda_sources})
endif()
list(REMOVE_DUPLICATES CAROUSEL_SOURCES)

# kernels/cpu/isa_<set>*.cpp: the same loops, compiled once per instruction set. Optimised in every
# build type, because unoptimised SIMD wrappers make the tests of a debug build take hours; but less
# under sanitizers, whose checks in fully unrolled loops take g++ minutes per file.
# Contraction may differ between the sets; NaN and infinity keep their meaning (no -ffast-math).
set(CAROUSEL_ISA_FLAGS_avx2 -mavx2 -mfma)
set(CAROUSEL_ISA_FLAGS_avx512 -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl
                              -mprefer-vector-width=512)
set(CAROUSEL_ISA_FLAGS_baseline "")
set(CAROUSEL_ISA_OPTIMISATION "" CACHE STRING "Instead of -O3 (-O1 under sanitizers) for SIMD loops")
mark_as_advanced(CAROUSEL_ISA_OPTIMISATION)
if(CAROUSEL_ISA_OPTIMISATION)
    set(isa_optimisation ${CAROUSEL_ISA_OPTIMISATION})
elseif(CAROUSEL_SANITIZE)
    set(isa_optimisation -O1)
else()
    set(isa_optimisation -O3)
endif()
set(CAROUSEL_ISA_COMMON_FLAGS ${isa_optimisation} -ffp-contract=fast -fno-math-errno -fno-trapping-math)
if(CAROUSEL_ISA_OPTIMISATION AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # With less of it g++ does not see that a loop over all lanes has set them.
    list(APPEND CAROUSEL_ISA_COMMON_FLAGS -Wno-maybe-uninitialized)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # clang 14 takes seven minutes per file over the full set of tile shapes; with two of them it
    # takes twenty seconds, and the products are slower than g++'s.
    list(APPEND CAROUSEL_ISA_COMMON_FLAGS -DCAROUSEL_SMALL_TILES)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(CAROUSEL_X86_64 TRUE)
else()
    set(CAROUSEL_X86_64 FALSE)
endif()

foreach(source IN LISTS CAROUSEL_SOURCES)
    if(NOT source MATCHES "/kernels/cpu/isa_(baseline|avx2|avx512)[^/]*\\.cpp$")
        continue()
    endif()
    set(isa "${CMAKE_MATCH_1}")
    if(NOT CAROUSEL_X86_64 AND NOT isa STREQUAL "baseline")
        list(REMOVE_ITEM CAROUSEL_SOURCES "${source}")
        continue()
    endif()
    set_property(SOURCE "${source}" APPEND PROPERTY COMPILE_OPTIONS ${CAROUSEL_ISA_COMMON_FLAGS}
                                                    ${CAROUSEL_ISA_FLAGS_${isa}})
endforeach()
