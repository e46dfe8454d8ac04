# Epidote.  make help lists the targets; README.md has the two commands to start with.
#
#   BUILD=release|debug   SAN=address|undefined|thread|address,undefined   CC=gcc|clang   JOBS=n   CFLAGS=...
#   HDF5_HOME= LIBCONFIG_HOME= JANSSON_HOME= XXHASH_HOME= UTF8PROC_HOME= JPEG_HOME= PNG_HOME=
#                         where a library lives that pkg-config does not know
#   MPICC=mpicc           the MPI to build with, by its compiler wrapper; MPIRUN= its launcher, for tests
#   MPI_CFLAGS= MPI_LIBS= instead of what that wrapper says
#   CUDA=auto|yes|no      whether libepidote_cuda.so can be built: auto = if nvcc is found; `make cuda` builds it,
#                         `make` too with CUDA=yes.  The program is the same in all three cases
#   CUDA_HOME=/usr/local/cuda  where CUDA is, if nvcc is not in PATH    CUDA_ARCH="80 90"
#   V=1                   show whole commands
#   FUZZ_S=60             seconds for each fuzz target
#   DONE="test lint"      stages that `make ci` need not repeat
#   PREFIX=/usr/local DESTDIR=      for install
.DEFAULT_GOAL := all
SHELL := /bin/bash

CC     ?= cc
# The C++ compiler of the same make, for tests only: gcc-12 and g++-12, clang and clang++, cc and c++.
ifeq ($(origin CXX),default)
  CXX := $(patsubst cc,c++,$(patsubst gcc%,g++%,$(patsubst clang%,clang++%,$(CC))))
endif
MPICC  ?= mpicc
MPIRUN ?= $(subst mpicc,mpirun,$(MPICC))
BUILD  ?= release
SAN    ?=
FUZZ_S ?= 60
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)

comma := ,
# mpicc.mpich builds in build/release-mpich, another wrapper's name is the suffix as it is.
mpi_suffix := $(if $(filter-out mpicc,$(notdir $(MPICC))),-$(patsubst mpicc.%,%,$(notdir $(MPICC))))
# One tree per configuration, so that switching SAN, CC, BUILD or MPICC never mixes objects.
out := build/$(if $(FUZZ),fuzz,$(BUILD)$(if $(SAN),-$(subst $(comma),+,$(SAN)))$(if $(filter clang%,$(notdir $(CC))),-clang)$(mpi_suffix))

# ---- libraries ----------------------------------------------------------------------------------
# pkg-config first, under every name a library is known by; X_HOME overrides it.
pkg_name  = $(firstword $(foreach p,$(1),$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p))))
lib_cflags = $(if $($(1)_HOME),-I$($(1)_HOME)/include,$(if $(2),$(shell pkg-config --cflags $(2))))
lib_libs   = $(if $($(1)_HOME),-L$($(1)_HOME)/lib -Wl$(comma)-rpath$(comma)$($(1)_HOME)/lib $(3),$(if $(2),$(shell pkg-config --libs $(2))))

pkg_hdf5      := $(call pkg_name,hdf5 hdf5-serial)
pkg_libconfig := $(call pkg_name,libconfig)
pkg_jansson   := $(call pkg_name,jansson)
pkg_xxhash    := $(call pkg_name,libxxhash)
pkg_utf8proc  := $(call pkg_name,libutf8proc)
pkg_jpeg      := $(call pkg_name,libjpeg)
pkg_png       := $(call pkg_name,libpng libpng16)

# Both Open MPI's and MPICH's wrapper show the command they run: a compiler, then flags for
# compiling and linking.  Warnings in MPI's headers are not ours.
mpi_show := $(shell $(MPICC) -show 2>/dev/null)
mpi_words := $(wordlist 2,$(words $(mpi_show)),$(mpi_show))
ifeq ($(origin MPI_CFLAGS),undefined)
  MPI_CFLAGS := $(patsubst -I%,-isystem %,$(filter -I% -D%,$(mpi_words)))
endif
ifeq ($(origin MPI_LIBS),undefined)
  MPI_LIBS := $(filter-out -I% -D%,$(mpi_words))
  mpi_missing := $(if $(mpi_words),,mpi)
