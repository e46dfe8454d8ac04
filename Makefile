# Epidote.  make | make demo | make test | make ci     (README.md has the two commands to start with)
#
#   BUILD=release|debug   SAN=address|undefined|thread   CC=gcc|clang
.DEFAULT_GOAL := all
SHELL := /bin/bash

CC      ?= cc
BUILD   ?= release
SAN     ?=
PKGS    := hdf5 libconfig jansson libpcre2-8 libutf8proc libxxhash

out := build/$(BUILD)$(if $(SAN),-$(SAN))$(if $(filter clang%,$(notdir $(CC))),-clang)

CPPFLAGS += -Isrc -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS   ?= $(if $(filter debug,$(BUILD)),-O1,-O3) -g
WARN     := -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS_ALL := -std=c11 $(CFLAGS) $(WARN) -ffp-contract=off -fno-strict-aliasing -pthread \
              $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
LDLIBS   += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread
LDFLAGS  += $(if $(SAN),-fsanitize=$(SAN))

srcs  := $(filter-out src/main.c,$(wildcard src/*/*.c src/ops/cpu/*.c))
objs  := $(srcs:%.c=$(out)/%.o)
tests := $(patsubst tests/%.c,$(out)/tests/%,$(wildcard tests/unit_*.c))

# Numeric files of one instruction set each; chosen at run time.
$(out)/src/ops/cpu/cpu_avx2.o:   ISA := -mavx2 -mfma -mf16c
$(out)/src/ops/cpu/cpu_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c

all: build/epidote

build/epidote: $(out)/epidote
	@ln -sf $(patsubst build/%,%,$<) $@

$(out)/epidote: $(out)/src/main.o $(out)/libepidote.a
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(out)/libepidote.a: $(objs)
	@rm -f $@
	ar rcs $@ $^

$(out)/tests/%: $(out)/tests/%.o $(out)/libepidote.a
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(out)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS_ALL) $(ISA) -MMD -MP -c $< -o $@

unit-tests: $(tests)

# One test by name: make run-unit_base
run-%: $(out)/tests/%
	$<

clean:
	rm -rf build/release* build/debug* build/epidote

.PHONY: all unit-tests clean
.SECONDARY:
-include $(shell find $(out) -name '*.d' 2>/dev/null)
