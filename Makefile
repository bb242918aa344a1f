# `make repro` and `make test` work as the first command in a fresh clone:
# they set up .venv from requirements.lock and then do their job.
# A second call finds .venv up to date and skips the set-up.

PYTHON ?= python3
VENV := .venv
# Relative: the folder's path may hold spaces, at which make and the shell would cut it.
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.8

# Stages and tests call `python`: let it be the one of this project.
# Recipes name their programs by path, since macOS' make finds them by the PATH it was given.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport PYTHONHOME
unexport PYTHONPATH

.PHONY: setup repro study test oldest bench chaos lint docs figures lock clean help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1 — /'

setup: $(READY)  ## make .venv and install the pinned requirements

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zoo needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + " (choose another: make PYTHON=python3.12 ...)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(READY)

# DVC does not write these at once. The second only says which dvc is at work.
EMPTY := is empty, as a kill leaves it while dvc writes it:
NO_LOCK := git checkout dvc.lock, or rm dvc.lock (what is done is taken from the cache of dvc)
NO_RWLOCK := rm .dvc/tmp/rwlock, when no dvc is at work
empty = $(shell test -e $(1) && test ! -s $(1) && echo yes)

repro: $(READY)  ## build the subsets, train, register and compare (only what is out of date)
	$(if $(call empty,dvc.lock),$(error dvc.lock $(EMPTY) $(NO_LOCK), then make repro))
	$(if $(call empty,.dvc/tmp/rwlock),$(error .dvc/tmp/rwlock $(EMPTY) $(NO_RWLOCK), then make repro))
	$(BIN)/dvc repro
	@echo "Next: .venv/bin/zoo compare vit-small resnet18-small"

study: $(READY)  ## run one of studies/ in studies/runs/NAME: make study NAME=digits [ROOT=IMAGES]
	$(BIN)/python -m pipelines.study "$(NAME)" "$(ROOT)"

test: $(READY)  ## run the test suite, a process a core
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --durations 25

OLDEST := build/oldest
oldest: $(READY)  ## run the quick tests with the oldest dependencies that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	PATH="$(CURDIR)/$(OLDEST)/bin:$$PATH" $(OLDEST)/bin/python -m pytest -m 'not slow' -n auto --dist loadfile

bench: $(READY)  ## measure every question of speed as a ratio; benchmarks/results.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

chaos: $(READY)  ## kill commands at random moments and look how they end: make chaos [ROUNDS=400] [SEED=0]
	$(BIN)/python -m tests.chaos $(or $(ROUNDS),400) $(or $(SEED),0)

lint: $(READY)  ## format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)  ## build the site in build/site and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

figures: $(READY)  ## train and compare what the pictures in docs show: make figures ROOT=IMAGES
	$(BIN)/python docs/figures.py "$(ROOT)"

lock: $(READY)  ## pin every dependency again, after pyproject.toml changed
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
		--no-emit-index-url --no-emit-find-links --upgrade --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock

clean:  ## remove .venv (data, models and the store are kept)
	rm -rf $(VENV)
