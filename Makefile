# Needs Python 3.11 or 3.12, make, and a package registry; everything else comes from the lock files.
PIPELINE      := headrace.models.flights:PIPELINE
EVENTS        := var/demo/events
TRAIN_UNTIL   := 2013-10-01
UNTIL         := 2014-01-01
REPORT        := var/demo/report.json
ARGS          ?=
KILLS         ?= 300
SEED          ?= 1
export HEADRACE_PYTHON

# Data of others, not part of this project; the tests that need it are skipped where it is not.
HEADRACE_HANDBOOK_DIR ?= $(abspath $(wildcard ../shared/data/fraud-handbook))
export HEADRACE_HANDBOOK_DIR

.PHONY: help ready demo lint test anchors torture clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo   a year of flights through real services, from events to predictions; report in $(REPORT)'
	@echo '            (make demo ARGS=--keep leaves it running)'
	@echo 'make test   lint and all tests (make test ARGS="-k kernel" for some)'
	@echo 'make anchors  all of the Fraud Detection Handbook, streamed, against its published features and results'
	@echo '            (HEADRACE_HANDBOOK_DIR=... is the folder of its data)'
	@echo 'make torture  workers killed $(KILLS) times at their worst moments, every event accounted for; goes on where it ended'
	@echo '            (KILLS=1000 SEED=7; ledger in var/torture)'
	@echo 'make clean  removes .venv, var and caches of this folder'
	@echo 'HEADRACE_PYTHON=... chooses the Python (3.11 or 3.12), HEADRACE_CACHE=... the folder for downloads'

ready:
	@sh infra/bootstrap.sh
	@.venv/bin/python -m compileall -q schemas features models streams infra
	@.venv/bin/python -m headrace.streams.warm   # compiles, once; else every process would, at the same time

# Beside the events, not among them: every file in that folder is a source.
var/demo/events.stamp: infra/demo/cut.py $(wildcard schemas/flights/*.avsc) requirements.lock | ready
	.venv/bin/python -m headrace.infra.demo.cut --out $(EVENTS)
	@touch $@

demo: ready var/demo/events.stamp
	.venv/bin/headrace trial --pipeline $(PIPELINE) --events $(EVENTS) \
	    --train-until $(TRAIN_UNTIL) --until $(UNTIL) --report $(REPORT) $(ARGS)

lint: ready
	.venv/bin/ruff check .

test: lint
	.venv/bin/pytest $(ARGS)

anchors: ready
	HEADRACE_HANDBOOK_ALL=1 .venv/bin/pytest tests/anchors -n 0 --timeout 1800 $(ARGS)

torture: ready
	.venv/bin/python -m tests.faults.market var/torture/events
	.venv/bin/headrace torture --pipeline tests.faults.market:PIPELINE --events var/torture/events \
	    --kills $(KILLS) --seed $(SEED) $(ARGS)

clean:
	rm -rf .venv var build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
