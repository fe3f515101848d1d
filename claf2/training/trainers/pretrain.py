"""Pre-training: one stage on a corpus, in phases of batches and rows of one size, of which some steps are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from claf2.corpus.section import Phase
from claf2.errors import ConfigError
from claf2.registry import LARGEST, Component, not_in_recipe
from claf2.training.kept_steps import KeptSteps
from claf2.training.trainers import Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.training.loop import TrainingContext


class BatchRamp(Component):
    """Batches that grow from a small size to that of the first phase, in equal increments of equally many rows."""

    batch_size: int = Field(ge=1, le=LARGEST)
    """The rows of the first batches."""
    increment: int = Field(ge=1, le=LARGEST)
    """How many rows are added at a time."""
    rows: int = Field(ge=1, le=LARGEST**2)
    """The rows after which the size of the first phase is reached."""

    def phases(self, first: Phase) -> list[Phase]:
        """Return the phases that come before the full size is reached, and the first phase itself.

        Raises:
            ConfigError: if the ramp does not fit into the first phase.
        """
        sizes = range(self.batch_size, first.batch_size, self.increment)
        if not sizes:
            raise ConfigError(
                "trainer.pretrain.batch_ramp.batch_size", f"{self.batch_size} is not below {first.batch_size}, the "
                "batch size of the first phase", hint="give a smaller one, or leave out the ramp",
            )  # fmt: skip
        end, phases = 0, []
        for size in sizes:
            end += max(1, round(self.rows / len(sizes) / size))
            phases.append(Phase(until=end, batch_size=size, max_seq_length=first.max_seq_length))
        if end >= first.until:
            problem = f"takes {end} steps, but the first phase ends before step {first.until}"
            raise ConfigError("trainer.pretrain.batch_ramp.rows", problem, hint="give fewer rows")
        return [*phases, first]


@register_trainer("pretrain")
class PretrainTrainer(Trainer):
    """Pre-train on a corpus. Phases state the length of the run, and of its rows and batches."""

    phases: list[Phase] = Field(min_length=1)
    """Consecutive parts of the run: `until` is the number of steps after which a part ends."""
    batch_ramp: BatchRamp | None = None
    """How batches grow at the beginning of the first phase; `null`: they have its size."""
    keep_step_count: int | None = not_in_recipe(None, ge=1, le=LARGEST)
    """Steps between two checkpoints that are kept in `steps/`, besides the last one; `null`: none are kept."""
    keep_last: int | None = not_in_recipe(None, ge=1, le=LARGEST)
    """How many of them stay, the latest ones; `null`: all."""
    keep_every: int | None = not_in_recipe(None, ge=1, le=LARGEST)
    """Those after a multiple of so many steps stay for good."""

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import fit

        fit(context)

    def num_steps(self) -> int:
        return self.phases[-1].until

    def all_phases(self) -> list[Phase]:
        """Return all phases, those in which batches grow included.

        Raises:
            ConfigError: if they do not follow one another.
        """
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)):
            problem = f"must end one after another, got the steps {', '.join(map(str, ends))}"
            raise ConfigError("trainer.pretrain.phases", problem)
        if self.batch_ramp is None:
            return list(self.phases)
        return [*self.batch_ramp.phases(self.phases[0]), *self.phases[1:]]

    def kept_steps(self) -> KeptSteps | None:
        if self.keep_step_count is None:
            return None
        return KeptSteps(self.keep_step_count, self.keep_last, self.keep_every)
