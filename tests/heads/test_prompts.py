"""Prompts: their demonstrations, what fits into a row, and what is refused."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from language_models import byte_tokenizer

import claf2
from claf2 import config
from claf2.errors import Claf2Error, ConfigError
from claf2.heads.prompts import (
    CausalPromptFeaturizer,
    MaskPromptFeaturizer,
    PromptFeaturizer,
    Seq2SeqPromptFeaturizer,
)
from claf2.heads.templates import PROMPT_TEMPLATES, TASK_PROMPTS
from claf2.readers import ChoiceExample, TextExample
from claf2.runs.resolve import resolve
from claf2.task import tasks
from claf2.tokenizers.build import compose_tokenizer, load_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic


def test_demonstrations_are_drawn_by_the_seed_and_never_the_row_itself() -> None:
    words = ["--model.name", "rank_causal", "--pretrained_model_name", "scratch", "--data_reader.source", "sample"]

    def drawn(*more: str) -> list[dict[str, str]]:
        run, _ = resolve(config.load("glue/mrpc_bert", [*words, *more]))
        featurizer: Any = run.experiment.tasks["mrpc"].featurizer
        return list(featurizer.demonstrations)

    three = drawn("--prompt_shots", "3")
    assert len(three) == 4  # one is a spare
    assert drawn("--prompt_shots", "3") == three
    assert drawn("--prompt_shots", "5")[:4] == three
    assert drawn("--prompt_shots", "3", "--seed_num", "7") != three
    featurizer = (
        CausalPromptFeaturizer(prompt_shots=3).for_task(tasks.get("mrpc")).model_copy(update={"demonstrations": three})
    )
    new = TextExample(id="0", text_a="x", text_b="y")
    own = TextExample(id="1", text_a=three[1]["text_a"], text_b=three[1]["text_b"])
    texts, others = featurizer._demonstrations(new), featurizer._demonstrations(own)
    assert len(texts) == len(others) == 3
    assert own.text_a in "".join(texts)
    assert own.text_a not in "".join(others)
    assert others[2] not in texts


def test_what_does_not_fit_leaves_demonstrations_out_first() -> None:
    tokenizer = byte_tokenizer()
    values = [{"text_a": f"a{index}" * 20, "text_b": "b", "answer": "Yes"} for index in range(3)]
    featurizer = CausalPromptFeaturizer(max_seq_length=150, demonstrations=values).for_task(tasks.get("mrpc"))
    counts: Counter[str] = Counter()
    (feature,) = featurizer.features([TextExample(id="0", text_a="x", text_b="y")], tokenizer, ["0", "1"], counts)
    text = tokenizer.decode(feature["input_ids"][1:])
    assert len(feature["input_ids"]) <= 150
    assert (counts["truncated"], counts["dropped_demonstrations"] > 0) == (0, True)
    assert "a2a2" in text
    assert "a0a0" not in text
    long = TextExample(id="1", text_a="x" * 400, text_b="end")
    (feature,) = featurizer.features([long], tokenizer, ["0", "1"], counts)
    assert len(feature["input_ids"]) == 150
    assert counts["truncated"] == 1
    assert "end\nSame meaning:" in tokenizer.decode(feature["input_ids"][1:])


def test_calibration_compares_the_same_demonstrations() -> None:
    tokenizer, counts = byte_tokenizer(), Counter[str]()
    values = [{"text_a": f"a{index}" * 20, "text_b": "b", "answer": "Yes"} for index in range(3)]
    for text, length in (("x" * 60, 230), ("", 184)):  # longer than N/A, and shorter
        featurizer = CausalPromptFeaturizer(max_seq_length=length, demonstrations=values, score="calibrated")
        (feature,) = featurizer.for_task(tasks.get("mrpc")).features(
            [TextExample(id="0", text_a=text, text_b="")], tokenizer, ["0", "1"], counts
        )
        texts = [tokenizer.decode(feature[name][1:]) for name in ("input_ids", "free_ids")]
        shown = [[f"a{index}a" in text for index in range(3)] for text in texts]
        assert shown[0] == shown[1]
        assert any(shown[0])
        assert not all(shown[0])
        assert "N/A" in texts[1]
    assert counts["dropped_demonstrations"] > 0


def test_an_empty_prompt_is_the_end_of_another_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token that begins texts, something must still predict the answer."""
    tokenizer: Any = byte_tokenizer()
    single = tuple(dataclasses.replace(part, ids=[]) for part in tokenizer.template.single)
    monkeypatch.setattr(tokenizer, "_template", dataclasses.replace(tokenizer.template, single=single))
    task, empty = tasks.get("nsmc"), TextExample(id="0", text_a="")
    for length in (128, 8):
        featurizer = CausalPromptFeaturizer(template="{text_a} {answer}", max_seq_length=length)
        (feature,) = featurizer.for_task(task).features([empty], tokenizer, ["0", "1"], Counter())
        assert feature["segments"].count(0) == 1
        assert feature["input_ids"][0] == tokenizer.end_id
        assert len(feature["input_ids"]) <= length


