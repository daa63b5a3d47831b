# The verbs of the project; `make` alone lists them. The tests use a CD_DEBUG build in place and .venv, `make run` and
# `make bench` a release build installed into .venv-run, so that the two are never mistaken for each other.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
T ?= http1
SECS ?= 60
PARTS ?=
BENCH ?=
COV ?=

# The virtual environments bring their own Python settings.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

VENV := .venv/bin
RUN_VENV := .venv-run/bin
SYSTEM := scripts/setup-system.sh
STEP := scripts/step.sh
CTESTS := $(MAKE) --no-print-directory -f scripts/ctests.mk PYTHON=$(CURDIR)/$(VENV)/python
PROFILE := $(CURDIR)/build/instrumented
REINSTALL := $(RUN_VENV)/pip install --quiet --no-deps --force-reinstall
# The libraries in wheels and benchmarks; CD_LIBRARIES=DIR are others, CD_LIBRARIES=system the system's.
OWN_LIBRARIES = libraries="$${CD_LIBRARIES:-$$($(PYTHON) scripts/libraries.py)}" && CD_LIBRARIES="$$libraries"
C_FILES = $(shell find csrc tests/c benchmarks -name '*.[ch]' | sort)
PACKAGE = $(shell find csrc pyasgi -name '*.[ch]' -o -name '*.def' -o -name '*.py' -o -name '*.pyi' -o -name '*.html')

.DEFAULT_GOAL := help
.PHONY: help run test test-c test-py test-browser test-pythons lint lint-c lint-python lint-types lint-words lint-rules \
	fmt debug docs docs-serve asan tsan cov ktls fuzz bench build pgo clean dist dist-try system system-test

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUN_VENV)/ready ## install, build and serve examples/devops (HOST=127.0.0.1 PORT=8000 REDIS_URL=)
	@cd examples/devops && ../../$(STEP) "migrate the database" ../../$(RUN_VENV)/python manage.py migrate -v 0 && \
		../../$(STEP) "make the demo's services and its user" ../../$(RUN_VENV)/python manage.py demo_data && \
		echo "-- serve; CONTROL-C stops it" && \
		exec ../../$(RUN_VENV)/cdaphne --bind $(HOST) --port $(PORT) devops.asgi:application

test: system-test debug ## run all tests and lint; the last line counts them (PARTS="c py" for some)
	@$(VENV)/python scripts/tests.py $(PARTS)

test-c: $(VENV)/ready ## C tests and fuzz corpora under ASan and UBSan
	@$(VENV)/python scripts/tests.py c

test-py: system-test debug ## Python tests without the browser
	@$(VENV)/python scripts/tests.py py

test-browser: system-test debug ## the page in a real Chromium
	@$(VENV)/python scripts/tests.py browser

test-pythons: system-test debug ## tests of what depends on Python, on the other ones (3.11 to 3.14) here
	@$(VENV)/python scripts/tests.py pythons

lint: lint-c lint-python lint-types lint-words lint-rules ## clang-format, ruff, mypy, codespell and the rules of the house

lint-c: $(VENV)/ready
	$(if $(C_FILES),$(VENV)/clang-format --dry-run -Werror $(C_FILES))

lint-python: $(VENV)/ready
	$(VENV)/ruff check --quiet .
	$(VENV)/ruff format --check --quiet .

lint-types: $(VENV)/ready
	$(VENV)/mypy

lint-words: $(VENV)/ready
	$(VENV)/codespell

lint-rules: $(VENV)/ready
	@$(VENV)/python tests/lint/rules.py
	$(VENV)/python -m pytest -q --confcutdir=tests/lint tests/lint

fmt: $(VENV)/ready ## format C and Python
	$(if $(C_FILES),$(VENV)/clang-format -i $(C_FILES))
	$(VENV)/ruff check --quiet --fix-only .
	$(VENV)/ruff format --quiet .

debug: $(VENV)/ready ## build the extension in place with CD_DEBUG
	CD_DEBUG=1 $(VENV)/python setup.py -q build_ext --inplace

docs: debug ## build the documentation into build/docs/html; a warning is an error
	@$(SYSTEM) docs
	$(VENV)/sphinx-build -q -W --keep-going -d build/docs/doctrees docs build/docs/html

docs-serve: docs ## show it on http://127.0.0.1:8000/ (HOST= PORT=)
	$(VENV)/python -m http.server --bind $(HOST) --directory build/docs/html $(PORT)

asan: system-test debug ## run the tests that start the server with the extension under ASan
	@$(VENV)/python scripts/tests.py asan

tsan: $(VENV)/ready ## where threads meet in the core, under ThreadSanitizer
	@$(VENV)/python scripts/tests.py tsan

