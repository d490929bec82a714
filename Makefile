# Every target makes its own environment in .venv first, and again whenever setup.cfg or pyproject.toml changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
KEY    := $(shell cat setup.cfg pyproject.toml | cksum | cut -d' ' -f1)
BASE   := $(VENV)/installed-base-$(KEY)
FULL   := $(VENV)/installed-full-$(KEY)
DEMO   := runs/demo-confounder runs/demo-fit

.PHONY: help demo test slow bench bench-gpu docs lint types ci clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    both answers on synthetic images, with reports (minutes)"
	@echo "make test    the default test run"
	@echo "make slow    the tests marked slow, and a random search by every property test"
	@echo "make bench   speed and memory, to bench/results.json"
	@echo "make bench-gpu   the same of a GPU, to bench/gpu.json"
	@echo "make docs    the documentation, tutorials executed, to docs/_build/html"
	@echo "make lint    ruff and mypy"
	@echo "make ci      everything that must pass: tests, lint, types, docs"
	@echo "make clean   remove what the targets made, but not .venv"

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else 'Python 3.11 to 3.13 is needed, this is ' + sys.version.split()[0] + '; try: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)

# Plain registry builds of torch and torchvision, resolved together: a mixed pair fails here, not in the middle of a run.
$(BASE): | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/python -c "import torch, torchvision, open_clip; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
	@rm -f $(VENV)/installed-base-*
	@touch $@

$(FULL): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,docs]"
	@rm -f $(VENV)/installed-full-*
	@touch $@

demo: $(BASE)
	@rm -rf $(DEMO)
	$(BIN)/causalft verify-confounder --quick --out runs/demo-confounder
	$(BIN)/causalft fit --strata clip,openclip,metaclip --control seeds --out runs/demo-fit
	@echo
	@echo "Is the factor a confounder?   $(CURDIR)/runs/demo-confounder/report.html"
	@echo "The adjusted classifier:      $(CURDIR)/runs/demo-fit/report.html"

test: $(FULL)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

slow: $(FULL)
	$(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile=search

bench: $(BASE)
	$(BIN)/python bench/run.py

bench-gpu: $(BASE)
	$(BIN)/python bench/gpu.py

docs: $(FULL)
	@rm -rf docs/api/generated
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: $(FULL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory types

types: $(FULL)
	$(BIN)/mypy causalft synthetic experiments

ci:
	.ci/run

clean:
	rm -rf $(DEMO) docs/_build docs/api/generated bench/results.json bench/gpu.json build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
