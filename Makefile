# Two commands from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
UV_VERSION := 0.13.8
PY := .venv/bin/python
SLURM_BOX ?= $(or $(TMPDIR),/tmp)/slurm-box
export UV_SYSTEM_CERTS := 1

.PHONY: setup demo test test-full test-slurm help lint lock docs figures wheel
.DEFAULT_GOAL := help

help:
	@echo 'make setup      the environment, .venv, from requirements.lock'
	@echo 'make demo       DiffEdit and SDEdit on small pictures, in minutes; then open demo/index.html'
	@echo 'make test       all but the slow tests: 20 minutes on two cores, no accelerator, no downloads'
	@echo 'make test-full  everything: also what is slow, and what needs a GPU or a browser, where there is one'
	@echo 'make test-slurm job arrays on a Slurm that it starts on this machine: as root, on Debian, some 15 minutes'
	@echo 'make lint       ruff: rules and format'
	@echo 'make lock       resolve requirements.in into requirements.lock'
	@echo 'make docs       the documentation as a site: docs/_build/html/index.html'
	@echo 'make figures    every figure and table of docs/results.md, on Still Life, from nothing: 90 minutes on two cores; goes on where it was stopped'
	@echo 'make wheel      dist/*.whl, with conf/ and weights/ inside; nothing is downloaded'

setup: .venv/ok

# Where python lacks ensurepip (Debian without python3-venv), pip installs uv into the bare environment from outside.
.venv/ok: requirements.lock pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(PY) || $(PYTHON) -m venv .venv || $(PYTHON) -m venv --without-pip .venv
	$(PY) -m pip --version >/dev/null 2>&1 \
	  && $(PY) -m pip install --quiet uv==$(UV_VERSION) \
	  || $(PYTHON) -m pip --python $(PY) install --quiet uv==$(UV_VERSION)
	.venv/bin/uv pip install --python $(PY) --require-hashes -r requirements.lock
	.venv/bin/uv pip install --python $(PY) --no-deps --no-build-isolation -e .
	touch $@

demo: .venv/ok
	$(PY) scripts/demo.py

test: .venv/ok
	$(PY) -m pytest -m 'not slow and not gpu' -n 2 --dist loadfile

test-full: .venv/ok
	$(PY) -m pytest -n 2 --dist loadfile

test-slurm: .venv/ok
	scripts/slurm_box.sh up $(SLURM_BOX)
	SLURM_CONF=$(SLURM_BOX)/slurm.conf $(PY) -m pytest tests/slurm; code=$$?; scripts/slurm_box.sh down $(SLURM_BOX); exit $$code

lint: .venv/ok
	.venv/bin/ruff check --no-cache .
	.venv/bin/ruff format --no-cache --check .

lock: .venv/ok
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  requirements.in -o requirements.lock

docs: .venv/ok
	.venv/bin/sphinx-build -W -b html docs docs/_build/html

figures: .venv/ok
	$(PY) scripts/make_figures.py

# By way of the source distribution, so that the wheel holds what that holds.
wheel: .venv/ok
	.venv/bin/uv build --offline --no-build-isolation --python $(PY) --out-dir dist .
