# `make study` and `make test` need only Python >= 3.11, make and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes with one thread each, because more threads than cores would slow both down.
# A module's tests stay in one process, because the fixtures that they share take long to make.
# The tests start many processes; each would compile all modules if Python was told to keep no bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
INSTALLED := $(VENV)/.installed

.PHONY: study pictures bundle test test-slow lint clean

study: $(INSTALLED)  ## the whole study on a synthetic cohort, from the scans to the report
	$(BIN)/python -m study.run --preset quick

pictures: study  ## the pictures of the README: an overlay, and a screenshot of the report
	cp results/quick/figures/overlays.png results/evidence/quick/
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1180,1500 --virtual-time-budget=8000 \
	  --screenshot=results/evidence/quick/report.png $(CURDIR)/results/quick/report.html

bundle: $(INSTALLED)  ## the model bundle of the package, trained on painted phantoms
	$(BIN)/python -m study.run --preset phantom
	mkdir -p renalnet/bundles/phantom
	cp results/phantom/best/*.safetensors results/phantom/best/*.json results/phantom/best/README.md \
	  renalnet/bundles/phantom/

test: $(INSTALLED)  ## the tests without the slow ones
	$(PYTEST)

test-slow: $(INSTALLED)  ## all tests, including the slow ones
	$(PYTEST) -m "slow or not slow"

lint: $(INSTALLED)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Python compiles the modules that are imported; to compile all 20 000 would take longer than their download.
$(INSTALLED): pyproject.toml renalnet/nets/fused.cpp
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[dev]"
	touch $@

clean:  ## remove the environment and build files; results stay
	rm -rf $(VENV) build *.egg-info
