include(CMakePackageConfigHelpers)

install(TARGETS tornado EXPORT TornadoTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tornado DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT TornadoTargets NAMESPACE Tornado:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)
configure_package_config_file(cmake/TornadoConfig.cmake.in ${CMAKE_BINARY_DIR}/TornadoConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/TornadoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/TornadoConfig.cmake ${CMAKE_BINARY_DIR}/TornadoConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)
configure_file(cmake/tornado.pc.in ${CMAKE_BINARY_DIR}/tornado.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tornado.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