def test_the_space_before_a_mask_is_no_token_of_its_own() -> None:
    tokenizer: Any = byte_tokenizer()
    featurizer = MaskPromptFeaturizer(template="{text_a} was {answer} .", label_words={"0": "good", "1": "bad"})
    (feature,) = featurizer.for_task(tasks.get("nsmc")).features(
        [TextExample(id="0", text_a="the film")], tokenizer, ["0", "1"], Counter()
    )
    place = feature["mask_places"]
    assert feature["input_ids"][place] == tokenizer.mask_id
    assert tokenizer.tokens_of(feature["input_ids"][1:place]) == ["the", "Ġfilm", "Ġwas"]
    assert tokenizer.tokens_of(feature["word_ids"]) == ["Ġgood", "Ġbad"]


def test_demonstrations_of_questions_have_the_right_choice() -> None:
    task = tasks.get("jcommonsenseqa").model_copy(update={"labels": ("1", "2")})
    question = ChoiceExample(id="0", question="why?", choices=("rain", "sun"), label="2")
    drawn = CausalPromptFeaturizer(template="{question} {answer}").for_task(task).with_shots([question])
    assert drawn.demonstrations == [{"question": "why?", "answer": "sun"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--template", "defaults"], "data_reader.mrpc.template: 'defaults' is not a template"),
        (["--template_kind", "poetry"], "data_reader.mrpc.template: there is no template for task 'mrpc'"),
        (["--template", "mask"], "a causal language model needs the answer at the end"),
        (["--label_words", '{"2": "Maybe"}'], "data_reader.mrpc.label_words: '2' is not a label"),
        (["--label_words", '{"0": "Yes"}'], "two labels have the same word"),
        (["--template", "{text_A}: {answer}"], "{text_A} is not a place of a template; use {text_a}, {text_b} or"),
        (["--template", "{answer} {text_a} {answer}"], "the template has 2 places for the answer; use .* once"),
        (
            ["--demonstrations", '[{"text_a": "x"}]'],
            "example 1: 'text_b' is missing; its fields are text_a, text_b, an",
        ),
        (["--demonstrations", '[{"text": "x", "answer": "Yes"}]'], "demonstrations: example 1: 'text' is not a field"),
    ],
)
def test_prompts_that_cannot_be_made_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("glue/mrpc_bert", ["--model.name", "rank_causal", *words])


def test_every_template_tells_the_labels_of_its_tasks_apart() -> None:
    for name, prompt in TASK_PROMPTS.items():
        task = tasks.get(name)
        known = PROMPT_TEMPLATES[prompt.kind, task.language]
        for template in known:
            head = claf2.heads.heads.get("rank" if template == "mask" else "rank_causal")
            bound: Any = head.featurizer(template=template).for_task(task)
            if prompt.kind != "choice":
                assert len(set(bound.label_words.values())) == len(task.labels), (name, template)
        assert "default" in known


def test_the_question_of_a_long_text_stays() -> None:
    long = TextExample(id="0", text_a="x" * 400, text_b="the end")
    featurizer = Seq2SeqPromptFeaturizer(max_seq_length=100).for_task(tasks.get("mrpc"))
    tokenizer, counts = byte_tokenizer(), Counter[str]()
    (feature,) = featurizer.features([long], tokenizer, ["0", "1"], counts)
    text = tokenizer.decode(feature["input_ids"][1:])
    assert text.startswith("xxx")
    assert "the end" in text
    assert counts["truncated"] == 1


@pytest.mark.parametrize("kind", [CausalPromptFeaturizer, Seq2SeqPromptFeaturizer])
def test_words_of_the_same_tokens_are_refused(kind: type[PromptFeaturizer]) -> None:
    tokenizer = compose_tokenizer(
        BertBasic(), WordPiece(vocab_size=60), lambda: ["Sentence 1: 2: Same meaning: good bad x y"] * 3, 64
    )
    featurizer = kind(label_words={"0": "나쁨", "1": "좋음"}).for_task(tasks.get("mrpc"))
    with pytest.raises(Claf2Error, match="two of the answers '나쁨', '좋음' are the same tokens for this model"):
        list(featurizer.features([TextExample(id="0", text_a="x", text_b="y")], tokenizer, ["0", "1"], Counter()))


def test_answers_that_leave_no_room_name_the_example() -> None:
    choices = ChoiceExample(id="q7", question="Which?", choices=["a" * 40, "b" * 40])
    featurizer = CausalPromptFeaturizer(max_seq_length=64, template="{question} {answer}").for_task(
        tasks.get("mrpc").model_copy(update={"head": "choice"})
    )
    with pytest.raises(Claf2Error, match=r"example 'q7': the answers leave no room .* raise max_seq_length"):
        list(featurizer.features([choices], byte_tokenizer(), ["0", "1"], Counter()))


def test_a_word_behind_another_letter_needs_no_mark_of_a_word(multilingual_encoder: Path) -> None:
    """The Japanese template has no space in front of the mask, and SentencePiece marks the beginnings of words."""
    tokenizer = load_tokenizer(multilingual_encoder)
    featurizer = MaskPromptFeaturizer().for_task(tasks.get("marc_ja"))
    labels = list(featurizer.label_words)
    (feature,) = featurizer.features([TextExample(id="0", text_a="便利")], tokenizer, labels, Counter())
    assert tokenizer.tokens_of(feature["word_ids"]) == list(featurizer.label_words.values())
