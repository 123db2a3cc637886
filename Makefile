# Lumiere: every command of the project. CI calls the same targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
CLIPS ?=
ALIGN ?=
OUT ?=
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup system-packages lock demo test test-slow check format bench ui clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed  ## make .venv from requirements.lock (demo and test call it when needed)

$(VENV)/installed: requirements.lock pyproject.toml
	@sh infra/check_system.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

system-packages:  ## the Debian packages of the slow tests: a browser (needs root)
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null)

lock: $(VENV)/installed  ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --group dev pyproject.toml --output-file requirements.lock

demo: $(VENV)/installed  ## the whole path on rendered clips; your own: make demo CLIPS=path/to/captions.csv
	@$(BIN)/python -m demo.run $(if $(OUT),--out "$(OUT)") $(if $(CLIPS),--clips "$(CLIPS)") $(ALIGN)

test: $(VENV)/installed  ## the tests without slow and gpu ones
	$(BIN)/pytest -m "not slow and not gpu"

test-slow: $(VENV)/installed  ## the slow tests: clusters, browsers, kills (need Debian's chromium)
	$(BIN)/pytest -m "slow and not gpu"

check: $(VENV)/installed  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/installed  ## format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-curation bench-model  ## benchmarks: each prints ratios measured in pairs

bench-curation: $(VENV)/installed
	$(BIN)/python benchmarks/bench_curation.py $(if $(CLIPS),--clips "$(CLIPS)") $(if $(FFMPEG),--ffmpeg "$(FFMPEG)")

bench-%: $(VENV)/installed
	$(BIN)/python benchmarks/bench_$(subst -,_,$*).py

ui: $(VENV)/installed  ## the MLflow UI of the demo, on loopback
	$(BIN)/mlflow ui --backend-store-uri "sqlite:///$(or $(OUT),out/demo)/mlflow.db" --host 127.0.0.1 --port $(PORT)

clean:  ## remove what the demo and the tests made (.venv stays)
	rm -rf out .pytest_cache .ruff_cache .import_linter_cache
