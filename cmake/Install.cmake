include(CMakePackageConfigHelpers)

install(TARGETS tornado EXPORT TornadoTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tornado DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT TornadoTargets NAMESPACE Tornado:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)
configure_package_config_file(cmake/TornadoConfig.cmake.in ${CMAKE_BINARY_DIR}/TornadoConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/TornadoConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/TornadoConfig.cmake ${CMAKE_BINARY_DIR}/TornadoConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Tornado)

# From the file's own place, so that `cmake --install --prefix` and moved trees work.
file(RELATIVE_PATH TORNADO_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" TORNADO_PC_PREFIX ${TORNADO_PC_PREFIX})
configure_file(cmake/tornado.pc.in ${CMAKE_BINARY_DIR}/tornado.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/tornado.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The suites every implementation of a seam has to pass, for those who write one.
install(DIRECTORY tests/seam tests/support DESTINATION ${CMAKE_INSTALL_DATADIR}/tornado/suites COMPONENT suites
  FILES_MATCHING PATTERN "*_suite.hpp" PATTERN "keys.hpp")

if(TORNADO_TESTS AND NOT TORNADO_SANITIZE)
  add_test(NAME install COMMAND sh ${PROJECT_SOURCE_DIR}/tests/install/run.sh ${CMAKE_BINARY_DIR}
           ${CMAKE_BINARY_DIR}/tests/install/run)
  set_tests_properties(install PROPERTIES TIMEOUT 300 ENVIRONMENT "CXX=${CMAKE_CXX_COMPILER}")
endif()
