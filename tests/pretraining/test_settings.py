"""Settings of a pre-training: those without effect are refused, and equal recipes have equal digests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import claf2
from claf2 import config
from claf2.errors import ConfigError

NAME = "scratch/pretrain"

Words = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        (["--iterator.batch_size", "32"], "iterator.batch_size"),
        (["--num_epochs", "2"], "trainer.num_epochs"),
        (["--num_epochs", "3"], "trainer.num_epochs"),
        (["--valid_fraction", "0.1"], "data_reader.valid_fraction"),
        (["--objectives.smart", "{}"], "objectives.smart"),
        (["--objectives.distil.teachers", '{"corpus_mlm": "logs/a"}'], "objectives.distil"),
    ],
)
def test_settings_without_effect_are_refused(more: list[str], path: str, words: Words) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(NAME, words(*more))
    assert str(error.value).startswith(f"{path}: has no effect on")
    assert "command line" in str(error.value)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--masks.ngram.max_words", "5"], "corpus_mlm.masks.ngram: has no effect while masks.name is 'word'"),
        (["--masks.ngram", "{}"], "add --masks.name ngram, or leave it out"),
        (["--instances.document", "{}"], "has no effect while instances.name is 'full_sentences'"),
    ],
)
def test_blocks_that_are_not_selected_are_refused(more: list[str], problem: str, words: Words) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(NAME, words(*more))
    assert problem in str(error.value)
    assert "command line" in str(error.value)


def test_a_block_is_selected_with_its_settings(words: Words) -> None:
    config.load(NAME, words("--masks.ngram.max_words", "5", "--masks.name", "ngram"))


def test_a_python_argument_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.num_epochs: has no effect .*argument"):
        claf2.load(NAME, num_epochs=8)


def test_a_complete_config_is_read_again(words: Words, tmp_path: Path) -> None:
    """It lists the defaults of all settings, those without effect included."""
    experiment = config.load(NAME, words("--eval_batch_size", "16"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(experiment.values))
    again = config.load(str(path))
    assert again.digest() == experiment.digest()
    assert again.recipe_digest() == experiment.recipe_digest()
    values = json.loads(path.read_text())
    values["trainer"]["num_epochs"] = 5
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"trainer\.num_epochs: has no effect"):
        config.load(str(path))


SOURCE = {"path": "corpus.txt"}


@pytest.mark.parametrize(
    ("more", "is_other"),
    [
        (["--masks.word", "{}"], False),
        (["--masks.word", json.dumps({"rate": [[0, 0.15]]})], False),
        (["--masks.word", json.dumps({"rate": [[0, 0.25]]})], True),
        (["--masks.name", "token"], True),
        (["--instances.full_sentences", "{}"], False),
        (["--sources", json.dumps([{**SOURCE, "weight": 1.0}])], False),
        (["--sources", json.dumps([{**SOURCE, "weight": 1}])], False),
        (["--sources", json.dumps([{**SOURCE, "weight": 2}])], True),
        (["--sources", json.dumps([{"path": "other.txt", "text_field": "text", "register_name": "spoken"}])], False),
        (["--sources", json.dumps([{**SOURCE, "text_field": "body"}])], True),
    ],
)
def test_equal_recipes_have_equal_digests(more: list[str], is_other: bool) -> None:
    plain, changed = (config.load(NAME, words).recipe_digest() for words in ([], more))
    assert (changed != plain) is is_other


@pytest.mark.parametrize("blocks", [{"masks": {"ngram": {}}}, {"instances": {"document": {}}}])
def test_a_block_of_a_file_that_is_not_selected_does_not_count(blocks: dict[str, Any], tmp_path: Path) -> None:
    plain = config.load(NAME)
    values = json.loads(json.dumps(plain.values))
    for section, block in blocks.items():
        values["data_reader"]["corpus_mlm"][section] |= block
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    assert config.load(str(path)).recipe_digest() == plain.recipe_digest()
