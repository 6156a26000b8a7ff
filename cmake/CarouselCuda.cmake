# CAROUSEL_CUDA=AUTO|ON|OFF -> CAROUSEL_CUDA_ENABLED.
#
# A build with CUDA must start on a machine that has no driver, so the CUDA runtime is linked
# statically (it opens the driver at the first call and reports an error if there is none) and
# libcuda is never linked.

option(CAROUSEL_NVTX "Name launches and products for profilers (NVTX)" OFF)
mark_as_advanced(CAROUSEL_NVTX)

set(CAROUSEL_CUDA_ENABLED FALSE)
if(NOT CAROUSEL_CUDA MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "CAROUSEL_CUDA is '${CAROUSEL_CUDA}'; it must be AUTO, ON or OFF")
endif()

if(NOT CAROUSEL_CUDA STREQUAL "OFF")
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
        # The toolkit's installer does not put nvcc on the PATH; look where it installs.
        find_program(CAROUSEL_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH
                     PATHS /usr/local/cuda PATH_SUFFIXES bin)
        mark_as_advanced(CAROUSEL_NVCC)
        if(CAROUSEL_NVCC)
            set(CMAKE_CUDA_COMPILER "${CAROUSEL_NVCC}")
        endif()
    endif()
    # 80's PTX serves the cards between and after; 90a has the instructions that only Hopper knows.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "CUDA architectures")
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        enable_language(CUDA)
        set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
        set(CAROUSEL_CUDA_ENABLED TRUE)
    elseif(CAROUSEL_CUDA STREQUAL "ON")
        message(FATAL_ERROR "CAROUSEL_CUDA=ON needs a working nvcc: install the CUDA toolkit, put "
                            "nvcc on the PATH (or set CUDACXX), or configure with CAROUSEL_CUDA=OFF")
    endif()
endif()

# The kernels' tests compile them with the C++ compiler, which needs CUDA's headers alone, and to be g++,
# whose flags they use. The thread sanitizer's entry points are theirs there.
if(CAROUSEL_CUDA_ENABLED)
    set(cuda_header_hints ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
else()
    set(cuda_header_hints ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda)
endif()
find_path(CAROUSEL_CUDA_INCLUDE_DIR cuda_bf16.h HINTS ${cuda_header_hints} PATH_SUFFIXES include)
mark_as_advanced(CAROUSEL_CUDA_INCLUDE_DIR)
set(CAROUSEL_SIMT_TESTS FALSE)
if(BUILD_TESTING AND CAROUSEL_CUDA_INCLUDE_DIR AND NOT CAROUSEL_SANITIZE MATCHES "thread"
   AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(CAROUSEL_SIMT_TESTS TRUE)
endif()

if(CAROUSEL_CUDA_ENABLED)
    message(STATUS "CUDA part: on (nvcc ${CMAKE_CUDA_COMPILER_VERSION}, "
                   "architectures ${CMAKE_CUDA_ARCHITECTURES})")
else()
    message(STATUS "CUDA part: off (CAROUSEL_CUDA=${CAROUSEL_CUDA})")
endif()
