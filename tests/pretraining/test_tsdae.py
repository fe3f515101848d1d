"""A sentence encoder from plain text: what a run leaves, and that it is resumed and divided without a change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import TORCHRUN, outcome, run_fit, train_until
from transformers import AutoModel, AutoTokenizer

import claf2
from claf2 import config
from claf2.errors import ConfigError, Interrupted, RunError
from claf2.retrieval.encoders import open_encoder
from claf2.runs.prepare import PreparedRun, prepare
from claf2.runs.resolve import resolve
from claf2.runs.train import train

Words = Callable[..., list[str]]
NAME = "scratch/tsdae"
PHASES = [{"until": 6, "batch_size": 8, "max_seq_length": 16}, {"until": 10, "batch_size": 6, "max_seq_length": 24}]


def prepare_run(words: list[str]) -> PreparedRun:
    return prepare(*resolve(config.load(NAME, words)))


def test_a_run_that_is_resumed_is_the_same_and_loads_everywhere(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the change of length, after step 6."""
    kept = ("--keep_step_count", "5")
    train(config.load(NAME, words(*kept, "--log_dir", str(tmp_path / "whole"), phases=PHASES)))
    experiment = config.load(NAME, words(*kept, "--log_dir", str(tmp_path / "parts"), phases=PHASES))
    for _ in range(3):
        with pytest.raises(Interrupted):
            train_until(experiment, 3, monkeypatch)
    train(experiment, resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    best = tmp_path / "whole/best"
    report = claf2.evaluate(tmp_path / "whole")
    stored = json.loads((tmp_path / "whole/metrics.json").read_text())["best"]
    assert report.value("nats_per_token") == pytest.approx(stored["valid/nats_per_token"], rel=1e-6)
    for folder in (best, tmp_path / "whole/steps/step-000000005"):
        tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        with torch.inference_mode():
            assert encoder(**tokenizer("영화 좋다", return_tensors="pt")).last_hidden_state.isfinite().all()
        assert open_encoder(folder).encode(["영화 좋다"]).shape == (1, 32)
    tuned = ["--pretrained_model_name", str(folder), "--max_seq_length", "16", "--data_reader.source", "sample"]
    train(config.load("klue/nsmc_bert", [*tuned, "--num_steps", "2", "--log_dir", str(tmp_path / "tuned")]))


def test_micro_batches_add_up(words: Words) -> None:
    expected = run_fit(prepare_run(words(phases=PHASES, dropout=False)))
    prepared = prepare_run(words("--max_tokens_per_micro_batch", "48", phases=PHASES, dropout=False))
    _, batches = next(prepared.stream.epoch(0))
    assert len({int((batch.arrays["labels"] != -100).sum()) for batch in batches}) > 1
    assert run_fit(prepared).losses == pytest.approx(expected.losses, rel=1e-5)


def test_packed_rows_are_those_of_padded_ones(words: Words) -> None:
    packed, padded = (
        prepare_run(words("--padding", padding, phases=PHASES, dropout=False)) for padding in ("pack", "split")
    )
    assert packed.model.packing is not None
    assert run_fit(packed).losses == pytest.approx(run_fit(padded).losses, rel=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_other_families_learn(kind: str, words: Words) -> None:
    positions = {"model_type": kind, "max_position_embeddings": 50}
    phases = [{"until": 40, "batch_size": 16, "max_seq_length": 16}]
    recorder = run_fit(prepare_run(words(phases=phases, **positions)))
    assert sum(recorder.losses[-5:]) < sum(recorder.losses[:5]) - 2


def test_a_file_of_documents_is_damaged_the_same_way_every_time(words: Words, corpus_file: Path) -> None:
    given = words("--valid_file_path", str(corpus_file), "--valid_documents", "0", phases=PHASES)
    features, examples = prepare_run(given).valid["valid"]["corpus_tsdae"]
    assert len(examples) == 400
    again, _ = prepare_run(given).valid["valid"]["corpus_tsdae"]
    assert features.table.equals(again.table)
    rows = features.table.to_pylist()
    kept = sum(len(row["input_ids"]) - 2 for row in rows)
    assert abs(kept / sum(len(row["labels"]) - 2 for row in rows) - 0.4) < 0.05


@pytest.mark.parametrize(("more", "message"), [
    (["--masks.name", "word"], "masks.name: 'word' does not fit the head 'tsdae'"),
    (["--engine", "fsdp"], "runtime.engine: this head cannot be sharded"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(more: list[str], message: str, words: Words) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_run(words(*more, phases=PHASES))


def test_masks_that_delete_are_refused_elsewhere(words: Words) -> None:
    with pytest.raises(ConfigError, match=r"'deletion' does not fit the head 'mlm'.*use token, word"):
        config.load("scratch/pretrain", words("--masks.name", "deletion"))


def test_architectures_that_cannot_decode_are_refused(words: Words) -> None:
    with pytest.raises(ConfigError, match="the layers of electra cannot be those of a decoder as well"):
        prepare_run(words(model_type="electra", phases=PHASES))


def test_it_has_no_export(words: Words, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra of exports is not installed: pip install 'claf2[onnx]'")
    from claf2.export.build import export_run

    train(config.load(NAME, words(phases=PHASES[:1])))
    with pytest.raises(RunError, match="a pre-training answers no requests"):
        export_run(tmp_path / "run", tmp_path / "export")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(words: Words, tmp_path: Path) -> None:
    train(config.load(NAME, words("--log_dir", str(tmp_path / "one"), phases=PHASES, dropout=False)))
    given = words("--log_dir", str(tmp_path / "two"), phases=PHASES, dropout=False)
    done = subprocess.run(
        [*TORCHRUN, "-m", "claf2", "train", "--base_config", NAME, *given],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for here, there in zip(two, one, strict=True):
        scores: dict[str, Any] = there
        assert here.keys() == scores.keys()
        for key, value in scores.items():
            assert here[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
