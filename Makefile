# Every target sets up what it needs: Python >= 3.11 and make are enough.
# Set-up talks on stderr, so that `make demo ARGS=--json | jq` works.

UV_VERSION := 0.13.8
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
RUNNABLE := .venv/.runs
READY := .venv/.ready

.PHONY: demo test simulate check chaos clean

demo: $(RUNNABLE)
	@.venv/bin/python -m orchestrator demo $(ARGS)

# Compiled beforehand, since the tests start some hundreds of processes.
test: $(READY)
	@.venv/bin/python -m compileall -q orchestrator tests
	@.venv/bin/python -m pytest $(ARGS)

# SEED=n shows one run again; SEEDS=n runs many. Hashing in a fixed order keeps a run the same in every process.
simulate: $(READY)
	@PYTHONHASHSEED=0 .venv/bin/python -m tests.simulate $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200))

check: $(READY)
	@.venv/bin/ruff check orchestrator tests docs
	@.venv/bin/ruff format --check orchestrator tests docs
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -n 0 tests/test_architecture.py

# Real processes killed, paused, cut off and misled, on both databases: RUNS of each FAULT; exit code 1 on a complaint.
chaos: $(READY)
	@.venv/bin/python -m tests.chaos --runs $(or $(RUNS),1) --fault "$(FAULT)" $(ARGS)

clean:
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps make the second run instant; a changed lock file sets up again. What only tests need (PostgreSQL, Node, Go, ...)
# is not fetched for the demo. `--inexact` leaves uv itself in place, and bytecode made now is not made anew by every
# process where PYTHONDONTWRITEBYTECODE is set.
SYNC = env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never \
	.venv/bin/uv sync --frozen --inexact --quiet --compile-bytecode --python .venv/bin/python

$(RUNNABLE): pyproject.toml uv.lock Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: no python3.11 or python3 of that age on PATH" >&2; exit 1; }
	@echo "setting up .venv: fetching the libraries, once" >&2
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv >&2 || \
		{ echo "$(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)" >&2
	@$(SYNC) --no-dev >&2
	@touch $@

$(READY): $(RUNNABLE)
	@echo "setting up .venv: fetching what tests need, once (PostgreSQL, Node and Go are large)" >&2
	@$(SYNC) >&2
	@touch $@
