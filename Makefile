# Each target installs its requirements. You need Python 3.11 or newer, make and a
# package index. PYTHON=/path/to/python chooses another Python.

PYTHON ?= $(shell for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)

# Use a Python of this machine, and this project's environment only.
export UV_PYTHON_DOWNLOADS = never
export UV_PROJECT_ENVIRONMENT = .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Without compiled files, each of the many programs of the tests compiles its libraries.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

# Tests wait for servers and disks at times, so that one more than the cores is faster.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell expr $(CORES) + 1)
# The slow tests also wait for kills, locks and timeouts. A worker gets one module at a
# time, in the order of tests/conftest.py.
SLOW_WORKERS ?= $(shell expr $(CORES) + 3)

BIN := .venv/bin
READY := .venv/ready

# The folders whose English is checked.
LANGUAGE_PATHS := $(wildcard *.md) benchmarks demo docs stairoids_airbyte stairoids_common stairoids_pages \
	stairoids_sandbox tap_stairoids_webhooks target_stairoids tests

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-slow collect soak lint format docs links screenshots build bench \
	clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## a tour in a minute: a tap, signals, webhooks, our tap
	@$(BIN)/python demo/demo.py

test: $(READY) ## all tests but the slow ones
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-fast: $(READY) ## the tests of pure functions, in seconds
	$(BIN)/pytest -q -m "fast and not slow"

test-slow: $(READY) ## the slow tests: real taps, Meltano, kill -9 loops
	$(BIN)/pytest -n $(SLOW_WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "slow and not soak"

collect: $(READY) ## import all tests, which compiles them once for all workers
	$(BIN)/pytest -qq --collect-only >/dev/null

soak: $(READY) ## hundreds of kills, 20,000 odd inputs, real quota minutes (an hour)
	STAIROIDS_KILLS=200 STAIROIDS_LATE_SECONDS=15 $(BIN)/pytest -s --timeout=7200 \
		-m slow tests/target/sending/test_crash.py -k sqlite
	STAIROIDS_KILLS=50 STAIROIDS_LATE_SECONDS=15 $(BIN)/pytest -s --timeout=7200 \
		-m slow tests/target/sending/test_crash.py -k postgres
	STAIROIDS_MODEL=1000 $(BIN)/pytest -n auto --dist worksteal --timeout=7200 \
		tests/target/sending/test_model.py
	STAIROIDS_EVERY=1 $(BIN)/pytest -n auto -m slow tests/target/dedup/test_mutations.py
	STAIROIDS_FUZZ=5000 $(BIN)/pytest -n auto --dist worksteal --timeout=7200 \
		tests/target/test_fuzz.py
	STAIROIDS_KILLS=50 $(BIN)/pytest -m slow tests/tap -k kill
	$(BIN)/pytest -n auto --dist worksteal -m soak
	$(BIN)/python -m benchmarks quota

lint: $(READY) ## ruff, mypy, import contracts, the English of code and pages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/check_language.py $(LANGUAGE_PATHS)

format: $(READY) ## fix and format with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## write the settings into the documents, and the site into build/site
	PYTHONPATH=. $(BIN)/python docs/settings.py
	$(BIN)/sphinx-build -q -W --keep-going docs build/site
	@echo "The site is in build/site/index.html."

links: $(READY) ## ask each other site that the documents link to (needs network)
	$(BIN)/sphinx-build -q -b linkcheck docs build/links

screenshots: $(READY) ## the pictures in docs/images (needs Chromium)
	PYTHONPATH=. $(BIN)/python docs/screenshots.py

build: $(READY) ## the wheel, and a run of each of its commands
	rm -rf dist build/wheel-venv
	$(BIN)/uv build --wheel --out-dir dist
	$(BIN)/uv venv --python $(BIN)/python build/wheel-venv
	$(BIN)/uv pip install --python build/wheel-venv/bin/python dist/*.whl
	.ci/run-commands build/wheel-venv/bin

bench: $(READY) ## measure each path and its baselines (half an hour or more)
	$(BIN)/python -m benchmarks

clean: ## remove the files of the other targets
	rm -rf .venv .cache/benchmarks dist build .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis

$(READY): pyproject.toml uv.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed:" \
		"install it, or run make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet 'uv>=0.8'
	$(BIN)/uv sync --quiet --locked --all-extras
	@touch $@
