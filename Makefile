# Two commands on a bare machine with Python 3.11 or newer:
#   make demo    create the virtual environment, install, run the main job
#   make test    the same environment, then lint, types and all tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Ray, mypy and pytest inherit these: quiet, reproducible, no call home.
export RAY_USAGE_STATS_ENABLED := 0
FAST := not torch and not ray and not slow
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test fast lint types clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	@set -e; began=$$(date +%s); out=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	$(BIN)/codesign run examples/digits.yaml --out $$out; \
	$(BIN)/codesign export $$out --best accuracy --out $$out/best.onnx; \
	$(BIN)/codesign verify $$out/best.onnx; \
	echo "front again:  $(BIN)/codesign front $$out --where 'latency_ms@edge <= 0.2'"; \
	echo "report:       $$out/report.html"; \
	echo "main job: $$(( $$(date +%s) - began )) s"

# Tests side by side, one thread each; those that start Ray one after another, for they fill the cores themselves.
test: $(VENV)/.installed lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not ray" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m ray

fast: $(VENV)/.installed
	$(BIN)/python -m pytest -m "$(FAST)"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
