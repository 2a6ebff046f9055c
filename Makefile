# Every target sets up what it needs. Python >= 3.11 and make are enough.
# Set-up prints on stderr, so that `make demo ARGS=--json | jq` works.

UV_VERSION := 0.13.8
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$name && break; done)
RUNNABLE := .venv/.runs
READY := .venv/.ready
PATRONI := .venv/.patroni
SOURCES := orchestrator tests docs

.PHONY: demo test test-brokers proofs simulate chaos failover attack hostile coverage check format build clean

demo: $(RUNNABLE)
	@.venv/bin/python -m orchestrator demo $(ARGS)

# Compiled first, since the tests start some hundreds of processes. pytest keeps its own bytecode:
# with PYTHONDONTWRITEBYTECODE set, every worker would compile all tests again. What is left to
# `test-brokers` is stated meanwhile.
test: $(READY)
	@.venv/bin/python -m compileall -q orchestrator tests
	@$(if $(ARGS),,.venv/bin/python -m tests.brokers &)
	@PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -m "not proof and not brokers" $(ARGS)

# Publishers against real brokers, each killed under load; also those whose server no package of
# .venv brings: as root on Debian it installs them.
test-brokers: $(READY)
	@.venv/bin/python -m tests.brokers.install
	@PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest tests/brokers $(ARGS)

# The slow tests: the simulator finds planted faults, every bench runs, schemathesis finds nothing,
# pages work in Chromium, which is fetched once.
proofs: $(READY)
	@PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -m "proof and not brokers" $(ARGS)

# SEED=n repeats one run; SEEDS=n runs many. A fixed hash seed makes a run equal in every process.
simulate: $(READY)
	@PYTHONHASHSEED=0 .venv/bin/python -m tests.simulate \
		$(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200))

# Real processes are killed, paused and cut off, on both databases. RUNS of each FAULT.
# The exit code is 1 if an invariant does not hold.
chaos: $(READY)
	@.venv/bin/python -m tests.chaos --runs $(or $(RUNS),1) --fault "$(FAULT)" $(ARGS)

# PostgreSQL under Patroni, etcd and HAProxy: the primary is killed under load, KILLS times in each
# run; ONLY=name selects. As root on Debian it installs what is missing. The exit code is 1 if
# something acknowledged is lost, or anything doubled.
failover: $(PATRONI)
	@.venv/bin/python -m tests.failover --kills $(or $(KILLS),5) --only "$(ONLY)" $(ARGS)

# A real service on loopback under hostile clients, vendors and subscribers; ONLY=name selects.
# The exit code is 1 if an attack is not held.
attack: $(READY)
	@.venv/bin/python -m tests.attack --only "$(ONLY)" $(ARGS)

# Hostile input at volume: no 500, no hang, flat memory. A seed repeats what the clients send.
hostile: $(READY)
	@.venv/bin/python -m tests.hostile --inputs $(or $(INPUTS),100000) --seed $(or $(SEED),1)

# Line and branch coverage of the tests, child processes included. Takes twice as long as `test`.
coverage: $(READY)
	@.venv/bin/coverage erase
	@.venv/bin/coverage run -m pytest $(ARGS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

check: $(READY)
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -n 0 tests/test_architecture.py

format: $(READY)
	@.venv/bin/ruff check --fix $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

# The wheel and the source distribution in dist/, built with the hatchling of uv.lock.
build: $(READY)
	@rm -rf dist
	@$(UV) build --no-build-isolation --no-create-gitignore --python .venv/bin/python --out-dir dist

clean:
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* dist

# Stamps make the second run instant. A changed lock file sets up again. The demo does not need
# what the tests need (PostgreSQL, Node, Go). `--inexact` keeps uv itself. Bytecode is compiled now:
# with PYTHONDONTWRITEBYTECODE set, every process would compile it again.
UV = env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never .venv/bin/uv
SYNC = $(UV) sync --frozen --inexact --quiet --compile-bytecode --python .venv/bin/python

$(RUNNABLE): pyproject.toml uv.lock Makefile
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer on PATH" >&2; exit 1; }
	@echo "setting up .venv: fetching the libraries, once" >&2
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv >&2 || \
		{ echo "$(PYTHON) -m venv failed (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)" >&2
	@$(SYNC) --no-dev --extra demo >&2
	@touch $@

$(READY): $(RUNNABLE)
	@echo "setting up .venv: fetching what tests need (PostgreSQL, Node and Go are large)" >&2
	@$(SYNC) >&2
	@touch $@

$(PATRONI): $(READY)
	@$(SYNC) --group failover >&2
	@touch $@
