"""How much faster claf2 makes the vectors of texts than `sentence-transformers`, with the same encoder.

Both make the vectors of the same questions and paragraphs in one shuffled list, one after another in pairs, so that
other work on the machine slows both down. Printed are CPU seconds, and the ratio of each pair: its median, and the
lowest and the highest.

    python benchmarks/embedding.py ENCODER --squad DATA/KorQuAD_v1.0_dev.json --texts 400 --pairs 5

One thread: OMP_NUM_THREADS=1 taskset -c 0. It needs `pip install sentence-transformers`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from claf2.models.sentence_modules import SentenceModules, read_sentence_modules
from claf2.retrieval.encoders import EncoderFolder
from claf2.retrieval.evaluation import read_questions

QUESTIONS = 0.8
"""The share of questions among the texts; the others are paragraphs."""


def read_texts(path: Path, count: int) -> list[str]:
    """Return questions and paragraphs of a file in SQuAD's format, shuffled."""
    questions = read_questions(path)
    dice = random.Random(0)
    paragraphs = sorted({question.context for question in questions})
    asked = round(QUESTIONS * count)
    texts = dice.sample([question.question for question in questions], asked)
    texts += dice.sample(paragraphs, min(len(paragraphs), count - asked))
    dice.shuffle(texts)
    return texts


def measure(encode: Callable[[], NDArray[np.float32]]) -> tuple[float, NDArray[np.float32]]:
    """Return the CPU seconds of a call, and the vectors."""
    start = time.process_time()
    vectors = encode()
    return time.process_time() - start, vectors


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="a folder that both open")
    parser.add_argument("--squad", type=Path, required=True, help="a file in SQuAD's format, for its texts")
    parser.add_argument("--texts", type=int, default=400, help="how many texts (default: 400)")
    parser.add_argument("--pairs", type=int, default=5, help="how often both are measured (default: 5)")
    parser.add_argument("--batch_size", type=int, default=32, help="of sentence-transformers (default: 32)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    own = EncoderFolder(given.encoder)
    theirs = SentenceTransformer(str(given.encoder), device="cpu")
    modules = read_sentence_modules(given.encoder) or SentenceModules("mean")
    if modules.max_length is None:
        theirs.max_seq_length = 512
    texts = read_texts(given.squad, given.texts)
    lengths = [own.token_length(encoded) for encoded in own.tokenize(texts)]
    low, middle, high = np.percentile(lengths, [10, 50, 90])
    print(f"{len(texts)} texts, {sum(lengths):,} tokens: {low:.0f}, {middle:.0f} and {high:.0f} at 10, 50 and 90 %")

    def encode_theirs() -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = theirs.encode(
            texts, batch_size=given.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    for encode in (encode_theirs, lambda: own.encode(texts)):  # the first passes allocate memory
        encode()
    ratios, seconds, difference = [], [], 0.0
    for _ in range(given.pairs):
        first, expected = measure(encode_theirs)
        second, vectors = measure(lambda: own.encode(texts))
        ratios.append(first / second)
        seconds.append((first, second))
        difference = max(difference, float(np.abs(vectors - expected).max()))
    times = " and ".join(f"{statistics.median(values):.2f}" for values in zip(*seconds, strict=True))
    print(f"sentence-transformers and claf2: {times} s; largest difference of a number {difference:.1e}")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
