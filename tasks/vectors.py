"""Tasks of sentence encoders: similarity, pairs and retrieval, on the files of other tasks.

Tables are loaded in the order of their names, so those of the tasks below are there.
"""

from __future__ import annotations

from claf2 import Suite, Task, get_task, register_suite, register_task
from claf2.metrics import Metric
from claf2.metrics.correlation import AveragePrecision
from claf2.readers import Delimited, Triplets


def derive(name: str, base: str, head: str, metrics: tuple[str | Metric, ...], note: str, **fields: object) -> None:
    """Register a task on the files of another one, whose texts are encoded separately."""
    task = get_task(base)
    kept = ("language", "reader", "test_reader", "files", "hub", "hub_splits", "hub_columns", "source", "licence")
    values = {field: getattr(task, field) for field in kept} | fields
    register_task(Task(name=name, head=head, metrics=metrics, notes=(note,), **values))


SIMILARITY = ("korsts", "klue_sts", "stsb", "jsts")

for base in SIMILARITY:
    derive(
        f"{base}_embed", base, "embed", ("spearman", "pearson"),
        f"The score is the rank correlation of cosines with the numbers of {base}, as in MTEB.",
    )  # fmt: skip

PAIRS = {"question_pair": 0.0, "paws_ko": 1.0}
"""Task → the label of texts that belong together."""

for base, positive in PAIRS.items():
    derive(
        f"{base}_embed", base, "embed", (AveragePrecision(positive=positive),),
        f"The score is the average precision of cosines at the pairs of {base} that say the same, as in MTEB.",
    )  # fmt: skip

RETRIEVAL = ("korquad", "jsquad", "squad")

for base in RETRIEVAL:
    derive(
        f"{base}_retrieval", base, "embed_in_batch", ("ndcg",),
        "A question is to find its paragraph among all different paragraphs of the file.",
        hub=None, hub_splits={}, hub_columns={},
    )  # fmt: skip

for base in ("klue_nli", "kornli"):
    derive(
        f"{base}_triplets", base, "embed_in_batch", ("ndcg",),
        "A premise is to find its entailment among those of all premises; contradictions are hard negatives.",
        reader=Triplets(of=get_task(base).reader), hub=None, hub_splits={}, hub_columns={},
    )  # fmt: skip

register_task(
    Task(
        name="sentences",
        language="ko",
        head="embed_in_batch",
        reader=Delimited(columns={"text_a": 0}, header=False),
        metrics=("ndcg",),
        notes=(
            "Any file with a text on each line. It is trained on together with a task of similarity, which selects the "
            "checkpoint: a text always finds itself, so its own scores say nothing.",
        ),
    )
)

register_suite(
    Suite(
        name="sts",
        columns={f"{base}_embed": ("valid/spearman",) for base in SIMILARITY},
        configs={f"{base}_embed": f"embed/{base}" for base in SIMILARITY},
        recipes=("zero_shot", "cosine"),
        notes="Spearman correlation of cosines on development sets. `zero_shot` evaluates encoders as they are, and "
        "`cosine` trains them on the task first.",
    )
)

register_suite(
    Suite(
        name="pairs",
        columns={f"{base}_embed": ("valid/average_precision",) for base in PAIRS},
        configs={f"{base}_embed": f"embed/{base}" for base in PAIRS},
        recipes=("zero_shot", "cosine"),
        notes="Average precision of cosines on development sets, at the pairs that say the same. `zero_shot` evaluates "
        "encoders as they are, and `cosine` trains them on the task first.",
    )
)

register_suite(
    Suite(
        name="retrieval",
        columns={f"{base}_retrieval": ("valid/ndcg_at_10",) for base in RETRIEVAL},
        configs={f"{base}_retrieval": f"embed/{base}" for base in RETRIEVAL},
        recipes=("zero_shot", "in_batch"),
        notes="nDCG@10 of each question's paragraph among all different paragraphs of the development set. `zero_shot` "
        "evaluates encoders as they are, and `in_batch` trains them on the task first.",
    )
)
