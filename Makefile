# `make demo` and `make test` need Python 3.11 or 3.12 and nothing else; the rest is made here.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	then echo $$p; break; fi; done)
VENV ?= .venv
BIN = $(VENV)/bin
LOCK = requirements.lock

.PHONY: demo test lint types docs install clean

demo: $(VENV)/.installed
	$(BIN)/python -m examples.wafers.demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not slow'

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/python -m mypy

docs: $(VENV)/.installed
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python docs/reference.py build/docs

install: $(VENV)/.installed

$(VENV)/.installed: $(LOCK)
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found; give one: make PYTHON=/path/to/python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement $(LOCK)
	touch $@

clean:
	rm -rf demo build/docs .pytest_cache .ruff_cache .mypy_cache
