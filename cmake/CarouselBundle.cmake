# Work for a machine with a GPU.
#
#   gpu_bundle  one archive that a machine with nothing but the driver, CUDA's libraries and Python 3 can
#               run: tests, tool, benchmarks, texts, and the runner that goes through them. Only with
#               CAROUSEL_BUNDLE=ON (preset `bundle`), which links what else is needed into the programs.
#   gpu_check   the same stages on this machine, from this build tree.
#
# Included last, because it looks which targets there are.

option(CAROUSEL_BUNDLE "Link the programs of gpu_bundle so that they run elsewhere" OFF)
set(CAROUSEL_BUNDLE_TEXT "" CACHE FILEPATH "Text for gpu_bundle's character model; default: the sources")
set(CAROUSEL_BUNDLE_WORDS "" CACHE PATH "Folder with ptb.train.txt and ptb.valid.txt for gpu_bundle")

if(NOT CAROUSEL_CUDA_ENABLED OR NOT TARGET carousel_gpu_tests)
    return()
endif()

set(bundle_programs "")
set(check_programs "")
foreach(target carousel_tool carousel_gpu_tests carousel_bench_gpu carousel_probes)
    if(TARGET ${target})
        list(APPEND bundle_programs ${target})
        get_target_property(name ${target} OUTPUT_NAME)
        if(NOT name)
            set(name ${target})
        endif()
        list(APPEND check_programs --program "${name}=$<TARGET_FILE:${target}>")
    endif()
endforeach()

find_package(Python3 QUIET COMPONENTS Interpreter)
if(Python3_FOUND)
    add_custom_target(
        gpu_check
        COMMAND
            "${Python3_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/tests/gpu/run_on_card.py" --data
            "${PROJECT_SOURCE_DIR}" ${check_programs} --out "${PROJECT_BINARY_DIR}/gpu-check"
        DEPENDS ${bundle_programs}
        USES_TERMINAL VERBATIM)
endif()

if(NOT CAROUSEL_BUNDLE)
    add_custom_target(
        gpu_bundle
        COMMAND "${CMAKE_COMMAND}" -E echo
                "gpu_bundle needs -DCAROUSEL_BUNDLE=ON: cmake --preset bundle"
        COMMAND "${CMAKE_COMMAND}" -E false
        VERBATIM)
    return()
endif()

foreach(target IN LISTS bundle_programs)
    # exclude-libs: what the C++ runtime inside exports must not meet that of a shared library.
    # disable-new-dtags: an RPATH, unlike a RUNPATH, also serves what the libraries beside need.
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc LINKER:--exclude-libs,ALL
                        LINKER:--disable-new-dtags)
    set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON
                                               INSTALL_RPATH "$ORIGIN/../lib")
endforeach()

set(bundle_files "")
foreach(target IN LISTS bundle_programs)
    list(APPEND bundle_files "$<TARGET_FILE:${target}>")
endforeach()
list(JOIN bundle_files "|" bundle_files)
find_program(CAROUSEL_STRIP NAMES ${CMAKE_STRIP} strip)
mark_as_advanced(CAROUSEL_STRIP)
add_custom_target(
    gpu_bundle
    COMMAND
        "${CMAKE_COMMAND}" -D "SOURCE_DIR=${PROJECT_SOURCE_DIR}" -D "BINARY_DIR=${PROJECT_BINARY_DIR}"
        -D "PROGRAMS=${bundle_files}" -D "STRIP=${CAROUSEL_STRIP}" -D "TEXT=${CAROUSEL_BUNDLE_TEXT}" -D
        "WORDS=${CAROUSEL_BUNDLE_WORDS}" -D "ARCHITECTURES=${CMAKE_CUDA_ARCHITECTURES}" -D
        "VERSION=${PROJECT_VERSION}" -P "${PROJECT_SOURCE_DIR}/cmake/MakeBundle.cmake"
    DEPENDS ${bundle_programs}
    COMMENT "Packing what a machine with a GPU needs"
    VERBATIM)
