# What every target shares: build type, ccache, language standard, warnings, sanitizers.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

if(PROJECT_IS_TOP_LEVEL)
    set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
    find_program(CAROUSEL_CCACHE ccache)
    mark_as_advanced(CAROUSEL_CCACHE)
    foreach(language C CXX CUDA)
        if(CAROUSEL_CCACHE AND NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
            set(CMAKE_${language}_COMPILER_LAUNCHER "${CAROUSEL_CCACHE}")
        endif()
    endforeach()
endif()

# Usage requirements of everything that is compiled from this repository. nvcc's language standard is
# a plain flag because CMake 3.25 has no CUDA20 for it; a register spill counts as a warning.
add_library(carousel_compile_options INTERFACE)
target_compile_features(carousel_compile_options INTERFACE cxx_std_20)
target_compile_options(
    carousel_compile_options
    INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow>
              $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-Xcompiler=-Wall,-Wextra;-Xptxas=--warn-on-spills>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 reports std::string's operator+ as an overlapping copy (GCC bug 105651).
    target_compile_options(carousel_compile_options
                           INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # Pragmas that silence one of GCC's warnings name it.
    target_compile_options(carousel_compile_options
                           INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-unknown-warning-option>)
endif()
if(CAROUSEL_WARNINGS_AS_ERRORS)
    target_compile_options(
        carousel_compile_options
        INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
                  $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>)
endif()

if(CAROUSEL_SANITIZE)
    # -fno-sanitize-recover makes the first report of UBSan fatal, so that a test sees it.
    set(sanitizer_flags -fsanitize=${CAROUSEL_SANITIZE} -fno-omit-frame-pointer
                        -fno-sanitize-recover=all)
    target_compile_options(carousel_compile_options
                           INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${sanitizer_flags}>")
    target_link_options(carousel_compile_options INTERFACE -fsanitize=${CAROUSEL_SANITIZE})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # Instrumented code hides from GCC that a loop over all lanes has set them.
        target_compile_options(carousel_compile_options
                               INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wno-maybe-uninitialized>)
    endif()
endif()
