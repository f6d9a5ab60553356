# make demo   a fresh machine to a finished experiment on four test nodes
# make test   every check, and the tests, on the same nodes
# make help   the other targets
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:

# Ansible insists on UTF-8.
export LC_ALL ?= C.UTF-8
export JARFLEET_CACHE ?= $(HOME)/.cache/jarfleet
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# What a bare Debian 12 lacks: Python's venv, the test nodes, a compiler, rsync.
DEBIAN := python3-venv ca-certificates git openssh-client rsync podman runc netavark iptables nftables debootstrap \
          debian-archive-keyring lxcfs fuse3 cmake ninja-build g++ ccache sqlite3
CROSS := g++-aarch64-linux-gnu qemu-user-static

.PHONY: help
help: ## this list
	grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 17

.PHONY: demo
demo: nodes model ## run split_brain on the four test nodes and tell where the results lie
	ansible-playbook run_experiment.yml -e experiment=split_brain
	echo 'The nodes stay up: `. .venv/bin/activate`, then any command of the README. `make down` removes them.'

.PHONY: test
test: lint ## every check, and every test but the slow ones
	[ -n "$$(python -m tests.nodes list)" ] || trap 'python -m tests.nodes down' EXIT # as it was before
	$(MAKE) --no-print-directory llama
	pytest --numprocesses auto tests/unit
	pytest --durations=25 tests/integration

.PHONY: test-slow
test-slow: setup ## the tests of what is slow and rare, twenty minutes
	$(MAKE) --no-print-directory llama
	pytest -m slow --durations=25 tests/integration

.PHONY: chaos
chaos: setup ## random faults of nodes and of the control loop, for an hour and a half (SCHEDULES=50 SEED=1)
	$(MAKE) --no-print-directory llama
	python -m tests.chaos --schedules $${SCHEDULES:-50} --seed $${SEED:-1}
	python -m tests.chaos.killed --seed $${SEED:-1}

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, vermin, ansible-lint
	ruff check --quiet
	ruff format --check --quiet
	mypy
	lint-imports --no-logo > /dev/null || lint-imports --no-logo
	vermin -t=3.8- --no-tips --violations --quiet contract node workload
	ansible-lint --offline -q

.PHONY: nodes
nodes: setup ## bring the four test nodes up
	python -m tests.nodes up

.PHONY: llama
llama: nodes model ## build llama.cpp if need be, and have it on every test node
	ansible-playbook playbooks/deploy.yml -e experiment=split_brain

.PHONY: datasette
datasette: setup ## a run's database in a browser, on 127.0.0.1 (RUN=run_id: not the newest; PORT=8001)
	exec python -m fleet.results.browse "$${RUN:-latest}" --port "$${PORT:-8001}"

.PHONY: down
down: setup ## remove the test nodes; image, keys and builds stay cached
	python -m tests.nodes down

.PHONY: model
model: setup ## generate the tiny model of the demo and the tests
	python -m fleet.artifacts.tiny_model $(JARFLEET_CACHE)/models/tiny.gguf

.PHONY: cross-aarch64
cross-aarch64: setup model ## cross-build llama.cpp for the Raspberry Pi 5 and run it under qemu
	tests/install_packages $(DEBIAN) $(CROSS)
	pytest tests/cross

.PHONY: bench-placement
bench-placement: .venv/bench ## measure placement, an hour (BENCH_QUICK=1: a minute; BENCH_JSON=file: the figures there)
	python -m tests.bench.speed

.PHONY: bench-moving
bench-moving: setup ## measure 20 migrations and 20 failovers on the test nodes, half an hour
	$(MAKE) --no-print-directory llama
	python -m tests.bench.moving

.PHONY: bench-control
bench-control: setup ## measure what the control loop costs at 4, 20 and 50 nodes, beside `ssh node true`, five minutes
	$(MAKE) --no-print-directory llama
	python -m tests.bench.control

.PHONY: bench-merge
bench-merge: setup ## measure merging: 100 databases of 100,000 rows, a minute and 5 GB of /tmp
	python -m tests.bench.merging

.PHONY: lock
lock: setup ## pin what pyproject.toml asks for, with hashes, in requirements.lock
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --generate-hashes --quiet \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --output-file requirements.lock

.PHONY: audit
audit: setup ## look for known vulnerabilities in what is pinned (ADVISORIES=file: in OSV's format, without a network)
	if [ -n "$${ADVISORIES:-}" ]; then
	    exec python -m tests.audit "$$ADVISORIES"
	fi
	pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock --progress-spinner off || {
	    echo 'where PyPI cannot be asked: make audit ADVISORIES=all.zip (see docs/security.md)'; exit 1
	}

.PHONY: sbom
sbom: setup ## write what is pinned as a CycloneDX bill of materials, dist/sbom.cdx.json
	python -m tests.sbom dist/sbom.cdx.json

.PHONY: setup
setup: .venv/ready ## system packages and the virtual environment

.venv/ready: pyproject.toml requirements.lock Makefile
	tests/install_packages $(DEBIAN)
	python3 -m venv .venv
	echo 'installing Python packages (about a minute)'
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/ready

# Ray, for the benchmark alone.
.venv/bench: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch .venv/bench
