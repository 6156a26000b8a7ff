# Installs BUILD_DIR, moves the installation, builds the programs of SOURCE_DIR against it by ROUTE
# (find_package or pkg_config) and runs them.

set(installed "${WORK_DIR}/installed")
set(moved "${WORK_DIR}/moved")
set(consumer_build "${WORK_DIR}/build")
file(REMOVE_RECURSE "${WORK_DIR}")
file(MAKE_DIRECTORY "${WORK_DIR}")

execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${installed}"
                        OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${installed}" "${moved}")

# Nothing that the programs read may name the places they came from.
file(GLOB_RECURSE package_files "${moved}/*.cmake" "${moved}/*.pc")
foreach(file IN LISTS package_files)
    file(READ "${file}" content)
    foreach(place "${installed}" "${BUILD_DIR}")
        string(FIND "${content}" "${place}" position)
        if(NOT position EQUAL -1)
            message(FATAL_ERROR "${file} names ${place}: the installation cannot be moved")
        endif()
    endforeach()
endforeach()

if(ROUTE STREQUAL "pkg_config")
    # Set, not extended: a Carousel installed on this machine must not stand in.
    set(ENV{PKG_CONFIG_PATH} "${moved}/${LIBDIR}/pkgconfig")
endif()
execute_process(
    COMMAND
        "${CMAKE_COMMAND}" -S "${SOURCE_DIR}" -B "${consumer_build}" -G "${GENERATOR}"
        "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}"
        "-DCMAKE_PREFIX_PATH=${moved}" "-DROUTE=${ROUTE}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${consumer_build}" COMMAND_ERROR_IS_FATAL ANY)
set(ENV{LD_LIBRARY_PATH} "${moved}/${LIBDIR}")
foreach(program consumer_c11 consumer_cxx17)
    execute_process(COMMAND "${consumer_build}/${program}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
