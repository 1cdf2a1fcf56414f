.DEFAULT_GOAL := help
.PHONY: help setup run test check bench bench-peers soak fuzz lock format schema screenshots

BIN := .venv/bin
READY := .venv/.ready
LOCK_FLAGS ?=
PYTEST_FLAGS ?=
FUZZ_S ?= 180
BENCH_FLAGS ?=

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the locked dependencies and the project in it

$(READY): requirements-build.txt requirements-dev.txt pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

run: $(READY) ## Start the gateway on this machine, with a ready test key
	@$(BIN)/darkroom serve

test: $(READY) ## Every test that needs no more than Python
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not browser" $(PYTEST_FLAGS)

check: $(READY) ## What CI runs: format, lint, types, layers, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck scripts/*.sh deploy/compose/*.sh .ci/run
	$(MAKE) test
	sh scripts/install-node.sh
	sh scripts/install-browser.sh
	sh scripts/install-deploy-tools.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile -m browser $(PYTEST_FLAGS)

bench: $(READY) ## Measure the gateway on this machine (12 minutes); BENCH_FLAGS=--quick is shorter
	$(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python --require-hashes -r requirements-bench.txt
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

bench-peers: $(READY) ## Measure nginx, LiteLLM and Portkey on the same work (installs them into .bench)
	sh scripts/install-peers.sh
	$(BIN)/python -m benchmarks.peers

fuzz: $(READY) ## Look for input that breaks a parser, FUZZ_S seconds for each
	$(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python --require-hashes -r requirements-fuzz.txt
	for parser in requests answers; do \
		mkdir -p .fuzz/$$parser && \
		$(BIN)/python -m tests.fuzz.$$parser -max_total_time=$(FUZZ_S) -max_len=8192 -dict=tests/fuzz/words.dict \
			-artifact_prefix=.fuzz/$$parser- .fuzz/$$parser tests/fuzz/corpus/$$parser || exit 1; \
	done

soak: $(READY) ## Kill it, and what replicas share, under load; compare bill and books: SOAK_KILLS, SOAK_S, SOAK_REPLICAS_S
	$(BIN)/python -m tests.soak
	$(BIN)/python -m tests.soak.replicas

lock: $(READY) ## Make the locks again; LOCK_FLAGS=--upgrade lifts the pins
	sh scripts/lock.sh $(LOCK_FLAGS)

screenshots: $(READY) ## Take docs/screenshots of every page of the console again
	sh scripts/install-browser.sh
	$(BIN)/python -m tests.console.screenshots

schema: $(READY) ## Write config.schema.json again
	$(BIN)/python scripts/config_schema.py

format: $(READY) ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
