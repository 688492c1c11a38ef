# Two commands for a fresh clone: `make demo` and `make test`. Each makes .venv and installs first.

PYTHON ?= python3
VENV := .venv
RUN ?= runs/demo
# Tests that share one Ray run in one process, all others beside them, a file at a time.
BESIDE := -n 2 --dist loadgroup --no-loadscope-reorder
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo test test-rest test-all lint bench clean

demo: $(VENV)/installed
	$(VENV)/bin/valence demo --out $(RUN)

test: lint
	$(VENV)/bin/pytest $(BESIDE) -m 'not cluster'

# One after another: each has a Ray of its own, some of them several nodes.
test-rest: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m cluster

test-all: test test-rest

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
