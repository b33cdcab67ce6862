PYTHON ?= python3.12
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install format check test bench demo

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | expand -t 12

install: ## make .venv and install the package with everything its tests need
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e ".[test]"

format: ## rewrite the code in the house style
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

check: ## lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: ## run all tests
	$(BIN)/pytest -n 2

bench: ## say how the benchmarks are run
	@sed -n '1,40p' benchmarks/README.md

demo: ## train on the shipped imagery and draw two pictures
	$(BIN)/rasteret-torch demo
