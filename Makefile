# Every target sets itself up: a virtual environment below .venv with the pinned versions of requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export CONTIMG_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)
export CONTIMG_SPEC ?= $(if $(wildcard ../shared/spec),$(abspath ../shared/spec),)
export MPLBACKEND := Agg
# Modules are compiled once, not by every command that a test starts, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-slow check fast bench bench-peers clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: $(VENV)/ready  ## simulate, process and publish a small survey; report and pictures land in demo/
	$(BIN)/contimg demo --out demo

test: $(VENV)/ready  ## the whole suite but the slow tests (below 10 minutes on two cores)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(VENV)/ready  ## the tests that take minutes
	$(BIN)/pytest -m slow

check: $(VENV)/ready  ## format, lint, types, imports, dead code and the fast tests (about a minute)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/pytest -q -n 2 --dist loadfile tests/test_shape.py tests/test_telescope.py tests/test_naming.py tests/pipeline/test_jobs.py

bench: $(VENV)/ready  ## speed against the peers, as ratios from the same run
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

bench-peers: .venv-peers/ready  ## install what the benchmarks compare with: CASA, pyuvdata; as root WSClean, AOFlagger
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq aoflagger wsclean; fi

.venv-peers/ready: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	touch $@

clean:  ## remove the environment, caches and the demo
	rm -rf $(VENV) .venv-peers demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
