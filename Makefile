# Everything is set up in .venv; nothing outside this folder is touched.
#   make demo     base install, then the main job on real photographs: demo/report.html
#   make test     all extras and torch, then the whole fast suite
# Another interpreter: make demo PYTHON=python3.12. The commands without make are in CONTRIBUTING.md.

VENV ?= .venv
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

CREATED := $(VENV)/created.stamp
BASE := $(VENV)/base.stamp
SETUP := $(VENV)/setup.stamp

.PHONY: help setup demo test lint format docs bench clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 4
	@echo "targets: setup demo test lint format docs bench clean"

$(CREATED):
	@test -n "$(PYTHON)" || { echo "offnominal needs Python 3.11 or newer; name one with PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("offnominal needs Python 3.11 or newer, $(PYTHON) is older" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

# The base install alone: what a user gets from `pip install offnominal`. No torch.
$(BASE): pyproject.toml | $(CREATED)
	$(PIP) install --editable .
	@touch $@

# All extras and the tools. The constraints keep torch at its CPU build.
$(SETUP): pyproject.toml constraints.txt | $(CREATED)
	$(PIP) install --constraint constraints.txt --editable ".[all]" --group dev
	@touch $@ $(BASE)

setup: $(SETUP)

demo: $(if $(wildcard $(SETUP)),$(SETUP),$(BASE))
	$(BIN)/offnominal demo --out demo

test: $(SETUP)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m offnominal.core --check

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(SETUP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Without the peer: its environment is made by benchmarks/peers/setup.py, and docs/benchmarks says which commands
# take it. What is done is kept in results/ and not done again.
bench: $(SETUP)
	$(BIN)/python benchmarks/metrics_speed.py
	$(BIN)/python benchmarks/normality_speed.py
	$(BIN)/python benchmarks/series_metrics_speed.py
	@test -d "$(OFFNOMINAL_DATA)" || { echo "OFFNOMINAL_DATA=DIR names no folder of data sets: speed only" >&2; exit 1; }
	$(BIN)/offnominal bench image --data "$(OFFNOMINAL_DATA)" --out results
	$(BIN)/python benchmarks/defaults.py --data "$(OFFNOMINAL_DATA)" --out results --page docs/benchmarks
	$(BIN)/python benchmarks/calibration.py --data "$(OFFNOMINAL_DATA)" --out results --page docs/benchmarks
	$(BIN)/python benchmarks/tables.py results docs/benchmarks

clean:
	rm -rf $(VENV) site demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
