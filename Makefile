# The two commands of the house are `make reproduce` and `make test`; both need nothing but Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet -c constraints.txt
ARGS ?=
# smoke, quick, cpu, cifar, gpu or paper: what the suite's runs are made of; from cifar on data are needed.
SCALE ?= cpu

# A worker for each core: one more would load all libraries once more, and what waits for programs is little. Beyond eight
# that is all they do. One thread for each, so that the compiled kernels of two do not fight for the same cores.
WORKERS = $(shell $(RUN) -c "from stopgrad.linear_theory.tools.processes import cores; print(min(8, cores()))")
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal

# Another environment that is active in the caller's shell must not leak into this one. Images of containers like to
# forbid bytecode; then each of the suite's hundreds of programs would compile our source once more.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE PIP_TARGET PIP_PREFIX PIP_USER

.DEFAULT_GOAL := help
.PHONY: help install reproduce test bench bench-training lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed  ## make .venv and install into it; done once (PYTHON=… picks the interpreter)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: PYTHON=…")'
	@echo "installing into $(VENV) (some minutes the first time)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.bench-installed: $(VENV)/.installed
	@echo "installing the benchmark's peers into $(VENV)" >&2
	@$(PIP) -e '.[bench]'
# torchtyping's own pin asks for typeguard 2, tyro for typeguard 4; both run with 4.
	@$(PIP) --no-deps torchode torchtyping
	@touch $@

reproduce: install  ## theory, networks, figures, ledger and report (SCALE=quick: a part, in minutes; SCALE=gpu)
# One thread: the network is small, and threads that wait for each other at every product slow it several times.
	@OMP_NUM_THREADS=1 $(RUN) -m figures reproduce --scale $(SCALE)

test: lint  ## lint, then run the suite
	@$(PYTEST)

bench: $(VENV)/.bench-installed  ## time the integrator against other ODE engines (ARGS=--json for one JSON object)
	@$(RUN) -m stopgrad.experiments.benchmarks.ode $(ARGS)

bench-training: $(VENV)/.bench-installed  ## time SimSiam training against lightly's (ARGS=--json for one JSON object)
	@$(RUN) -m stopgrad.experiments.benchmarks.training $(ARGS)

lint: install  ## check style and format with ruff
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

clean:  ## remove what was computed and cached; .venv stays
	rm -rf out build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
