# The C tests: csrc/core and llhttp as libcdcore.a under ASan and UBSan, one program for each
# tests/c/unit/test_*.c, one replay program for each fuzz target. Called by the Makefile and scripts/tests.py.
#
#   make -f scripts/ctests.mk programs          build/<variant>/bin/test_* and fuzz_*
#   make -f scripts/ctests.mk VARIANT=fuzz ...  the same with clang and libFuzzer's instrumentation
#   make -f scripts/ctests.mk list              the programs, one a line

VARIANT ?= ctest
PYTHON ?= python3
OUT := build/$(VARIANT)
# V=1 shows the commands.
SHOW = $(if $(V),,@echo '  $(@F)';)

ifeq ($(VARIANT),fuzz)
  CC := clang
  SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined
  INSTRUMENT := -fsanitize=fuzzer-no-link
  FUZZ_LINK := -fsanitize=fuzzer
else ifeq ($(VARIANT),tsan)
  CC := gcc
  SANITIZERS := -fsanitize=thread
else ifeq ($(VARIANT),ccov)
  CC := gcc
  SANITIZERS := --coverage
else
  CC := gcc
  SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif

# LLHTTP_INCLUDES, LLHTTP_SOURCES, LLHTTP_LIBS
-include build/llhttp.mk

# CI has -Werror for our own files.
WERROR := $(if $(filter true,$(CI))$(CD_WERROR),-Werror)
BASE := -std=c11 -D_GNU_SOURCE -DCD_DEBUG -DCD_VERSION='"test"' -DOPENSSL_API_COMPAT=30000 -O1 -g -fno-omit-frame-pointer \
	$(SANITIZERS) $(INSTRUMENT)
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 $(WERROR)
INCLUDES := -Icsrc -Icsrc/core -Itests/c/support $(addprefix -isystem ,$(LLHTTP_INCLUDES))
LIBS := $(LLHTTP_LIBS) -lev -lssl -lcrypto -lnghttp2 -lz -lpthread -lm

CORE := $(sort $(wildcard csrc/core/*/*.c))
TESTS := $(sort $(wildcard tests/c/unit/*.c))
FUZZERS := $(filter-out tests/c/fuzz/fuzz_main.c,$(sort $(wildcard tests/c/fuzz/*.c)))
SUPPORT := $(sort $(wildcard tests/c/support/*.c))

objects = $(patsubst %.c,$(OUT)/%.o,$(1))
LLHTTP_OBJECTS := $(addprefix $(OUT)/llhttp/,$(notdir $(LLHTTP_SOURCES:.c=.o)))
LIBRARY := $(OUT)/libcdcore.a
TEST_PROGRAMS := $(TESTS:tests/c/unit/%.c=$(OUT)/bin/%)
FUZZ_PROGRAMS := $(FUZZERS:tests/c/fuzz/%.c=$(OUT)/bin/%)
PROGRAMS := $(TEST_PROGRAMS) $(FUZZ_PROGRAMS)

# The first rule here is for build/llhttp.mk, which make reads again once it is made.
.DEFAULT_GOAL := programs
.PHONY: programs list
.DELETE_ON_ERROR:
.SECONDARY:

programs: $(PROGRAMS)

list:
	@printf '%s\n' $(PROGRAMS)

build/llhttp.mk: scripts/fetch_llhttp.py
	@mkdir -p build
	@$(PYTHON) scripts/fetch_llhttp.py --make > $@.new && mv $@.new $@

# A file is compiled anew when a header, a flag or this file changed.
$(OUT)/flags: FORCE
	@mkdir -p $(OUT)
	@echo '$(CC) $(BASE) $(WARNINGS) $(INCLUDES)' | cmp -s - $@ || \
		echo '$(CC) $(BASE) $(WARNINGS) $(INCLUDES)' > $@
FORCE:

$(OUT)/llhttp/%.o: $(OUT)/flags
	@mkdir -p $(@D)
	$(SHOW)$(CC) $(BASE) -w $(INCLUDES) -c $(filter %/$*.c,$(LLHTTP_SOURCES)) -o $@

$(OUT)/%.o: %.c $(OUT)/flags scripts/ctests.mk
	@mkdir -p $(@D)
	$(SHOW)$(CC) $(BASE) $(WARNINGS) $(INCLUDES) -MMD -MP -c $< -o $@

$(LIBRARY): $(call objects,$(CORE)) $(LLHTTP_OBJECTS)
	@rm -f $@
	$(SHOW)ar rcs $@ $^

$(OUT)/libsupport.a: $(call objects,$(SUPPORT))
	@rm -f $@
	$(SHOW)ar rcs $@ $^

$(TEST_PROGRAMS): $(OUT)/bin/%: $(OUT)/tests/c/unit/%.o $(OUT)/libsupport.a $(LIBRARY)
	@mkdir -p $(@D)
	$(SHOW)$(CC) $(SANITIZERS) $^ $(LIBRARY) $(LIBS) -o $@

$(FUZZ_PROGRAMS): $(OUT)/bin/%: $(OUT)/tests/c/fuzz/%.o \
		$(if $(FUZZ_LINK),,$(OUT)/tests/c/fuzz/fuzz_main.o) $(OUT)/libsupport.a $(LIBRARY)
	@mkdir -p $(@D)
	$(SHOW)$(CC) $(SANITIZERS) $(FUZZ_LINK) $^ $(LIBRARY) $(LIBS) -o $@

-include $(patsubst %.o,%.d,$(call objects,$(CORE) $(TESTS) $(FUZZERS) $(SUPPORT) tests/c/fuzz/fuzz_main.c))
