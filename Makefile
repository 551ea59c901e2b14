.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
SEED   ?= 0
# Tests mostly wait, for processes and for time: twice as many workers as cores keep these busy.
TEST_WORKERS ?= $(shell echo $$((2 * $$(nproc))))
MODEL  ?= mutation
STORE  ?= selftaught.db
# A certificate store of the system's own is used where there is one (company proxies).
export UV_SYSTEM_CERTS ?= 1
# What is not compiled once is compiled at every start, where Python may not write.
export UV_COMPILE_BYTECODE ?= 1
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/$(VENV)

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Make .venv with what a run needs, from the lock file

$(VENV)/.uv: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "selftaught needs Python 3.11 or later; PYTHON=/path/to/python3 names one."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "The venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@touch $@

$(VENV)/.installed: $(VENV)/.uv
	@$(UV) sync --frozen --quiet --no-dev --inexact
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.uv
	@$(UV) sync --frozen --quiet
	@$(BIN)/python -m compileall -q src
	@touch $@ $(VENV)/.installed

dev: $(VENV)/.installed-dev  ## The same with every extra and the development tools

run: install  ## Improve a TSP heuristic, then run STOP itself (SEED=n, MODEL=name)
	@$(BIN)/selftaught doctor > .doctor.txt || { cat .doctor.txt; rm .doctor.txt; exit 1; }
	@tail -n 1 .doctor.txt; rm .doctor.txt
	@echo; echo "(a) A program gets better: a local search for the travelling salesman problem"
	@$(BIN)/selftaught improve tsp --calls 16 --seed $(SEED) --model $(MODEL) --store $(STORE)
	@echo; echo "(b) The improver gets better: STOP, Algorithm 1 of the paper"
	@$(BIN)/selftaught run tsp circle_packing --rounds 3 --calls 8 --meta-calls 4 \
	  --repeats 3 --accept better --seed $(SEED) --model $(MODEL) --store $(STORE)

system:  ## What some tests need of the system (Debian, Ubuntu; as root), or how to get it
	@tests/system_packages.sh

test: dev system  ## Run every test
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

check: lint typecheck test  ## Everything that CI runs

lint: dev  ## Style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: dev  ## Rewrite to the format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

typecheck: dev  ## mypy, strict
	@$(BIN)/mypy

bench: dev  ## All timings, as one table in bench/results (minutes; on a quiet machine)
	@$(BIN)/python bench/table.py

experiments: dev  ## The ten-seed experiment (minutes)
	@$(BIN)/python bench/ten_seeds.py

docs: dev  ## Write the command reference anew from --help
	@$(BIN)/python docs/generate_cli.py

clean:  ## Remove the environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help install dev run system test check lint format typecheck bench experiments docs clean
