# Headers, libraries, the files by which other builds find them, and what people read.
# Everything refers to its neighbours by relative paths: an installed tree may be moved.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cede)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cede
	DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
	FILES_MATCHING PATTERN "*.h")
install(TARGETS cede cede_static EXPORT cede-targets)
install(EXPORT cede-targets NAMESPACE cede:: DESTINATION ${package_dir} FILE cedeTargets.cmake)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cedeConfig.cmake.in
	${PROJECT_BINARY_DIR}/cedeConfig.cmake
	INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cedeConfigVersion.cmake
	COMPATIBILITY SameMajorVersion)
install(FILES
	${PROJECT_BINARY_DIR}/cedeConfig.cmake
	${PROJECT_BINARY_DIR}/cedeConfigVersion.cmake
	DESTINATION ${package_dir})

set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH prefix_from_pkgconfig
	${CMAKE_INSTALL_PREFIX}/${pkgconfig_dir} ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/cede.pc.in ${PROJECT_BINARY_DIR}/cede.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cede.pc DESTINATION ${pkgconfig_dir})

foreach(section 1 3 7)
	install(DIRECTORY ${PROJECT_SOURCE_DIR}/man/
		DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
		FILES_MATCHING PATTERN "*.${section}")
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/cli/completion/cede.bash RENAME cede
	DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${PROJECT_SOURCE_DIR}/cli/completion/_cede
	DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${PROJECT_SOURCE_DIR}/cli/completion/cede.fish
	DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/LICENSE
	DESTINATION ${CMAKE_INSTALL_DOCDIR})
