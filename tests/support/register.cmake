# How tests are built and registered.
#
# A program is built in two ways: `core` calls the cede_* names and is linked with
# them, `plain` calls libc's names, to be preloaded or linked with the library.
# Each registered test is run once for each policy:
#
#   cede_..._test(PROGRAM [NAME name] [ARGS ...] [POLICIES ...] [ENVIRONMENT ...]
#                 [LABEL quick|long] [TIMEOUT seconds])
#
# and is called NAME.WAY.POLICY; NAME is the program's unless given.

# A test of one module: unit/test_NAME.c.  `WRAP` replaces each named function by
# the test's __wrap_ one: the scripted operating system.
#
#   cede_unit_test(NAME [WRAP function ...])
function(cede_unit_test name)
	cmake_parse_arguments(PARSE_ARGV 1 test "" "" "WRAP")
	add_executable(test_${name} unit/test_${name}.c)
	target_link_libraries(test_${name} PRIVATE cede-core PkgConfig::CMOCKA Threads::Threads)
	foreach(symbol ${test_WRAP})
		target_link_options(test_${name} PRIVATE -Wl,--wrap=${symbol})
	endforeach()
	add_test(NAME unit.${name} COMMAND test_${name})
	set_tests_properties(unit.${name} PROPERTIES LABELS quick TIMEOUT 120)
endfunction()

function(cede_core_program name)
	add_executable(${name}-core ${ARGN})
	target_compile_definitions(${name}-core PRIVATE TESTS_PREFIXED)
	target_link_libraries(${name}-core PRIVATE tests-support cede-core Threads::Threads)
endfunction()

function(cede_plain_program name)
	add_executable(${name} ${ARGN})
	target_link_libraries(${name} PRIVATE tests-support Threads::Threads)
endfunction()

function(cede_module name)
	add_library(${name} MODULE ${ARGN})
	set_target_properties(${name} PROPERTIES PREFIX "")
	target_link_libraries(${name} PRIVATE Threads::Threads)
endfunction()

function(cede_register way target default_name)
	cmake_parse_arguments(PARSE_ARGV 3 test "" "NAME;LABEL;TIMEOUT" "ARGS;POLICIES;ENVIRONMENT")
	if(NOT test_NAME)
		set(test_NAME ${default_name})
	endif()
	if(NOT test_LABEL)
		set(test_LABEL quick)
	endif()
	if(NOT test_TIMEOUT)
		set(test_TIMEOUT 60)
	endif()
	if(NOT test_POLICIES)
		set(test_POLICIES default classic)
	endif()
	foreach(policy ${test_POLICIES})
		set(environment ${test_ENVIRONMENT})
		set(name ${test_NAME}.${way}.${policy})
		if(way STREQUAL "libc")
			set(name ${test_NAME}.libc)
		else()
			set(options policy=${policy})
			if(CEDE_SANITIZER STREQUAL "thread")
				# It must know each thread, and nobody knows the purger.
				string(APPEND options ",background=off")
			endif()
			list(APPEND environment CEDE_OPTIONS=${options})
		endif()
		if(way STREQUAL "preload")
			list(APPEND environment LD_PRELOAD=$<TARGET_FILE:cede>)
		endif()
		add_test(NAME ${name} COMMAND ${target} ${test_ARGS})
		set_tests_properties(${name} PROPERTIES LABELS ${test_LABEL} TIMEOUT ${test_TIMEOUT}
			SKIP_RETURN_CODE 77 ENVIRONMENT "${environment}")
	endforeach()
endfunction()

function(cede_core_test program)
	cede_register(core ${program}-core ${program} ${ARGN})
endfunction()

function(cede_preload_test program)
	cede_register(preload ${program} ${program} ${ARGN})
endfunction()

# The program was linked with the library.
function(cede_linked_test program)
	cede_register(linked ${program} ${program} ${ARGN})
endfunction()

# On libc's heap: the test's expectations are libc's own.
function(cede_libc_test program)
	cede_register(libc ${program} ${program} POLICIES none ${ARGN})
endfunction()

# A Python script that is told which library to measure.
#
#   cede_script_test(NAME SCRIPT [ARGS ...] [LABEL ...] [TIMEOUT seconds])
function(cede_script_test name script)
	cmake_parse_arguments(PARSE_ARGV 2 test "" "LABEL;TIMEOUT" "ARGS")
	if(NOT test_LABEL)
		set(test_LABEL quick)
	endif()
	add_test(NAME ${name} COMMAND Python3::Interpreter -B
		${CMAKE_CURRENT_SOURCE_DIR}/${script} --library $<TARGET_FILE:cede> ${test_ARGS})
	set_tests_properties(${name} PROPERTIES LABELS ${test_LABEL} TIMEOUT ${test_TIMEOUT}
		SKIP_RETURN_CODE 77)
endfunction()

# Not beside another that takes gigabytes; and begun early, for they are many.
function(cede_one_at_a_time test)
	set_tests_properties(${test} PROPERTIES RESOURCE_LOCK memory COST 100)
endfunction()

# One figure of the articles (seeds/figures.py).
#
#   cede_figure(FIGURE [NUMBER])
function(cede_figure figure)
	list(JOIN ARGN . numbers)
	string(REGEX REPLACE "\\.$" "" name seeds.${figure}.${numbers})
	cede_script_test(${name} seeds/figures.py TIMEOUT 120
		ARGS --subject $<TARGET_FILE:cede-lab-subject> ${figure} ${ARGN})
	cede_one_at_a_time(${name})
endfunction()
