# carousel_objects  everything but the tool, compiled once
# carousel          libcarousel.so: exports what CAROUSEL_API marks
# carousel_static   the same objects for the tool, the tests and bench; not installed
# carousel_tool     the command-line tool, named `carousel`

add_library(carousel_objects OBJECT ${CAROUSEL_SOURCES})
set_target_properties(
    carousel_objects
    PROPERTIES POSITION_INDEPENDENT_CODE ON
               C_VISIBILITY_PRESET hidden
               CXX_VISIBILITY_PRESET hidden
               CUDA_VISIBILITY_PRESET hidden
               VISIBILITY_INLINES_HIDDEN ON
               CXX_EXTENSIONS OFF)
target_include_directories(carousel_objects PUBLIC "${PROJECT_SOURCE_DIR}/include"
                                                   "${PROJECT_SOURCE_DIR}")
target_link_libraries(carousel_objects PUBLIC carousel_compile_options carousel_dependencies)
target_compile_definitions(carousel_objects PRIVATE CAROUSEL_VERSION="${PROJECT_VERSION}")
if(CAROUSEL_X86_64)
    target_compile_definitions(carousel_objects PRIVATE CAROUSEL_X86_64=1)
endif()
if(CAROUSEL_CUDA_ENABLED)
    target_compile_definitions(carousel_objects PRIVATE CAROUSEL_HAS_CUDA=1)
    # src/backend/cuda/runtime is host code that calls the CUDA runtime and cuBLASLt; the latter is
    # opened when a CUDA device is first used, and never linked.
    target_include_directories(carousel_objects SYSTEM
                               PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
    if(CAROUSEL_NVTX)
        target_compile_definitions(carousel_objects PRIVATE CAROUSEL_NVTX=1)
    endif()
    # Which devices the kernels run on is asked of this list.
    string(REPLACE ";" "," cuda_architectures "${CMAKE_CUDA_ARCHITECTURES}")
    set_property(SOURCE "${PROJECT_SOURCE_DIR}/src/backend/cuda/device_caps.cpp"
                 APPEND PROPERTY COMPILE_DEFINITIONS
                                 "CAROUSEL_CUDA_ARCHITECTURES=\"${cuda_architectures}\"")
endif()

add_library(carousel_static STATIC $<TARGET_OBJECTS:carousel_objects>)
set_target_properties(carousel_static PROPERTIES OUTPUT_NAME carousel_internal)
target_include_directories(carousel_static PUBLIC "${PROJECT_SOURCE_DIR}/include"
                                                  "${PROJECT_SOURCE_DIR}")
target_link_libraries(carousel_static PUBLIC carousel_compile_options carousel_dependencies)

add_library(carousel SHARED $<TARGET_OBJECTS:carousel_objects>)
add_library(Carousel::carousel ALIAS carousel)
# While the major version is 0 a minor release may change the ABI, so both are in the SONAME.
set_target_properties(
    carousel
    PROPERTIES VERSION ${PROJECT_VERSION}
               SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
               LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/carousel.map")
target_compile_features(carousel INTERFACE cxx_std_17)
target_include_directories(carousel INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                              $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(carousel PRIVATE $<BUILD_INTERFACE:carousel_compile_options>
                                       $<BUILD_INTERFACE:carousel_dependencies>)
# Hidden visibility does not reach the standard library's templates nor static archives; the
# version script does.
target_link_options(carousel PRIVATE
                    "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/carousel.map")
if(NOT CAROUSEL_SANITIZE)
    # A sanitizer's runtime comes with the program.
    target_link_options(carousel PRIVATE LINKER:--no-undefined)
endif()

foreach(target carousel carousel_static)
    if(CAROUSEL_CUDA_ENABLED)
        # The C++ compiler links; these are what nvcc would add.
        set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
        find_library(CAROUSEL_CUDART_STATIC cudart_static
                     HINTS ${CMAKE_CUDA_TOOLKIT_ROOT_DIR}/lib64
                           ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
        mark_as_advanced(CAROUSEL_CUDART_STATIC)
        if(target STREQUAL "carousel")
            target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:${CAROUSEL_CUDART_STATIC}>
                                                    $<BUILD_INTERFACE:rt>)
        else()
            target_link_libraries(${target} PUBLIC ${CAROUSEL_CUDART_STATIC} rt)
        endif()
    else()
        set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
    endif()
endforeach()

include(EmbedText)
function(carousel_add_tool)
    if(NOT CAROUSEL_TOOL_SOURCES)
        message(STATUS "src/cli is empty: no tool")
        return()
    endif()
    # All but main(): tests run the commands on devices that only they have.
    set(command_sources ${CAROUSEL_TOOL_SOURCES})
    list(FILTER command_sources EXCLUDE REGEX "/src/cli/main\\.cpp$")
    add_library(carousel_commands OBJECT ${command_sources})
    set_target_properties(carousel_commands PROPERTIES CXX_EXTENSIONS OFF
                                                       CXX_VISIBILITY_PRESET hidden)
    target_compile_definitions(carousel_commands PRIVATE CAROUSEL_VERSION="${PROJECT_VERSION}"
                               CAROUSEL_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_link_libraries(carousel_commands PUBLIC carousel_static CLI11::CLI11)
    carousel_embed_text(carousel_commands)

    add_executable(carousel_tool "${PROJECT_SOURCE_DIR}/src/cli/main.cpp")
    set_target_properties(carousel_tool PROPERTIES OUTPUT_NAME carousel RUNTIME_OUTPUT_DIRECTORY
                                                   "${PROJECT_BINARY_DIR}" CXX_EXTENSIONS OFF
                                                   CXX_VISIBILITY_PRESET hidden)
    target_compile_definitions(carousel_tool PRIVATE CAROUSEL_VERSION="${PROJECT_VERSION}")
    target_link_libraries(carousel_tool PRIVATE carousel_commands)
    install(TARGETS carousel_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()
