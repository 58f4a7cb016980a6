# perpflow. `make help` lists what there is; `make run` and `make test` each do all their own set-up.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Where this is set, every process compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: secrets sessions test-compose upgrade help setup setup-dev run test test-fast coverage check format lint types imports proto proto-check bench soak locks clean kafka-starts kafka-outage kafka-commits takeover mutation peers simulate misbehaviours two-venues captures store-outage placement models-table hot-swap

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' Makefile

.venv/.python:
	@test -n "$(PYTHON)" || { echo "no python3.11 found: install Python 3.11 or say make PYTHON=/path/to/python3.11"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "perpflow needs Python 3.11 to 3.13; this is " + sys.version)'
	@echo "1/4 making the virtual environment"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off \
		--require-hashes -r infra/locks/installer.txt
	@touch $@

.venv/.run: infra/locks/embedded.txt pyproject.toml | .venv/.python
	@echo "2/4 installing what the market's cores need"
	@$(UV) --require-hashes -r infra/locks/bars.txt
	@echo "3/4 compiling them (once), and installing the rest meanwhile; features compiles its own part while it starts"
	@$(BIN)/python -m infra.local.compile market & compiling=$$!; \
		$(UV) --require-hashes -r infra/locks/embedded.txt && $(UV) --no-deps -e . || { wait $$compiling; exit 1; }; \
		wait $$compiling
	@echo "4/4 ready"
	@touch $@

.venv/.dev: infra/locks/dev.txt .venv/.run
	@echo "installing what the checks need"
	@$(UV) --require-hashes -r infra/locks/dev.txt
	@echo "compiling the rest"
	@$(BIN)/python -m infra.local.compile
	@touch $@

setup: .venv/.run ## a virtual environment with all that running needs
setup-dev: .venv/.dev ## the same, with all that the checks need

run: .venv/.run ## start everything on this machine and trade on paper
	@$(BIN)/perpflow up

test: .venv/.dev ## the tests, in three processes (many wait), long files first (integration ones find Kafka by themselves or skip with the reason)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: .venv/.dev ## the unit and architecture tests of the rooms that need no process, compiler or long search
	@$(BIN)/python -m pytest tests/unit tests/architecture -m "not slow" -n 2 --dist loadfile

coverage: .venv/.dev ## what the quick tests run of each room, against the floor in pyproject.toml
	@mkdir -p .coverage
	@$(BIN)/python -m pytest tests/unit tests/architecture -m "not slow" --cov --cov-report=json:.coverage/report.json
	@$(BIN)/python -m tests.coverage_floors .coverage/report.json

format: .venv/.dev ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

lint: .venv/.dev ## style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: .venv/.dev ## strict types, in tests too
	@$(BIN)/mypy libs services infra tests

imports: .venv/.dev ## who may import whom
	@$(BIN)/lint-imports --no-cache

proto: .venv/.dev ## generate libs/schemas from proto/
	@$(BIN)/python proto/generate.py

proto-check: .venv/.dev ## proto lint, compatibility with the last release, freshness of generated code
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against proto/baseline.binpb
	@$(BIN)/python proto/generate.py --check

check: lint types imports proto-check test ## everything; never edits

bench: .venv/.dev ## measure, beside peers or a floor
	@for each in tests/benchmarks/[a-z]*.py; do echo "== $$each"; $(BIN)/python -m $$(echo $${each%.py} | tr / .) || exit 1; done

kafka-starts: .venv/.dev ## twenty first starts on a real Kafka, each of which must be clean (about half an hour)
	@$(BIN)/python -m tests.integration.kafka_starts 20

kafka-outage: .venv/.dev ## a session on a real Kafka through an outage of 98 s (OUTAGE_S=300), and its replay
	@$(BIN)/python -m tests.integration.kafka_outage $(or $(OUTAGE_S),98)

