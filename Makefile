# The first interpreter that really runs (a version manager's shim may not) and is 3.11 or 3.12.
PYTHON ?= $(shell for candidate in python3.12 python3.11 python3; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	>/dev/null 2>&1 && echo $$candidate && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.NOTPARALLEL:
.PHONY: setup check test test-long test-long-core test-long-processes reference demo bench clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with venv is needed (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Processes are started one test at a time; everything else uses both cores.
test: $(STAMP)
	$(BIN)/pytest -n auto -m "not process and not long"
	$(BIN)/pytest -m "process and not long"

# The longest of each part are named at its end. Whoever wants the processes too where the first part fails: make -k.
test-long: test-long-core test-long-processes

test-long-core: $(STAMP)
	$(BIN)/pytest -n auto -m "long and not process" --durations=30

test-long-processes: $(STAMP)
	$(BIN)/pytest -m "long and process" --durations=0 --durations-min=5

reference: $(STAMP)
	$(BIN)/python -m otcnode.cli.reference

demo: $(STAMP)
	$(BIN)/otcnode localnet --demo $(ARGS)

bench: $(STAMP)
	$(BIN)/otcnode bench $(ARGS)

clean:
	rm -rf .venv build *.egg-info
