# A thin front: CMakePresets.json says how each build is made.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
CMAKE_GENERATOR ?= $(if $(shell which ninja 2>/dev/null),Ninja,Unix Makefiles)
export CMAKE_GENERATOR

# Configures and builds one preset.  $(1): its name, $(2): more options
build = cmake --preset $(1) $(2) --log-level=NOTICE && cmake --build build/$(1) -j $(JOBS)

# Builds one preset with its tests and runs those that $(tests) selects.  $(1): its
# name, $(2): the command that runs ctest, if any
run_tests = $(call build,$(1),-DBUILD_TESTING=ON) && \
	$(2) ctest --test-dir build/$(1) --output-on-failure --no-tests=error -j $(JOBS) $(tests)

# gcc's ThreadSanitizer cannot place its shadow under a wide randomisation.
fixed_addresses = $(shell setarch -R true 2>/dev/null && echo setarch -R)

release: ## build/release: the library and the command (the default)
	@command -v cmake >/dev/null || { echo "cmake is missing; run: tools/setup build" >&2; exit 1; }
	$(call build,release)

setup-%:
	tools/setup $*

demo: setup-demo ## see the problem under glibc, and not under cede (a minute)
	$(call build,release)
	build/release/bin/cede lab --demo

check: tests = -LE long
check: all-tests ## build every preset and run its tests (15 minutes on two processors)

check-long: all-tests ## the same, with the tests that take long

all-tests: setup-check
	$(call run_tests,audit)
	$(call run_tests,asan)
	$(call run_tests,tsan,$(fixed_addresses))
	$(call run_tests,release)

bench: setup-bench ## measure against other allocators
	$(call build,release)
	cmake --build build/release --target bench

install: release ## install into PREFIX (/usr/local), below DESTDIR
	cmake --install build/release --prefix $(PREFIX)

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.DEFAULT_GOAL := release
.PHONY: release demo check check-long all-tests bench install clean help
