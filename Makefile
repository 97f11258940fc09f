# The two commands of the README: each makes its own virtual environment when missing, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python .ci/install.py
export PYTHONDONTWRITEBYTECODE =
# which tests: TESTS=slow runs the slow ones, TESTS=long those that take many minutes
TESTS ?= not slow
SELECTED = $(if $(filter long,$(TESTS)),long,($(TESTS)) and not long)

.PHONY: demo test docs clean

demo: $(VENV)/.installed
	$(BIN)/stemfuse demo --out demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "$(SELECTED)"

# the documentation as a site that needs no network; a warning, such as a link that leads nowhere, is an error
docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build --quiet --jobs auto --keep-going --fail-on-warning -b html docs site

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(INSTALL) --editable '.[mixers,networks,search]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo site docs/api build dist *.egg-info
