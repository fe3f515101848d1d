"""Samplers: which task each step of an epoch is of, where a run has several.

An epoch has as many steps as all tasks have batches. A sampler draws from the generator that it is given and keeps
nothing, so an epoch's order is a function of the seed, the epoch and the tasks that rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from claf2.errors import ConfigError, nearest
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Sampler", "register_sampler", "samplers"]


class Sampler(Component, ABC):
    """A way to mix tasks; its fields are the block of the sampler section that is named after it."""

    def check(self, tasks: Collection[str]) -> None:
        """Raise ``ConfigError`` where the sampler does not fit the tasks."""
        return None

    @abstractmethod
    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        """Return how often each task is to be drawn, relative to the others.

        Args:
            sizes: the batches that one pass over each task has.
            progress: the part of the epochs that is done before this one: 0 in the first, 1 in the last.
        """

    def order(self, sizes: Mapping[str, int], steps: int, progress: float, dice: np.random.Generator) -> list[str]:
        """Return the task of each of ``steps`` steps."""
        return self._draw(self.shares(sizes, progress), steps, dice)

    def _draw(self, shares: Mapping[str, float], steps: int, dice: np.random.Generator) -> list[str]:
        whole = sum(shares.values())
        if not whole:  # only tasks without a share are left
            return self._draw(dict.fromkeys(shares, 1.0), steps, dice)
        names = list(shares)
        return [names[index] for index in dice.choice(len(names), steps, p=[shares[name] / whole for name in names])]


samplers: Registry[type[Sampler]] = Registry("sampler")
register_sampler = samplers.register


@register_sampler("mtdnn")
class MtDnn(Sampler):
    """Every batch of every task once an epoch, shuffled (Liu et al., 2019, algorithm 1). The steps of tasks that rest
    go to the others in proportion to their size."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return sizes

    def order(self, sizes: Mapping[str, int], steps: int, progress: float, dice: np.random.Generator) -> list[str]:
        once = [name for name, size in sizes.items() for _ in range(size)]
        more = self._draw(sizes, steps - len(once), dice) if steps > len(once) else []
        everything = once + more
        return [everything[index] for index in dice.permutation(len(everything))]


@register_sampler("proportional")
class Proportional(Sampler):
    """Each step's task is drawn in proportion to the tasks' size."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return sizes


@register_sampler("temperature")
class Temperature(Sampler):
    """In proportion to size ** (1 / temperature) (Arivazhagan et al., 2019)."""

    temperature: float = Field(5.0, ge=1)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: size ** (1 / self.temperature) for name, size in sizes.items()}


@register_sampler("annealed")
class Annealed(Sampler):
    """In proportion to size ** alpha, alpha going from 1 in the first epoch to ``last`` in the last one (Stickland and
    Murray, 2019)."""

    last: float = Field(0.2, ge=0, le=1)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        alpha = 1 - (1 - self.last) * progress
        return {name: size**alpha for name, size in sizes.items()}


@register_sampler("uniform")
class Uniform(Sampler):
    """Each task as often as the others."""

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return dict.fromkeys(sizes, 1.0)


@register_sampler("weighted")
class Weighted(Sampler):
    """In proportion to given weights; a task without one has weight 1."""

    weights: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}

    def check(self, tasks: Collection[str]) -> None:
        path = "sampler.weighted.weights"
        for name in self.weights:
            if name not in tasks:
                raise ConfigError(path, f"{name!r} is no task of this run", hint=nearest(name, tasks))
        if not any(self.weights.get(name, 1.0) for name in tasks):
            raise ConfigError(path, "are 0 for all tasks")

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: self.weights.get(name, 1.0) for name in sizes}


@register_sampler("capped")
class Capped(Sampler):
    """In proportion to size, no size counting for more than ``batches`` (Raffel et al., 2020)."""

    batches: int = Field(1000, ge=1)

    def shares(self, sizes: Mapping[str, int], progress: float) -> Mapping[str, float]:
        return {name: min(size, self.batches) for name, size in sizes.items()}
