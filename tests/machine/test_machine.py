"""Machines: answers from several passages, and several answers about one text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import claf2
from claf2.cli.machine import _format_report
from claf2.cli.main import main
from claf2.errors import Claf2Error
from claf2.machine.evaluation import evaluate_machine
from claf2.machine.nlu import NluMachine, Slot, find_slots
from claf2.machine.qa import QaMachine
from claf2.metrics import Prediction
from claf2.readers import Answer, SpanExample
from claf2.retrieval.index import IndexSettings, PassageIndex, build_index
from claf2.retrieval.passages import Passage

TEXTS = [
    "the king of the city lived in the north. he was born in the capital.",
    "the queen of the city lived in the south. she ran and ate.",
    "a dog and a cat sat in the house.",
    ("the river of the north is great. " * 30).strip(),
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PassageIndex:
    return build_index(tmp_path_factory.mktemp("index") / "index", map(Passage, TEXTS), IndexSettings("words"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A finished run on questions, which has learned little."""
    folder = tmp_path_factory.mktemp("reader") / "run"
    claf2.train("squad/v1_bert", sample=True, log_dir=folder, pretrained_model_name=str(model_folder()), num_steps=3)
    return folder


@pytest.fixture(scope="module")
def machine(index: PassageIndex, reader: Path) -> QaMachine:
    return QaMachine(index, reader, k=3)


def test_scores_are_logits_minus_those_of_no_answer(machine: QaMachine, reader: Path) -> None:
    predictor = claf2.Predictor(reader)
    question = "where is the king of the north?"
    answer = machine.ask(question)
    assert [hit.passage for hit in answer.passages] == [hit.passage for hit in machine.index.search(question, 3)]
    expected: dict[str, float] = {}
    for hit in answer.passages:
        prediction = predictor(question=question, context=hit.passage.text)
        assert prediction.details is not None
        score = -prediction.details["null_score_difference"]
        text = prediction.details["best_answer"]
        expected[text] = max(score, expected.get(text, score))
    assert {each.text: each.score for each in answer.answers} == pytest.approx(expected, abs=1e-5)
    scores = [each.score for each in answer.answers]
    assert scores == sorted(scores, reverse=True)
    assert (answer.answer, answer.score, answer.reason) == (answer.answers[0].text, scores[0], "")
    assert {hit.passage.id for each in answer.answers for hit in each.passages} == {
        hit.passage.id for hit in answer.passages
    }


def test_several_questions_are_answered_as_each_alone(machine: QaMachine) -> None:
    questions = ["where is the king?", "who ran in the south?", "zzz", "the river of the north"]
    for together, question in zip(machine.ask_all(questions), questions, strict=True):
        alone = machine.ask(question)
        assert (together.answer, together.reason) == (alone.answer, alone.reason)
        assert together.score == pytest.approx(alone.score, abs=1e-5)
    assert machine.ask("zzz").reason == "no passage has a term of the question"
    with pytest.raises(Claf2Error, match="empty"):
        machine.ask(" ")


def predict(text: str | None, difference: float) -> Prediction:
    if text is None:  # the outputs of the model were not finite
        return Prediction("x", None, None)
    return Prediction("x", None, "", 0.0, {"null_score_difference": difference, "best_answer": text})


def answer_with(
    machine: QaMachine, monkeypatch: pytest.MonkeyPatch, predictions: Sequence[Prediction], question: str
) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(machine._answerer, "answer", lambda task, encoded: list(predictions))
        return machine.ask(question)


