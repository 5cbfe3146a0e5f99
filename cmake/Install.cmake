# What `cmake --install` puts where, and the packages that CPack makes of it. Components:
#   runtime    libwinnow.so, all that an engine with cached kernels needs at run time
#   compiler   libwinnow_compiler.so, the tool and the built-in methods' texts
#   dev        headers, the CMake package `winnow` and winnow.pc
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/winnow)

set_target_properties(winnow_shared PROPERTIES EXPORT_NAME winnow)
target_include_directories(winnow_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS winnow_shared EXPORT winnowTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev)
install(FILES runtime/api/winnow.h runtime/api/winnow.hpp TYPE INCLUDE COMPONENT dev)
install(EXPORT winnowTargets NAMESPACE winnow:: DESTINATION ${package_dir} COMPONENT dev)

if(TARGET winnow_compiler_shared AND TARGET winnow)
  set_target_properties(winnow_compiler_shared PROPERTIES EXPORT_NAME compiler)
  set_target_properties(winnow PROPERTIES EXPORT_NAME tool)
  install(TARGETS winnow_compiler_shared winnow EXPORT winnowCompilerTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT compiler NAMELINK_SKIP
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT compiler)
  install(EXPORT winnowCompilerTargets NAMESPACE winnow:: DESTINATION ${package_dir} COMPONENT compiler)
  install(DIRECTORY dialect/methods DESTINATION ${CMAKE_INSTALL_DATADIR}/winnow COMPONENT compiler FILES_MATCHING PATTERN *.mlir)
endif()

configure_package_config_file(cmake/winnowConfig.cmake.in ${CMAKE_BINARY_DIR}/winnowConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# As long as MAJOR is 0 a MINOR may change the command line and method texts, never the C ABI (docs/versioning.md).
write_basic_package_version_file(${CMAKE_BINARY_DIR}/winnowConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_BINARY_DIR}/winnowConfig.cmake ${CMAKE_BINARY_DIR}/winnowConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT dev)
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /) # winnow.pc may be moved with its prefix
configure_file(cmake/winnow.pc.in ${CMAKE_BINARY_DIR}/winnow.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/winnow.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
set(runtime_package libwinnow${PROJECT_VERSION_MAJOR})
set(compiler_package winnow)
set(dev_package libwinnow-dev)
foreach(component runtime compiler dev) # no file may be in two packages
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${${component}_package} RENAME copyright COMPONENT ${component})
endforeach()

# `cpack` in the build folder makes three .deb files.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The authors of Winnow")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Block-sparse attention kernels for long-context language models")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime compiler dev)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime_package})
set(CPACK_DEBIAN_COMPILER_PACKAGE_NAME ${compiler_package})
set(CPACK_DEBIAN_DEV_PACKAGE_NAME ${dev_package})
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= 2.35)")
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "${runtime_package} (= ${PROJECT_VERSION})")
include(CPack)
