# Everything happens in .venv/. Needed beforehand: Python 3.11 or later, make, and a package registry.
#
#   make install TORCH=cpu           the CPU build of torch, without gigabytes of CUDA, from PyTorch's own index
#   make install PYTHON=python3.13   another interpreter
#   make lock LOCK=--upgrade         the newest versions that pyproject.toml allows

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Which build of torch; the stamp's name remembers the choice, so that it need not be repeated.
TORCH  ?= $(or $(patsubst $(VENV)/installed-%,%,$(firstword $(wildcard $(VENV)/installed-*))),locked)
STAMP  := $(VENV)/installed-$(TORCH)
PINS   := requirements/train.txt
UV     := $(BIN)/uv pip install $(shell test -t 2 || echo --quiet) --python $(BIN)/python
BUILDS := torch==|torchaudio==|triton==|nvidia-|cuda-
EXTRA   = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
          --generate-hashes --no-annotate --no-emit-index-url $(LOCK)

.DEFAULT_GOAL := help
.PHONY: help install quickstart test check lock ui clean

help:                ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)    ## .venv/ with headwise and everything that it needs, as locked in requirements/

quickstart: install  ## the whole job on generated data: prepare, train, track, export, serve, ask
	$(BIN)/headwise quickstart

test: install        ## all tests, a file at a time on each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: install       ## style, types, import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=platform $(BIN)/mypy examples/*.py
	$(BIN)/lint-imports

ui: install          ## the MLflow pages over what was trained here
	$(BIN)/headwise ui

lock: install        ## requirements/*.txt anew from pyproject.toml: names, versions, markers and hashes alone
	$(COMPILE) pyproject.toml --all-extras --output-file $(PINS)
	$(BIN)/python -c '$(call EXTRA,serve)' | $(COMPILE) - --constraint $(PINS) --output-file requirements/serve.txt

clean:               ## away with .venv/ and caches; runs, models and mlflow.db stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist

$(STAMP): $(PINS) pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headwise needs Python 3.11 or later: make clean, then make install PYTHON=...")'
	@sed -n '/^uv==/,/[^\\]$$/p' $(PINS) > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
ifeq ($(TORCH),locked)
	$(UV) --require-hashes --requirement $(PINS)
else # a build that is not on the usual registry has other hashes: its version stays locked, and all the rest whole
	@awk '/^[a-z]/ {build = /^($(BUILDS))/} !build' $(PINS) > $(VENV)/rest.txt
	$(UV) --require-hashes --no-deps --requirement $(VENV)/rest.txt
	$(UV) --torch-backend $(TORCH) --reinstall-package torch --reinstall-package torchaudio $$(grep -oE '^torch(audio)?==[^ ]+' $(PINS))
endif
	$(UV) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/installed-* && touch $@
