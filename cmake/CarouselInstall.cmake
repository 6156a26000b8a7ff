# `cmake --install`: headers, libcarousel.so, the CMake package and the pkg-config file. All of it
# is relocatable: no absolute path of the build machine is written anywhere.

include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Carousel")
install(TARGETS carousel EXPORT CarouselTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/carousel" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(EXPORT CarouselTargets NAMESPACE Carousel:: DESTINATION "${package_dir}")

configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/CarouselConfig.cmake.in"
    "${PROJECT_BINARY_DIR}/CarouselConfig.cmake" INSTALL_DESTINATION "${package_dir}"
    NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/CarouselConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/CarouselConfig.cmake"
              "${PROJECT_BINARY_DIR}/CarouselConfigVersion.cmake" DESTINATION "${package_dir}")

# carousel.pc lies in <prefix>/<libdir>/pkgconfig; the way back up to the prefix has one `..` per
# component of that path.
file(RELATIVE_PATH CAROUSEL_PC_TO_PREFIX "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" CAROUSEL_PC_TO_PREFIX "${CAROUSEL_PC_TO_PREFIX}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/carousel.pc.in" "${PROJECT_BINARY_DIR}/carousel.pc"
               @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/carousel.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
