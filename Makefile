# The set-up happens on first use, in .venv; a target that finds it current does none of it.
# Another interpreter: make setup PYTHON=/path/to/python3.11
UV_VERSION := 0.13.9
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	"$$p" -c $(SUPPORTED) >/dev/null 2>&1 && { echo "$$p"; break; }; done)
SUPPORTED := 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))'

VENV := .venv
BIN := $(VENV)/bin
UV_STAMP := $(VENV)/.uv-$(UV_VERSION)
STAMP := $(VENV)/.installed

DEMO_OUTPUT := output/demo
DEMO_DATA := $(DEMO_OUTPUT)/data
DEMO_TRAIN_IMAGES := 500
DEMO_VAL_IMAGES := 120
DEMO_SIZE := 384x216
DEMO_SCALE := 0.8
DEMO_DIFFICULTY := 0.15

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-clean test lint lock clean

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(STAMP) ## make .venv with everything in it, the package in editable form

demo: $(STAMP) ## make data, train, evaluate, draw; again: continue or, when finished, evaluate again
	$(BIN)/python tools/make_highway.py --output $(DEMO_DATA)/highway_demo \
		--train-images $(DEMO_TRAIN_IMAGES) --val-images $(DEMO_VAL_IMAGES) --size $(DEMO_SIZE) --scale $(DEMO_SCALE) \
		--difficulty $(DEMO_DIFFICULTY)
	REG_D2_DATASETS=$(DEMO_DATA) $(BIN)/python tools/train_net.py --config-file configs/demo.yaml --resume \
		OUTPUT_DIR $(DEMO_OUTPUT)
	REG_D2_DATASETS=$(DEMO_DATA) $(BIN)/python tools/show_predictions.py --config-file $(DEMO_OUTPUT)/config.yaml \
		--weights $(DEMO_OUTPUT)/model_final.pth --output $(DEMO_OUTPUT)/predictions.jpg
	@echo
	@echo "metrics    $(DEMO_OUTPUT)/results.json"
	@echo "report     $(DEMO_OUTPUT)/report.html"
	@echo "pictures   $(DEMO_OUTPUT)/predictions.jpg"
	@echo "weights    $(DEMO_OUTPUT)/model_final.pth"
	@echo "log        $(DEMO_OUTPUT)/log.txt"
	@echo "From the start again: make demo-clean demo"

demo-clean: ## remove what the demo wrote
	rm -rf $(DEMO_OUTPUT)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(STAMP) ## check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: $(UV_STAMP) ## write requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --extra detectron2 --extra dev pyproject.toml -o requirements.lock

clean: ## remove .venv and caches; outputs and data stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find reg_d2 tests tools projects -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that works (with pip) is kept; one that was broken off is made anew.
$(UV_STAMP):
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python="$(PYTHON)"; \
		test -n "$$python" && "$$python" -c $(SUPPORTED) || { \
			echo "error: no usable Python$${python:+ ($$python)}: it takes 3.10, 3.11 or 3.12 with venv and ensurepip" \
				"(Debian, Ubuntu: python3-venv). Name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		echo "$$python -m venv $(VENV)"; "$$python" -m venv --clear $(VENV); }
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(STAMP): $(UV_STAMP) requirements.lock pyproject.toml setup.py
	@# Compiled now, once: torch alone takes seconds to compile, at every start where Python may not keep the result
	@# (PYTHONDONTWRITEBYTECODE, a shared environment without write permission).
	$(BIN)/uv pip sync --python $(BIN)/python --compile-bytecode requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
