"""Pre-training through the loop: the same steps as a plain loop, in phases, resumed, and on several processes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import TORCHRUN, Recorder, outcome, run_fit, train_until
from torch import nn
from transformers import BertConfig, BertForPreTraining, pipeline

from claf2 import config
from claf2.errors import ChangedError, ConfigError, Interrupted, RunError
from claf2.runs.prepare import PreparedRun, prepare
from claf2.runs.resolve import resolve
from claf2.runs.train import train
from claf2.runtime.files import read_json
from claf2.storage.checkpoints import push_checkpoint
from claf2.training.kept_steps import MANIFEST, list_steps
from claf2.training.loop import fit
from claf2.training.optim import build_optimizer
from claf2.training.state import State

Words = Callable[..., list[str]]
NAME = "scratch/pretrain"


def prepare_run(words: list[str]) -> PreparedRun:
    return prepare(*resolve(config.load(NAME, words)))


def train_plainly(prepared: PreparedRun) -> tuple[list[float], nn.Module]:
    """Train BERT as a script would, on the same batches: the loss of `transformers`, AdamW, clipping, warm-up and
    linear decay."""
    source: Any = prepared.model.heads[0]
    model = BertForPreTraining(BertConfig.from_dict(source.config.to_dict(), attn_implementation="sdpa"))
    model.load_state_dict(source.state_dict())
    model.train()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    total, losses = prepared.plan.total_steps, []
    warmup = -(-total // 10)
    for step, (_, batches) in enumerate(prepared.stream.epoch(0)):
        factor = step / warmup if step < warmup else (total - step) / (total - warmup)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * factor
        rows = {
            name: torch.cat([torch.from_numpy(batch.arrays[name]).long() for batch in batches])
            for name in batches[0].arrays
        }
        loss = model(**rows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, model


PAIRS = ("--dataset", "corpus_mlm_nsp", "--instances.name", "sentence_pair")
FIFTY = [{"until": 50, "batch_size": 16, "max_seq_length": 24}]


@pytest.mark.parametrize("accumulated", [False, True])
def test_fifty_steps_are_those_of_a_plain_loop(accumulated: bool, words: Words) -> None:
    """Masked tokens and pairs; at once, and in eight micro-batches whose masked tokens differ in number."""
    limit = ["--max_tokens_per_micro_batch", str(2 * 24)] if accumulated else []
    given = words(*PAIRS, *limit, phases=FIFTY, dropout=False)
    prepared = prepare_run(given)
    _, batches = next(prepared.stream.epoch(0))
    assert len(batches) == (8 if accumulated else 1)
    expected, plain = train_plainly(prepared)
    recorder = run_fit(prepared)
    assert recorder.losses == pytest.approx(expected, rel=2e-6)
    assert expected[-1] < expected[0] - 0.5
    for name, parameter in plain.named_parameters():
        trained = dict(prepared.model.heads[0].named_parameters())[name]
        torch.testing.assert_close(
            trained, parameter, atol=2e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_later_positions_are_not_trained_before_the_rows_are_long(words: Words) -> None:
    prepared = prepare_run(words("--optimizer.adamw.weight_decay", "0"))
    encoder: Any = prepared.model.encoder
    positions = encoder.embeddings.position_embeddings.weight
    before = positions.detach().clone()
    seen: list[bool] = []

    class Watcher(Recorder):
        def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
            seen.append(bool((positions.detach()[24:] != before[24:]).any()))

    watcher = Watcher()
    optimizer = build_optimizer(prepared.run.experiment.optimizer, prepared.model, prepared.plan.learning_rate)
    fit(
        prepared.training_context(
            optimizer=optimizer,
            state=State(),
            evaluate=lambda: prepared.run.evaluate_sets(prepared.model, prepared.valid),
            checkpointer=watcher,
            callback=watcher,
            interrupted=lambda: False,
        )
    )
    assert seen == [False] * 8 + [True] * 4


KEPT = ("--keep_step_count", "3")


@pytest.fixture
def uninterrupted(words: Words, tmp_path: Path) -> dict[str, bytes]:
    train(config.load(NAME, words(*KEPT, "--log_dir", str(tmp_path / "whole"))))
    return outcome(tmp_path / "whole")


def test_a_run_that_is_resumed_after_every_other_step_is_the_same(
    words: Words, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the change of length, after step 8."""
    experiment = config.load(NAME, words(*KEPT, "--log_dir", str(tmp_path / "parts")))
    for _ in range(5):
        with pytest.raises(Interrupted):
            train_until(experiment, 2, monkeypatch)
    train(experiment, resume=True)
    assert outcome(tmp_path / "parts") == uninterrupted


