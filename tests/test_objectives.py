"""What changes the loss: adversarial smoothness, distillation, uncertainty; each against its definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored import last, last_bytes
from torch.nn.functional import cross_entropy

from claf2 import config
from claf2.errors import RunError
from claf2.evaluation.predictions import read_predictions
from claf2.heads import Head, heads
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.runs import distillation
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import resolve_weights
from claf2.runs.train import train
from claf2.training.objectives import (
    Distillation,
    ForwardPass,
    SmartRegularization,
    UncertaintyWeighting,
    soft_field,
)

POOLED = soft_field("pooled")

LABELS = {"classify": ["no", "yes", "so"], "regress": [], "tag": ["O", "B-X"]}


def at(folder: Path, kind: str, *, pack: bool = False, **more: torch.Tensor) -> tuple[ForwardPass, torch.Tensor]:
    """A pass over two rows in evaluation mode, and its own loss, the mean."""
    head: Head = heads.get(kind)()
    model = build_model(
        ModelSpec(), folder, {"t": TaskHead(head, LABELS[kind])}, vocab_size=100, pad_id=0, seed=1
    ).eval()
    if pack:
        model.pack()
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 13, 3, 0, 0]])
    labels = {"classify": torch.tensor([0, 2]), "regress": torch.tensor([0.5, 4.0]), "tag": (ids > 11).long()}[kind]
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": ids * 0, "labels": labels, **more}
    batch["lengths"] = batch["attention_mask"].sum(-1)
    outputs = model("t", batch)
    share = torch.tensor(0.5)
    return ForwardPass(model, "t", head, batch, outputs, share, share), head.loss(outputs, batch).sum() * share


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_smart_moves_where_the_answer_changes_most(kind: str, pack: bool, model_folder: Callable[..., Path]) -> None:
    """Its move changes the answer more than random moves of the same size do, and never by less than nothing."""
    here, own_loss = at(model_folder(), kind, pack=pack)
    added = SmartRegularization(step=0.05).loss(own_loss, here) - own_loss
    assert added > 0
    table: Any = here.model.head("t")
    torch.manual_seed(0)
    changes = []
    for _ in range(8):

        def random(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
            move = torch.randn_like(embedded)
            return embedded + 0.05 * move / move.abs().amax(-1, keepdim=True)

        handle = table.get_input_embeddings().register_forward_hook(random)
        moved, before = here.head.pooled_logits(here.model("t", here.batch)), here.head.pooled_logits(here.outputs)
        handle.remove()
        assert moved is not None
        assert before is not None
        if kind == "regress":
            changes.append(float((moved - before).square().sum().detach() * here.share))
        else:
            p, q = moved.log_softmax(-1), before.log_softmax(-1)
            changes.append(float(((p.exp() - q.exp()) * (p - q)).sum().detach() * here.share))
    assert float(added.detach()) > 1.5 * max(changes)
    added.backward()
    assert all(parameter.grad is not None for parameter in table.bert.encoder.parameters())


def test_smart_leaves_other_heads_and_the_embeddings_alone(model_folder: Callable[..., Path]) -> None:
    here, own_loss = at(model_folder(), "tag")
    assert SmartRegularization().loss(own_loss, here) is own_loss
    here, own_loss = at(model_folder(), "classify")
    SmartRegularization().loss(own_loss, here)
    with torch.no_grad():
        assert torch.equal(here.model("t", here.batch).logits, here.outputs.logits)  # no hook is left behind


def test_distillation_is_the_cross_entropy_with_soft_labels(model_folder: Callable[..., Path]) -> None:
    soft_labels = torch.tensor([[1.0, 0.0, -2.0], [0.0, 3.0, 0.5]])
    here, own_loss = at(model_folder(), "classify", **{POOLED: soft_labels})
    logits = here.outputs.logits
    soft = cross_entropy(logits / 2, (soft_labels / 2).softmax(-1)) * 4
    torch.testing.assert_close(
        Distillation(teachers={"t": "RUN"}, weight=0.3, temperature=2).loss(own_loss, here), 0.7 * own_loss + 0.3 * soft
    )
    torch.testing.assert_close(Distillation(teachers={"t": "RUN"}, weight=0).loss(own_loss, here), own_loss)
    sure, own_loss = at(model_folder(), "classify", **{POOLED: torch.tensor([[99.0, 0, 0], [0, 0, 99.0]])})
    torch.testing.assert_close(Distillation(teachers={"t": "RUN"}, weight=1).loss(own_loss, sure), own_loss)
    here, own_loss = at(model_folder(), "regress", **{POOLED: torch.tensor([[0.5], [4.0]])})
    torch.testing.assert_close(Distillation(teachers={"t": "RUN"}, weight=1).loss(own_loss, here), own_loss)
    here, own_loss = at(model_folder(), "regress")
    assert Distillation(teachers={"u": "RUN"}, weight=1).loss(own_loss, here) is own_loss


def test_uncertainty_weighs_and_learns(model_folder: Callable[..., Path]) -> None:
    here, own_loss = at(model_folder(), "classify")
    objective = UncertaintyWeighting(rate=10)
    learned = objective.learned(["t", "u"])
    here.model.learned["uncertainty"] = learned
    assert objective.loss(own_loss, here).item() == pytest.approx(own_loss.item())
    parameter: Any = learned.t
    with torch.no_grad():
        parameter.fill_(0.07)
    loss = objective.loss(own_loss, here)
    assert loss.item() == pytest.approx(own_loss.item() * np.exp(-0.7) + 0.35)
    loss.backward()
    assert parameter.grad.item() == pytest.approx(10 * (-own_loss.item() * np.exp(-0.7) + 0.5), rel=1e-4)


def test_what_objectives_learn_does_not_shrink_the_steps_of_the_weights(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """At first, each loss has the factor 1, so that a clipped step is the one without uncertainty."""
    words = ["--num_steps", "1", "--warmup_proportion", "0", "--op_type", "sgd", "--grad_max_norm", "0.01"]
    for name, more in (("plain", []), ("uncertainty", ["--objectives.uncertainty", "{}"])):
        train(short(tmp_path / name, model_folder(), *words, "--learning_rate", "1", *more))
    plain, weighed = (last(tmp_path / name) for name in ("plain", "uncertainty"))
    assert abs(float(weighed["learned.uncertainty.mrpc"])) > 0.1  # its own step is not clipped
    for name, tensor in plain.items():
        assert torch.equal(weighed[name], tensor), name


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_smart_moves_every_token_in_fp16(kind: str, model_folder: Callable[..., Path]) -> None:
    """Where two answers hardly differ, the gradient of their distance is too small for fp16."""
    with torch.autocast("cpu", torch.float16):
        here, own_loss = at(model_folder(), kind)
        encoder: Any = here.model.encoder
        embedded: list[torch.Tensor] = []
        encoder.embeddings.LayerNorm.register_forward_pre_hook(lambda _, args: embedded.append(args[0].detach()))
        here.model(here.task, here.batch)
        SmartRegularization(noise=1e-3, step=0.1).loss(own_loss, here)
    clean, _, adversarial = embedded
    moved = (adversarial - clean).abs().amax(-1)
    torch.testing.assert_close(moved[here.batch["attention_mask"] == 1], torch.full((8,), 0.1))


def short(folder: Path, model: Path, *words: str, base: str = "glue/mrpc_bert") -> config.Experiment:
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "6"]
    return config.load(base, [*given, *words])


def test_each_objective_trains_and_is_of_the_recipe(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model, digests, weights = model_folder(), set(), set()
    for name in ("plain", "smart", "uncertainty"):
        words = [] if name == "plain" else [f"--objectives.{name}", "{}"]
        experiment = short(tmp_path / name, model, *words)
        train(experiment)
        digests.add(experiment.recipe_digest())
        weights.add((tmp_path / name / "best/model.safetensors").read_bytes())
    assert len(digests) == len(weights) == 3


def test_a_teacher_is_asked_once(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pupil that hears its teacher only, and not the labels, comes to answer as it does."""
    words = ["--num_steps", "150", "--learning_rate", "2e-3", "--runtime.cache_dir", str(tmp_path / "cache")]
    train(short(tmp_path / "teacher", model_folder(), *words, base="klue/nsmc_bert"))
    asked = []
    ask = distillation._soft_answers

    def counted(*given: Any, **named: Any) -> Any:
        asked.append(given)
        return ask(*given, **named)

    monkeypatch.setattr(distillation, "_soft_answers", counted)
    taught = [*words, "--distil.teachers", f'{{"nsmc": "{tmp_path}/teacher"}}', "--distil.weight", "1"]
    pupil = short(tmp_path / "pupil", model_folder(), *taught, base="klue/nsmc_bert")
    train(pupil)
    train(short(tmp_path / "again", model_folder(), *taught, base="klue/nsmc_bert"))
    assert len(asked) == 1
    answers = [
        [
            read_prediction.prediction
            for read_prediction in read_predictions(tmp_path / who / "predictions/nsmc-valid.jsonl")
        ]
        for who in ("teacher", "pupil")
    ]
    assert np.mean([pupil == teacher for pupil, teacher in zip(*answers, strict=True)]) > 0.9

    own_loss = resolve_weights(pupil, lambda: ())
    features = own_loss.features("nsmc", locate_splits(pupil)["nsmc"]["train"])
    soft = distillation.soft_labels(own_loss, "nsmc", features)[POOLED]
    assert isinstance(soft.values, np.memmap)
    rows = np.arange(len(features))
    before = soft[rows]
    (stored,) = (tmp_path / "cache/teachers").rglob("pooled.npy")
    with stored.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    np.testing.assert_allclose(distillation.soft_labels(own_loss, "nsmc", features)[POOLED][rows], before, rtol=1e-4)
    assert len(asked) == 2
    wrong = short(
        tmp_path / "wrong",
        model_folder(),
        "--distil.teachers",
        f'{{"rte": "{tmp_path}/teacher"}}',
        base="glue/rte_bert",
    )
    with pytest.raises(RunError, match="a run on task 'nsmc' cannot be the teacher of 'rte'"):
        train(wrong)


def test_what_is_learned_beside_the_model_is_resumed(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--tasks", "glue/rte_bert,glue/stsb_bert", "--trainer.name", "finetune", "--objectives.uncertainty", "{}",
             "--eval_and_save_step_count", "3"]  # fmt: skip
    train(short(tmp_path / "whole", model_folder(), *words, base="multi_task/mtdnn"))
    forward = EncoderWithHeads.forward
    count = iter(range(10**6))

    class Stop(Exception):
        pass

    def dying(self: EncoderWithHeads, *given: Any) -> Any:
        if self.training and next(count) == 4:
            raise Stop
        return forward(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderWithHeads, "forward", dying)
        with pytest.raises(Stop):
            train(short(tmp_path / "cut", model_folder(), *words, base="multi_task/mtdnn"))
    train(short(tmp_path / "cut", model_folder(), *words, base="multi_task/mtdnn"), resume=True)
    stored = [last_bytes(tmp_path / name) for name in ("whole", "cut")]
    assert stored[0] == stored[1]
    assert "learned.uncertainty.rte" in stored[0]
