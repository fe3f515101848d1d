"""The loop against a plain PyTorch loop written by hand, and against itself cut into parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from claf2.batch import Batch, Source, Stream
from claf2.errors import Claf2Error, ConfigError
from claf2.features import FeatureSet, featurize
from claf2.heads import Head
from claf2.heads.classify import Classify, ClassifyFeaturizer
from claf2.heads.tag import Tag, TagFeaturizer
from claf2.loop import EvaluationData, Job, Plan, State, evaluate, fit
from claf2.metrics.classification import Accuracy
from claf2.models.encoder import EncoderWithHeads, Part, build
from claf2.models.names import AnyHead
from claf2.optim import AdamW, WarmupLinear, parameter_groups
from claf2.readers import TextExample, TokenExample
from claf2.report import Report, TaskReport
from claf2.tokenizers.build import load_tokenizer

LABELS = ["bad", "good"]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def texts(count: int) -> list[TextExample]:
    words = "the film was very good bad boring fun great poor and not no king river".split()
    dice = np.random.default_rng(0)
    return [
        TextExample(
            id=str(index),
            text_a=" ".join(dice.choice(words, size=dice.integers(1, 12))),
            label=LABELS[int(dice.integers(2))],
        )
        for index in range(count)
    ]


class Recorder:
    """Keeps what the loop says and saves."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.kept: list[int] = []
        self.reports = 0

    def on_step(self, state: State, loss: float, learning_rate: float) -> None:
        self.losses.append(loss)
        self.rates.append(learning_rate)

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self.reports += 1

    def keep_best(self, report: Report) -> None:
        self.kept.append(self.reports + 1)

    def keep_last(self, state: State) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.fixture
def features(model_folder: Callable[..., Path], tmp_path: Path) -> FeatureSet:
    tokenizer = load_tokenizer(model_folder(**NO_DROPOUT))
    return featurize(texts(43), ClassifyFeaturizer(max_seq_length=16), tokenizer, LABELS, tmp_path / "features")


def model_of(folder: Path, head: Head | None = None, labels: list[str] | None = None) -> EncoderWithHeads:
    part = Part(head or Classify(), labels or LABELS)
    return build(AnyHead(), folder, {"t": part}, vocab_size=100, pad_id=0, seed=1)


def plan(total: int, **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "total_steps": total,
        "interval": total,
        "per_epoch": False,
        "metric_key": "accuracy",
        "lower_is_better": False,
        "patience": None,
        "max_norm": 1.0,
        "learning_rate": 1e-3,
    }
    return Plan(**settings | changes)


def train(
    model: EncoderWithHeads,
    stream: Stream,
    the_plan: Plan,
    *,
    head: Head | None = None,
    judge: Callable[[], Report] | None = None,
    state: State | None = None,
) -> tuple[Recorder, State]:
    recorder, state = Recorder(), state or State()
    torch.manual_seed(0)
    fit(
        Job(
            model=model,
            heads={"t": head or Classify()},
            stream=stream,
            optimizer=AdamW(weight_decay=0.01).build(model, the_plan.learning_rate),
            schedule=WarmupLinear(warmup_proportion=0.1),
            plan=the_plan,
            state=state,
            judge=judge or (lambda: Report("valid", {"t": TaskReport({"accuracy": 50.0}, 0.5, [])})),
            keeper=recorder,
            observer=recorder,
            interrupted=lambda: False,
        )
    )
    return recorder, state


def source(features: FeatureSet, head: Head | None = None) -> Source:
    return Source(features, pad_id=0, fields=(head or Classify()).targets)


