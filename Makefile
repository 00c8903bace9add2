# `make study` and `make test` need Python >= 3.11, make and a C++ compiler, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: study test test-slow lint clean

study: $(INSTALLED)  ## the main job on an embedded synthetic cohort
	$(BIN)/python -m study.run --preset quick

test: $(INSTALLED)  ## the default suite
	$(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)  ## every test, the slow ones too
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml renalnet/nets/fused.cpp
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
