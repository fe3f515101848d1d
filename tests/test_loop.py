"""The loop against a plain PyTorch loop written by hand, and against itself cut into parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from contrastive_batches import OneStep
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from claf2.data.batch import Batch, BatchStream, Stream, TaskDataset
from claf2.data.features import FeatureSet, featurize
from claf2.data.microbatch import CostModel, pack_microbatches
from claf2.errors import Claf2Error, ConfigError
from claf2.evaluation.evaluate import EvaluationData, evaluate_model
from claf2.evaluation.report import Report, TaskReport
from claf2.heads import Head, LabelFeaturizer
from claf2.heads.classify import ClassificationHead
from claf2.heads.mlm import MaskedLanguageModelHead
from claf2.heads.tag import TagFeaturizer, TaggingHead
from claf2.metrics.classification import Accuracy
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.readers import TextExample, TokenExample
from claf2.runtime.precision import Precision
from claf2.tokenizers.build import load_tokenizer
from claf2.training.kept_steps import KeptSteps
from claf2.training.loop import Plan, TrainingContext, fit
from claf2.training.objectives import Objective
from claf2.training.optim import AdamW, WarmupLinear, parameter_groups
from claf2.training.state import State

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
        self.saved: list[str] = []
        self.reports = 0

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        self.losses.append(float(loss))
        self.rates.append(learning_rate)

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self.reports += 1

    def save_best(self, report: Report) -> None:
        self.kept.append(self.reports + 1)

    def save_last(self, state: State) -> None:
        self.saved.append(f"last {state.step}")

    def save_step(self, step: int, kept_steps: KeptSteps) -> None:
        self.saved.append(f"step {step}")

    def close(self) -> None:
        return None


@pytest.fixture
def features(model_folder: Callable[..., Path], tmp_path: Path) -> FeatureSet:
    tokenizer = load_tokenizer(model_folder(**NO_DROPOUT))
    return featurize(texts(43), LabelFeaturizer(max_seq_length=16), tokenizer, LABELS, tmp_path / "features")


def model_of(folder: Path, head: Head | None = None, labels: list[str] | None = None) -> EncoderWithHeads:
    part = TaskHead(head or ClassificationHead(), labels or LABELS)
    return build_model(ModelSpec(), folder, {"t": part}, vocab_size=100, pad_id=0, seed=1)


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
    evaluate_model: Callable[[], Report] | None = None,
    state: State | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    objectives: Sequence[Objective] = (),
) -> tuple[Recorder, State]:
    recorder, state = Recorder(), state or State()
    torch.manual_seed(0)
    fit(
        TrainingContext(
            model=model,
            heads={"t": head or ClassificationHead()},
            stream=stream,
            optimizer=AdamW(weight_decay=0.01).build(model, the_plan.learning_rate),
            schedule=WarmupLinear(warmup_proportion=0.1),
            plan=the_plan,
            state=state,
            evaluate=evaluate_model or (lambda: Report("valid", {"t": TaskReport({"accuracy": 50.0}, 0.5, [])})),
            checkpointer=recorder,
            callback=recorder,
            interrupted=lambda: False,
            precision=Precision(precision, torch.device("cpu")),
            objectives=objectives,
        )
    )
    return recorder, state


def source(features: FeatureSet, head: Head | None = None) -> TaskDataset:
    return TaskDataset(features, pad_id=0, fields=(head or ClassificationHead()).targets)


def by_hand(folder: Path, stream: BatchStream, epochs: int, total: int) -> Iterator[float]:
    """Train with nothing but PyTorch and transformers, and yield the loss of each step."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model.load_state_dict(model_of(folder).head("t").state_dict())
    model.train()
    torch.manual_seed(0)
    plain = [tensor for name, tensor in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    decayed = [tensor for name, tensor in model.named_parameters() if not ("bias" in name or "LayerNorm" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    )
    warmup = math.ceil(0.1 * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))
    )
    for epoch in range(epochs):
        for _, parts in stream.epoch(epoch):
            batch = {
                name: torch.from_numpy(np.asarray(array, dtype=np.int64)) for name, array in parts[0].arrays.items()
            }
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
    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
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
    undivided = BatchStream({"t": source(features)}, batch_sizes={"t": size}, seed=3)
    accumulated = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, accumulation_steps=parts, seed=3)
    results = []
    for stream in (undivided, accumulated):
        model = model_of(folder)
        recorder, _ = train(model, stream, plan(2 * stream.steps_per_epoch))
        results.append((recorder.losses, model.weights()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(tensor, results[1][1][name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("costs", [None, CostModel(overhead=2, max_tokens=30)], ids=["whole", "by length"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_the_largest_microbatch_is_known_before_training(
    costs: CostModel | None, world_size: int, features: FeatureSet
) -> None:
    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3, costs=costs, world_size=world_size)
    tokens = [[int(part.arrays["attention_mask"].sum()) for part in parts] for _, parts in stream.epoch(0)]
    for steps in (1, 2, len(tokens)):
        assert stream.largest_microbatch(steps) == max(map(max, tokens[:steps]))
    assert len({max(part) for part in tokens}) > 1


def test_parts_with_unevenly_many_targets_equal_one_batch(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Tags: a part with long sentences has more targets than one with short ones."""
    tags = ["O", "B-PS"]
    rows = [
        TokenExample(id=str(n), tokens=("the",) * (1 + 3 * (n % 4)), tags=("O", *["B-PS"] * (3 * (n % 4))))
        for n in range(14)
    ]
    tokenizer = load_tokenizer(model_folder(**NO_DROPOUT))
    features = featurize(rows, TagFeaturizer(max_seq_length=32), tokenizer, tags, tmp_path / "f")
    head = TaggingHead()
    losses = []
    for size, parts in ((12, 1), (3, 4)):
        stream = BatchStream({"t": source(features, head)}, batch_sizes={"t": size}, accumulation_steps=parts, seed=3)
        recorder, _ = train(
            model_of(model_folder(**NO_DROPOUT), head, tags), stream, plan(2 * stream.steps_per_epoch), head=head
        )
        losses.append(recorder.losses)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_rate_changes_at_every_step(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    recorder, _ = train(model_of(model_folder()), stream, plan(18))
    assert recorder.rates[0] == 0.0
    assert max(recorder.rates) == pytest.approx(1e-3)
    assert len(set(recorder.rates)) >= 17


def test_patience_direction_and_undefined_scores(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    scores = iter([None, 3.0, 2.0, 2.5, 2.5, 1.0])

    def scripted_report() -> Report:
        return Report("valid", {"t": TaskReport({"accuracy": next(scores)}, 0.1, [])})

    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    the_plan = plan(100, interval=2, patience=2, lower_is_better=True)
    recorder, state = train(model_of(model_folder()), stream, the_plan, evaluate_model=scripted_report)
    assert recorder.kept == [1, 2, 3]
    assert (state.best_score, state.best_step, state.best_epoch, state.step) == (2.0, 6, 1, 10)
    assert state.finished


def test_undefined_scores_do_not_improve(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    def undefined_report() -> Report:
        return Report("valid", {"t": TaskReport({"accuracy": None}, 0.1, [])})

    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    recorder, state = train(
        model_of(model_folder()), stream, plan(100, interval=2, patience=2), evaluate_model=undefined_report
    )
    assert recorder.kept == [1]
    assert (state.best_score, state.best_step, state.step, state.finished) == (None, 2, 6, True)


@pytest.mark.parametrize("patience", [1, None])
def test_the_last_step_is_kept_before_it_is_done(
    patience: int | None, features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    """Also where it is the last one because the score does not improve."""
    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    the_plan = plan(8, interval=2, patience=patience, kept_steps=KeptSteps(3))
    recorder, state = train(model_of(model_folder()), stream, the_plan)
    ended = ["last 2", "step 3", "step 4", "last 4"]
    whole = ["last 2", "step 3", "last 4", "step 6", "last 6", "step 8", "last 8"]
    assert state.finished
    assert recorder.saved == (ended if patience else whole)


class OddLabels(Objective):
    """Leaves out every other target, and masks those that are left."""

    def change_inputs(
        self, model: EncoderWithHeads, task: str, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        labels = tensors["labels"].clone()
        labels[:, ::2] = -100
        return {**tensors, "input_ids": tensors["input_ids"].masked_fill(labels >= 0, 4), "labels": labels}


@pytest.mark.parametrize("head", [MaskedLanguageModelHead(), TaggingHead()])
def test_targets_that_an_objective_changes_are_those_that_are_learned(
    head: Head, model_folder: Callable[..., Path]
) -> None:
    """And their number is what the loss is divided by, over all micro-batches."""
    tags = ["O", "B-PS", "I-PS"]
    ids = np.array([[2, 10, 11, 12, 13, 3], [2, 14, 15, 3, 0, 0], [2, 16, 3, 0, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
    labels = np.where(mask == 1, ids % 3, -100)
    odd = np.where(np.arange(6) % 2, labels, -100)
    given = Batch({**arrays, "labels": labels})
    changed = Batch({**arrays, "input_ids": np.where(odd >= 0, 4, ids), "labels": odd})
    results = []
    for batch, objectives in ((given, [OddLabels()]), (changed, []), (given, [])):
        parts = [Batch({name: array[rows] for name, array in batch.arrays.items()}) for rows in ([0], [1, 2])]
        model = model_of(model_folder(**NO_DROPOUT), head, tags)
        recorder, _ = train(model, OneStep(parts), plan(2), head=head, objectives=objectives)
        results.append((recorder.losses, model.weights()))
    assert results[0][0] == results[1][0] != results[2][0]
    for name, tensor in results[1][1].items():
        assert torch.equal(results[0][1][name], tensor)


@pytest.mark.parametrize(
    ("interval", "per_epoch", "due"),
    [(4, False, [4, 8, 12]), (3, True, [3, 6, 9, 12]), (4, True, [4, 10, 12]), (6, True, [6, 12])],
)
def test_when_an_evaluation_is_due(
    interval: int, per_epoch: bool, due: list[int], features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    seen: list[int] = []
    state = State()

    def scripted_report() -> Report:
        seen.append(state.step)
        return Report("valid", {"t": TaskReport({"accuracy": 1.0}, 0.1, [])})

    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    train(
        model_of(model_folder()),
        stream,
        plan(12, interval=interval, per_epoch=per_epoch),
        evaluate_model=scripted_report,
        state=state,
    )
    assert seen == due


def test_a_loss_that_explodes_is_an_answer_not_a_number(
    features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    model = model_of(model_folder())
    with torch.no_grad():
        model.head("t").classifier.weight.fill_(float("inf"))
    stream = BatchStream({"t": source(features)}, batch_sizes={"t": 8}, seed=3)
    with pytest.raises(Claf2Error, match=r"became nan at step 1 .* try a lower --optimizer.learning_rate"):
        train(model, stream, plan(4))


class Drawing(ClassificationHead):
    """A head that draws a random number whenever it is asked."""

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        torch.rand(3)
        return super().collect(outputs)


def test_evaluation_touches_no_generator_and_no_mode(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    model = model_of(model_folder())
    tokenizer = load_tokenizer(model_folder())
    dataset, metrics = source(features), [Accuracy()]

    def data(batch_size: int) -> EvaluationData:
        return EvaluationData(dataset, texts(43), Drawing(), LABELS, metrics, tokenizer, batch_size)

    model.train()
    before = torch.get_rng_state()
    precision = Precision("fp32", torch.device("cpu"))
    first = evaluate_model(model, {"t": data(8)}, split="valid", precision=precision)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    second = evaluate_model(model, {"t": data(43)}, split="valid", precision=precision)
    assert [prediction.id for prediction in first.tasks["t"].predictions] == [str(number) for number in range(43)]
    assert first.tasks["t"].scores == second.tasks["t"].scores
    assert first.tasks["t"].loss == pytest.approx(second.tasks["t"].loss, abs=1e-6)


def test_biases_and_normalisation_do_not_decay(model_folder: Callable[..., Path]) -> None:
    model = model_of(model_folder())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ([names[id(parameter)] for parameter in group["params"]] for group in parameter_groups(model, 0.1))
    assert all("bias" in name or "LayerNorm" in name for name in kept)
    assert not any("bias" in name or "LayerNorm" in name for name in decayed)
    assert len(decayed) + len(kept) == len(names)


def test_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="100 warm-up steps in a run of 100"):
        WarmupLinear(warmup_steps=100).warmup(100)
    assert WarmupLinear(warmup_steps=99).warmup(100) == 99
    assert WarmupLinear().warmup(1) == 0


def test_an_unlabelled_batch_has_no_target() -> None:
    assert "labels" not in Batch({"input_ids": np.ones((1, 2))}).arrays


def test_micro_batches_by_length_equal_the_whole_batch(features: FeatureSet, model_folder: Callable[..., Path]) -> None:
    """The same rows in the same steps, the same losses and gradients, whatever the cut."""
    folder = model_folder(**NO_DROPOUT)
    results = []
    for costs in (None, CostModel(overhead=3.0), CostModel(overhead=0.0), CostModel(overhead=1e9, max_tokens=30)):
        stream = BatchStream({"t": source(features)}, batch_sizes={"t": 16}, seed=3, costs=costs)
        if costs is not None:
            assert max(len(parts) for _, parts in stream.epoch(0)) > 1
        model = model_of(folder)
        recorder, _ = train(model, stream, plan(2 * stream.steps_per_epoch, max_norm=None))
        results.append((recorder.losses, model.weights()))
    for losses, weights in results[1:]:
        assert losses == pytest.approx(results[0][0], abs=1e-5)
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, results[0][1][name], atol=1e-4, rtol=1e-4)


def test_gradients_of_micro_batches_equal_those_of_the_batch(
    features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    gradients = []
    for costs in (None, CostModel(overhead=2.0)):
        stream = BatchStream({"t": source(features)}, batch_sizes={"t": 43}, seed=3, costs=costs)
        model, head = model_of(model_folder(**NO_DROPOUT)), ClassificationHead()
        ((_, parts),) = stream.epoch(0)
        total = sum(head.weight(part.arrays) for part in parts)
        for part in parts:
            tensors = part.tensors(torch.device("cpu"))
            (head.loss(model("t", tensors), tensors) / total).backward()
        gradients.append({name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None})
    for name, tensor in gradients[0].items():
        torch.testing.assert_close(tensor, gradients[1][name], atol=1e-5, rtol=1e-5)


class Small(torch.nn.Module):
    """A model with memory for few rows."""

    def __init__(self, inner: EncoderWithHeads, rows: int) -> None:
        super().__init__()
        self.inner, self.rows, self.device, self.learned = inner, rows, inner.device, inner.learned
        self.refused = 0

    def forward(self, task: str, inputs: Mapping[str, torch.Tensor]) -> Any:
        if len(inputs["input_ids"]) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError
        return self.inner(task, inputs)


def test_a_batch_that_does_not_fit_is_done_again_in_halves(
    features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder(**NO_DROPOUT)
    results = []
    for rows in (1000, 3):
        stream = BatchStream({"t": source(features)}, batch_sizes={"t": 16}, seed=3)
        inner = model_of(folder)
        model: Any = Small(inner, rows)
        recorder, _ = train(model, stream, plan(3))
        results.append((recorder.losses, inner.weights()))
        assert model.refused == (0 if rows == 1000 else 3)  # at the first step; 16 rows, 8, 4
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(tensor, results[1][1][name], atol=2e-5, rtol=1e-4)
    nothing: Any = Small(model_of(folder), 0)
    with pytest.raises(torch.OutOfMemoryError):
        train(nothing, BatchStream({"t": source(features)}, batch_sizes={"t": 4}, seed=3), plan(3))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_near_and_casts_weights_once_a_step(
    precision: Literal["bf16", "fp16"], features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder(**NO_DROPOUT)
    results = {}
    names: tuple[Literal["fp32", "bf16", "fp16"], ...] = ("fp32", precision)
    for name in names:
        stream = BatchStream({"t": source(features)}, batch_sizes={"t": 16}, seed=3, costs=CostModel(overhead=3.0))
        model = model_of(folder)
        recorder, _ = train(model, stream, plan(12), precision=name)
        results[name] = recorder.losses
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert results[precision] == pytest.approx(results["fp32"], abs=0.02)
    assert results[precision] != results["fp32"]


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, overhead=st.sampled_from([0.0, 5.0, 40.0, 1e6]), quadratic=st.sampled_from([0.0, 0.01]))
def test_the_cut_is_the_best_one(lengths: list[int], overhead: float, quadratic: float) -> None:
    """Against every way to part the rows into groups."""

    def price(groups: list[list[int]]) -> float:
        return sum(
            overhead + len(g) * max(lengths[i] for i in g) * (1 + quadratic * max(lengths[i] for i in g))
            for g in groups
        )

    def groupings(rows: list[int]) -> Iterator[list[list[int]]]:
        if not rows:
            yield []
            return
        first, rest = rows[0], rows[1:]
        for groups in groupings(rest):
            yield [[first], *groups]
            for index in range(len(groups)):
                yield [*groups[:index], [first, *groups[index]], *groups[index + 1 :]]

    rows = list(range(min(len(lengths), 7)))
    lengths = lengths[: len(rows)]
    parts = pack_microbatches(np.array(lengths), CostModel(overhead, quadratic))
    assert sorted(int(i) for part in parts for i in part) == rows
    best = min(price(groups) for groups in groupings(rows))
    assert price([part.tolist() for part in parts]) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, tokens=st.integers(1, 100), most=st.integers(1, 5))
def test_no_micro_batch_is_larger_than_allowed(lengths: list[int], tokens: int, most: int) -> None:
    parts = pack_microbatches(np.array(lengths), CostModel(1e6, 0.0, max_tokens=tokens, max_rows=most))
    assert sorted(int(i) for part in parts for i in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) <= most
        assert len(part) == 1 or len(part) * max(lengths[i] for i in part) <= tokens


def test_lengths_are_rounded_up_where_few_shapes_are_wanted(
    features: FeatureSet, model_folder: Callable[..., Path]
) -> None:
    plain = TaskDataset(features, pad_id=0, fields={"labels": 0})
    rounded = TaskDataset(features, pad_id=0, fields={"labels": 0}, multiple=8)
    rows = np.arange(20)
    assert rounded.batch(rows).arrays["input_ids"].shape[1] % 8 == 0
    assert rounded.batch(rows).arrays["labels"].shape == (20,)
    model = model_of(model_folder(**NO_DROPOUT)).eval()
    with torch.no_grad():
        first, second = (
            model("t", source_features.batch(rows).tensors(torch.device("cpu"))).logits
            for source_features in (plain, rounded)
        )
    torch.testing.assert_close(first, second)
