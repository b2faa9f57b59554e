# Every target does its own set-up: a virtual environment made from PYTHON, with the project and its tools in it.
#   make demo        make test        make test PYTHON=python3.13

PYTHON ?= python3
ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
PEERS := $(VENV)/.ready-perf

.PHONY: help venv demo test test-core repeat torture soak lint format docs dist perf profile faults-table clean

help:
	@echo "make demo    kill a real job half-way, run it again, time it on threads and on processes"
	@echo "make test    the tests (TESTS=\"tests/pool -k claims\" for some of them)"
	@echo "make test-core  those of what depends on the version of Python"
	@echo "make repeat  the tests of semantics and faults 20 times in a row, up to the first failure (TIMES=n)"
	@echo "make torture 20 times as many killed random handlers (TIMES=n for n times), and other examples of all properties"
	@echo "make soak    10,000 branches with random faults (BRANCHES=n, SEED=n)"
	@echo "make lint    ruff and mypy"
	@echo "make docs    the documentation as a site, in build/site; warnings are errors"
	@echo "make dist    wheel and sdist in dist/, checked"
	@echo "make perf    the benchmarks, about 20 minutes; results in perf/results (BENCH=\"NAME ... --long\")"
	@echo "make profile where the time of one branch goes"
	@echo "make faults-table  what happens to whom when a branch dies, here and in other pools; measured"
	@echo "make clean   remove virtual environments and caches"

venv: $(READY)

$(READY): $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# What users install: enough for the demo, and there in seconds.
$(CORE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("durapool needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) has no venv: install the package python3-venv of your system"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli]'
	@touch $@

demo: $(CORE)
	@$(BIN)/python examples/demo.py

# Two processes: most tests wait for others. Whatever a test file shares, its tests share in one process. A test over its
# time ends its process, with the stacks of all threads: that ends the run, which could wait for ever for the next one.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
TESTS ?=
test: $(READY)
	$(PYTEST) $(TESTS)

# The rest reads pages, draws reports and starts programs: the same on every Python, and checked once.
ONCE := cli docs examples packaging perf report typing
test-core: $(READY)
	$(PYTEST) $(ONCE:%=--ignore tests/%)

TIMES ?= 20
repeat: $(READY)
	@for number in $$(seq $(TIMES)); do \
		echo "run $$number of $(TIMES)"; \
		$(PYTEST) -q --exitfirst tests/semantics tests/faults || exit 1; \
	done

torture: $(READY)
	DURAPOOL_TORTURE=$(TIMES) $(BIN)/python -m pytest -m hypothesis --timeout 0

BRANCHES ?= 10000
SEED ?= 20
soak: $(READY)
	@$(BIN)/python -m perf.soak --branches $(BRANCHES) --seed $(SEED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src examples perf

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The extra is installed once; after that no network is needed.
$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b dirhtml -d build/doctrees docs build/site
	@echo "build/site/index.html"

dist: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dist]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[perf]'
	@touch $@

BENCH ?=
perf: $(PEERS)
	@$(BIN)/python -m perf --plot $(BENCH)

profile: $(READY)
	@$(BIN)/python -m perf.profile_branch

faults-table: $(PEERS)
	@$(BIN)/python -m perf.faults_table

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
