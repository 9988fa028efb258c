# `make train` and `make test` need Python 3.11, 3.12 or 3.13 and nothing else: the first call makes .venv and installs into it, later calls
# start at once. With PYTHON=... the environment is that interpreter's own, .venv-3.12 say, and .venv stays as it is.
#   make train ARGS="--preset=NAME --seed=1"    make test ARGS="tests/envs -k lake"    make test PYTHON=python3.12

ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell command -v python3.11 || command -v python3)
VENV := .venv
else
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
$(if $(VERSION),,$(error PYTHON=$(PYTHON) does not run; name a Python 3.11, 3.12 or 3.13))
VENV := .venv-$(VERSION)
endif
# Of the environment's own interpreter: JAX of Python 3.11 ends at 0.10.
LOCK = $$($(RUN) -c 'import sys; print("requirements-3.12.txt" if sys.version_info >= (3, 12) else "requirements.txt")')
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
WORKERS ?= logical
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help train test test-fast notebooks docs lint format clean

help: ## Say what can be made.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: $(INSTALLED) ## Train the default agent, or what ARGS says; runs in the same folder resume.
	@$(RUN) -m experiments.train $(ARGS)

test: $(INSTALLED) ## Run the tests, or those that ARGS names. A file stays on one worker: its tests share what they compile.
	@$(RUN) -m pytest -q --numprocesses=$(WORKERS) --maxprocesses=4 --dist=loadfile $(ARGS)

# tests/fast.txt takes no comments: pytest reads each line as an argument.
test-fast: $(INSTALLED) ## Run the quick tests on what JAX finds (a GPU, a TPU, else the CPU), or on what JAX_PLATFORMS says.
	@JAX_PLATFORMS="$(JAX_PLATFORMS)" $(RUN) -m pytest -q --numprocesses=$(WORKERS) --maxprocesses=4 --dist=loadfile @tests/fast.txt $(ARGS)

notebooks: $(INSTALLED) ## Execute the notebooks at full length, or those that ARGS names, and store what they print; about ten minutes.
	@$(RUN) -m tests.colabs.notebooks $(ARGS)

# Modules whose own names are in no package's list have pages too; the inner parts of `arl.runs` have none.
REFERENCE := arl arl.training.config arl.training.credit arl.training.evaluation arl.training.loss arl.training.metrics \
	'!arl[.]runs[.](board|check_|programs|progress|recorder)'

docs: $(INSTALLED) ## Build the API reference from the docstrings, as HTML in build/docs.
	@JAX_PLATFORMS=cpu $(RUN) -m pdoc --docformat=google --output-directory=build/docs $(REFERENCE)

lint: $(INSTALLED) ## Check format, imports, likely bugs and types.
	@failed=0; for check in "ruff format --check ." "ruff check ." "pyright --level error"; do $(RUN) -m $$check || failed=1; done; exit $$failed

format: $(INSTALLED) ## Format the code and sort its imports.
	@$(RUN) -m ruff check --fix --quiet .
	@$(RUN) -m ruff format .

clean: ## Remove caches and build products; runs and .venv stay.
	@rm -rf .cache .hypothesis .pytest_cache .ruff_cache build dist ./*.egg-info
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# pip is the last thing that `venv` writes: where it is missing, the environment was never finished.
$(INSTALLED): requirements.txt requirements-3.12.txt setup.py
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about a minute, once."
	@$(RUN) -m pip install --quiet --requirement $(LOCK)
	@$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
