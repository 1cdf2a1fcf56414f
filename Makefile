.DEFAULT_GOAL := help
.PHONY: help setup run test check bench lock format schema

BIN := .venv/bin
READY := .venv/.ready
LOCK_FLAGS ?=
PYTEST_FLAGS ?=

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the locked dependencies and the project in it

$(READY): requirements-build.txt requirements-dev.txt pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

run: $(READY) ## Start the gateway on this machine, with a ready test key
	@$(BIN)/darkroom serve

test: $(READY) ## Every test that needs no more than Python
	$(BIN)/python -m pytest -n 2 -m "not browser" $(PYTEST_FLAGS)

check: $(READY) ## What CI runs: format, lint, types, layers, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck scripts/*.sh .ci/run
	$(MAKE) test
	sh scripts/install-node.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m browser $(PYTEST_FLAGS)

bench: $(READY) ## Measure the gateway on this machine
	$(BIN)/python -m benchmarks

lock: $(READY) ## Make the locks again; LOCK_FLAGS=--upgrade lifts the pins
	sh scripts/lock.sh $(LOCK_FLAGS)

schema: $(READY) ## Write config.schema.json again
	$(BIN)/python scripts/config_schema.py

format: $(READY) ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
