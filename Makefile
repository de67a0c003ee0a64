# make train          the book's experiment, about two minutes
# make test           the tests
# make exercises      the book's ten exercises and excerpts, 88 minutes on two idle cores
# make more-exercises those of the next edition and of the book's chapter 10, under three hours in the same way
# make how-low        exercise 4 with any training, three hours on two cores next to other work
# make notebook       execute book.ipynb where it lies
# make numbers        write what sweeps/reference keeps into its reports and the README files, between their markers
# make bench          speed, as ratios
# make lint           ruff and mypy
# make torture        thousands of random settings and damaged folders, 30 kills, each write that can fail: an hour
# make soak           hundreds of commands, a run of 5,000 epochs, ten runs at once: nothing grows, nothing clashes
# make coverage       which branches of src no test takes
# make lock           write the versions in .venv to requirements.lock, and with uv to uv.lock
#
# What each needs is installed into .venv, once. Add LOCKED=1 for the versions that made README's numbers, and
# PYTHON=<path> for another Python than the first of 3.11, 3.12 and 3.13 that is found.

PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

LOCKS := $(if $(LOCKED),-locked)
CONSTRAINT := $(if $(LOCKED),--constraint requirements.lock)
# The launchers' own bound allows release candidates of Hydra, and pip would take one.
HYDRA := 'hydra-core<1.4'

.PHONY: help train test torture soak coverage lint bench exercises more-exercises how-low notebook numbers lock

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

train: .venv/.ready$(LOCKS)
	$(BIN)/python train.py

test: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

torture: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 KILLS=30 CASES=10000 FAULTS_EVERY=1 $(BIN)/python -m pytest -q -n auto --dist worksteal \
	  -m torture tests

soak: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.proof.soak

# TESTS=tests/run measures some of them.
coverage: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --cov --cov-report=term-missing:skip-covered \
	  -m "not torture and not slurm and not gpu and not browser" $(TESTS)

MORE := cells small_data tying vocabulary
OF_TOKENS := $(basename $(notdir $(wildcard conf/grid/full/next_edition/*.yaml)))
EXERCISES := $(filter-out none how_low $(MORE),$(basename $(notdir $(wildcard conf/exercise/*.yaml))))

exercises: .venv/.ready$(LOCKS)
	for exercise in $(EXERCISES); do $(BIN)/python train.py exercise=$$exercise || exit 1; done

more-exercises: .venv/.ready$(LOCKS)
	for exercise in $(MORE); do $(BIN)/python train.py exercise=$$exercise || exit 1; done
	for exercise in $(OF_TOKENS); do $(BIN)/python train.py exercise=$$exercise recipe=next_edition || exit 1; done

# The second sweep, on novels that no choice has seen, lies in the folder of the first, whose report is of both.
HOW_LOW := sweeps/how_low/$(shell date +%Y-%m-%d_%H-%M-%S)

how-low: .venv/.ready$(LOCKS)
	$(BIN)/python train.py exercise=how_low hydra.sweep.dir=$(HOW_LOW)
	$(BIN)/python train.py exercise=how_low recipe=novel seed=0 hydra.sweep.dir=$(HOW_LOW)/unseen \
	  data.corpus=war_of_the_worlds,alices_adventures_in_wonderland
	$(BIN)/python -m timemachine.report $(HOW_LOW)

# torch stands without its build, as 2.13.0 is met by 2.13.0+cpu and by a build for CUDA, whose libraries are left to pip.
# uv.lock has several versions of some packages, which depend on the extra: these are left to uv.
BY_EXTRA := '^(\#|hydra|omegaconf|antlr4|joblib|cloudpickle)'

lock: .venv/.ready-dev
	$(BIN)/python -m pip freeze --exclude-editable > .venv/freeze
	echo "# The versions that made the numbers in README.md, written by make lock: make train LOCKED=1 takes them." > requirements.lock
	grep -viE '^(nvidia|cuda|triton)' .venv/freeze | sed 's/^\([^ ]*==[^+]*\)+.*/\1/' >> requirements.lock
	rm -f uv.lock
	uv lock $$(grep -vE $(BY_EXTRA) requirements.lock | sed 's/^/--upgrade-package /')

notebook: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.notebook

numbers: .venv/.ready-dev$(LOCKS)
	$(BIN)/python -m tests.support.numbers

bench: .venv/.ready-dev$(LOCKS)
	-$(PIP) --no-deps d2l==1.0.3 regex
	$(BIN)/python -m tests.benchmarks.bench

lint: .venv/.ready-dev$(LOCKS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; type make PYTHON=<path of one>"; exit 1; }
	$(PYTHON) -m venv .venv

INSTALLED := pyproject.toml setup.py src/timemachine/kernels/fused.cpp

.venv/.ready .venv/.ready-locked: $(INSTALLED) | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	@rm -f .venv/.ready*
	$(PIP) $(HYDRA) $(CONSTRAINT) --editable .
	@touch .venv/.ready $@

.venv/.ready-dev .venv/.ready-dev-locked: $(INSTALLED) | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	@rm -f .venv/.ready*
	$(PIP) $(HYDRA) $(CONSTRAINT) --editable '.[dev]'
	@touch .venv/.ready .venv/.ready$(LOCKS) .venv/.ready-dev $@

.venv/.ready-locked .venv/.ready-dev-locked: requirements.lock