endif

missing := $(strip $(if $(pkg_hdf5)$(HDF5_HOME),,hdf5) \
                   $(if $(pkg_libconfig)$(LIBCONFIG_HOME),,libconfig) \
                   $(if $(pkg_jansson)$(JANSSON_HOME),,jansson) \
                   $(if $(pkg_xxhash)$(XXHASH_HOME),,xxhash) \
                   $(if $(pkg_utf8proc)$(UTF8PROC_HOME),,utf8proc) \
                   $(if $(pkg_jpeg)$(JPEG_HOME),,libjpeg) \
                   $(if $(pkg_png)$(PNG_HOME),,libpng) $(mpi_missing))

CPPFLAGS += -Isrc -I. -D_GNU_SOURCE \
            $(sort $(call lib_cflags,HDF5,$(pkg_hdf5)) $(call lib_cflags,LIBCONFIG,$(pkg_libconfig)) \
                   $(call lib_cflags,JANSSON,$(pkg_jansson)) $(call lib_cflags,XXHASH,$(pkg_xxhash)) \
                   $(call lib_cflags,UTF8PROC,$(pkg_utf8proc)) $(call lib_cflags,JPEG,$(pkg_jpeg)) \
                   $(call lib_cflags,PNG,$(pkg_png))) \
            $(MPI_CFLAGS)
LDLIBS   += $(call lib_libs,HDF5,$(pkg_hdf5),-lhdf5) $(call lib_libs,LIBCONFIG,$(pkg_libconfig),-lconfig) \
            $(call lib_libs,JANSSON,$(pkg_jansson),-ljansson) $(call lib_libs,XXHASH,$(pkg_xxhash),-lxxhash) \
            $(call lib_libs,UTF8PROC,$(pkg_utf8proc),-lutf8proc) $(call lib_libs,JPEG,$(pkg_jpeg),-ljpeg) \
            $(call lib_libs,PNG,$(pkg_png),-lpng) \
            $(MPI_LIBS) -lm -pthread -ldl

# ---- CUDA ---------------------------------------------------------------------------------------
# Only for the library of the kernels, which the program loads when a job asks for it.  CUDA=yes is
# a demand: without nvcc make stops.  The architectures are a setting: a login node has no GPU.
CUDA      ?= auto
CUDA_ARCH ?= 80 90
nvcc_found := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
NVCC      ?= $(nvcc_found)
cuda_known := $(filter auto yes no,$(CUDA))
cuda_lacks := $(if $(cuda_known),$(if $(filter no,$(CUDA)),CUDA=no was given,$(if $(NVCC),,nvcc is not in CUDA_HOME=$(CUDA_HOME)$(comma) PATH or /usr/local/cuda: load the CUDA module$(comma) or set CUDA_HOME)),CUDA is auto$(comma) yes or no$(comma) not $(CUDA))
# fmad=false: a product is rounded before it is added, but where a kernel writes fmaf.  Subnormals
# are zero, divisions and roots rounded right, as on the CPU.
newest_arch := $(lastword $(CUDA_ARCH))
NVFLAGS := -std=c++17 -O3 -lineinfo -fmad=false -ftz=true -prec-div=true -prec-sqrt=true -cudart shared \
           -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter -Werror all-warnings -Xptxas -v \
           $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$(a)$(comma)code=sm_$(a)) \
           -gencode arch=compute_$(newest_arch)$(comma)code=compute_$(newest_arch)

# ---- flags --------------------------------------------------------------------------------------
CFLAGS ?= $(if $(filter debug,$(BUILD)),-O1,-O3) -g
# No -Werror under a sanitizer: gcc takes the branches that it puts in for the program's own.
WARN   := -Wall -Wextra -Wshadow -Wconversion $(if $(SAN),,-Werror)
san_flags := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
CFLAGS_ALL := -std=c11 $(CFLAGS) $(WARN) -ffp-contract=off -fno-strict-aliasing -pthread $(san_flags) \
              $(if $(FUZZ),-fsanitize=fuzzer-no-link)
