# make demo: the whole job, from a fresh clone. make help lists the rest. Needs python >= 3.10 with venv, nothing more.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
SETUP := $(VENV)/.setup-done
DEV := $(VENV)/.dev-done

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test lint format types layers workflows docs release-check onnx figures clean

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 - /p' $(MAKEFILE_LIST)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "error: $(PYTHON) is not here; install it (Debian: apt install python3 python3-venv) or say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: $(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make environments; install venv (Debian: apt install python3-venv)"; exit 1; }
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(SETUP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing topcoat and what it needs (a few minutes the first time)"
	@$(PIP) --editable '.[models]'
	@touch $@

$(DEV): $(SETUP)
	@echo "installing what tests and checks need"
	@$(PIP) --editable '.[dev]'
	@touch $@

setup: $(SETUP) ## make .venv and install topcoat with pinned versions
	@echo "ready: $(BIN)/topcoat --help"

dev: $(DEV) ## setup, and what tests and checks need

demo: $(SETUP) ## the main job on the embedded pair; ends in out/demo/report.html
	@$(BIN)/topcoat demo --output $(OUT)

test: $(DEV) ## run the tests, in WORKERS processes (2)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

lint: $(DEV) layers ## check style and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

layers: $(DEV) ## check that imports flow one way
	@$(BIN)/lint-imports

format: $(DEV) ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(DEV) ## check the types
	@$(BIN)/pyright --pythonpath $(BIN)/python

workflows: $(DEV) ## check the workflow files of the forge
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

docs: $(DEV) ## build the documentation's site into out/site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir out/site
	@echo "out/site/index.html"

release-check: $(DEV) ## build wheel and sdist, and use them in empty environments; TAG=v0.1.0 must name the version
	@PYTHON=$(BIN)/python TAG=$(TAG) .ci/release-check

onnx: $(SETUP) ## write the embedded head's ONNX file again, from its safetensors
	@$(BIN)/topcoat export embedded --output src/topcoat/assets/mini/head/head.onnx

figures: $(SETUP) ## write the figures of benchmarks/results.json into README.md
	@$(BIN)/python benchmarks/write_figures.py

clean: ## remove the environment and everything that was made
	rm -rf $(VENV) out build dist .pytest_cache .ruff_cache .import_linter_cache
