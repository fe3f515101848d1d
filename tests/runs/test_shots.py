"""Few training rows of each label, drawn by the seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import claf2
from claf2 import config
from claf2.data.splits import SplitData
from claf2.errors import ConfigError, DataError
from claf2.runs.locate import locate_splits
from claf2.runs.train import train

SAMPLE = ["--data_reader.source", "sample"]


def rows(*words: str, base: str = "scratch/nsmc") -> list[tuple[str, str]]:
    """Return id and label of the training rows."""
    (splits,) = locate_splits(config.load(base, [*SAMPLE, *words])).values()
    data = splits["train"]
    assert isinstance(data, SplitData)
    return [(example.id, example.label) for example in data.examples()]  # type: ignore[attr-defined]


def test_as_many_rows_of_each_label_in_the_order_of_the_file() -> None:
    whole, drawn = rows(), rows("--shots", "8")
    assert Counter(label for _, label in drawn) == {"0": 8, "1": 8}
    assert [row for row in whole if row in set(drawn)] == drawn
    assert rows("--shots", "8") == drawn
    assert rows("--shots", "8", "--seed_num", "43") != drawn
    assert set(rows("--shots", "4")) < set(drawn)  # a learning curve adds rows


def test_shots_of_the_training_side_of_a_cut() -> None:
    drawn = rows("--shots", "8", "--valid_fraction", "0.5")
    assert Counter(label for _, label in drawn) == {"0": 8, "1": 8}
    assert set(drawn) < set(rows("--valid_fraction", "0.5"))


def test_shots_are_of_the_recipe_where_they_are_set() -> None:
    plain = config.load("scratch/nsmc")
    assert "shots" not in plain.values["data_reader"]
    digests = {config.load("scratch/nsmc", ["--shots", text]).recipe_digest() for text in ("8", "16")}
    assert len(digests | {plain.recipe_digest()}) == 3
    assert config.load("scratch/nsmc", ["--shots", "null"]).recipe_digest() == plain.recipe_digest()


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"data_reader\.shots: task 'klue_ner' has no single label per row"):
        config.load("scratch/klue_ner", ["--shots", "8"])
    with pytest.raises(DataError, match=r"label '.' has \d+ rows, fewer than 100000 shots"):
        rows("--shots", "100000")


def test_a_run_trains_on_them_and_evaluates_all(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    given = ["--pretrained_model_name", str(model_folder()), "--token", "null", *SAMPLE, "--num_steps", "2"]
    for name, words in (("few", ["--shots", "4"]), ("all", [])):
        train(config.load("scratch/nsmc", [*given, *words, "--log_dir", str(tmp_path / name)]))
    few, whole = (json.loads((tmp_path / name / "run.json").read_text())["counts"] for name in ("few", "all"))
    assert few["train"]["examples"] == 8
    assert few["valid"]["examples"] == whole["valid"]["examples"]
    claf2.evaluate(tmp_path / "few")
