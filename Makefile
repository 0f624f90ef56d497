# Everything a newcomer needs: `make demo` and `make test`. Both set up what is missing by themselves.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
STAMP := $(VENV)/.stamp-run
STAMP_TEST := $(VENV)/.stamp-test
DEMO_PNG ?= demo.png

.PHONY: help setup setup-test demo test lint types unit soak lock clean picture

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with the command .venv/bin/reconf

$(VENV)/bin/python:
	@deploy/setup/system_packages.sh run
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-build.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --no-index -e .
	@touch $@

setup-test: $(STAMP_TEST) ## the same with everything the tests need

$(STAMP_TEST): $(STAMP) requirements-test.lock deploy/setup/system_packages.sh $(wildcard tests/outside/*/package-lock.json)
	@deploy/setup/system_packages.sh test
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	@for each in tests/outside/*/; do (cd $$each && npm ci --ignore-scripts --no-audit --no-fund --silent) || exit 1; done
	@touch $@

demo: setup ## twin over real Modbus, embedded broker, one discharge and recharge, result table and picture
	$(VENV)/bin/reconf demo --once --png $(DEMO_PNG)

picture: setup ## the README's picture, from a run of the demo on this machine (let it be quiet)
	$(VENV)/bin/reconf demo --once --png docs/pictures/demo.png

test: lint types unit ## the ten-minute suite

lint: setup-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

types: setup-test
	$(VENV)/bin/mypy

# one thread of linear algebra each: two workers with two threads on two cores wait for each other
unit: setup-test
	OPENBLAS_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadgroup -m "not soak" tests

soak: setup-test ## the long campaigns in full, one table at the end
	$(VENV)/bin/reconf soak

lock: ## renew the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra test pyproject.toml -c requirements.lock -o requirements-test.lock
	printf 'hatchling\neditables\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -c requirements-test.lock -o requirements-build.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis demo.png
