# promo_ray: two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
export RAY_USAGE_STATS_ENABLED = 0
export OMP_NUM_THREADS ?= 1

DATA ?=
NAME := $(if $(DATA),$(notdir $(patsubst %/,%,$(DATA))),demo)
OUT ?= runs/$(NAME)
CONFIG ?= $(if $(DATA),$(if $(wildcard jobs/configs/$(NAME).yaml),jobs/configs/$(NAME).yaml,jobs/configs/real_data.yaml),jobs/configs/demo.yaml)
BUNDLE ?= $(shell ls -td runs/*/decision_bundle 2>/dev/null | head -n 1)

.PHONY: demo test test-fast test-ray test-slow lint types install serve bench clean help

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

install: $(VENV)/.installed ## Create .venv and install promo_ray with pinned versions

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install ## Run the whole campaign on a simulated shop, or on real data with DATA=DIR
	$(BIN)/promo-ray run --config $(CONFIG) $(if $(DATA),--data $(DATA)) --out $(OUT)
	@echo "report: $(abspath $(OUT))/evaluation/report.html"
	@echo "bundle: $(abspath $(OUT))/decision_bundle"

serve: install ## Serve decisions of the last bundle on http://127.0.0.1:8000
	$(BIN)/promo-ray serve --local --bundle $(or $(BUNDLE),$(error no bundle yet: run make demo first))

lint: install ## Style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## Types (mypy strict)
	$(BIN)/mypy

test-fast: install ## Unit and property tests, no cluster
	$(BIN)/pytest -m "not ray and not serving and not cluster and not slow"

test-ray: install ## Tests on one shared local Ray and on servers
	$(BIN)/pytest -m "(ray or serving) and not cluster and not slow"

test: lint types test-fast test-ray ## Everything within the default budget

test-slow: install ## Long tests: coverage over seeded shops, clusters, autoscaling
	$(BIN)/pytest -m "slow and not cluster"
	$(BIN)/pytest -m cluster

bench: install ## Benchmarks against named baselines
	$(BIN)/promo-ray bench allocation

clean: ## Remove results of runs
	rm -rf runs