LDFLAGS += $(if $(SAN),-fsanitize=$(SAN))

# What this build calls itself: the version of CHANGELOG.md and, in a clone, the commit.
version := $(shell sed -n 's/^\#\# \([0-9][^ ]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -1)
commit  := $(shell git describe --always --dirty 2>/dev/null)
$(out)/src/main.o: DEFS := -DEPIDOTE_VERSION='"$(or $(version),0)"' -DEPIDOTE_COMMIT='"$(commit)"'

# Numeric files of one instruction set each; chosen at run time.
$(out)/src/%_avx2.o:   ISA := -mavx2 -mfma -mf16c
avx512_isa := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c
$(out)/src/%_avx512.o: ISA := $(avx512_isa)
$(out)/src/%_avx512bf16.o: ISA := $(avx512_isa) -mavx512bf16

# Clang takes minutes to instrument the kernels' unrolled loops, which no fuzz target reaches.
ifneq ($(FUZZ),)
$(out)/src/ops/cpu/%.o: DEFS := -fno-sanitize=all
endif

# ---- build --------------------------------------------------------------------------------------
srcs    := $(wildcard src/*/*.c src/*/*/*.c)
objs    := $(srcs:%.c=$(out)/%.o)
tests   := $(patsubst tests/%.c,$(out)/tests/%,$(wildcard tests/unit_*.c tests/mpi_*.c))
benches := $(patsubst tests/%.c,$(out)/tests/%,$(wildcard tests/bench_*.c))
fuzzers := $(patsubst tests/%.c,$(out)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))

# One short line a command; V=1 shows the commands.
ifneq ($(V),1)
  CC_SAYS = @echo "  CC    $@";
  CXX_SAYS = @echo "  CXX   $@";
  LD_SAYS = @echo "  LD    $@";
  AR_SAYS = @echo "  AR    $@";
  NV_SAYS = @echo "  NVCC  $@";
endif

all: $(if $(filter yes,$(CUDA)),cuda) build/epidote
ifeq ($(cuda_known),)
$(error $(cuda_lacks))
endif

# The link follows the configuration that was built last.
build/epidote: $(out)/epidote FORCE
	@ln -sfn $(patsubst build/%,%,$<) $@

$(out)/epidote: $(out)/src/main.o $(out)/libepidote.a
	$(LD_SAYS)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(out)/libepidote.a: $(objs) $(out)/sources
	@rm -f $@
	$(AR_SAYS)ar rcs $@ $(objs)

$(out)/tests/fuzz/%: $(out)/tests/fuzz/%.o $(out)/libepidote.a
	$(LD_SAYS)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -o $@

$(out)/tests/%: $(out)/tests/%.o $(out)/libepidote.a
	$(LD_SAYS)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

# The kernels once more, compiled by the host's compiler for tests/emulator/ (no nvcc needed): linked to their
# test, and as a library that a test's binary finds beside itself and a script copies to the program's side.
emulated := $(patsubst kernels/%.cu,$(out)/emulated/%.o,$(wildcard kernels/*.cu)) \
            $(patsubst %.cpp,$(out)/%.o,$(wildcard tests/emulator/*.cpp))
emulated_lib := $(out)/tests/libepidote_cuda.so
CXXFLAGS_ALL := -std=c++17 $(CFLAGS) -Wall -Wextra -Wno-unknown-pragmas $(if $(SAN),,-Werror) -ffp-contract=off \
                -fno-strict-aliasing -fno-exceptions -fno-rtti -fPIC -fvisibility=hidden -DK_EMULATED $(san_flags)
$(patsubst %,$(out)/tests/unit_%,kernels prefill_kernel sample_kernel): $(emulated)
$(out)/tests/unit_engine_cuda: | $(emulated_lib)
$(emulated_lib): $(emulated)
	$(LD_SAYS)$(CXX) $(LDFLAGS) -shared $^ -o $@
$(out)/emulated/%.o: kernels/%.cu $(out)/flags
	@mkdir -p $(@D)
	$(CXX_SAYS)$(CXX) -I. $(CXXFLAGS_ALL) -MMD -MP -x c++ -c $< -o $@
$(out)/%.o: %.cpp $(out)/flags
	@mkdir -p $(@D)
	$(CXX_SAYS)$(CXX) -I. $(CXXFLAGS_ALL) -MMD -MP -c $< -o $@

$(out)/%.o: %.c $(out)/flags
	@mkdir -p $(@D)
	$(CC_SAYS)$(CC) $(CPPFLAGS) $(DEFS) $(CFLAGS_ALL) $(ISA) -MMD -MP -c $< -o $@

# The library of the kernels, beside the program; ptxas says what each kernel takes into *.ptxas.
cuda_lib  := $(out)/libepidote_cuda.so
cuda_objs := $(patsubst %.cu,$(out)/%.o,$(wildcard kernels/*.cu))
ifeq ($(cuda_lacks),)
cuda: $(cuda_lib)
else
cuda:
	@echo "make: cannot build libepidote_cuda.so: $(cuda_lacks)" >&2
	@false
endif

$(cuda_lib): $(cuda_objs)
	$(NV_SAYS)$(NVCC) -shared -cudart shared $^ -lcublasLt -Xlinker -rpath,'$$ORIGIN:$(patsubst %/bin/nvcc,%/lib64,$(NVCC))' -o $@

$(cuda_objs) $(out)/tests/gpu/managed.o $(out)/tests/gpu/bench_kernels.o: $(out)/%.o: %.cu $(out)/nvflags
	@mkdir -p $(@D)
	$(NV_SAYS)$(NVCC) -I. $(NVFLAGS) -MMD -MP -c $< -o $@ 2>$@.ptxas || { cat $@.ptxas >&2; rm -f $@; false; }

# What each kernel takes, beside kernels/bounds.txt.
cuda-report: cuda
	@tests/cuda_report.sh $(out)/kernels kernels/bounds.txt "$(CUDA_ARCH)"

# ---- for a machine with a GPU ---------------------------------------------------------------------
# What `make bundle` packs: program and tests that look for libraries in the bundle.  What is in gpu/cuda, if there is
# an nvcc, computes on a device: the tests of kernels are the same text over tests/gpu/managed.h.
# BUNDLE=FILE: check that one instead of making one.
bundle_file := build/epidote-gpu-check.tar.gz
on_emulated := $(addprefix $(out)/gpu/emulated/,epidote unit_engine_cuda unit_kernels unit_prefill_kernel bench_kernels)
on_cuda     := $(addprefix $(out)/gpu/cuda/,unit_kernels unit_prefill_kernel bench_kernels)
bundled     := -Wl,--disable-new-dtags,-rpath,'$$ORIGIN:$$ORIGIN/../lib'
with_cuda   := $(bundled) -L$(out) -l:$(notdir $(cuda_lib)) -L$(patsubst %/bin/nvcc,%/lib64,$(NVCC)) -lcublasLt -lcudart

bundle: deps
	@$(again) bundle-run
bundle-run: $(on_emulated) $(emulated_lib) $(if $(cuda_lacks),,$(on_cuda) $(cuda_lib))
	@tests/gpu/bundle.sh $(out) $(bundle_file) '$(or $(commit),$(version))' '$(cuda_lacks)'
gpu-check:
	@$(if $(EMULATED),,[ -e /dev/nvidiactl ] || { echo "make: no NVIDIA GPU on this machine (no /dev/nvidiactl): take the bundle that 'make bundle'" \
	    "makes to one, or run the CPU half here: make gpu-check EMULATED=1" >&2; exit 2; })
	@$(if $(BUNDLE),,.ci/deps.sh build && $(again) bundle-run)
	@tests/gpu/unpacked.sh $(or $(BUNDLE),$(bundle_file)) $(if $(EMULATED),--emulated) --out '$(CURDIR)/build/gpu-check'

$(out)/gpu/emulated/epidote: $(out)/src/main.o
$(out)/gpu/emulated/unit_engine_cuda: $(out)/tests/unit_engine_cuda.o
$(out)/gpu/emulated/unit_kernels: $(out)/tests/unit_kernels.o $(emulated)
$(out)/gpu/emulated/unit_prefill_kernel: $(out)/tests/unit_prefill_kernel.o $(emulated)
$(out)/gpu/emulated/bench_kernels: $(out)/emulated/bench_kernels.o $(emulated)
$(on_emulated): $(out)/libepidote.a
	@mkdir -p $(@D)
	$(LD_SAYS)$(CXX) $(LDFLAGS) $(bundled) $(filter %.o,$^) $< $(LDLIBS) -o $@
$(out)/emulated/bench_kernels.o: tests/gpu/bench_kernels.cu $(out)/flags
	@mkdir -p $(@D)
	$(CXX_SAYS)$(CXX) -I. $(CXXFLAGS_ALL) -MMD -MP -x c++ -c $< -o $@
$(out)/gpu/cuda/unit_kernels $(out)/gpu/cuda/unit_prefill_kernel: %: %.o $(out)/tests/gpu/managed.o $(out)/libepidote.a $(cuda_lib)
	$(LD_SAYS)$(CXX) $(LDFLAGS) $(filter-out %.so,$^) $(with_cuda) $(LDLIBS) -o $@
$(out)/gpu/cuda/%.o: tests/%.c $(out)/flags
	@mkdir -p $(@D)
	$(CC_SAYS)$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -include tests/gpu/managed.h -MMD -MP -c $< -o $@
$(out)/gpu/cuda/bench_kernels: $(out)/tests/gpu/bench_kernels.o $(cuda_lib)
	@mkdir -p $(@D)
	$(LD_SAYS)$(CXX) $(LDFLAGS) $< $(with_cuda) -o $@

# Files whose text changes when the command line, the list of sources or the commit does, and that
# keep their age otherwise: what depends on them is made again just then.
$(out)/flags:   said = $(CXX) $(CC) $(CPPFLAGS) $(CFLAGS_ALL) $(LDFLAGS)
$(out)/nvflags: said = $(NVCC) $(NVFLAGS)
$(out)/sources: said = $(srcs)
$(out)/version: said = $(version) $(commit)
$(out)/flags $(out)/nvflags $(out)/sources $(out)/version: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(said))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(said))' > $@
$(out)/src/main.o: $(out)/version

ifneq ($(missing),)
$(out)/flags: libraries-missing
libraries-missing:
	@echo "make: libraries not found: $(missing)" >&2
	@echo "make: 'make deps' installs them through apt-get, or names what to install" >&2
	@false
endif

unit-tests: $(tests)

# One test by name: make run-unit_base
run-%: $(out)/tests/%
	$<

# ---- set-up and tests ---------------------------------------------------------------------------
# Targets that do their own set-up call make again, since what pkg-config says changes with it.
again = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS))
run_tests = MPIRUN='$(MPIRUN)' EPIDOTE=$(CURDIR)/$(out)/epidote EPIDOTE_OUT=$(CURDIR)/$(out) tests/run.sh --bin $(out)/tests

deps:
	@.ci/deps.sh build
deps-tools:
	@.ci/deps.sh build tools

test: deps
	@$(again) test-fast
test-fast: $(tests) $(emulated_lib) $(out)/epidote
	@$(run_tests) --set fast $(TESTS)
test-slow: deps
	@$(again) test-slow-run
test-slow-run: $(tests) $(out)/tests/virtual $(out)/epidote
	@$(run_tests) --set slow $(TESTS)
test-real: deps model model-files
	@$(again) test-real-run
test-real-run: $(tests) $(out)/epidote
	@$(run_tests) --set smollm2 $(TESTS)

# The batch scripts on Slurm daemons that are started for it on this host.
test-slurm:
	@.ci/deps.sh build slurm
	@$(again) test-slurm-run
test-slurm-run: $(out)/epidote
	@EPIDOTE=$(CURDIR)/$(out)/epidote tests/slurm/run.sh $(TESTS)

# Ids of 100,000 strings a family, and of the folders that transformers saves, against transformers.
oracle-there:
	@[ -x '$(ORACLE)/bin/python' ] || { echo "make: test-oracle needs a Python environment with transformers 5, tokenizers and gguf:" \
	    "python3 -m venv DIR && DIR/bin/pip install transformers gguf, then make test-oracle ORACLE=DIR" >&2; false; }
	@'$(ORACLE)/bin/python' -c 'import gguf, tokenizers, transformers'
test-oracle: oracle-there deps model-files
	@$(again) test-oracle-run
test-oracle-run: $(out)/epidote
	@'$(ORACLE)/bin/python' tests/golden/tokenizer/compare_families.py $< build/models/llama_cpp_files $(if $(N),--n $(N)) $(FAMILIES)
	@'$(ORACLE)/bin/python' tests/golden/tokenizer/compare_saved.py $< build/models/llama_cpp_files

lint: deps-tools
	@$(again) all
	@tests/lint.sh
format:
	@$$(command -v clang-format-14 || echo clang-format) -i $$(find src tests kernels \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -not -path '*/golden/*')
print-flags: # what lint.sh needs to compile a file alone
	@echo '$(CPPFLAGS)'
# All unit tests, and the end-to-end tests that are about bad luck rather than about numbers.
sanitized := $(basename $(notdir $(wildcard tests/unit_*.c))) e2e_bad_input e2e_durable
asan: deps-tools
	@$(again) BUILD=debug SAN=address test-fast TESTS="$(sanitized)"
ubsan: deps-tools
	@$(again) BUILD=debug SAN=undefined test-fast TESTS="$(sanitized)"
# Only the tests where threads meet; the sanitizer does not understand the emulator's fibers.
threaded := $(filter-out unit_engine_cuda,$(basename $(notdir $(shell grep -lE 'threads_create|io_start|pthread_create' tests/unit_*.c)))) e2e_two_ranks
# Both at once: one build less than asan and ubsan one after the other.
sanitize: deps-tools
	@$(again) BUILD=debug SAN=address,undefined test-fast TESTS="$(sanitized)"
tsan: deps-tools
	@$(again) BUILD=debug SAN=thread test-fast TESTS="$(threaded)"

# The tests of ranks once more with the other MPI.
mpich:
	@.ci/deps.sh build mpich
	@$(again) MPICC=mpicc.mpich test-fast TESTS="$(basename $(notdir $(wildcard tests/mpi_*.c))) e2e_endings e2e_ranks e2e_ranks_kill e2e_peers e2e_launch"

fuzz: deps-tools
	@$(again) FUZZ=1 CC=clang BUILD=debug SAN=address,undefined fuzz-run
fuzz-run: $(fuzzers)
	@tests/fuzz.sh $(FUZZ_S) $(JOBS) $(out)/tests/fuzz

# Stages in order, each run whatever became of those before; tests/sum.sh prints the sum at the end.
# Kernels are compiled where there is an nvcc (half a minute).
ci_stages := test lint $(if $(cuda_lacks),,cuda-report) sanitize tsan mpich fuzz test-slurm test-slow
ci:
	@tests/stages.sh $(filter-out $(DONE),$(ci_stages))

# ---- the rest -----------------------------------------------------------------------------------
model:
	@inputs/models/fetch_smollm2.sh build/models
# What only tests need.
model-files:
	@inputs/models/fetch_llama_cpp_files.sh build/models/llama_cpp_files
	@inputs/models/fetch_gemma3.sh build/models
demo: deps
	@$(again) build/epidote
	@inputs/demo.sh
demo-llm: deps model
	@$(again) build/epidote
	@inputs/demo_llm.sh

bench: deps
	@$(again) bench-run
bench-run: $(benches) $(out)/epidote
	@export EPIDOTE_SMOLLM2=$(wildcard build/models/SmolLM2-135M-Instruct.Q4_1.gguf); \
	for b in $(sort $(benches)); do echo "== $$(basename $$b)"; $$b || exit 1; done; \
	echo "== bench_ranks"; EPIDOTE=$(out)/epidote tests/bench_ranks.sh; \
	echo "== bench_images"; EPIDOTE=$(out)/epidote EPIDOTE_BENCH_VISION=$(out)/tests/bench_vision tests/bench_images.sh

# RANKS, ROWS and SEED as tests/virtual.c says.
virtual: deps
	@$(again) virtual-run
virtual-run: $(out)/tests/virtual
	@$< $(RANKS) $(ROWS) $(SEED)

man: build/epidote.1
build/epidote.1: build/epidote
	build/epidote help man > $@.tmp
	@mv $@.tmp $@

install: build/epidote build/epidote.1
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/epidote/jobs
	install -m 755 $(out)/epidote $(DESTDIR)$(PREFIX)/bin/epidote
	if [ -f $(cuda_lib) ]; then install -d $(DESTDIR)$(PREFIX)/lib/epidote && install -m 755 $(cuda_lib) $(DESTDIR)$(PREFIX)/lib/epidote; fi
	install -m 644 build/epidote.1 $(DESTDIR)$(PREFIX)/share/man/man1/epidote.1
	install -m 644 $(wildcard jobs/*.cfg) $(DESTDIR)$(PREFIX)/share/epidote/jobs

# The fetched model stays: rm -r build removes that too.
clean:
	rm -rf build/release* build/debug* build/fuzz build/lint build/demo build/demo-llm build/ci build/epidote build/epidote.1

help:
	@echo 'make              build/epidote'
	@echo 'make cuda         libepidote_cuda.so, the kernels, beside the program (CUDA=$(CUDA), nvcc: $(or $(NVCC),not found))'
	@echo 'make cuda-report  registers, spills and shared memory of each kernel, beside their bounds'
	@echo 'make gpu-check    kernels and engine on this machine'"'"'s GPU, against the CPU, and timed; EMULATED=1: on the emulated one'
	@echo 'make bundle       the same as a file for a machine with CUDA and a driver and nothing else: $(bundle_file)'
	@echo 'make demo         a small vision-language model that ships here answers questions about pictures; no network'
	@echo 'make demo-llm     fetch a real model (98 MB, once), answer inputs/demo.jsonl, show the answers'
	@echo 'make test         build, unit tests and fast end-to-end tests (at most 5 minutes on 2 cores)'
	@echo 'make ci           test, lint, cuda-report (if nvcc is there), sanitize, tsan, mpich, fuzz (10 s a target), slurm, slow tests; DONE="test" leaves one out'
	@echo 'make test-slow    the slow tests        make test-real    the tests on real models (fetches 420 MB)'
	@echo 'make test-slurm   the scripts of slurm/ on real Slurm daemons on this host (TESTS="walltime cancel")'
	@echo 'make test-oracle ORACLE=DIR      ids of 100,000 strings a family against transformers in that environment; N= FAMILIES='
	@echo 'make lint         layer law, house words, clang-format, cppcheck, clang-tidy        make format'
	@echo 'make asan ubsan tsan      the tests under a sanitizer; make sanitize: asan and ubsan in one'
	@echo 'make mpich        the tests of ranks built with MPICH (MPICC=mpicc.mpich)'
	@echo 'make fuzz         libFuzzer on every parser, FUZZ_S=$(FUZZ_S) seconds each'
	@echo 'make bench        speeds beside the floors they must reach'
	@echo 'make virtual      one coordinator with 1,000 simulated ranks: RANKS=1000 ROWS=20000 SEED=1'
	@echo 'make run-unit_X   build and run one test        make test TESTS="unit_X e2e_Y"'
	@echo 'make man          build/epidote.1       make install PREFIX=$(PREFIX)      make clean'
	@echo 'make deps         install or name the libraries; deps-tools: clang, clang-format, clang-tidy, cppcheck too'
	@echo 'settings          BUILD=$(BUILD) SAN=$(SAN) CC=$(CC) MPICC=$(MPICC) JOBS=$(JOBS) -> $(out)'

.PHONY: all unit-tests deps deps-tools test test-fast test-slow test-slow-run test-real test-real-run \
        test-slurm test-slurm-run oracle-there test-oracle test-oracle-run lint asan \
        sanitize ubsan tsan mpich fuzz fuzz-run cuda cuda-report bundle bundle-run gpu-check ci model model-files demo demo-llm bench bench-run virtual virtual-run man install clean help format print-flags libraries-missing FORCE
.SECONDARY:
-include $(shell find $(out) -name '*.d' 2>/dev/null)
