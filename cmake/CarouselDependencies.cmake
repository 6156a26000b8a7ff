# Libraries that Carousel is built with. None of them appears in an installed header.

set(missing_packages "")
macro(carousel_need condition debian_package what)
    if(NOT (${condition}))
        list(APPEND missing_packages "${debian_package} (${what})")
    endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# oneDNN is looked for by header and library: its own CMake package also demands OpenMP for the
# compiler in use and OpenCL headers, and neither is needed to call its BLAS functions.
find_path(DNNL_INCLUDE_DIR dnnl.hpp)
find_library(DNNL_LIBRARY dnnl)
mark_as_advanced(DNNL_INCLUDE_DIR DNNL_LIBRARY)
carousel_need("DNNL_INCLUDE_DIR;AND;DNNL_LIBRARY" libdnnl-dev "oneDNN")

find_path(RANDOM123_INCLUDE_DIR Random123/philox.h)
mark_as_advanced(RANDOM123_INCLUDE_DIR)
carousel_need(RANDOM123_INCLUDE_DIR librandom123-dev "Random123")

find_package(Eigen3 QUIET NO_MODULE)
carousel_need("TARGET;Eigen3::Eigen" libeigen3-dev "Eigen 3")
find_package(nlohmann_json QUIET)
carousel_need("TARGET;nlohmann_json::nlohmann_json" nlohmann-json3-dev "JSON for Modern C++")
if(CAROUSEL_CUDA_ENABLED)
    # Types only: the library itself is opened at run time (src/backend/cuda/runtime/cublaslt.cpp).
    find_path(CAROUSEL_CUBLASLT_INCLUDE_DIR cublasLt.h
              HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
    mark_as_advanced(CAROUSEL_CUBLASLT_INCLUDE_DIR)
    string(REGEX REPLACE "^([0-9]+)\\.([0-9]+).*" "libcublas-dev-\\1-\\2" cublas_package
                         "${CMAKE_CUDA_COMPILER_VERSION}")
    carousel_need(CAROUSEL_CUBLASLT_INCLUDE_DIR ${cublas_package}
                  "cuBLAS's headers, or configure with -DCAROUSEL_CUDA=OFF")
endif()
if(CAROUSEL_BUILD_TOOL)
    find_package(CLI11 QUIET)
    carousel_need("TARGET;CLI11::CLI11" libcli11-dev "CLI11")
endif()
if(BUILD_TESTING)
    find_package(GTest QUIET)
    carousel_need("TARGET;GTest::gmock" "libgtest-dev libgmock-dev"
                  "GoogleTest, or configure with -DBUILD_TESTING=OFF")
    if(CAROUSEL_SIMT_TESTS)
        # Fibers for the kernels' tests.
        find_package(Boost QUIET COMPONENTS context)
        carousel_need("TARGET;Boost::context" libboost-context-dev
                      "Boost.Context, or configure with -DBUILD_TESTING=OFF")
    endif()
endif()

if(missing_packages)
    list(JOIN missing_packages "\n  " missing_text)
    message(FATAL_ERROR "Carousel needs these Debian packages, or the same libraries from "
                        "elsewhere (CMAKE_PREFIX_PATH):\n  ${missing_text}\n"
                        "`bash .ci/install` installs them.")
endif()

if(NOT TARGET carousel_dnnl)
    add_library(carousel_dnnl INTERFACE)
    target_include_directories(carousel_dnnl SYSTEM INTERFACE "${DNNL_INCLUDE_DIR}")
    # gomp: Debian's oneDNN runs on GCC's OpenMP, whose team Carousel holds at one thread.
    target_link_libraries(carousel_dnnl INTERFACE "${DNNL_LIBRARY}" gomp)
    add_library(carousel_random123 INTERFACE)
    target_include_directories(carousel_random123 SYSTEM INTERFACE "${RANDOM123_INCLUDE_DIR}")
endif()

# All that the library itself needs, in one name.
add_library(carousel_dependencies INTERFACE)
target_link_libraries(
    carousel_dependencies
    INTERFACE carousel_dnnl carousel_random123 Eigen3::Eigen nlohmann_json::nlohmann_json
              Threads::Threads ${CMAKE_DL_LIBS})
