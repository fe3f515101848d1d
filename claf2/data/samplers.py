"""Samplers: how the tasks of a run are interleaved.

An epoch has as many steps as all tasks have batches. A sampler draws from the generator that it is given and has no
state, so the order of an epoch is a function of the seed, the epoch and the paused tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from claf2.errors import ConfigError, nearest
from claf2.registry import LARGEST, Component, Registry

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Sampler", "register_sampler", "samplers"]


class Sampler(Component, ABC):
    """A way to mix tasks; its fields are the block of section `sampler` with its name."""

    def check(self, tasks: Collection[str]) -> None:
        """Check that the sampler fits the tasks.

        Raises:
            ConfigError: where it does not.
        """
        return None

    @abstractmethod
    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        """Return how often each task is drawn, relative to the others.

        Args:
            sizes: the number of batches of one pass over each task.
            progress: the share of the epochs before this one: 0 in the first, 1 in the last.
        """

    def order(self, sizes: Mapping[str, int], steps: int, progress: float, rng: np.random.Generator) -> list[str]:
        """Return the task of each of ``steps`` steps."""
        return self._draw(self.shares(sizes, progress), steps, rng)

    def _draw(self, shares: Mapping[str, float], steps: int, rng: np.random.Generator) -> list[str]:
        total = sum(shares.values())
        if not total:  # every task with a share is paused
            return self._draw(dict.fromkeys(shares, 1.0), steps, rng)
        names = list(shares)
        return [names[index] for index in rng.choice(len(names), steps, p=[shares[name] / total for name in names])]


samplers: Registry[type[Sampler]] = Registry("sampler")
"""The registered samplers."""
register_sampler = samplers.register


@register_sampler("mtdnn")
class MtDnnSampler(Sampler):
    """Every batch of every task once per epoch, shuffled (Liu et al., 2019, algorithm 1). The steps of paused tasks go
    to the others in proportion to their size."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return sizes

    def order(self, sizes: Mapping[str, int], steps: int, progress: float, rng: np.random.Generator) -> list[str]:
        once = [name for name, size in sizes.items() for _ in range(size)]
        extra = self._draw(sizes, steps - len(once), rng) if steps > len(once) else []
        names = once + extra
        return [names[index] for index in rng.permutation(len(names))]


@register_sampler("proportional")
class ProportionalSampler(Sampler):
    """The task of each step is drawn in proportion to the tasks' sizes."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return sizes


@register_sampler("temperature")
class TemperatureSampler(Sampler):
    """In proportion to size ** (1 / temperature) (Arivazhagan et al., 2019)."""

    temperature: float = Field(5.0, ge=1, le=LARGEST)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: size ** (1 / self.temperature) for name, size in sizes.items()}


@register_sampler("annealed")
class AnnealedSampler(Sampler):
    """In proportion to size ** alpha, alpha going from 1 in the first epoch to ``last`` in the last one (Stickland and
    Murray, 2019)."""

    last: float = Field(0.2, ge=0, le=1)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        alpha = 1 - (1 - self.last) * progress
        return {name: size**alpha for name, size in sizes.items()}


@register_sampler("uniform")
class UniformSampler(Sampler):
    """All tasks equally often."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return dict.fromkeys(sizes, 1.0)


@register_sampler("weighted")
class WeightedSampler(Sampler):
    """In proportion to given weights; the default weight is 1."""

    weights: Mapping[str, Annotated[float, Field(ge=0, le=LARGEST)]] = {}

    def check(self, tasks: Collection[str]) -> None:
        path = "sampler.weighted.weights"
        for name in self.weights:
            if name not in tasks:
                raise ConfigError(path, f"{name!r} is not a task of this run", hint=nearest(name, tasks))
        if not any(self.weights.get(name, 1.0) for name in tasks):
            raise ConfigError(path, "must not be 0 for all tasks")

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: self.weights.get(name, 1.0) for name in sizes}


@register_sampler("capped")
class CappedSampler(Sampler):
    """In proportion to size, capped at ``batches`` (Raffel et al., 2020)."""

    batches: int = Field(1000, ge=1, le=LARGEST)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: min(size, self.batches) for name, size in sizes.items()}
