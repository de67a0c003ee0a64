# make train: the book's experiment.  make test: the tests.  Both install into .venv what they need, once.
# make torture: 30 kills at random and 10,000 cases of each fuzz test, instead of 5 and 500.
# make exercises: all full sweeps.  make how-low: exercise 4 with any training.  make bench: speed, as ratios.

PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: train test torture lint bench exercises how-low

train: .venv/.ready
	$(BIN)/python train.py

test: .venv/.ready-dev
	$(BIN)/python -m pytest -q -n auto --dist loadfile

torture: .venv/.ready-dev
	KILLS=30 CASES=10000 $(BIN)/python -m pytest -q -n auto --dist worksteal --durations=9 -m slow -k "killed or many or any_flipped" \
	  tests/test_fuzz.py tests/test_checkpoint.py tests/test_resume.py tests/test_interruptions.py

EXERCISES := $(filter-out none,$(basename $(notdir $(wildcard conf/exercise/*.yaml))))

exercises: .venv/.ready
	for exercise in $(EXERCISES); do $(BIN)/python train.py exercise=$$exercise || exit 1; done

how-low: .venv/.ready
	$(BIN)/python train.py exercise=how_low

bench: .venv/.ready-dev
	$(BIN)/python -m tests.benchmarks.bench --plot outputs/bench.png

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; type make PYTHON=<path of one>"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.ready: pyproject.toml | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	$(PIP) --editable .
	@touch $@

.venv/.ready-dev: pyproject.toml | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	$(PIP) --editable '.[dev]'
	@touch .venv/.ready $@
