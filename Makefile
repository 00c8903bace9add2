# `make study` and `make test` need Python >= 3.11, make and a C++ compiler, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes with a thread each, so that they do not wait for each other's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
INSTALLED := $(VENV)/.installed

.PHONY: study pictures test test-slow lint clean

study: $(INSTALLED)  ## the main job on an embedded synthetic cohort
	$(BIN)/python -m study.run --preset quick

pictures: study  ## the README's: an overlay, and the report as Chromium shows it
	cp results/quick/figures/overlays.png results/evidence/quick/
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1180,1500 --virtual-time-budget=8000 \
	  --screenshot=results/evidence/quick/report.png $(CURDIR)/results/quick/report.html

test: $(INSTALLED)  ## the default suite
	$(PYTEST)

test-slow: $(INSTALLED)  ## every test, the slow ones too
	$(PYTEST) -m "slow or not slow"

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
