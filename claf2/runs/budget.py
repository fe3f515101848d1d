"""The cost of a pre-training before it begins: tokens, epochs, floating-point operations, and days on some hardware."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from claf2.corpus.section import Phase
from claf2.errors import RunError, nearest
from claf2.runs.estimate import StepCosts, count_tokens, estimate_memory, measure_steps, seconds_to_save
from claf2.runs.prepare import PreparedRun, build_corpus_stream
from claf2.training.state import State

__all__ = ["Hardware", "flops_per_token", "pretraining_costs"]

PEAK_FLOPS: Mapping[str, float] = {"T4": 65e12, "V100": 125e12, "A100": 312e12, "H100": 989e12, "H200": 989e12}
"""The most floating-point operations a second of a device with 16-bit matrix products, without sparsity, as NVIDIA's
data sheets state it."""

SAMPLED_BLOCKS = 4
"""How many parts of the text are tokenized to learn how many tokens it has."""

SAMPLED_STEPS = 2
"""How many batches of each phase are read to learn how full its rows are."""


@dataclass(frozen=True)
class Hardware:
    """The devices that a pre-training would run on."""

    name: str
    devices: int = 1
    utilization: float = 0.3
    """The share of the peak that a training reaches: model FLOPs utilization."""
    price: float | None = None
    """Of one device for an hour."""

    def __post_init__(self) -> None:
        given = f"--hardware {self.devices}x{self.name}"
        if self.name not in PEAK_FLOPS:
            raise RunError(f"{given}: not a known device; {nearest(self.name, PEAK_FLOPS)}, e.g. 16xV100")
        if self.devices < 1:
            raise RunError(f"{given}: give one device or more, e.g. 16x{self.name}")
        if not 0 < self.utilization <= 1:
            raise RunError(f"--utilization {self.utilization:g}: give a share of the peak above 0, at most 1, e.g. 0.3")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise RunError(f"--price {self.price:g}: give the price of a device for an hour, 0 or more")

    @classmethod
    def parse(cls, text: str, utilization: float, price: float | None) -> Hardware:
        """Read a number of devices and their name, such as ``16xV100``.

        Raises:
            RunError: if the device is unknown, or a number is out of range.
        """
        match = re.fullmatch(r"(?:(\d+)\s*x\s*)?(\w+)", text.strip(), re.IGNORECASE)
        if match is None:
            raise RunError(f"--hardware {text}: not a known device; {nearest(text, PEAK_FLOPS)}, e.g. 16xV100")
        return cls(match[2].upper(), int(match[1] or 1), utilization, price)

    def describe(self, flops: float) -> dict[str, Any]:
        """Return how long some operations take, and what they cost."""
        peak = PEAK_FLOPS[self.name]
        hours = flops / (peak * self.devices * self.utilization) / 3600
        return {
            "name": self.name,
            "devices": self.devices,
            "peak": peak,
            "utilization": self.utilization,
            "days": hours / 24,
            "price": self.price,
            "cost": None if self.price is None else hours * self.devices * self.price,
        }


def flops_per_token(model: Any, length: int, predicted_share: float, decoded_share: float = 0.0) -> float:
    """Return the floating-point operations of a training step per token: three times those of a forward pass.

    A pass multiplies each token by every weight of the layers, and attention adds two products of ``length`` times the
    width per layer; the decoder multiplies predicted tokens alone by the embeddings. Weights that several layers share,
    as ALBERT's, count once for each of them. What grows with neither, such as normalization, is left out.

    Args:
        model: a module of `transformers` with its configuration.
        length: the tokens of a row.
        predicted_share: the predicted tokens as a share of those that are read.
        decoded_share: the tokens that go through the layers a second time, in a decoder, as a share of the same.
    """
    config = model.config
    width, layers = int(config.hidden_size), int(config.num_hidden_layers)
    encoder = model.base_model
    tables = {id(module.weight) for module in encoder.modules() if type(module).__name__.endswith("Embedding")}
    uses = layers / getattr(config, "num_hidden_groups", layers)
    weights = sum(
        int(weight.numel()) * (uses if ".albert_layer_groups." in name else 1)
        for name, weight in encoder.named_parameters()
        if weight.ndim == 2 and id(weight) not in tables
    )
    embedding = int(getattr(config, "embedding_size", width))
    decoder = embedding * int(config.vocab_size) + width * embedding
    stack = weights + 2 * layers * width * length
    return 6.0 * ((1 + decoded_share) * stack + predicted_share * decoder)


def pretraining_costs(
    prepared: PreparedRun, state: State, evaluations: int, steps: int, hardware: Hardware | None
) -> dict[str, Any]:
    """Return phases, memory and seconds of what is left of a pre-training.

    Args:
        prepared: the run; its model must not be used afterwards where steps are measured.
        state: where it stands.
        evaluations: how often it is still evaluated.
        steps: the steps to measure of each phase; 0: none.
        hardware: what it would run on.
    """
    trainer, model = prepared.run.experiment.trainer, prepared.model.heads[0]
    (task,) = prepared.texts
    has_decoder = bool(prepared.run.experiment.tasks[task].head.teacher_forced)
    phases, measured, start = [], [], 0
    for phase in trainer.all_phases():
        fill, predicted_share = _sample(prepared, phase)
        left = max(0, phase.until - max(start, state.step))
        tokens = left * phase.batch_size * phase.max_seq_length * fill
        decoded_share = predicted_share if has_decoder else 0.0
        flops = tokens * flops_per_token(model, phase.max_seq_length, predicted_share, decoded_share)
        costs = _measure(prepared, phase, steps) if steps and left else None
        measured += [] if costs is None else [(costs, left, flops)]
        sizes = phase.model_dump()
        phases.append({**sizes, "steps": left, "tokens": tokens, "fill": fill, "flops": flops})
        start = phase.until
    total = sum(float(phase["flops"]) for phase in phases)
    corpus_tokens = _corpus_tokens(prepared)
    all_tokens = sum(float(phase["tokens"]) for phase in phases)
    training = sum(costs.seconds_per_step * left for costs, left, _ in measured)
    pretraining = {
        "phases": phases,
        "tokens": all_tokens,
        "corpus_tokens": corpus_tokens,
        "epochs": all_tokens / corpus_tokens if corpus_tokens else math.nan,
        "flops": total,
        "flops_per_second": sum(flops for _, _, flops in measured) / training if training else None,
        "hardware": None if hardware is None else hardware.describe(total),
    }
    if not measured:
        return {"pretraining": pretraining, "memory_mib": estimate_memory(prepared, None), "seconds": None}
    largest = max((costs for costs, _, _ in measured), key=lambda costs: costs.activation_bytes)
    evaluation = largest.seconds_per_evaluated_token * count_tokens(prepared.valid) * evaluations
    saving = seconds_to_save(prepared, evaluations)
    times = {"training": training, "evaluation": evaluation, "saving": saving, "stages": 0.0}
    times |= {"all": sum(times.values()), "step": measured[0][0].seconds_per_step}
    return {
        "pretraining": pretraining,
        "memory_mib": estimate_memory(prepared, largest),
        "seconds": {**times, "measured_steps": steps},
    }


def _one_phase(prepared: PreparedRun, phase: Phase, steps: int) -> Any:
    """Return a stream of some batches of a phase, from the beginning of the text."""
    sizes: Sequence[Phase] = [phase.model_copy(update={"until": steps})]
    return build_corpus_stream(prepared.run, prepared.texts, sizes)


def _sample(prepared: PreparedRun, phase: Phase) -> tuple[float, float]:
    """Return which share of the places in the rows of a phase are tokens, and which share of these are predicted."""
    tokens = places = predicted = 0
    for _, batches in islice(_one_phase(prepared, phase, SAMPLED_STEPS).epoch(0), SAMPLED_STEPS):
        for batch in batches:
            tokens += int(batch.arrays["attention_mask"].sum())
            places += batch.arrays["attention_mask"].size
            predicted += int((batch.arrays["labels"] >= 0).sum())
    return tokens / places, predicted / tokens


def _measure(prepared: PreparedRun, phase: Phase, steps: int) -> StepCosts:
    return measure_steps(replace(prepared, stream=_one_phase(prepared, phase, steps + 1)), steps)


def _corpus_tokens(prepared: PreparedRun) -> float:
    """Return about how many tokens an epoch has: the stored bytes of all text by the weights of their sources, times
    the tokens per stored byte of a few blocks."""
    ((_, text),) = prepared.texts.items()
    corpus = text.open(prepared.run.tokenizer, 0)
    sizes = [(block.path.stat().st_size if block.end is None else block.end) - block.start for block in corpus.blocks]
    weights = [text.section.sources[block.source].weight for block in corpus.blocks]
    count = min(SAMPLED_BLOCKS, len(corpus))
    chosen = [index * len(corpus) // count for index in range(count)]
    density = sum(len(corpus.shard(number)) for number in chosen) / sum(sizes[number] for number in chosen)
    return density * sum(size * weight for size, weight in zip(sizes, weights, strict=True))
