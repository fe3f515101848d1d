"""One step of a contrastive loss, by the training loop and by hand; as a script, by several processes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claf2.data.batch import Batch, TaskDataset
from claf2.data.features import featurize_in_memory
from claf2.evaluation.report import Report, TaskReport
from claf2.heads.embed import ContrastiveHead, GroupFeaturizer
from claf2.heads.networks.sentence import TextVectors
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.readers import TripletExample
from claf2.runtime import distributed
from claf2.tokenizers.build import load_tokenizer
from claf2.training.loop import Plan, TrainingContext, fit
from claf2.training.objectives import Objective
from claf2.training.optim import WarmupConstant
from claf2.training.state import State

ROWS = 64
HEAD = ContrastiveHead(dimensions=[8, 32])


def triplets() -> list[TripletExample]:
    """Rows of which every fifth has no hard negative, and some have equal positives."""
    words = "the film was very good bad boring great poor and not no king river dog cat house car".split()
    dice = np.random.default_rng(0)

    def text() -> str:
        return " ".join(dice.choice(words, size=dice.integers(1, 9)))

    return [
        TripletExample(
            id=str(row),
            anchor=text(),
            positive="the king ran" if row % 16 == 0 else text(),
            negative=None if row % 5 == 0 else text(),
        )
        for row in range(ROWS)
    ]


def dataset(folder: Path) -> TaskDataset:
    features = featurize_in_memory(triplets(), GroupFeaturizer(max_seq_length=16), load_tokenizer(folder), [])
    return TaskDataset(features, pad_id=0, fields=HEAD.targets)


def divide(data: TaskDataset, sizes: Sequence[int], start: int = 0) -> list[Batch]:
    """Return consecutive rows as micro-batches of these sizes."""
    ends = start + np.cumsum(sizes)
    return [data.batch(np.arange(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def build(folder: Path, *, pack: bool = True) -> EncoderWithHeads:
    tokens = load_tokenizer(folder).vocab_size
    model = build_model(ModelSpec(), folder, {"t": TaskHead(HEAD, [])}, vocab_size=tokens, pad_id=0, seed=1)
    if pack:
        assert model.pack()
    return model.train()


class OneStep:
    """The stream of a single step, and all that observes it."""

    epochs = 1
    steps_per_epoch = 1

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.losses: list[float] = []

    def epoch(self, epoch: int, start: int = 0, paused: Collection[str] = ()) -> Iterator[tuple[str, list[Batch]]]:
        yield "t", self.batches

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        self.losses.append(float(loss))

    def on_report(self, *_: Any) -> None: ...

    def save_best(self, *_: Any) -> None: ...

    def save_last(self, *_: Any) -> None: ...


class GradientRecorder(torch.optim.SGD):
    """Keeps the gradients, and takes no step."""

    def __init__(self, model: EncoderWithHeads) -> None:
        super().__init__(model.parameters(), lr=1.0)
        self.model = model
        self.gradients: dict[str, torch.Tensor] = {}

    def step(self, *_: Any, **__: Any) -> None:
        named = self.model.named_parameters()
        self.gradients = {name: tensor.grad.clone() for name, tensor in named if tensor.grad is not None}


def by_loop(
    model: EncoderWithHeads, batches: list[Batch], objectives: Sequence[Objective] = ()
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss and the gradients of a step of the training loop."""
    step, optimizer = OneStep(batches), GradientRecorder(model)
    torch.manual_seed(7)
    fit(
        TrainingContext(
            model=model,
            heads={"t": HEAD},
            stream=step,
            optimizer=optimizer,
            schedule=WarmupConstant(),
            plan=Plan(1, 1, False, "ndcg_at_10", False, None, None, 1.0),
            state=State(),
            evaluate=lambda: Report("valid", {"t": TaskReport({"ndcg_at_10": 50.0}, None, [])}),
            checkpointer=step,
            callback=step,  # type: ignore[arg-type]
            interrupted=lambda: False,
            objectives=objectives,
        )
    )
    return step.losses[0], optimizer.gradients


def by_hand(model: EncoderWithHeads, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the same with the graphs of all micro-batches in memory at once."""
    torch.manual_seed(7)
    tensors = [batch.tensors(torch.device("cpu")) for batch in batches]
    vectors = torch.cat([model("t", part).vectors for part in tensors])
    loss = HEAD.loss(TextVectors(vectors), {"keys": torch.cat([part["keys"] for part in tensors])}) / len(vectors)
    loss.backward()
    named = model.named_parameters()
    return float(loss.detach()), {name: tensor.grad for name, tensor in named if tensor.grad is not None}


def main(folder: Path, out: Path) -> None:
    """Compute one step in this process's share of the rows: five micro-batches, or three."""
    with distributed.process_group():
        data = dataset(folder)
        batches = [divide(data, [8] * 5), divide(data, [7, 9, 8], start=40)][distributed.rank()]
        loss, gradients = by_loop(build(folder), batches)
        if distributed.is_main():
            torch.save((loss, gradients), out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
