# One virtual environment, made on demand and installed once per change of pyproject.toml or constraints.txt.
# `make demo` and `make test` need nothing but Python 3.11 or later; another interpreter: make PYTHON=/path/to/python3 demo
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench docs reproduce format clean

demo: $(VENV)/installed
	$(BIN)/fieldwright run darcy

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed-check
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/installed-check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# All methods, or one: make reproduce METHOD=depth-stacking
reproduce: $(VENV)/installed
	set -e; for name in $(or $(METHOD),$$($(BIN)/python -m fieldwright.gallery)); do $(BIN)/fieldwright reproduce $$name; done

format: $(VENV)/installed-check
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) site build dist src/*.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Fieldwright needs Python 3.11 or later; none was found as python3. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fieldwright needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-check: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[test,docs]'
	@touch $@ $(VENV)/installed $(VENV)/installed-test

$(VENV)/installed-bench: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[peers,tracking]'
	@touch $@ $(VENV)/installed
