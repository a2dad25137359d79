# `make demo` runs the main job, `make test` passes the tests; both install what is missing first.
.PHONY: help setup demo demo-openstack test test-openstack check bench soak lint clean

PYTHON := .venv/bin/python

help:
	@echo 'make demo    install what is missing, move a running VM in the lab from end to end'
	@echo 'make test    install what is missing, run every check and test (about half an hour on two cores)'
	@echo 'make test-openstack   the same tests of the cloud, and more, on a real OpenStack (lab/openstack/README.md)'
	@echo 'make demo-openstack   the demo with a real OpenStack as the target, by RBD and by files'
	@echo 'make check   the fast part of it (under 2 minutes)'
	@echo 'make bench   measure the copies beside nbdcopy, qemu-img and cp (about 50 minutes; see docs/benchmarks.md)'
	@echo 'make soak    2,000 random histories with kills and power losses, and the longest tests; EXAMPLES=, SEED='
	@echo 'make setup   only install what is missing'
	@echo 'make clean   remove what the lab and the tests left (the venv and the guest image stay)'

setup:
	@scripts/setup.sh

demo: setup
	@$(PYTHON) -m lab.demo

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# Without the tests of the stand-ins themselves, which only a change of a stand-in can break.
check: lint
	$(PYTHON) -m pytest -q -m 'not slow' -n 4 --ignore-glob='tests/lab_*'

test: lint
	$(PYTHON) -m pytest -q -m 'not slow' -n 4 --dist worksteal
	$(PYTHON) -m pytest -q -m 'slow and not soak' -n 4 --dist worksteal --ignore=tests/end_to_end --ignore=tests/lab_esxi
	$(PYTHON) -m pytest -q -m 'slow and not soak' -n 3 --dist worksteal tests/end_to_end tests/lab_esxi

# A real OpenStack, up while they run. Options of it: make test-openstack OPENSTACK='--back-ends nfs --no-agent'
test-openstack: setup
	$(PYTHON) -m lab.openstack $(OPENSTACK) run -- $(PYTHON) -m pytest -q -m openstack

demo-openstack: setup
	$(PYTHON) -m lab.openstack run -- $(PYTHON) -m lab.demo --openstack

# Nothing else should run meanwhile. Options: make bench BENCH='--only full-0ms --rounds 3'
bench: setup
	@$(PYTHON) -m bench $(BENCH)

# How many examples ran is in the statistics. The same SEED plays the same histories again.
EXAMPLES ?= 2000
SEED ?= $(shell date +%s)

soak: setup
	@echo 'soak: $(EXAMPLES) histories; again: make soak EXAMPLES=$(EXAMPLES) SEED=$(SEED)'
	XMS_SOAK_EXAMPLES=$(EXAMPLES) $(PYTHON) -m pytest -q tests/histories -k any_history \
	    --hypothesis-profile=soak --hypothesis-seed=$(SEED) --hypothesis-show-statistics
	$(PYTHON) -m pytest -q -m soak -n 4 --dist worksteal

clean:
	[ ! -d /var/tmp/xms-openstack ] || $(PYTHON) -m lab.openstack down --wipe
	rm -rf .lab .pytest_cache .mypy_cache .ruff_cache .hypothesis
