"""Exports of smaller models: fewer layers and neurons, and a vocabulary that covers what is asked."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from transformers import PreTrainedModel

import claf2
from claf2.cli.bench import SCORE_DROPPED
from claf2.cli.main import main
from claf2.corpus.sources import TextSource
from claf2.data.splits import SplitData
from claf2.errors import RunError
from claf2.export.build import ExportSource, export_run
from claf2.export.quantize import check_processor
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import open_run, resolve
from claf2.task import shipped_dir
from claf2.vocabulary.trim_export import trim_export

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier."""
    folder = tmp_path_factory.mktemp("smaller") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, num_steps=30, learning_rate=2e-3)
    return folder


def export(run: Path, name: str, *words: str) -> Path:
    folder = run.parent / name
    with pytest.raises(SystemExit) as ended:
        # A margin that every export is within: what it loses is not what these tests are about.
        main(["export", str(run), "-o", str(folder), "--non-inferior", "100", "--no-costs", *words])
    assert not ended.value.code
    return folder


def test_layers_and_neurons(run: Path) -> None:
    folder = export(run, "small", "--layers", "1", "--ffn-width", "64")
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (1, 64)
    answering = json.loads((folder / "answering.json").read_text())
    assert answering["changes"] == ["layers 1", "feed-forward networks of 64 neurons"]
    parity = json.loads((folder / "parity.json").read_text())
    assert max(parity["differences"].values()) < 1e-5  # to the model that was exported
    assert "valid/accuracy" in parity["scores"]["origin"].keys() & parity["scores"]["export"].keys()


def test_a_vocabulary_that_covers_the_rows_changes_no_byte(run: Path) -> None:
    (splits,) = locate_splits(open_run(run).experiment).values()
    texts = run.parent / "texts.txt"
    # One document in twenty is held out, so each row occurs in several.
    rows = [text for example in splits["valid"].examples() for text in example.texts()]
    texts.write_text("\n\n".join(rows * 6))
    export_run(run, run.parent / "whole")
    folder = export(run, "trimmed", "--trim-vocab", str(texts))
    predictions = [(run.parent / name / "predictions/nsmc-valid.jsonl").read_bytes() for name in ("whole", "trimmed")]
    assert predictions[0] == predictions[1]
    sizes = [(run.parent / name / "model.onnx").stat().st_size for name in ("whole", "trimmed")]
    before, after = (
        json.loads((run.parent / name / "config.json").read_text())["vocab_size"] for name in ("whole", "trimmed")
    )
    assert after < 0.9 * before
    removed = (before - after) * json.loads((folder / "config.json").read_text())["hidden_size"] * 4
    assert sizes[0] - sizes[1] == pytest.approx(removed, rel=0.01)
    (note,) = json.loads((folder / "answering.json").read_text())["changes"]
    assert note == f"{after} of {before} entries of the vocabulary"


def test_texts_with_entity_markers_keep_their_tokens(tmp_path: Path) -> None:
    run, data = resolve(claf2.load("scratch/klue_re", sample=True, log_dir=tmp_path / "run"))
    split = data["klue_re"]["valid"]
    assert isinstance(split, SplitData)
    texts = [re.sub(r"(</\w+>)\W*", r"\1다 ", text) for example in split.examples() for text in example.texts()]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts * 6), encoding="utf-8")
    module = run.model().head("klue_re")
    assert isinstance(module, PreTrainedModel)
    change = trim_export([TextSource(path=str(tmp_path / "texts.txt"))])
    trimmed = change(ExportSource(run, module.eval()))
    before, after = (
        [side.tokens_of(encoding.ids) for (encoding,) in side.encode(texts, max_length=64)]
        for side in (run.tokenizer, trimmed.run.tokenizer)
    )
    assert before == after
    attached = [
        piece for tokens in after for marker, piece in pairwise(tokens)
        if marker in ("</subj>", "</obj>") and piece.startswith("##")
    ]  # fmt: skip
    assert attached


@pytest.mark.slow
def test_blocks_of_4_bits(run: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    try:
        check_processor()
    except RunError as error:
        pytest.skip(str(error))
    folders = [export(run, f"blocks-{bits}", "--int8", "blocks", "--bits", bits) for bits in ("8", "4")]
    found = []
    for folder in folders:
        nodes = [node for node in onnx.load(folder / "model.onnx").graph.node if node.op_type == "MatMulNBits"]
        found.append({attribute.i for node in nodes for attribute in node.attribute if attribute.name == "bits"})
    assert found == [{8}, {4}]
    answering = [json.loads((folder / "answering.json").read_text())["weights"] for folder in folders]
    assert answering == ["int8-blocks", "int4-blocks"]
    sizes = [(folder / "model.onnx").stat().st_size for folder in folders]
    assert sizes[1] < sizes[0]


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (shipped_dir("tasks").parent / "docs/smaller.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    commands = [line for block in blocks for line in block.splitlines()]
    assert {command.split()[1] for command in commands} == {"train", "evaluate", "export"}
    try:
        check_processor()
    except RunError:
        commands = [command for command in commands if "--int8" not in command]
    for command in commands:
        if "--trim-vocab" in command:
            (splits,) = locate_splits(open_run(Path("logs/teacher")).experiment).values()
            rows = [text for example in splits["train"].examples() for text in example.texts()]
            Path("reviews.txt").write_text("\n\n".join(rows * 3))
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        # An export of a model that has learned nothing need not be as good as the run.
        assert ended.value.code in (0, SCORE_DROPPED) if "export" in command else not ended.value.code, command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8", "dynamic", "--bits", "4"], "needs --int8 blocks"),
        (["--layers", "a"], "list of layers"),
        (["--layers", "5"], "last one"),
    ],
)
def test_wrong_layers_are_refused(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["export", str(run), "-o", str(run.parent / "none"), *words])
    assert message in capsys.readouterr().err
    assert not (run.parent / "none").exists()
