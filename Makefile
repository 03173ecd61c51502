# Everything a developer or an operator types. `make` alone lists it. Extra arguments: make test ARGS="-k registrar".

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup packages compiled demo test lab bench clean
MAKEFLAGS += --no-print-directory

PYTHON_BIN := .venv/bin/python
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
ARGS ?=

help: ## this list
	@echo "usage: make TARGET [ARGS=\"...\"]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## install what is needed, then show a call with its media (python -m lab demo)
	@echo "demo: python -m lab demo $(ARGS)"
	@$(PYTHON_BIN) -m lab demo $(ARGS)

test: setup ## install what is needed, then ruff, mypy and pytest (ARGS go to pytest)
	@scripts/check.sh $(ARGS)

lab: compiled ## install what is needed, then every scenario of the lab (ARGS replace --all --strict)
	@echo "lab: python -m lab run $(or $(ARGS),--all --strict)"
	@$(PYTHON_BIN) -m lab run $(or $(ARGS),--all --strict)

compiled: setup ## install what is needed, then compile the hot path into build/compiled (mypyc; the bench measures it)
	@$(PYTHON_BIN) scripts/compile.py

bench: compiled ## install what is needed, then measure beside Kamailio (25 minutes; ARGS="--modes P2 --pairs 1", ARGS=--memory, ARGS=--profile)
	@echo "bench: python -m lab.bench $(ARGS)"
	@$(PYTHON_BIN) -m lab.bench $(ARGS)

setup: ## only install what is needed: Debian packages (as root) and .venv
	@scripts/setup.sh

packages: ## only the Debian packages, without starting their daemons (needs root)
	@scripts/setup.sh packages

clean: ## remove .venv, caches, build results and lab runs
	@echo "clean: .venv, build, caches, lab-runs"
	@rm -rf .venv build dist lab-runs .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
