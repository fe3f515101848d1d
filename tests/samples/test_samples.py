"""Samples: the same bytes every time, in the task's own format, of every split something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from claf2 import Task
from claf2.errors import Claf2Error
from claf2.readers import SpanExample, TokenExample
from claf2.samples import generate, samples, write_sample
from claf2.task import tasks

ALL = sorted({tasks.get(name).name for name in tasks.names()})


@pytest.mark.parametrize("name", ALL)
def test_a_sample_reads_back_and_repeats(name: str, tmp_path: Path) -> None:
    task = tasks.get(name)
    first, second = (write_sample(task, tmp_path / folder) for folder in ("a", "b"))
    for split in ("train", "valid"):
        assert first[split].read_bytes() == second[split].read_bytes()
        made, read = generate(task, split), list(task.read(first[split]))
        assert [tuple(each.texts()) for each in read] == [tuple(each.texts()) for each in made]
        assert [tuple(each.label_names()) for each in read] == [tuple(each.label_names()) for each in made]
    texts = {split: {tuple(each.texts()) for each in task.read(path)} for split, path in first.items()}
    assert not texts["train"] & texts["valid"]


def test_every_label_occurs_and_half_of_squad_two_is_answered() -> None:
    for name in ("klue_nli", "klue_ner", "wnut17", "nsmc"):
        task = tasks.get(name)
        seen = {label for each in generate(task, "train") for label in each.label_names()}
        missing = set(task.labels) - seen
        assert all(label.startswith("I-") for label in missing), (name, missing)
    impossible = [e.is_impossible for e in generate(tasks.get("squad_v2"), "train") if isinstance(e, SpanExample)]
    assert 0.25 < sum(impossible) / len(impossible) < 0.42


def test_unknown_tag_sets_get_names_too() -> None:
    task = tasks.get("wnut17").model_copy(
        update={"name": "own", "labels": ("O", "B-gene", "I-gene", "B-drug", "I-drug")}
    )
    example = generate(task, "train", 5)[0]
    assert isinstance(example, TokenExample)
    assert set(example.tags or ()) & {"B-gene", "B-drug"}


def test_what_cannot_be_made_is_said() -> None:
    french: Task = tasks.get("rte").model_copy(update={"language": "fr"})
    with pytest.raises(Claf2Error, match="no sample can be made in 'fr', only in en, ja, ko"):
        generate(french, "train")
    assert samples.names() == ["choice", "classify", "dialogue", "parse", "regress", "span", "tag"]
