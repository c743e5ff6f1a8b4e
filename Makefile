# Everything a newcomer, a developer and the CI run. Each target makes the environment it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
CORES := $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test check format lint types unit bench faults soak examples clean help

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml hatch_build.py host/engine/native.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,guests]'
	@touch $@

demo: $(VENV)/.demo ## Two hosts, a counter, linked before your eyes (ARGS=--once to verify and exit)
	@$(BIN)/lattice demo $(ARGS)

# The demo needs neither the developers' tools nor a compiler.
$(VENV)/.demo: pyproject.toml hatch_build.py host/engine/native.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@touch $@

check: lint types unit ## Format, lint, types, import rules, unit and contract tests: before every commit

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(STAMP)
	$(BIN)/mypy

# These wait for servers and files as long as they compute.
unit: $(STAMP)
	$(BIN)/pytest -q -n $(shell expr 2 \* $(CORES)) --dist loadgroup tests/unit tests/contract tests/test_architecture.py tests/test_repository.py $(ARGS)

# The checker of types has one core. What builds long comes before what is soon done, so that the end
# finds every core at work.
test: lint ## Everything, as the CI runs it
	@$(MAKE) --no-print-directory --jobs 2 types unit
	$(BIN)/pytest -q -n $(shell expr 1 + $(CORES)) --dist loadgroup \
		tests/integration tests/compat tests/e2e tests/faults $(ARGS)

format: $(STAMP) ## Put the code into its one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP) ## Measure, against peers in the same run; writes tests/bench/results.json
	$(BIN)/python -m tests.bench $(ARGS)

faults: $(STAMP) ## Torment a lattice and judge what it promised: SEED=7 MINUTES=2 SERVERS=3 (see docs/faults.md)
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),2) \
		$(if $(SERVERS),--servers $(SERVERS)) $(ARGS)

soak: $(STAMP) ## Use a lattice under churn for MINUTES=60, and watch what grows
	$(BIN)/python -m tests.faults.soak $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),60) $(ARGS)

examples: $(STAMP) ## Build the example actors again from their source
	$(MAKE) --directory deploy/examples all PYTHON=$(abspath $(BIN)/python)

clean: ## Remove what was built
	rm -rf $(VENV) dist build *.egg-info
