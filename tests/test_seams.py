"""The seams of `docs/architecture.md`: what a plug-in of a few lines can add without a change of claf2."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrize

import claf2
from claf2.data.hub import convert_split
from claf2.data.samplers import samplers
from claf2.heads import HubRow
from claf2.heads.classify import ClassificationHead
from claf2.models import wrappers
from claf2.registry import Registry
from claf2.training.objectives import objectives
from claf2.training.trainers import trainers

STEPS = ["--num_steps", "3", "--verbose_step_count", "1"]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Registry[Any], str, Any], None]:
    """Register a component for one test."""

    def register(registry: Registry[Any], name: str, member: Any) -> None:
        registry.discover()
        monkeypatch.setitem(registry._members, name, member)
        monkeypatch.setitem(registry._origins, name, __name__)

    return register


@pytest.fixture
def train(tmp_path: Path, model_folder: Callable[..., Path]) -> Callable[..., claf2.Report]:
    """Train three steps on a generated sample, in ``tmp_path / name``."""

    def train(name: str, *words: str, resume: bool = False, tasks: Collection[str] = ()) -> claf2.Report:
        given = ["--pretrained_model_name", str(model_folder()), "--log_dir", str(tmp_path / name), *STEPS, *words]
        base_config = None if tasks else "scratch/nsmc"
        return claf2.train(claf2.load(base_config, tasks=list(tasks), sample=True, argv=given), resume=resume)

    return train


def losses(folder: Path) -> list[float]:
    """Return the training loss of each evaluation."""
    return [json.loads(line)["train/loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_head_reads_rows_of_the_hub(tmp_path: Path, register: Callable[..., None]) -> None:
    class ReviewHead(ClassificationHead):
        @classmethod
        def from_hub_row(cls, row: HubRow) -> claf2.Example:
            return claf2.TextExample(id=row.id, text_a=str(row["review"]), label="1" if row["stars"] > 3 else "0")

    from claf2.heads import heads
    from claf2.task import tasks

    register(heads, "review", ReviewHead)
    task = tasks.get("nsmc").model_copy(update={"name": "reviews", "head": "review", "hub": "someone/reviews"})
    (tmp_path / "reviews").mkdir()
    pq.write_table(pa.table({"review": ["good", "bad"], "stars": [5, 1]}), tmp_path / "reviews/train-0.parquet")
    rows = list(task.read(convert_split(task, "train", tmp_path, "reviews", tmp_path / "cache")))
    assert [(row.text_a, row.label) for row in rows if isinstance(row, claf2.TextExample)] == [
        ("good", "1"),
        ("bad", "0"),
    ]


def test_an_objective_changes_the_inputs(
    tmp_path: Path, register: Callable[..., None], train: Callable[..., claf2.Report]
) -> None:
    seen: list[float] = []

    class MaskedInputs(claf2.Objective):
        """Replaces a share of the tokens by `[MASK]`, which has id 4 in the model of the tests."""

        share: float = 1.0

        def change_inputs(
            self, model: Any, task: str, tensors: Mapping[str, torch.Tensor]
        ) -> Mapping[str, torch.Tensor]:
            ids = tensors["input_ids"]
            masked = (torch.rand(ids.shape) < self.share) & tensors["attention_mask"].bool()
            seen.append(masked.float().mean().item())
            return {**tensors, "input_ids": ids.masked_fill(masked, 4)}

    register(objectives, "masked", MaskedInputs)
    plain = train("plain")
    masked = train("masked", "--objectives.masked", "{}")
    assert len(seen) >= 3  # at least one pass a step
    assert losses(tmp_path / "masked") != losses(tmp_path / "plain")
    assert (
        json.loads((tmp_path / "masked/run.json").read_text())["recipe"]
        != json.loads((tmp_path / "plain/run.json").read_text())["recipe"]
    )
    assert plain.tasks.keys() == masked.tasks.keys()


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.ones(rank, weight.shape[1]) / rank)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.up @ self.down


class LowRankWrapper(claf2.Wrapper):
    """Trains low-rank updates of the encoder's linear layers, and the head."""

    rank: int = 2

    def wrap(self, model: Any) -> None:
        encoder = model.encoder
        encoder.requires_grad_(False)
        for module in [module for module in encoder.modules() if isinstance(module, nn.Linear)]:
            parametrize.register_parametrization(module, "weight", LowRank(module.weight, self.rank))


def test_a_wrapper_trains_low_rank_updates(
    tmp_path: Path,
    register: Callable[..., None],
    train: Callable[..., claf2.Report],
    model_folder: Callable[..., Path],
) -> None:
    register(wrappers, "low_rank", LowRankWrapper)
    train("run", "--model.wrappers.low_rank", "{}", "--learning_rate", "1e-2")
    run = tmp_path / "run"
    before = {f"bert.{name}": weight for name, weight in load_file(model_folder() / "model.safetensors").items()}
    after = load_file(run / "best/model.safetensors")
    assert before.keys() <= after.keys()
    assert not [name for name in after if "parametrizations" in name]  # so it loads without the wrapper
    changed = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    linear = {name for name, weight in before.items() if name.endswith(".weight") and weight.dim() == 2}
    assert changed
    assert changed <= {name for name in linear if "embeddings" not in name}
    difference = after["bert.encoder.layer.0.output.dense.weight"] - before["bert.encoder.layer.0.output.dense.weight"]
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 2

    (path,) = (path for path in (run / "predictions").rglob("*") if path.is_file())
    predictions = path.read_bytes()
    path.unlink()
    claf2.evaluate(run)  # wraps the merged weights anew
    assert path.read_bytes() == predictions


def test_a_sampler_and_a_trainer(
    tmp_path: Path, register: Callable[..., None], train: Callable[..., claf2.Report]
) -> None:
    ran: list[str] = []

    class LargestSampler(claf2.Sampler):
        def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
            return {name: float(size == max(sizes.values())) for name, size in sizes.items()}

    class NoisyTrainer(claf2.Trainer):
        def run(self, context: Any) -> None:
            from claf2.training.loop import fit

            ran.append("before")
            fit(context)
            ran.append("after")

    register(samplers, "largest", LargestSampler)
    register(trainers, "noisy", NoisyTrainer)
    report = train(
        "run", "--sampler.name", "largest", "--trainer.name", "noisy", tasks=["scratch/nsmc", "scratch/klue_nli"]
    )
    assert ran == ["before", "after"]
    assert set(report.tasks) == {"nsmc", "klue_nli"}
