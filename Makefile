# Everything that is done with this checkout, from a machine with Python 3.11 to 3.13 and make alone.
# All paths are relative, so that a checkout may lie in a folder with spaces in its name.

PYTHON ?= python3
# In the order of the files, for the long ones come first.
PYTEST_ARGS ?= -n 3 --dist loadscope --no-loadscope-reorder
BENCH_ARGS ?=
CONFORMANCE_ARGS ?= --store
FUZZ_ARGS ?=
CHAOS_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# Errors only: warnings of pip are about how a machine is set up to reach its index.
QUIET := --quiet --quiet
SETUPTOOLS = $$(grep '^setuptools==' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help install test fuzz lint demo up down screenshots conformance image-check bench bench-full bench-prefect chaos clean

help: ## list what make can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## make .venv with the locked versions (once, and again when they change)

$(INSTALLED): pyproject.toml constraints.txt
	@'$(PYTHON)' -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "error: Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making $(VENV) with $$('$(PYTHON)' --version) and the versions of constraints.txt (a few minutes, once)"
	@'$(PYTHON)' -m venv --clear $(VENV) \
		|| { echo "error: Python cannot make virtual environments; on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	@$(RUN) -m pip install $(QUIET) --disable-pip-version-check "$(SETUPTOOLS)"
	@$(RUN) -m pip install $(QUIET) --disable-pip-version-check --no-build-isolation \
		--constraint constraints.txt --editable '.[prefect,aws,local,dev]'
	@$(RUN) -c 'from hazard_store.layouts.packed import compile_codec; compile_codec()'
	@touch $(INSTALLED)

test: install ## run all tests, after all the set-up that they need (PYTEST_ARGS=... for pytest)
	@$(RUN) -m hazard_store.local.fetch
	@$(RUN) -m deployments.local.chromium
	@$(RUN) -m pytest $(PYTEST_ARGS)

fuzz: install ## change real datastores and zip archives in 20,000 ways: each is read right or refused (FUZZ_ARGS=...)
	@$(RUN) -m tests.fuzz $(FUZZ_ARGS)

lint: install ## ruff and mypy, as CI runs them
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

demo: install ## store a real calculation in a local DynamoDB through Prefect and Dask, and read it back
	@$(RUN) -m deployments.local.demo

up: install ## start a local DynamoDB, Prefect with its UI, a worker and the deployments, and leave them running
	@$(RUN) -m deployments.local.stack up

down: install ## stop what `make up` started; its data stays
	@$(RUN) -m deployments.local.stack down

screenshots: install ## take the pictures of the Prefect UI in docs/img anew
	@$(RUN) -m deployments.local.screenshots

conformance: install ## run OpenQuake's own test calculations and compare what it says with what hazard-store reads
	@mkdir -p .state
	@$(RUN) tests/conformance/engine_venv.py > .state/engine-python
	@"$$(cat .state/engine-python)" tests/conformance/run_engine_cases.py .state/conformance
	@$(RUN) tests/conformance/compare.py .state/conformance $(CONFORMANCE_ARGS)

image-check: install ## run the steps of deployments/Dockerfile in a bare Debian (as root, with debootstrap)
	@$(RUN) -m deployments.image.check

bench: install ## measure what docs/performance.md claims, in ten minutes (BENCH_ARGS=... for python -m benchmarks)
	@$(RUN) -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt awswrangler
	@$(RUN) -m benchmarks $(BENCH_ARGS)

bench-full: BENCH_ARGS := --full --repeat 3 $(BENCH_ARGS)
bench-full: bench ## the same with medians of three, four workers and ten million items: an hour and more

bench-prefect: install ## measure what Prefect itself costs a store of 150,000 items
	@$(RUN) -m benchmarks.orchestration $(BENCH_ARGS)

chaos: install ## store under faults and kills, and audit it (20 minutes; CHAOS_ARGS="--seed N --only NAME")
	@$(RUN) -m hazard_store.local.fetch
	@$(RUN) -m tests.chaos $(CHAOS_ARGS)

clean: ## stop the local services, then delete .venv, their data and all that was generated
	@if [ -x $(RUN) ]; then $(RUN) -m deployments.local.stack down; fi
	@rm -rf $(VENV) .state build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-curves.png
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
