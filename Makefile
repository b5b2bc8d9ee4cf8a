# On a machine with Python 3.11 or newer, `make demo` and `make test` do all the set-up themselves.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
# The first that runs and is new enough, python3 before the others. A shim may exist and not run.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python $(NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)

.PHONY: demo test quick docs lint format clean

demo: $(VENV)/installed
	$(BIN)/python -m probgen demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Between edits: the rules of the house, every row of the registry built, and one law for each.
quick: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/test_house.py tests/test_completeness.py \
		tests/test_bijectors.py::test_laws tests/test_distributions.py::test_wrappers_change_nothing_of_what_learns

# Every page is read anew and every notebook executed; a cell that fails, or a warning, fails the build.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --conf-dir docs --doctree-dir build/docs/doctrees . build/docs/html
	@echo "The pages begin at build/docs/html/docs/index.html"

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist probgen-demo

# What the installations have in common is the package itself, editable: none makes another stale.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing probgen into $(VENV) (once; a few minutes)"
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing probgen and its test tools into $(VENV) (once; a few minutes)"
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	@echo "Installing probgen and what builds its documentation into $(VENV) (once; a few minutes)"
	$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@"$(PYTHON)" $(NEW_ENOUGH) 2>/dev/null || { \
		echo "probgen needs Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment: see above (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
