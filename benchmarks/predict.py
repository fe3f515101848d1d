"""What a prediction costs: `claf2.Predictor` against the tokenizer and the model by hand, as a ratio.

Both answer the same requests in one process, in pairs whose order alternates, so that a machine that becomes slower or
faster meanwhile slows both. The ratio is the median over the pairs; its spread is the middle 80 % of them.

    python benchmarks/predict.py RUN [--pairs 200] [--rows 1 8 64] [--cpu]

RUN is the folder of a finished run that classifies one text or a pair. By hand: `AutoTokenizer` and
`AutoModelForSequenceClassification` of its `best/`, padded to the longest row, softmax over the logits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from claf2.export.predictor import Predictor
from claf2.readers import TextExample
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64], help="Requests per call.")
    parser.add_argument("--cpu", action="store_true", help="Processor time, which other processes disturb less.")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    predictor, by_hand = Predictor(given.run), load_by_hand(given.run)
    requests = read_requests(given.run, max(given.rows))
    print(f"{torch.get_num_threads()} threads, {given.pairs} pairs each, milliseconds of {clock.__name__} per call")
    for rows in given.rows:
        batch = requests[:rows]
        check_same(predictor, by_hand, batch)
        pairs = np.array([time_pair(predictor, by_hand, batch, turn, clock) for turn in range(-5, given.pairs)][5:])
        ratios = pairs[:, 0] / pairs[:, 1]
        low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        ours, theirs = 1000 * np.median(pairs, axis=0)
        print(
            f"{rows:>4} requests: predictor {ours:.2f}, by hand {theirs:.2f}, "
            f"ratio {middle:.2f} (80 % of the pairs: {low:.2f} to {high:.2f})"
        )


def load_by_hand(run: Path) -> Callable[[list[dict[str, str]]], np.ndarray]:
    """Return a function from requests to probabilities, (B, C), that uses `transformers` alone."""
    tokenizer = AutoTokenizer.from_pretrained(run / "best")
    model = AutoModelForSequenceClassification.from_pretrained(run / "best").eval()
    length = open_run(run).experiment.only_task.featurizer.max_seq_length

    def by_hand(batch: list[dict[str, str]]) -> np.ndarray:
        texts = [[row[name] for row in batch] for name in ("text_a", "text_b") if name in batch[0]]
        inputs = tokenizer(*texts, truncation=True, max_length=length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            probabilities: np.ndarray = model(**inputs).logits.softmax(-1).numpy()
        return probabilities

    return by_hand


def read_requests(run: Path, count: int) -> list[dict[str, str]]:
    """Return requests from the run's validation data."""
    (splits,) = locate_splits(open_run(run).experiment).values()
    requests: list[dict[str, str]] = []
    while len(requests) < count:
        for example in splits["valid"].examples():
            assert isinstance(example, TextExample), "give a run that classifies one text or a pair"
            pair = {} if example.text_b is None else {"text_b": example.text_b}
            requests.append({"text_a": example.text_a, **pair})
    return requests


def check_same(predictor: Predictor, by_hand: Callable[..., np.ndarray], batch: list[dict[str, str]]) -> None:
    """Check that both give the same probabilities."""
    predictions = predictor.predict(batch)
    ours = [[*(prediction.details or {})["probabilities"].values()] for prediction in predictions]
    np.testing.assert_allclose(ours, by_hand(batch), atol=1e-5)


def time_pair(
    predictor: Predictor,
    by_hand: Callable[..., np.ndarray],
    batch: list[dict[str, str]],
    turn: int,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Return the seconds that the predictor takes, and those by hand; which goes first alternates."""
    seconds = {}
    for name in ("predictor", "by hand") if turn % 2 else ("by hand", "predictor"):
        started = clock()
        if name == "by hand":
            by_hand(batch)
        elif len(batch) == 1:
            predictor(**batch[0])
        else:
            predictor.predict(batch)
        seconds[name] = clock() - started
    return seconds["predictor"], seconds["by hand"]


if __name__ == "__main__":
    main()