def by_hand(folder: Path, stream: Stream, epochs: int, total: int) -> Iterator[float]:
    """Train with nothing but PyTorch and transformers, and yield the loss of each step."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model.load_state_dict(model_of(folder).head("t").state_dict())
    model.train()
    torch.manual_seed(0)
    plain = [each for name, each in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    decayed = [each for name, each in model.named_parameters() if not ("bias" in name or "LayerNorm" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    )
    warmup = math.ceil(0.1 * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))
    )
    for epoch in range(epochs):
        for _, parts in stream.epoch(epoch):
            batch = {name: torch.from_numpy(np.asarray(each, dtype=np.int64)) for name, each in parts[0].arrays.items()}
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            yield float(loss.detach())


@pytest.mark.parametrize("settings", [NO_DROPOUT, {}])
def test_every_loss_equals_a_plain_loop_around_transformers(
    settings: dict[str, float], features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder(**settings)
    stream = Stream({"t": source(features)}, batch_size=8, seed=3)
    total = 3 * stream.steps_per_epoch
    recorder, _ = train(model_of(folder), stream, plan(total))
    expected = list(by_hand(folder, stream, 3, total))
    assert len(recorder.losses) == total == 18
    assert recorder.losses == pytest.approx(expected, abs=1e-5)
    assert max(recorder.losses) - min(recorder.losses) > 0.003


@pytest.mark.parametrize("parts", [4, 3])
def test_accumulated_parts_equal_one_batch(parts: int, features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    """43 rows: the last batch of 32, and in it the last part of 8, is short."""
    folder = model_folder(**NO_DROPOUT)
    size = 32 if parts == 4 else 24
    whole = Stream({"t": source(features)}, batch_size=size, seed=3)
    cut = Stream({"t": source(features)}, batch_size=8, parts=parts, seed=3)
    results = []
    for stream in (whole, cut):
        model = model_of(folder)
        recorder, _ = train(model, stream, plan(2 * stream.steps_per_epoch))
        results.append((recorder.losses, model.weights()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for name, each in results[0][1].items():
        torch.testing.assert_close(each, results[1][1][name], atol=2e-5, rtol=1e-4)


def test_parts_with_unevenly_many_targets_equal_one_batch(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Tags: a part with long sentences has more targets than one with short ones."""
    tags = ["O", "B-PS"]
    rows = [
        TokenExample(id=str(n), tokens=("the",) * (1 + 3 * (n % 4)), tags=("O", *["B-PS"] * (3 * (n % 4))))
        for n in range(14)
    ]
    tokenizer = load_tokenizer(model_folder(**NO_DROPOUT))
    features = featurize(rows, TagFeaturizer(max_seq_length=32), tokenizer, tags, tmp_path / "f")
    head = Tag()
    losses = []
    for size, parts in ((12, 1), (3, 4)):
        stream = Stream({"t": source(features, head)}, batch_size=size, parts=parts, seed=3)
        recorder, _ = train(
            model_of(model_folder(**NO_DROPOUT), head, tags), stream, plan(2 * stream.steps_per_epoch), head=head
        )
        losses.append(recorder.losses)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_rate_changes_at_every_step(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    stream = Stream({"t": source(features)}, batch_size=8, seed=3)
    recorder, _ = train(model_of(model_folder()), stream, plan(18))
    assert recorder.rates[0] == 0.0
    assert max(recorder.rates) == pytest.approx(1e-3)
    assert len(set(recorder.rates)) >= 17


def test_patience_direction_and_undefined_scores(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    scores = iter([None, 3.0, 2.0, 2.5, 2.5, 1.0])

    def judge() -> Report:
        return Report("valid", {"t": TaskReport({"accuracy": next(scores)}, 0.1, [])})

    stream = Stream({"t": source(features)}, batch_size=8, seed=3)
    the_plan = plan(100, interval=2, patience=2, lower_is_better=True)
    recorder, state = train(model_of(model_folder()), stream, the_plan, judge=judge)
    assert recorder.kept == [1, 2, 3]
    assert (state.best_score, state.best_step, state.best_epoch, state.step) == (2.0, 6, 1, 10)
    assert state.finished


@pytest.mark.parametrize(
    ("interval", "per_epoch", "due"),
    [(4, False, [4, 8, 12]), (3, True, [3, 6, 9, 12]), (4, True, [4, 10, 12]), (6, True, [6, 12])],
)
def test_when_an_evaluation_is_due(
    interval: int, per_epoch: bool, due: list[int], features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    seen: list[int] = []
    state = State()

    def judge() -> Report:
        seen.append(state.step)
        return Report("valid", {"t": TaskReport({"accuracy": 1.0}, 0.1, [])})

    stream = Stream({"t": source(features)}, batch_size=8, seed=3)
    train(model_of(model_folder()), stream, plan(12, interval=interval, per_epoch=per_epoch), judge=judge, state=state)
    assert seen == due


def test_a_loss_that_explodes_is_an_answer_not_a_number(
    features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    model = model_of(model_folder())
    with torch.no_grad():
        model.head("t").classifier.weight.fill_(float("inf"))
    stream = Stream({"t": source(features)}, batch_size=8, seed=3)
    with pytest.raises(Claf2Error, match=r"became nan at step 1 .* try a lower optimizer.learning_rate"):
        train(model, stream, plan(4))


class Drawing(Classify):
    """A head that draws a random number whenever it is asked."""

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        torch.rand(3)
        return super().collect(outputs)


def test_evaluation_touches_no_generator_and_no_mode(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    model = model_of(model_folder())
    tokenizer = load_tokenizer(model_folder())
    data = EvaluationData(source(features), texts(43), Drawing(), LABELS, [Accuracy()], tokenizer)
    model.train()
    before = torch.get_rng_state()
    first = evaluate(model, {"t": data}, split="valid", batch_size=8)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    second = evaluate(model, {"t": data}, split="valid", batch_size=43)
    assert [each.id for each in first.tasks["t"].predictions] == [str(number) for number in range(43)]
    assert first.tasks["t"].scores == second.tasks["t"].scores
    assert first.tasks["t"].loss == pytest.approx(second.tasks["t"].loss, abs=1e-6)


def test_biases_and_normalisation_do_not_decay(model_folder: Callable[..., Path]) -> None:
    model = model_of(model_folder())
    names = {id(each): name for name, each in model.named_parameters()}
    decayed, kept = ([names[id(each)] for each in group["params"]] for group in parameter_groups(model, 0.1))
    assert all("bias" in name or "LayerNorm" in name for name in kept)
    assert not any("bias" in name or "LayerNorm" in name for name in decayed)
    assert len(decayed) + len(kept) == len(names)


def test_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="100 warm-up steps, but the whole run has 100"):
        WarmupLinear(warmup_steps=100).warmup(100)
    assert WarmupLinear(warmup_steps=99).warmup(100) == 99
    assert WarmupLinear().warmup(1) == 0


def test_an_unlabelled_batch_has_no_target() -> None:
    assert "labels" not in Batch({"input_ids": np.ones((1, 2))}).arrays
