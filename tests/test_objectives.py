"""What changes the loss: adversarial smoothness, distillation, uncertainty; each against its definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored import last_bytes
from torch.nn.functional import cross_entropy

from claf2 import config, run, teachers
from claf2.build import find, splits
from claf2.errors import RunError
from claf2.heads import Head, heads
from claf2.models.encoder import EncoderWithHeads, Part, build
from claf2.models.names import AnyHead
from claf2.objectives import TEACHER, Distil, Pass, Smart, Uncertainty
from claf2.store import read_predictions

LABELS = {"classify": ["no", "yes", "so"], "regress": [], "tag": ["O", "B-X"]}


def at(folder: Path, kind: str, *, pack: bool = False, **more: torch.Tensor) -> tuple[Pass, torch.Tensor]:
    """A pass over two rows in evaluation mode, and its own loss, the mean."""
    head: Head = heads.get(kind)()
    model = build(AnyHead(), folder, {"t": Part(head, LABELS[kind])}, vocab_size=100, pad_id=0, seed=1).eval()
    if pack:
        model.pack()
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 13, 3, 0, 0]])
    labels = {"classify": torch.tensor([0, 2]), "regress": torch.tensor([0.5, 4.0]), "tag": (ids > 11).long()}[kind]
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": ids * 0, "labels": labels, **more}
    batch["lengths"] = batch["attention_mask"].sum(-1)
    outputs = model("t", batch)
    share = torch.tensor(0.5)
    return Pass(model, "t", head, batch, outputs, share), head.loss(outputs, batch).sum() * share


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_smart_moves_where_the_answer_changes_most(kind: str, pack: bool, model_folder: Callable[..., Path]) -> None:
    """Its move changes the answer more than random moves of the same size do, and never by less than nothing."""
    here, own = at(model_folder(), kind, pack=pack)
    added = Smart(step=0.05).loss(own, here) - own
    assert added > 0
    table: Any = here.model.head("t")
    torch.manual_seed(0)
    changes = []
    for _ in range(8):

        def random(_: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
            move = torch.randn_like(embedded)
            return embedded + 0.05 * move / move.abs().amax(-1, keepdim=True)

        handle = table.get_input_embeddings().register_forward_hook(random)
        moved, before = here.head.answer(here.model("t", here.batch)), here.head.answer(here.outputs)
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
    assert all(each.grad is not None for each in table.bert.encoder.parameters())


def test_smart_leaves_other_heads_and_the_embeddings_alone(model_folder: Callable[..., Path]) -> None:
    here, own = at(model_folder(), "tag")
    assert Smart().loss(own, here) is own
    here, own = at(model_folder(), "classify")
    Smart().loss(own, here)
    with torch.no_grad():
        assert torch.equal(here.model("t", here.batch).logits, here.outputs.logits)  # no hook is left behind


def test_distillation_is_the_cross_entropy_with_soft_labels(model_folder: Callable[..., Path]) -> None:
    said = torch.tensor([[1.0, 0.0, -2.0], [0.0, 3.0, 0.5]])
    here, own = at(model_folder(), "classify", **{TEACHER: said})
    logits = here.outputs.logits
    soft = cross_entropy(logits / 2, (said / 2).softmax(-1)) * 4
    torch.testing.assert_close(Distil(weight=0.3, temperature=2).loss(own, here), 0.7 * own + 0.3 * soft)
    torch.testing.assert_close(Distil(weight=0).loss(own, here), own)
    sure, own = at(model_folder(), "classify", **{TEACHER: torch.tensor([[99.0, 0, 0], [0, 0, 99.0]])})
    torch.testing.assert_close(Distil(weight=1).loss(own, sure), own)
    here, own = at(model_folder(), "regress", **{TEACHER: torch.tensor([[0.5], [4.0]])})
    torch.testing.assert_close(Distil(weight=1).loss(own, here), own)
    here, own = at(model_folder(), "regress")
    assert Distil(weight=1).loss(own, here) is own


def test_uncertainty_weighs_and_learns(model_folder: Callable[..., Path]) -> None:
    here, own = at(model_folder(), "classify")
    objective = Uncertainty(rate=10)
    learned = objective.learned(["t", "u"])
    here.model.learned["uncertainty"] = learned
    assert objective.loss(own, here).item() == pytest.approx(own.item())
    parameter: Any = learned.t
    with torch.no_grad():
        parameter.fill_(0.07)
    loss = objective.loss(own, here)
    assert loss.item() == pytest.approx(own.item() * np.exp(-0.7) + 0.35)
    loss.backward()
    assert parameter.grad.item() == pytest.approx(10 * (-own.item() * np.exp(-0.7) + 0.5), rel=1e-4)


def short(folder: Path, model: Path, *words: str, base: str = "glue/mrpc_bert") -> config.Experiment:
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "6"]
    return config.load(base, [*given, *words])


def test_each_objective_trains_and_is_of_the_recipe(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model, digests, weights = model_folder(), set(), set()
    for name in ("plain", "smart", "uncertainty"):
        words = [] if name == "plain" else [f"--objectives.{name}", "{}"]
        experiment = short(tmp_path / name, model, *words)
        run.train(experiment)
        digests.add(experiment.recipe_digest())
        weights.add((tmp_path / name / "best/model.safetensors").read_bytes())
    assert len(digests) == len(weights) == 3


def test_a_teacher_is_asked_once(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pupil that hears its teacher only, and not the labels, comes to answer as it does."""
    words = ["--num_steps", "150", "--learning_rate", "2e-3", "--runtime.cache_dir", str(tmp_path / "cache")]
    run.train(short(tmp_path / "teacher", model_folder(), *words, base="klue/nsmc_bert"))
    asked = []
    ask = teachers._ask

    def counted(*given: Any) -> Any:
        asked.append(given)
        return ask(*given)

    monkeypatch.setattr(teachers, "_ask", counted)
    taught = [*words, "--distil.teachers", f'{{"nsmc": "{tmp_path}/teacher"}}', "--distil.weight", "1"]
    pupil = short(tmp_path / "pupil", model_folder(), *taught, base="klue/nsmc_bert")
    run.train(pupil)
    run.train(short(tmp_path / "again", model_folder(), *taught, base="klue/nsmc_bert"))
    assert len(asked) == 1
    answers = [
        [each.prediction for each in read_predictions(tmp_path / who / "predictions/nsmc-valid.jsonl")]
        for who in ("teacher", "pupil")
    ]
    assert np.mean([mine == theirs for mine, theirs in zip(*answers, strict=True)]) > 0.9

    own = find(pupil, lambda: ())
    features = own.features("nsmc", splits(pupil)["nsmc"]["train"])
    assert isinstance(teachers.said(own, "nsmc", features)[TEACHER], np.memmap)
    wrong = short(
        tmp_path / "wrong",
        model_folder(),
        "--distil.teachers",
        f'{{"rte": "{tmp_path}/teacher"}}',
        base="glue/rte_bert",
    )
    with pytest.raises(RunError, match="a run of 'nsmc' cannot teach 'rte'"):
        run.train(wrong)


def test_what_is_learned_beside_the_model_is_resumed(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--tasks", "glue/rte_bert,glue/stsb_bert", "--trainer.name", "finetune", "--objectives.uncertainty", "{}",
             "--eval_and_save_step_count", "3"]  # fmt: skip
    run.train(short(tmp_path / "whole", model_folder(), *words, base="multi_task/mtdnn"))
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
            run.train(short(tmp_path / "cut", model_folder(), *words, base="multi_task/mtdnn"))
    run.train(short(tmp_path / "cut", model_folder(), *words, base="multi_task/mtdnn"), resume=True)
    stored = [last_bytes(tmp_path / each) for each in ("whole", "cut")]
    assert stored[0] == stored[1]
    assert "learned.uncertainty.rte" in stored[0]