def test_equal_answers_are_one(machine: QaMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "the king in the north"
    answer = answer_with(
        machine, monkeypatch, [predict("The north", -1.0), predict("south", -3.0), predict("north.", -5.0)], question
    )
    assert [(each.text, each.score, [hit.rank for hit in each.passages]) for each in answer.answers] == [
        ("north.", 5.0, [3, 1]), ("south", 3.0, [2]),
    ]  # fmt: skip
    broken = answer_with(machine, monkeypatch, [predict(None, 0), predict("", 0), predict(None, 0)], question)
    assert (broken.answer, broken.score, broken.reason) == ("", None, "no passage has an answer")


def test_no_answer_says_why(index: PassageIndex, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = QaMachine(index, reader, k=2, threshold=4.0)
    predictions = [predict("north", -1.0), predict("south", -3.0)]
    answer = answer_with(machine, monkeypatch, predictions, "the king in the north")
    assert (answer.answer, answer.score) == ("", None)
    assert answer.reason == "the best answer scores 3.00, below the threshold of 4"
    assert answer.answers[0].text == "south"
    # The search may speak for its first passage.
    machine = QaMachine(index, reader, k=2, search_weight=100.0)
    assert answer_with(machine, monkeypatch, predictions, "the king in the north").answer == "north"


def test_the_losses_add_up(machine: QaMachine) -> None:
    def ask(number: int, question: str, context: str, start: int, text: str) -> SpanExample:
        return SpanExample(id=str(number), question=question, context=context, answers=(Answer(text, start),))

    questions = [
        ask(1, "who lived in the north?", TEXTS[0], 4, "king"),
        ask(2, "who ran and ate?", TEXTS[1], 4, "queen"),
        ask(3, "zzz", TEXTS[2], 2, "dog"),
        ask(4, "which river is great?", TEXTS[3], 4, "river"),
    ]
    report = evaluate_machine(machine, questions)
    assert report.scores["found"].value == 75.0
    assert report.scores["f1"].value + sum(report.losses.values()) == pytest.approx(100.0)
    assert report.losses["reading"] == pytest.approx(100 - report.scores["gold_f1"].value)
    assert report.scores["f1"].low <= report.scores["f1"].value <= report.scores["f1"].high
    assert [prediction.id for prediction in evaluate_machine(machine, questions, limit=2).predictions] != []
    with pytest.raises(Claf2Error, match="labelled questions"):
        evaluate_machine(machine, [questions[0].unlabelled()])


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A run of a classifier and a tagger."""
    folder = tmp_path_factory.mktemp("several") / "run"
    claf2.train(
        tasks=["glue/sst_bert", "wnut17/ner_bert"], pretrained_model_name=str(model_folder()), sample=True,
        log_dir=folder, argv=["--num_steps", "3", "--tasks.num_steps", "3"],
    )  # fmt: skip
    return folder


def test_one_pass_is_what_single_tasks_answer(several: Path) -> None:
    machine = NluMachine(several)
    assert machine.tasks == ["sst", "wnut17"]
    passes: list[int] = []
    model: Any = machine._answerer.model("sst").engine
    model.encoder.encoder.register_forward_hook(lambda *_: passes.append(1))
    answer = machine("the king lived in the city")
    assert len(passes) == 1
    for task in machine.tasks:
        alone = claf2.Predictor(several, task)(text="the king lived in the city")
        assert answer.predictions[task].prediction == alone.prediction
        assert answer.predictions[task].score == pytest.approx(alone.score, abs=1e-6)
    assert list(answer.slots) == ["wnut17"]
    assert answer.truncated is False
    assert machine("the king " * 200).truncated is True
    assert NluMachine(several, ["sst"])("a film").slots == {}


def test_nothing_is_kept_of_nothing(machine: QaMachine) -> None:
    questions = [
        SpanExample(id=str(number), question="the king", context=TEXTS[0], answers=(Answer("zzz", 0),))
        for number in range(2)
    ]
    report = evaluate_machine(machine, questions)
    assert (report.scores["gold_f1"].value, report.kept) == (0.0, None)
    assert "nan" not in _format_report(report, 9, len(TEXTS))
    assert "4 passages, 4 of them read" in _format_report(report, 9, len(TEXTS))


def test_slots_are_the_parts_that_tags_name() -> None:
    tokens = ["a", "b", "c", "d", "e"]
    assert find_slots(tokens, ["B-X", "I-X", "B-X", "O", "I-Y"], " ") == [
        Slot("X", "a b", 0, 2), Slot("X", "c", 2, 3), Slot("Y", "e", 4, 5),
    ]  # fmt: skip
    assert find_slots(["서", "울"], ["B-LC", "I-LC"], "") == [Slot("LC", "서울", 0, 2)]
    assert find_slots(tokens, ["B-X", "I-Y", "O", "O", "O"], " ") == [Slot("X", "a", 0, 1), Slot("Y", "b", 1, 2)]
    assert find_slots([], [], " ") == []


def test_runs_that_do_not_fit_are_refused(index: PassageIndex, reader: Path, several: Path) -> None:
    with pytest.raises(Claf2Error, match="does not extract answers"):
        QaMachine(index, several)
    with pytest.raises(Claf2Error, match="'squad' asks about more than a text"):
        NluMachine(reader)


def test_the_commands(
    index: PassageIndex, reader: Path, several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("machine", "qa", "--index", str(index.folder), "--reader", str(reader))
    assert run(*words, "who is the king?", "-k", "2", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (len(answer["passages"]), answer["reason"]) == (2, "")
    assert answer["answer"] in answer["passage"]["text"]
    assert run(*words, "zzz", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [answer[name] for name in ("answer", "passage", "score")] == [None, None, None]
    assert run(*words, "zzz") == 0
    assert "no answer: no passage has a term of the question" in capsys.readouterr().out
    assert run(*words) == 2
    questions = [
        {"id": str(number), "question": f"who is in the {text.split()[1]}", "answers": [
            {"text": text[:3], "answer_start": 0}]}
        for number, text in enumerate(TEXTS)
    ]  # fmt: skip
    paragraphs = [{"context": text, "qas": [question]} for text, question in zip(TEXTS, questions, strict=True)]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    assert run(*words, "--evaluate", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 4
    assert run(*words, "--evaluate", str(path)) == 0
    assert "points of F1 lost: reading" in capsys.readouterr().out
    assert run("machine", "nlu", str(several), "the king", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["tasks"]) == {"sst", "wnut17"}
    assert run("machine", "nlu", str(several), "the king", "--tasks", "sst") == 0
    assert capsys.readouterr().out.startswith("sst: ")
