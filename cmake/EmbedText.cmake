# carousel_embed_text(<target>): builds the project's own sources, joined in order of their names,
# into the target, as the text that `carousel train` learns when none is given. Done when CMake
# configures; the result is the same for the same tree.
function(carousel_embed_text target)
    set(text_file "${PROJECT_BINARY_DIR}/builtin_text.txt")
    set(source_file "${PROJECT_BINARY_DIR}/builtin_text.cpp")
    set(files "")
    foreach(folder include/carousel kernels src)
        file(GLOB_RECURSE folder_files RELATIVE "${PROJECT_SOURCE_DIR}"
             "${PROJECT_SOURCE_DIR}/${folder}/*.hpp" "${PROJECT_SOURCE_DIR}/${folder}/*.h"
             "${PROJECT_SOURCE_DIR}/${folder}/*.cpp" "${PROJECT_SOURCE_DIR}/${folder}/*.cuh"
             "${PROJECT_SOURCE_DIR}/${folder}/*.cu")
        list(SORT folder_files)
        list(APPEND files ${folder_files})
    endforeach()
    execute_process(COMMAND "${CMAKE_COMMAND}" -E cat ${files}
                    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_FILE "${text_file}.new"
                    COMMAND_ERROR_IS_FATAL ANY)
    # Unchanged text keeps its time stamp, and the tool is not linked again.
    file(COPY_FILE "${text_file}.new" "${text_file}" ONLY_IF_DIFFERENT)
    file(REMOVE "${text_file}.new")
    file(
        CONFIGURE OUTPUT "${source_file}" CONTENT [[
// Made by cmake/EmbedText.cmake.
#include "src/cli/builtin_text.hpp"

asm(".section .rodata\n"
    "carousel_builtin_text_begin:\n"
    ".incbin \"@text_file@\"\n"
    "carousel_builtin_text_end:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" const char carousel_builtin_text_begin[];
extern "C" const char carousel_builtin_text_end[];

namespace carousel::cli {

std::string_view builtin_text() {
    return {carousel_builtin_text_begin,
            static_cast<std::size_t>(carousel_builtin_text_end - carousel_builtin_text_begin)};
}

}  // namespace carousel::cli
]]
        @ONLY)
    set_property(SOURCE "${source_file}" APPEND PROPERTY OBJECT_DEPENDS "${text_file}")
    target_sources(${target} PRIVATE "${source_file}")
endfunction()
