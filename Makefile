# `make help` lists the targets. Everything runs in .venv, made when missing from the pins in constraints.txt.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)) python3)
GIVEN_PYTHON := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
PINNED_TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
PEERS := mlflow,notebook,optuna,tensorboard,wandb
CPU_INDEX := https://download.pytorch.org/whl/cpu
LOWEST := .venv-lowest
LOWEST_PYTHON ?= python3.11
SEED ?= 1
KILLS ?= 1000
RESUME ?= yes

.PHONY: .venv help study test test-faults soak test-browser gpu test-lowest lint format hooks architecture notebooks \
	bench-overhead bench-packing bench-modules bench-fixed-step bench-scale bench-real bench-loading constraints clean

help:  ## this list
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(INSTALLED)  ## the environment alone

study: $(INSTALLED)  ## run the quickstart study: a few minutes, real images, ends with the table, the report and the pictures
	$(BIN)/t1t2 run deploy/studies/quickstart.toml

test: $(INSTALLED)  ## the tests
	$(BIN)/python -m pytest

test-faults: $(INSTALLED)  ## SIGKILLs over a multi-node cluster on this machine, at moments drawn from SEED=n; prints the tally
	$(BIN)/python -m pytest -m faults -s --fault-seed=$(SEED)

soak: $(INSTALLED)  ## KILLS=n blows of all kinds to a study on a cluster and an S3 server, from SEED=n; the same again goes on, unless RESUME=no
	$(BIN)/python -m tests.soak --kills $(KILLS) --seed $(SEED) $(if $(filter no,$(RESUME)),--anew)

test-browser: $(INSTALLED)  ## the pages in a real browser (skips where there is none)
	$(BIN)/python -m pytest -m browser

gpu:  ## all that needs a GPU; by PYTHON=… as it is, else by .venv, or by a python3 that has torch
	@python="$(or $(GIVEN_PYTHON),$(wildcard $(BIN)/python))"; \
	if [ -z "$$python" ] && $(PYTHON) -c 'import torch' 2>/dev/null; then python="$(PYTHON)"; fi; \
	if [ -z "$$python" ]; then $(MAKE) .venv && python="$(BIN)/python"; fi; \
	$$python -m tests.gpu $(ARGS)

test-lowest: $(LOWEST)/.installed  ## the tests with the lowest versions that pyproject.toml allows; TORCH=2.13.0 takes another torch
	$(LOWEST)/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::FutureWarning \
		--deselect tests/test_packaging.py::test_what_is_installed_is_what_is_pinned

lint: $(INSTALLED)  ## ruff's rules and formatting, strict typing, and the rules of who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)  ## format every file, and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

hooks: $(INSTALLED)  ## let git check every commit (.pre-commit-config.yaml)
	$(BIN)/pre-commit install

architecture: $(INSTALLED)  ## draw .github/architecture.svg anew from the imports
	$(BIN)/python -m tests.architecture

notebooks: $(INSTALLED)  ## execute the notebooks of deploy/notebooks, each in a fresh kernel, and write them with what they show
	$(BIN)/python -m tests.notebooks

bench-overhead: $(INSTALLED_BENCH)  ## cost of the T1-T2 step over plain training, beside other libraries
	$(BIN)/python -m tests.benchmarks.overhead

bench-packing: $(INSTALLED_BENCH)  ## many runs packed into one process, against one run a process
	$(BIN)/python -m tests.benchmarks.packing

bench-modules: $(INSTALLED_BENCH)  ## a convolutional network as a module, beside a textbook loop on the same network
	$(BIN)/python -m tests.benchmarks.modules

bench-fixed-step: $(INSTALLED_BENCH)  ## a fixed step beside the operations that nobody can leave out
	$(BIN)/python -m tests.benchmarks.fixed_step

bench-loading: $(INSTALLED)  ## loading a table of a million runs with its checksums verified, and without
	$(BIN)/python -m tests.benchmarks.loading

bench-scale: $(INSTALLED_BENCH)  ## 100,000 no-op runs through the driver, beside Ray Tune and Optuna
	$(BIN)/python -m tests.benchmarks.scale

bench-real: $(INSTALLED_BENCH)  ## the same 256 trainings by the service, Ray Tune, Optuna and a bare pool of processes
	$(BIN)/python -m tests.benchmarks.real

# Without an NVIDIA GPU on Linux, torch's own index has a CPU build of the same version, free of gigabytes of CUDA; pip
# prefers it (2.13.0+cpu is above 2.13.0, PEP 440), and the next install finds torch already there. Only torch is looked
# up on that index (--no-deps); where it cannot be reached, pip warns and takes what the usual index has.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; $(PYTHON) is " \
		+ sys.version.split()[0] + " at " + sys.executable + ". Name another: make PYTHON=/path/to/python3.12 …")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	if [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
		$(PIP) install --quiet --no-deps --retries 2 --extra-index-url $(CPU_INDEX) torch==$(PINNED_TORCH); fi
	$(PIP) install --quiet --constraint constraints.txt setuptools
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test,lint,$(PEERS)]'
	touch $@

# As above, from the lower bounds instead of the pins; what they need in turn is the newest that they admit. Old releases
# call what newer ones deprecate, so those warnings are no errors here.
$(LOWEST)/.installed: pyproject.toml tests/lowest.py
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python tests/lowest.py $(TORCH) > $(LOWEST)/lowest.txt
	if [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
		$(LOWEST)/bin/pip install --quiet --no-deps --retries 2 --extra-index-url $(CPU_INDEX) \
			"$$(grep '^torch==' $(LOWEST)/lowest.txt)"; fi
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/lowest.txt setuptools
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/lowest.txt --no-build-isolation --editable '.[aws,test,$(PEERS)]'
	touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test,lint,bench,$(PEERS)]'
	touch $@

constraints: $(INSTALLED_BENCH)  ## write constraints.txt anew from what .venv holds (after changing it on purpose)
	{ sed -n '/^#/p' constraints.txt; $(PIP) freeze --all --exclude-editable \
		| grep -viE '^(pip|t1t2-study|nvidia-.*|triton)[ =]' | sed 's/^\(torch==[0-9.]*\).*/\1/'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:  ## remove the environments and what tools leave behind; studies stay
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find service trainers analysis tests -name __pycache__ -type d -prune -exec rm -rf {} +
