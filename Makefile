# Each target works as the first command in a fresh clone: it makes .venv and installs what it needs.
# Needed from the system: python3 (3.11 or newer) with venv, git, make. No compiler, no Node, no root.

PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
# A worker that crashed is not replaced: with loadgroup, its replacement can wait for ever.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --max-worker-restart 0
# Peers that tests and benchmarks start must not reach the world: see docs/testing.md
ISOLATED := $(BIN)/python -m tests.interop.netns --

.DEFAULT_GOAL := help
.PHONY: help install check format test test-long bench demo peers lock clean

help:
	@echo "make demo        install, and see the main job done on real input"
	@echo "make install     make .venv with everything for development; leaves $(BIN)/ipvcs"
	@echo "make check       format, lint, types, import contracts"
	@echo "make test        unit, contract, interop and end-to-end tests"
	@echo "make test-long   the same with full counts, and the tests marked long"
	@echo "make bench       measure, beside Kubo where it can do the same"
	@echo "make format      rewrite the code as 'make check' wants it"
	@echo "make peers       download the real peers of the interop tests (part of make test)"
	@echo "make lock        pin the newest releases of all dependencies in requirements-dev.lock"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, \"$(PYTHON)\" is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install peers
	$(PYTEST) -m "not long"

test-long: export HYPOTHESIS_PROFILE := long
test-long: install peers
	$(PYTEST) --timeout 3600 -o faulthandler_timeout=7200 --durations 30 --durations-min 20

bench: install peers
	$(BIN)/python -m bench.pypi_libp2p
	$(ISOLATED) $(BIN)/python -m bench

demo: install
	$(ISOLATED) $(BIN)/python -m demo

peers: install
	$(BIN)/python -m tests.interop.cache

lock: export CUSTOM_COMPILE_COMMAND := make lock
lock: install
	$(BIN)/python -m piptools compile --quiet --upgrade --extra dev --build-deps-for editable \
		--generate-hashes --allow-unsafe --strip-extras --no-emit-options \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