hot-swap: .venv/.dev ## champion and shadow swapped again and again under load, fused and spread; vectors counted, replay verified
	@$(BIN)/python -m tests.integration.hot_swap --layout fused --kill
	@$(BIN)/python -m tests.integration.hot_swap --layout spread --kill

kafka-commits: .venv/.dev ## thirty commits on a real Kafka that is killed as soon as it has answered; each must be there once
	@$(BIN)/python -m tests.integration.kafka_commits $(or $(TRIES),30)

takeover: .venv/.dev ## how long tasks stand still when their replica is killed, on SQLite and on a real Kafka
	@$(BIN)/python -m tests.integration.takeover && $(BIN)/python -m tests.integration.takeover --kafka

.venv-peers/.peers: tests/benchmarks/peers/requirements.txt
	@"$(PYTHON)" -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

peers: .venv-peers/.peers ## other backtesters in an environment of their own, for bench

mutation: .venv/.dev ## plant defects in gate and margin and count those the tests catch (long)
	@$(BIN)/python -m tests.mutation.run

simulate: .venv/.dev ## seeded sessions with mishaps, then those defects that only mishaps show (SEEDS=3000)
	@$(BIN)/perpflow simulate --seeds $(or $(SEEDS),3000)
	@$(BIN)/python -m tests.mutation.simulated

soak: .venv/.dev ## an hour of random kills, hangs and a second session, everything measured (SOAK="--minutes 10 --seed 7")
	@$(BIN)/python -m tests.soak.run $(SOAK)

sessions: .venv/.dev ## at length what the tests do in short: every service killed on Kafka, the kill switch in all cases (SEED=7 TIMES=3 SESSIONS=PATH)
	@seed=$(or $(SEED),$$(date +%s)); echo "make sessions SEED=$$seed"; PERPFLOW_SOAK=$(or $(TIMES),1) PERPFLOW_SOAK_SEED=$$seed \
		$(BIN)/python -m pytest -k at_length $(or $(SESSIONS),tests/integration tests/unit/execution)

misbehaviours: .venv/.dev ## an exchange that misbehaves in every known way, and how long each took to recover from
	@$(BIN)/python -m tests.soak.misbehaviours

two-venues: .venv/.dev ## two venues and ten symbols at once, in real time, for ten minutes (MINUTES=2)
	@$(BIN)/python -m tests.soak.two_venues --minutes $(or $(MINUTES),10)

captures: .venv/.dev ## bars of every recorded capture against its trades and the exchange's klines, in a table
	@$(BIN)/python -m tests.soak.captures

store-outage: .venv/.dev ## 62 s without ClickHouse, every process killed meanwhile; OUTAGE="--hour" fakes an hour of it
	@$(BIN)/python -m tests.soak.store_outage $(OUTAGE)

placement: .venv/.dev ## many partitions whose replicas come, go and are killed (PLACEMENT="--bus kafka --instruments 50")
	@$(BIN)/python -m tests.kit.scaled $(PLACEMENT)

secrets: ## what docker-compose.yml needs beside the repository: .env and secrets/
	@infra/docker/make-secrets

test-compose: .venv/.dev ## the whole platform in containers, killed, filled, scaled, backed up and restored (skipped where no engine answers)
	@$(BIN)/python -m tests.compose.run $(COMPOSE)

upgrade: .venv/.dev ## from the previous release's data to this build and back (UPGRADE="--from v0.1.0")
	@$(BIN)/python -m tests.upgrade.run $(UPGRADE)

models-table: .venv/.dev ## every model family on recorded bars: docs/models.md, three hours at most, goes on where it stopped
	@OMP_NUM_THREADS=1 $(BIN)/python -m services.training.table --data $${PERPFLOW_SHARED:-../shared}/data/market/ohlcv

locks: .venv/.dev ## resolve the locks anew from pyproject.toml
	@$(BIN)/python -m infra.locks.resolve

clean: ## remove what was built and installed; var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
