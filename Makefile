# For a fresh clone: `make demo`, `make test`, `make test-all`. Each makes .venv and installs first.

PYTHON ?= python3
VENV := .venv
RUN ?= runs/demo
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo test test-ray test-others test-rest test-all lint bench clean

demo: $(VENV)/installed
	$(VENV)/bin/valence demo --out $(RUN)

# Two processes at once, each of which tells what it has to tell when it ends.
test: lint
	$(MAKE) -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) test-ray test-others

test-ray: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m 'ray and not cluster and not kills and not faults'

test-others: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m 'not ray and not cluster and not kills'

# One after another: a Ray of its own, often with several nodes, or processes that are killed.
test-rest: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m 'cluster or kills or (ray and faults)'

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
	$(VENV)/bin/pip install --quiet --prefer-binary -e '.[dev,onnx,opensmile,sklearnex,speech]'
	touch $@ $(VENV)/installed