def test_kept_steps_load_everywhere(words: Words, tmp_path: Path) -> None:
    train(config.load(NAME, words(*KEPT, "--keep_last", "2", "--keep_every", "6")))
    run = tmp_path / "run"
    assert list_steps(run) == [6, 9, 12]
    for step in list_steps(run):
        folder = run / f"steps/step-{step:09d}"
        manifest = read_json(folder / MANIFEST)
        assert manifest["step"] == step
        assert set(manifest) >= {"experiment", "recipe", "data", "tokenizer", "files"}
        (best, *_) = pipeline("fill-mask", model=str(folder), device="cpu")("영화 [MASK] 좋다.")
        assert set(best) == {"score", "token", "token_str", "sequence"}
    nsmc = ["--data_reader.source", "sample", "--num_steps", "2", "--log_dir", str(tmp_path / "tuned")]
    words_of_nsmc = ["--pretrained_model_name", str(folder), "--max_seq_length", "32", *nsmc]
    train(config.load("klue/nsmc_bert", words_of_nsmc))


def test_a_changed_manifest_is_noticed(words: Words, tmp_path: Path) -> None:
    train(config.load(NAME, words(*KEPT)))
    folder = tmp_path / "run/steps/step-000000012"
    push_checkpoint(folder, str(tmp_path / "store"))
    settings = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(b" " * len(settings))
    with pytest.raises(RunError, match=r"config\.json: changed since it was saved"):
        push_checkpoint(folder, str(tmp_path / "store"))


