"""Samples: the same bytes every time, in the task's own format, of every split something else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from claf2 import Task
from claf2.data.samples import generate, samples, write_sample
from claf2.errors import Claf2Error
from claf2.readers import SpanExample, TextExample, TokenExample
from claf2.registry import load_plugin
from claf2.task import tasks

ALL = sorted({tasks.get(name).name for name in tasks.names()})


@pytest.mark.parametrize("name", ALL)
def test_a_sample_reads_back_and_repeats(name: str, tmp_path: Path) -> None:
    task = tasks.get(name)
    first, second = (write_sample(task, tmp_path / folder) for folder in ("a", "b"))
    for split in ("train", "valid"):
        assert first[split].read_bytes() == second[split].read_bytes()
        generated, read = generate(task, split), list(task.read(first[split]))
        for method in ("texts", "label_names"):
            values = [[tuple(getattr(example, method)()) for example in examples] for examples in (generated, read)]
            assert values[0] == values[1]
    texts = {split: {tuple(example.texts()) for example in task.read(path)} for split, path in first.items()}
    assert not texts["train"] & texts["valid"]


def test_every_label_occurs_and_half_of_squad_two_is_answered() -> None:
    for name in ("klue_nli", "klue_ner", "wnut17", "nsmc"):
        task = tasks.get(name)
        seen = {label for example in generate(task, "train") for label in example.label_names()}
        missing = set(task.labels) - seen
        assert all(label.startswith("I-") for label in missing), (name, missing)
    impossible = [e.is_impossible for e in generate(tasks.get("squad_v2"), "train") if isinstance(e, SpanExample)]
    assert 0.25 < sum(impossible) / len(impossible) < 0.42


def test_a_sample_that_an_older_version_left_in_the_cache_is_not_used(tmp_path: Path) -> None:
    task = tasks.get("nsmc")
    for name in task.files.values():
        (tmp_path / Path(name).name).write_text("old")
    paths = write_sample(task, tmp_path)
    assert len(list(task.read(paths["train"]))) == len(generate(task, "train"))
    written = paths["train"].stat().st_mtime_ns
    assert write_sample(task, tmp_path) == paths
    assert paths["train"].stat().st_mtime_ns == written


GENERATOR = """
from claf2.data.samples import Generator
from claf2.readers import TextExample

class Words(Generator):
    def example(self, task, words, dice, identity):
        return TextExample(id=identity, text_a=f"WORD {dice.random()}", label=dice.choice("01"))
"""


def test_a_changed_generator_of_a_plug_in_makes_another_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("nsmc").model_copy(update={"head": "words"})
    texts = []
    for number, word in enumerate(("first", "second", "first")):
        plugin = tmp_path / f"plugin{number}.py"
        plugin.write_text(GENERATOR.replace("WORD", word))
        load_plugin(str(plugin))
        module = next(module for module in [*sys.modules.values()] if getattr(module, "__file__", "") == str(plugin))
        monkeypatch.setitem(samples._members, "words", module.Words)
        texts.append(write_sample(task, tmp_path / "cache")["train"].read_text().splitlines()[1])
    assert ["first" in text for text in texts] == [True, False, True]


@pytest.mark.parametrize("name", ["conll2003", "klue_ner", "naver_ner", "wnut17"])
def test_a_name_has_one_entity_type(name: str) -> None:
    """Otherwise no model can learn the sample: the same sentence would be tagged in two ways."""
    types: dict[str, set[str]] = {}
    for example in generate(tasks.get(name), "train"):
        assert isinstance(example, TokenExample)
        assert example.tags is not None
        entities: list[tuple[str, list[str]]] = []
        for token, tag in zip(example.tokens, example.tags, strict=True):
            if tag.startswith("B-"):
                entities.append((tag[2:], [token]))
            elif tag.startswith("I-"):
                entities[-1][1].append(token)
        for entity_type, tokens in entities:
            types.setdefault(example.joiner.join(tokens), set()).add(entity_type)
    assert {entity: shared for entity, shared in types.items() if len(shared) > 1} == {}


def test_unknown_tag_sets_get_names_too() -> None:
    task = tasks.get("wnut17").model_copy(
        update={"name": "own", "labels": ("O", "B-gene", "I-gene", "B-drug", "I-drug")}
    )
    example = generate(task, "train", 5)[0]
    assert isinstance(example, TokenExample)
    assert set(example.tags or ()) & {"B-gene", "B-drug"}


def test_what_cannot_be_made_is_said() -> None:
    french: Task = tasks.get("rte").model_copy(update={"language": "fr"})
    with pytest.raises(Claf2Error, match="no sample can be generated in 'fr', only in en, ja, ko"):
        generate(french, "train")
    assert samples.names() == [
        "choice", "classify", "clm", "dialogue", "embed", "embed_in_batch", "instruct", "mlm", "mlm_nsp", "parse",
        "regress", "span", "tag", "tsdae",
    ]  # fmt: skip


def test_a_generator_that_repeats_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("nsmc")
    generator = samples.get(task.head)
    monkeypatch.setattr("claf2.data.samples.MOST_REPEATED", 50)
    monkeypatch.setattr(generator, "example", lambda *arguments: TextExample(id="1", text_a="the same", label="0"))
    with pytest.raises(Claf2Error, match="made only 1 different examples: ask for fewer"):
        generate(task, "train")
