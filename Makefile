# make train           install, and train the book's model: under three minutes on two cores
# make test            run the tests
# make exercises       run the book's ten exercises and excerpts: 106 minutes on two idle cores
# make more-exercises  run the exercises of the next edition and of chapter 10: five hours
# make how-low         run exercise 4 with any training method: half an hour on two busy cores
# make notebook        execute book.ipynb in place
# make lab             write the notebook for students, without its answers, and for teachers to outputs/lab
# make site            build the site in outputs/site; REPOSITORY=owner/name adds links to GitHub, Colab and Binder
# make numbers         regenerate the reports of sweeps/reference and the marked parts of README.md and docs/*.md
# make bench           compare speeds, as ratios
# make page-kernel     compile the kernel of page.html, which is a part of the repository
# make lint            run ruff and mypy
# make torture         compare random settings with a plain loop; kill and resume runs and sweeps; over an hour
# make soak            run hundreds of commands and a long run, and check that memory and files do not grow
# make coverage        list the branches of src that no test takes
# make lock            write the versions in .venv, and the hashes of their files, to uv.lock and requirements.lock; needs uv
#
# Each target installs its dependencies into .venv, once. LOCKED=1 installs the versions that produced the published
# numbers; PYTHON=<path> selects another Python than python3 or, if that is older than 3.11, the newest found.

PYTHON ?= $(shell for python in python3 $$(seq -f python3.%g 20 -1 11); do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && exit; done; echo python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
TORCH := $(BIN)/python -m tools.install_torch --disable-pip-version-check $(if $(LOCKED),--locked)

LOCKS := $(if $(LOCKED),-locked)
# The lock has each package, so --no-deps: pip 23 would look for a newer `coverage[toml]` than the `coverage` of the lock.
# pip accepts no hash of a folder, so the project itself comes last.
WITH_HASHES := $(PIP) --no-deps --require-hashes --requirement requirements.lock && $(PIP) --no-deps --no-build-isolation
# Some containers set it. Bytecode makes each start of a program a second faster, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help train test torture soak coverage lint page-kernel bench exercises more-exercises how-low notebook lab site \
  numbers lock

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

train: .venv/.ready$(LOCKS)
	$(BIN)/python train.py

test: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

torture: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 KILLS=100 CASES=1000 $(BIN)/python -m pytest -q -n auto --dist worksteal -m "torture or repeated" tests

soak: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.soak

# TESTS=tests/run measures these tests only.
coverage: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --cov --cov-report=term-missing:skip-covered \
	  -m "not torture and not slurm and not gpu and not browser" $(TESTS)

MORE := cells cells_starts cells_tuning cells_reach recall small_data tying vocabulary
OF_TOKENS := $(basename $(notdir $(wildcard conf/exercise/next_edition/*.yaml)))
EXERCISES := $(filter-out none how_low $(MORE),$(basename $(notdir $(wildcard conf/exercise/*.yaml))))

exercises: .venv/.ready$(LOCKS)
	for exercise in $(EXERCISES); do $(BIN)/python train.py -m exercise=$$exercise || exit 1; done

more-exercises: .venv/.ready$(LOCKS)
	for exercise in $(MORE); do $(BIN)/python train.py -m exercise=$$exercise || exit 1; done
	for exercise in $(OF_TOKENS); do $(BIN)/python train.py -m exercise=$$exercise recipe=next_edition || exit 1; done

how-low: .venv/.ready$(LOCKS)
	$(BIN)/python train.py -m exercise=how_low

# requirements.lock lacks torch and what only torch needs: its builds for CPUs and for CUDA have different hashes and
# libraries; LOCKED=1 installs the version in uv.lock. uv.lock has several versions of the packages in CHOSEN_BY_UV,
# depending on Python and on the extra.
CHOSEN_BY_UV := '^(\#|hydra|omegaconf|antlr4|joblib|cloudpickle|nvidia|cuda|triton)'

lock: .venv/.ready-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/^\([^ ]*==[^+]*\)+.*/\1/' > .venv/freeze
	rm -f uv.lock
	uv lock $$(grep -viE $(CHOSEN_BY_UV) .venv/freeze | sed 's/^/--upgrade-package /')
	echo "# The versions that produced the published numbers, written by make lock; make train LOCKED=1 installs them." > requirements.lock
	uv export --frozen --quiet --extra dev --no-emit-project --prune torch --no-annotate --no-header >> requirements.lock

notebook: .venv/.ready-dev$(LOCKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.notebook

lab: .venv/.ready$(LOCKS)
	$(BIN)/python -m tools.lab

site: .venv/.ready-site
	rm -rf outputs/site
	REPOSITORY=$(REPOSITORY) $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . outputs/site

numbers: .venv/.ready-dev$(LOCKS)
	$(BIN)/python -m tools.numbers

bench: .venv/.ready-dev$(LOCKS)
	-$(PIP) --no-deps d2l==1.0.3 regex
	$(BIN)/python -m tools.bench

page-kernel: .venv/.ready$(LOCKS)
	$(PIP) "$$(grep -o 'ziglang==[0-9.]*' pyproject.toml)"
	$(BIN)/python -m timemachine.page.build

lint: .venv/.ready-dev$(LOCKS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian's Python without python3-venv leaves .venv/bin/python behind when it fails.
.DELETE_ON_ERROR:

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; type make PYTHON=<path of one>"; exit 1; }
	$(PYTHON) -m venv .venv

INSTALLED := pyproject.toml setup.py src/timemachine/kernels/fused.cpp

.venv/.ready .venv/.ready-locked: $(INSTALLED) | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	@rm -f .venv/.ready*
	$(TORCH)
	$(if $(LOCKED),$(WITH_HASHES),$(PIP)) --editable .
	@touch .venv/.ready $@

.venv/.ready-dev .venv/.ready-dev-locked: $(INSTALLED) | .venv/bin/python
	@echo "Installing into .venv; this takes minutes, the first time only."
	@rm -f .venv/.ready*
	$(TORCH)
	$(if $(LOCKED),$(WITH_HASHES),$(PIP)) --editable '.[dev]'
	@touch .venv/.ready .venv/.ready$(LOCKS) .venv/.ready-dev $@

# Only adds packages, since others may be reading the compiled kernel.
.venv/.ready-site: .venv/.ready$(LOCKS)
	$(PIP) $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["site"])')
	@touch $@

.venv/.ready-locked .venv/.ready-dev-locked: requirements.lock
