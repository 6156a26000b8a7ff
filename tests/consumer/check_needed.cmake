# Fails when one of FILES (separated by commas) needs, to start, a library of the CUDA driver or
# toolkit: what a machine without a GPU lacks. The driver is opened by the CUDA runtime, which is
# linked statically; cuBLASLt by src/backend/cuda/runtime/cublaslt.cpp.
string(REPLACE "," ";" files "${FILES}")
foreach(file IN LISTS files)
    execute_process(COMMAND "${READELF}" -d -W "${file}" OUTPUT_VARIABLE listing
                                                         COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "\\(NEEDED\\)[^\n]*" lines "${listing}")
    if(NOT lines)
        message(FATAL_ERROR "${READELF} lists nothing that ${file} needs, not even a C library")
    endif()
    foreach(line IN LISTS lines)
        if(line MATCHES "\\[lib(cuda|cudart|cudnn|cublas|cublasLt|cupti|curand|nvrtc|nvidia|nccl)[^]]*\\]")
            message(FATAL_ERROR "${file} needs ${CMAKE_MATCH_0} to start")
        endif()
    endforeach()
endforeach()
