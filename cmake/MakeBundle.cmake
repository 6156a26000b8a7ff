# Script of the target gpu_bundle (cmake/CarouselBundle.cmake):
#
#   carousel-gpu/bin    the programs, stripped
#   carousel-gpu/lib    what they load and a bare machine lacks, found through $ORIGIN
#   carousel-gpu/lib/fallback   the C++ runtime that those libraries need, used if the machine has none
#   carousel-gpu/tests, bench   shape lines and golden values
#   carousel-gpu/text           texts for training
#   carousel-gpu/run_on_card.py

set(folder "${BINARY_DIR}/carousel-gpu")
set(archive "${BINARY_DIR}/carousel-gpu.tar.xz")
set(max_bytes 41943040) # 40 MiB
file(REMOVE_RECURSE "${folder}")
file(REMOVE "${archive}")

string(REPLACE "|" ";" programs "${PROGRAMS}")
file(COPY ${programs} DESTINATION "${folder}/bin")

# The loader, the C library and the driver belong to the machine. Names of the C library's parts: glibc
# 2.34 and before had them in files of their own.
set(of_the_machine "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv|cuda)\\.so")
file(
    GET_RUNTIME_DEPENDENCIES
    EXECUTABLES ${programs}
    RESOLVED_DEPENDENCIES_VAR needed
    PRE_EXCLUDE_REGEXES ${of_the_machine})
foreach(library IN LISTS needed)
    if(library MATCHES "/lib(stdc\\+\\+|gcc_s)\\.so")
        file(COPY "${library}" DESTINATION "${folder}/lib/fallback" FOLLOW_SYMLINK_CHAIN)
    else()
        file(COPY "${library}" DESTINATION "${folder}/lib" FOLLOW_SYMLINK_CHAIN)
    endif()
endforeach()

file(GLOB stripped "${folder}/bin/*" "${folder}/lib/*.so*")
foreach(file IN LISTS stripped)
    if(NOT IS_SYMLINK "${file}")
        execute_process(COMMAND "${STRIP}" --strip-unneeded "${file}" COMMAND_ERROR_IS_FATAL ANY)
    endif()
endforeach()

file(COPY "${SOURCE_DIR}/tests/shapes" "${SOURCE_DIR}/tests/golden" DESTINATION "${folder}/tests"
     FILES_MATCHING PATTERN "*.txt")
file(COPY "${SOURCE_DIR}/bench/shapes" DESTINATION "${folder}/bench")
foreach(script run_on_card card_machine card_stages)
    file(COPY "${SOURCE_DIR}/tests/gpu/${script}.py" DESTINATION "${folder}")
endforeach()
if(TEXT)
    configure_file("${TEXT}" "${folder}/text/characters.txt" COPYONLY)
else()
    configure_file("${BINARY_DIR}/builtin_text.txt" "${folder}/text/characters.txt" COPYONLY)
endif()
if(WORDS)
    foreach(part train valid)
        configure_file("${WORDS}/ptb.${part}.txt" "${folder}/text/words/ptb.${part}.txt" COPYONLY)
    endforeach()
endif()

execute_process(COMMAND git -C "${SOURCE_DIR}" describe --always --dirty OUTPUT_VARIABLE commit
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(WRITE "${folder}/ABOUT.txt"
     "Carousel ${VERSION}, commit ${commit}, kernels for ${ARCHITECTURES}\n"
     "Run: python3 run_on_card.py --out DIR\n")

execute_process(COMMAND "${CMAKE_COMMAND}" -E tar cJf "${archive}" carousel-gpu
                WORKING_DIRECTORY "${BINARY_DIR}" COMMAND_ERROR_IS_FATAL ANY)
file(SIZE "${archive}" bytes)
if(bytes GREATER max_bytes)
    message(FATAL_ERROR "${archive} has ${bytes} bytes, more than ${max_bytes}; configure with "
                        "-DCMAKE_CUDA_ARCHITECTURES=90a-real, or without texts")
endif()
message(STATUS "${archive}: ${bytes} bytes")
