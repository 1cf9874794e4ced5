# The first interpreter that really runs (a version manager's shim may not) and is 3.11 or 3.12.
PYTHON ?= $(shell for candidate in python3.12 python3.11 python3; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	>/dev/null 2>&1 && echo $$candidate && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup check test test-long reference demo bench clean

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

test-long: $(STAMP)
	$(BIN)/pytest -m long

reference: $(STAMP)
	$(BIN)/python -m otcnode.cli.reference

demo: $(STAMP)
	$(BIN)/otcnode localnet --demo $(ARGS)

bench: $(STAMP)
	$(BIN)/otcnode bench $(ARGS)

clean:
	rm -rf .venv build *.egg-info