cov: system-test debug ## line coverage of C and Python, pages below build/cov (COV="tests/ws" for some tests)
	$(VENV)/pip install --quiet coverage gcovr
	@$(VENV)/python scripts/cov.py $(COV)

ktls: system-test debug ## the tests of kTLS under a kernel that has it, in a virtual machine
	@$(SYSTEM) ktls
	@scripts/ktls-vm.sh $(VENV)/python -m pytest -v -p no:cacheprovider -o timeout=300 tests/tls/test_ktls.py

fuzz: $(VENV)/ready ## fuzz one target (T=http1 SECS=60)
	@$(SYSTEM) fuzz
	@$(CTESTS) VARIANT=fuzz build/fuzz/bin/fuzz_$(T)
	@mkdir -p build/fuzz/corpus/$(T) build/fuzz/found tests/fuzz/corpus/$(T)
	build/fuzz/bin/fuzz_$(T) -max_total_time=$(SECS) -timeout=10 -artifact_prefix=build/fuzz/found/$(T)- \
		build/fuzz/corpus/$(T) $(wildcard tests/fuzz/corpus/$(T) tests/fuzz/regression/$(T)) || \
		{ echo "an input in build/fuzz/found breaks $(T): keep it in tests/fuzz/regression/$(T)"; exit 1; }

BENCH_LOOP = $(RUN_VENV)/pip install --quiet --constraint benchmarks/peers.txt uvloop httpx && \
	$(RUN_VENV)/python benchmarks/micro/loop.py --json build/bench/loop.json

# The suite starts its servers from another folder: the debug build in place is not found there.
bench: $(RUN_VENV)/profiled ## compare with the peers (BENCH="--quick")
	@$(SYSTEM) bench
	@$(OWN_LIBRARIES) $(RUN_VENV)/python -m benchmarks $(BENCH); status=$$?; \
		$(if $(findstring --quick,$(BENCH)),,$(BENCH_LOOP) || status=$$?;) exit $$status

build: $(RUN_VENV)/ready ## build a release and install it into .venv-run

pgo: $(RUN_VENV)/profiled ## what a wheel has into .venv-run: profile-guided, with its own libraries

dist: $(VENV)/ready $(RUN_VENV)/profiled ## sdists and, from them, wheels in dist/: cdaphne, cdaphne-as-daphne
	@rm -rf dist
	$(VENV)/python -m build --sdist
	$(OWN_LIBRARIES) CD_PROFILE=$(PROFILE) $(VENV)/python scripts/wheels.py
	$(VENV)/python -m build --outdir dist scripts/as_daphne
	$(VENV)/python -m twine check --strict dist/*

dist-try: $(VENV)/ready ## install the wheel in dist/ into a Debian that has nothing else, and talk to it
	@$(SYSTEM) chroot
	@$(VENV)/python scripts/try_wheel.py

clean: ## remove builds and virtual environments
	rm -rf build dist third_party .venv .venv-* *.egg-info pyasgi/_core*.so .mypy_cache .ruff_cache .pytest_cache

system:
	@$(SYSTEM) build

system-test:
	@$(SYSTEM) build test browser docs

# An interrupted installation leaves no `ready`, so the next make repeats it.
define make-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cdaphne needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(@D)/python || { rm -rf $(dir $(@D)) && \
		$(STEP) "make the virtual environment $(patsubst %/,%,$(dir $(@D)))" $(PYTHON) -m venv $(dir $(@D)); }
endef

$(VENV)/ready: pyproject.toml examples/devops/requirements.txt | system
	$(make-venv)
	CD_DEBUG=1 $(VENV)/pip install --quiet --editable '.[test,docs]' -r examples/devops/requirements.txt
	@touch $@

$(RUN_VENV)/ready: pyproject.toml setup.py scripts/fetch_llhttp.py examples/devops/requirements.txt $(PACKAGE) | system
	$(make-venv)
	@$(STEP) "install Django and Channels into .venv-run" \
		$(RUN_VENV)/pip install --quiet -r examples/devops/requirements.txt
	@$(STEP) "build cdaphne and install it into .venv-run (a minute)" $(RUN_VENV)/pip install --quiet .
	@touch $@

# The installed servers write their counters beside the objects of build/instrumented when they end.
$(RUN_VENV)/profiled: $(RUN_VENV)/ready scripts/libraries.py benchmarks/train.py
	@$(SYSTEM) bench
	@rm -rf build/instrumented build/profiled
	$(OWN_LIBRARIES) CD_PROFILE=generate $(REINSTALL) .
	$(OWN_LIBRARIES) $(RUN_VENV)/python -m benchmarks.train
	$(OWN_LIBRARIES) CD_PROFILE=$(PROFILE) $(REINSTALL) .
	@touch $@
