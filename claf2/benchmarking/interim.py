"""A sequential test: has a score dropped, as far as the seeds so far can tell?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from claf2.benchmarking.runs import ScoredRuns
from claf2.benchmarking.statistics import RESAMPLES, Difference, compare_runs
from claf2.errors import Claf2Error

__all__ = ["Decision", "InterimAnalysis", "interim_test"]

Decision: TypeAlias = Literal["pass", "fail", "undecided", "no evidence"]
"""``undecided``: another seed may decide. ``no evidence``: the budget is used up."""


@dataclass(frozen=True)
class InterimAnalysis:
    """The result of a sequential test after some of its seeds."""

    decision: Decision
    difference: Difference
    alpha: float
    """The share of the error rate that this analysis spends. The interval's coverage is ``1 - 2 · alpha``."""


def interim_test(
    baseline: ScoredRuns, runs: ScoredRuns, *, budget: int, tolerance: float, alpha: float = 0.05,
    resamples: int = RESAMPLES, seed: int = 0, for_noninferiority: bool = False,
) -> InterimAnalysis:  # fmt: skip
    """Test whether a score has dropped by more than the tolerance, after each seed from the second to the last.

    The model fails if the whole interval of its drop lies beyond the tolerance, and passes if it lies within. Over all
    analyses together, a model whose drop is within the tolerance fails with a probability of at most ``alpha``, and one
    whose drop is beyond it passes with at most that.

    Args:
        baseline: the model compared with.
        runs: the runs so far of the model under test.
        budget: the largest number of seeds.
        tolerance: by how much the score may drop, in its unit.
        alpha: the error rate of all analyses together.
        resamples: how many bootstrap resamples of the examples are drawn.
        seed: of the bootstrap.
        for_noninferiority: as in ``compare_runs``.

    Raises:
        Claf2Error: if there is one seed, or more than the budget; and as ``compare_runs`` does.
    """
    if not 2 <= len(runs) <= budget:
        raise Claf2Error(f"a sequential gate tests after 2 to {budget} seeds, not after {len(runs)}")
    # Testing at the full level after every seed would raise false alarms with each test. The level is therefore spent
    # in shares proportional to 1, 2, …, budget - 1, which add up to alpha (Bonferroni). This holds for any dependence
    # between the analyses; the boundaries of Pocock or O'Brien and Fleming assume normal scores with known variance.
    # Shares grow because early analyses, with few degrees of freedom, have little power.
    share = alpha * (len(runs) - 1) / (budget * (budget - 1) / 2)
    difference = compare_runs(
        baseline, runs, tolerance=tolerance, level=1 - 2 * share, resamples=resamples, seed=seed,
        for_noninferiority=for_noninferiority,
    )  # fmt: skip
    if difference.p_worse < share:
        return InterimAnalysis("fail", difference, share)
    if difference.p_worse > 1 - share:
        return InterimAnalysis("pass", difference, share)
    return InterimAnalysis("no evidence" if len(runs) == budget else "undecided", difference, share)
