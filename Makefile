# The commands of Winnow. `make run` and `make test` work on a fresh Debian 12 machine: setup.sh installs what is missing.
#   make run           build, then compile InfLLM-V2 for three architectures, run it, check it, draw it
#   make test          build everything and run every test
#   make build         build everything
#   make format        clang-format over all C++ files          make tidy   clang-tidy over all C++ files
#   make goldens       update the golden kernels, recipes and digests from the compiler's present output
#   make docs          the references in docs/ that are made from definitions (dialects, ops of regions), then the
#                      documentation site in build/site: plain files, search wants a server (python3 -m http.server)
#   make static        the GPU-only tools, without the CPU JIT, in build-static/bin
#   make wheel         the Python package as a wheel for pip, in build/wheel
#   make runtime-only  the runtime and its tools without LLVM, tested, in build-runtime
#   make sanitize      the tests of runtime and autotuner under the thread and the address sanitizer (g++'s), in build-thread, build-address
#   make fuzz          every harness of tests/fuzz for MINUTES (5) each; HARNESSES=image names one. What fails is kept in
#                      BUILD/fuzz/findings
#   make mutate        puts the faults of tests/mutation into a clone, one at a time, and tells which the tests notice
#                      (docs/mutation.md); ONLY=REGEX takes some of them. A run that is broken off goes on where it was
# Variables: BUILD (build folder), JOBS, RUN (the arguments of `make run`), TESTS (a regular expression for ctest -R).
BUILD ?= build
JOBS ?= $(shell nproc)
RUN ?= infllm_v2 --heads 32 --kv-heads 2 --head-dim 128 --block 64 --topk 96 --dtype bf16 --svg $(BUILD)/winnow-selection.svg
TESTS ?= .
MINUTES ?= 5
HARNESSES ?=
ONLY ?= .

# setup.sh puts NVRTC into .venv where the machine has none; the tools search the active Python environment.
ifndef VIRTUAL_ENV
export VIRTUAL_ENV := $(CURDIR)/.venv
endif

.DEFAULT_GOAL := build
.PHONY: setup setup-test build run test format tidy goldens docs wheel static runtime-only sanitize fuzz mutate clean

setup:
	@tools/setup.sh

setup-test:
	@tools/setup.sh test

$(BUILD)/build.ninja: | setup
	@tools/configure.sh $(BUILD)

build: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS)

run: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) winnow
	@$(BUILD)/bin/winnow run $(RUN)

# What tests alone need is fetched beside the build: packages, torch (2.7 GB), what makes the site.
test: setup $(BUILD)/build.ninja
	@{ tools/setup.sh test && tools/setup.sh torch && tools/setup.sh docs; } & fetched=$$!; \
	  ninja -C $(BUILD) -j $(JOBS); built=$$?; wait $$fetched && exit $$built
	@cd $(BUILD) && ctest -j $(JOBS) -R '$(TESTS)' --no-tests=error --output-on-failure

format: setup-test
	@python3 tests/style/format.py --fix

tidy: setup-test build
	@python3 tests/style/tidy.py --build $(BUILD)

goldens: build
	@tests/compiler/update-goldens.sh $(BUILD)

docs: build
	@python3 tools/docs.py --winnow $(BUILD)/bin/winnow
	@tools/setup.sh docs
	@.venv-docs/bin/python tools/site/site.py --out $(BUILD)/site

wheel: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) winnow_shared winnow_compiler_shared
	@tools/wheel.sh $(BUILD)

static: setup
	@tools/configure.sh build-static -DWINNOW_CPU=OFF
	@ninja -C build-static -j $(JOBS) winnow

runtime-only: setup
	@tools/configure.sh build-runtime -DWINNOW_COMPILER=OFF -DWINNOW_CPU=OFF
	@ninja -C build-runtime -j $(JOBS)
	@cd build-runtime && ctest -j $(JOBS) --no-tests=error --output-on-failure

# g++ has its sanitizers with it; clang's are a package of their own. LLVM's libraries are built without, so only
# runtime and autotuner can be checked.
SANITIZED = runtime_tests kill_rounds key_printer live_handles c_header autotune_tests fake_tune_worker
sanitize: setup
	@set -e; for checks in thread address; do \
	  CC=gcc CXX=g++ tools/configure.sh build-$$checks -DWINNOW_COMPILER=OFF -DWINNOW_CPU=OFF -DWINNOW_SANITIZE=$$checks; \
	  ninja -C build-$$checks -j $(JOBS) $(SANITIZED); \
	  (cd build-$$checks && ctest -R '^(runtime|runtime_c_header|F03_kill_rounds|autotune)$$' --no-tests=error --output-on-failure); \
	done

fuzz: setup-test $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) fuzz
	@python3 tests/fuzz/run.py --build $(BUILD) --seconds $$(($(MINUTES) * 60)) --jobs $(JOBS) $(HARNESSES)

mutate: setup-test
	@python3 tests/mutation/mutate.py --jobs $(JOBS) --only '$(ONLY)'

clean:
	@rm -rf $(BUILD) build-static build-runtime build-thread build-address build-mutation
