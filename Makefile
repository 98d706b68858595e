# `make demo` and `make test` need only Python 3.11 or newer and make. A second run takes seconds.

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet
PORT ?= 8480
STATE ?=
ARGS ?=
WORKERS ?= 4

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test browser lint format types bench lock docs binary test-binary clean

help:
	@echo 'make demo     set up and run the demo on http://127.0.0.1:$(PORT) (PORT=, STATE=)'
	@echo 'make test     set up and run the tests (ARGS= for pytest, WORKERS= processes, which mostly wait)'
	@echo 'make browser  the tests in a real browser; needs a Chromium (Debian: apt-get install chromium)'
	@echo 'make lint     style and import rules        make types   strict types'
	@echo 'make bench    benchmarks                    make docs    generated pages and sample'
	@echo 'make binary   one executable file and a Debian package in dist/ (docs/tasks/install.md says what that needs)'
	@echo 'make test-binary   its tests, as root on Debian, with debootstrap'
	@echo 'make lock     dependency locks, needs uv    make clean   remove what make made'

demo: $(VENV)/.demo
	$(BIN)/owkai demo --port $(PORT) $(if $(STATE),--state $(STATE))

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	@echo 'not run: the tests in a real browser (make browser) and the slow ones (ARGS="-m slow")'

browser: $(VENV)/.test
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.test
	$(BIN)/mypy

bench: $(VENV)/.test
	for benchmark in latency noisy_neighbor start sync.copy sync.apply sync.lag websocket; do $(BIN)/python -m tests.benchmarks.$$benchmark || exit 1; done

docs: $(VENV)/.demo
	$(BIN)/owkai config sample > config/owkai.toml
	$(BIN)/owkai config reference > docs/reference/settings.md
	$(BIN)/python -m owkai.command_reference > docs/reference/commands.md
	$(BIN)/python -m handlers.contract
	$(BIN)/python -m handlers.metrics > docs/reference/metrics.md

binary: $(VENV)/.demo
	$(BIN)/python -m owkai.build

test-binary: $(VENV)/.test
	$(BIN)/python -m pytest -m binary $(ARGS) tests/binary

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed; set PYTHON=…' >&2; exit 1; }
	@echo 'setting up $(VENV); this takes a few minutes'
	$(PYTHON) -m venv $(VENV)

# The project itself is built with the setuptools of the lock, so that nothing is installed without a hash.
$(VENV)/.demo: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements-test.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements-test.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

# The test lock is made first; the other one takes its pins, so that tests run the versions that operators run.
LOCK := uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' --quiet
lock:
	$(LOCK) --extra demo --extra test --group build -o requirements-test.lock pyproject.toml
	$(LOCK) --extra demo --group build -c requirements-test.lock -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
