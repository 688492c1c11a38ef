# Two commands for a fresh clone: `make demo` and `make test`. Each makes .venv and installs first.

PYTHON ?= python3
VENV := .venv
RUN ?= runs/demo
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo test lint bench clean

demo: $(VENV)/installed
	$(VENV)/bin/valence demo --out $(RUN)

test: lint
	$(VENV)/bin/pytest

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed-dev
	$(VENV)/bin/python tests/bench/bench_train.py

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --prefer-binary -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet --prefer-binary -e '.[dev,onnx,sklearnex]'
	touch $@ $(VENV)/installed