REFUSED = [
    (["--num_steps", "10"], "trainer.pretrain.phases: the last phase ends at step 12, after the end of the run"),
    (["--num_steps", "20"], "trainer.pretrain.phases: the last phase ends at step 12, before the end of the run"),
    (["--dataset", "corpus_mlm_nsp"], "instances.name: 'full_sentences' makes no pairs"),
    (["--trainer.name", "finetune"], "trainer.name: 'finetune' cannot train on a corpus"),
    (["--masks.name", "mixture", "--mixture.parts", '{"word": [[0, 0.7]], "ngram": [[0, 0.4]]}'], "must sum to 1"),
    (["--gradient_accumulation_steps", "2"], "gradient_accumulation_steps: the phases state the rows of a step"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_what_does_not_fit_is_refused(more: list[str], message: str, words: Words) -> None:
    given = words(*more)
    if "finetune" in more:
        start = given.index("--trainer.pretrain.phases")
        given = [*given[:start], *given[start + 2 :]]
        start = given.index("--keep_step_count")
        given = [*given[:start], *given[start + 2 :]]
    with pytest.raises(ConfigError) as error:
        config.load(NAME, given)
    assert message in str(error.value)


def test_rows_longer_than_the_positions_are_refused(words: Words) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.pretrain\.phases: 64 exceeds the 48 positions"):
        resolve(config.load(NAME, words(phases=[{"until": 2, "batch_size": 4, "max_seq_length": 64}])))


def test_without_held_out_documents_there_is_no_evaluation(words: Words) -> None:
    with pytest.raises(ConfigError, match=r"corpus_mlm\.valid_documents: no documents are held out"):
        resolve(config.load(NAME, words("--valid_documents", "0")))


def test_a_file_of_documents_can_be_evaluated_but_has_no_pairs(words: Words, corpus_file: Path) -> None:
    given = ["--valid_file_path", str(corpus_file), "--valid_documents", "0"]
    prepared = prepare_run(words(*given))
    features, examples = prepared.valid["valid"]["corpus_mlm"]
    assert len(examples) == 400
    assert "labels" in features.names
    with pytest.raises(ConfigError, match="valid_file_path: documents of a file are not divided into pairs"):
        resolve(config.load(NAME, words(*PAIRS, *given)))


def test_only_the_future_of_a_run_can_change(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = config.load(NAME, words())
    with pytest.raises(Interrupted):
        train_until(experiment, 6, monkeypatch)
    past = [{"until": 5, "batch_size": 16, "max_seq_length": 24}, {"until": 12, "batch_size": 8, "max_seq_length": 48}]
    with pytest.raises(ChangedError, match="has changed for some of the 6 steps that are done"):
        train(config.load(NAME, words(phases=past)), resume=True)
    future = [
        {"until": 7, "batch_size": 16, "max_seq_length": 24},
        {"until": 10, "batch_size": 4, "max_seq_length": 48},
    ]
    train(config.load(NAME, words(phases=future)), resume=True)
    record = json.loads((tmp_path / "run/run.json").read_text())
    (resumed,) = record["resumed"]
    assert resumed["step"] == 6
    assert resumed["changed"]["experiment trainer.pretrain.phases"][1] == future
    assert json.loads((tmp_path / "run/metrics.json").read_text())["best_global_step"] <= 10


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_resume_its_run(words: Words, tmp_path: Path) -> None:
    """Without dropout, which each process draws for itself. The run of one process is interrupted at the change of
    length, and goes on with two."""
    experiment = config.load(NAME, words("--log_dir", str(tmp_path / "one"), dropout=False))
    train(experiment)
    resumed = tmp_path / "resumed"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        train_until(config.load(NAME, words("--log_dir", str(resumed), dropout=False)), 8, patch)
    for folder in (tmp_path / "two", resumed):
        given = words("--log_dir", str(folder), dropout=False)
        command = [*TORCHRUN, "-m", "claf2", "train", "--base_config", NAME, *given, "--resume"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    expected = [json.loads(line) for line in (tmp_path / "one/metrics.jsonl").read_text().splitlines()]
    for folder in (tmp_path / "two", resumed):
        scores = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for here, there in zip(scores, expected, strict=True):
            assert here.keys() == there.keys()
            for key, value in there.items():
                assert here[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key


def test_a_batch_that_processes_cannot_share_is_refused(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = resolve(config.load(NAME, words(phases=[{"until": 2, "batch_size": 15, "max_seq_length": 24}])))
    monkeypatch.setattr("claf2.runs.prepare.distributed.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="a batch of 15 rows cannot be divided among 2 processes"):
        prepare(run, data)


def kill_until_done(command: list[str], seed: int, kills: int, longest: float) -> int:
    """Start a run again and again, and kill it after a random time, until it is done; return the number of kills."""
    dice, killed = random.Random(seed), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    while True:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if killed < kills:
            time.sleep(dice.uniform(0.5, longest))
            if process.poll() is None:
                process.kill()
                killed += 1
        if process.wait() == 0:
            return killed


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(words: Words, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    given = words(*KEPT, "--log_dir", str(tmp_path / "killed"))
    command = [sys.executable, "-m", "claf2", "train", "--base_config", NAME, *given, "--resume"]
    started = time.monotonic()
    kill_until_done(command, 3, 0, 0.0)
    assert outcome(tmp_path / "killed") == uninterrupted
    longest = time.monotonic() - started
    again = words(*KEPT, "--log_dir", str(tmp_path / "killed again"))
    command = [sys.executable, "-m", "claf2", "train", "--base_config", NAME, *again, "--resume"]
    assert kill_until_done(command, 5, 4, longest) > 0
    assert outcome(tmp_path / "killed again") == uninterrupted


@pytest.mark.slow
def test_a_small_model_learns_more_than_how_often_tokens_occur(words: Words) -> None:
    """Its loss on held-out text is below the entropy of the masked tokens given the frequencies of tokens in the text
    that it is trained on, which is what a model without context reaches at best."""
    phases = [{"until": 300, "batch_size": 32, "max_seq_length": 48}]
    prepared = prepare_run(words("--learning_rate", "3e-3", phases=phases, hidden_size=64, intermediate_size=128))
    counts = torch.zeros(prepared.run.tokenizer.vocab_size, dtype=torch.float64)
    for _, batches in prepared.stream.epoch(0):
        for batch in batches:
            labels = torch.from_numpy(batch.arrays["labels"]).flatten().long()
            counts += torch.bincount(labels[labels >= 0], minlength=len(counts))
    frequencies = (counts + 1) / (counts + 1).sum()
    features, _ = prepared.valid["valid"]["corpus_mlm"]
    targets = torch.cat([torch.tensor(row["labels"]) for row in features.records()])
    entropy = float(-frequencies[targets[targets >= 0].long()].log().mean())
    run_fit(prepared)
    scores = prepared.run.evaluate_sets(prepared.model, prepared.valid).tasks["corpus_mlm"].scores
    assert scores["nats_per_token"] is not None
    assert scores["nats_per_token"] < entropy - 0.3
