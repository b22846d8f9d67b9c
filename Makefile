# Every command does its own set-up: `make demo` on a fresh Debian with git, make and python3 is enough.
.DEFAULT_GOAL := help
.PHONY: help setup native browser demo test test-all check bench fuzz chaos fresh clean

PY := .venv/bin/python
UBP := .venv/bin/ubp-sql
DATA ?=
MAP ?=
USERS ?=
DAYS ?=
SEED ?=
CASE ?=
MUTANTS ?=
KILLS ?=
PYTEST_ARGS ?=
# Test processes side by side, each with a cluster of its own: two take 0.6 of the time of one on two cores.
JOBS ?= 2
PYTEST = $(PY) -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist worksteal)

help:  ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## system packages and .venv; seconds when there is nothing to do
	@bash scripts/setup.sh

demo: setup  ## the whole way, events to predictions: make demo [DATA=log.csv.gz [MAP=map.yaml] | USERS=n DAYS=n SEED=n]
	@$(UBP) demo $(if $(DATA),--data '$(DATA)') $(if $(MAP),--map '$(MAP)') $(if $(USERS),--users $(USERS)) $(if $(DAYS),--days $(DAYS)) $(if $(SEED),--seed $(SEED))

native: setup  # before the tests: else each process of theirs would build it
	@$(PY) -c 'from ubp_sql.install.native import build; build()'

browser:  # for the tests alone; without one that test is skipped
	@bash scripts/browser.sh

test: native browser  ## the tests, less the slow ones: make test [JOBS=n] [PYTEST_ARGS=...]
	@$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: native browser  ## all tests, the slow ones too
	@$(PYTEST) $(PYTEST_ARGS)

check: setup  ## style, types and the project's own rules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -W error -m tests.lint

bench: setup  ## one benchmark, or the list of them: make bench [CASE=snapshot] [EVENTS=millions] [ROUNDS=n]
	@$(PY) -m bench $(if $(CASE),--case '$(CASE)')

fuzz: setup  ## a million mutants of all that is read from outside: make fuzz [MUTANTS=n] [SEED=n]
	@nice -n 19 $(PY) -m tests.fuzz $(if $(MUTANTS),--mutants $(MUTANTS)) $(if $(SEED),--seed $(SEED))

chaos: setup  ## loads that are killed at random moments and run again: make chaos [KILLS=200] [SEED=n]
	@$(if $(KILLS),KILLS=$(KILLS) )$(if $(SEED),SEED=$(SEED) )$(PY) -m tests.sources.chaos

fresh:  ## both commands in a bare Debian root (as root, with debootstrap)
	@bash tests/fresh_machine.sh

clean:  ## stop and remove the demo's cluster, .venv and all caches
	@bash scripts/clean.sh
