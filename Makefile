# For a fresh clone: `make demo`, `make test`, `make test-all`. Each makes .venv and installs first.

PYTHON ?= python3
VENV := .venv
RUN ?= runs/demo
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: demo test test-ray test-programs test-science test-rest test-kills test-clusters test-all lint bench clean

# Processes at once, each of which tells what it has to tell when it ends.
AT_ONCE := $(MAKE) -j4 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PLAIN := not ray and not cluster and not kills and not memory
# Beside the science: what starts programs, browsers and tools.
PROGRAMS := tests/pipelines tests/report tests/cluster

demo: $(VENV)/installed
	$(VENV)/bin/valence demo --out $(RUN)

test: $(VENV)/installed-dev
	$(AT_ONCE) lint test-ray test-programs test-science

test-ray: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m 'ray and not cluster and not kills and not faults and not memory'

test-programs: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m '$(PLAIN)' $(PROGRAMS)

test-science: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m '$(PLAIN)' $(PROGRAMS:%=--ignore=%)

test-rest: $(VENV)/installed-dev
	$(AT_ONCE) test-kills test-clusters

# Processes that are killed, or whose memory is measured.
test-kills: $(VENV)/installed-dev
	$(VENV)/bin/pytest -m 'not cluster and (kills or memory or (ray and faults))'

# A Ray of its own for each test or few, often with several nodes.
test-clusters: $(VENV)/installed-dev
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
	$(VENV)/bin/pip install --quiet --prefer-binary -e '.[dev,onnx,opensmile,sklearnex,speech]'
	touch $@ $(VENV)/installed
