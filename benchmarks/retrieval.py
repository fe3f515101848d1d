"""Speed and quality of searches, and the speed of the search for near duplicates.

    python benchmarks/retrieval.py --passages 10000
    python benchmarks/retrieval.py --passages 100000 --rows 100000
    python benchmarks/retrieval.py --squad DATA/KorQuAD_v1.0_dev.json --encoder ENCODER \\
        --query_prefix "query: " --passage_prefix "passage: "
    python benchmarks/retrieval.py --rows 1000000
    python benchmarks/retrieval.py --texts 100000 sentences.txt --encoder ENCODER

Generated passages are words of random syllables, whose frequencies follow Zipf's law. One thread:
OMP_NUM_THREADS=1 taskset -c 0. Times are those of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from claf2.hygiene.similar import find_similar, group_pairs
from claf2.retrieval.bm25 import best_places
from claf2.retrieval.encoders import open_encoder
from claf2.retrieval.evaluation import evaluate_search, read_questions
from claf2.retrieval.index import CANDIDATES, IndexSettings, PassageIndex, build_index
from claf2.retrieval.neighbors import Neighbors, build_neighbors
from claf2.retrieval.passages import Passage, read_passages

WORDS = 50_000
PASSAGE_WORDS = 120
ROW_WORDS = 9
QUESTION_WORDS = 8
QUESTIONS = 500


class Generator:
    """Words and texts of random Korean syllables."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._words = ["".join(map(chr, self._rng.integers(0xAC00, 0xAC00 + 3000, size))) for size in
                       self._rng.integers(1, 5, WORDS)]  # fmt: skip

    def text(self, mean: int) -> str:
        """Return a text with about this many words."""
        size = int(self._rng.integers(mean // 2, mean * 3 // 2 + 1))
        places = np.minimum(self._rng.zipf(1.2, size) - 1, WORDS - 1)
        return " ".join(self._words[place] for place in places)

    def question(self, text: str) -> str:
        """Return some of the words of a text."""
        words = text.split()
        start = int(self._rng.integers(0, max(1, len(words) - QUESTION_WORDS)))
        return " ".join(words[start : start + QUESTION_WORDS])

    def rows(self, count: int) -> list[tuple[str]]:
        """Return short rows, of which one in twenty repeats another one with a letter more."""
        rows = [(self.text(ROW_WORDS),) for _ in range(count)]
        for place, copied in self._rng.integers(0, count, (count // 20, 2)):
            rows[place] = (f"{rows[copied][0]}{self._words[int(place) % WORDS][0]}",)
        return rows


def peak_memory() -> str:
    """Return the peak memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def measure_search(count: int) -> None:
    """Index generated passages, and search for words of some of them."""
    generator = Generator()
    passages = [Passage(generator.text(PASSAGE_WORDS)) for _ in range(count)]
    characters = sum(len(passage.text) for passage in passages) / count
    print(f"{count:,} passages of {characters:.0f} characters; memory before: {peak_memory()}")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        build_index(Path(folder) / "index", passages, IndexSettings("bigrams"))
        seconds = time.process_time() - start
        size = sum(path.stat().st_size for path in (Path(folder) / "index").iterdir()) / 2**20
        print(f"  index: {seconds:.1f} s, {size:.0f} MiB on the disk; peak memory: {peak_memory()}")
        index = PassageIndex(Path(folder) / "index")
        asked = np.random.default_rng(1).integers(0, count, QUESTIONS)
        questions = [generator.question(passages[place].text) for place in asked]
        index.find_places(questions[:20], 5)
        times, hits = [], 0
        for place, question in zip(asked, questions, strict=True):
            start = time.process_time()
            found = index.find_places([question], 5)[0]
            times.append(1000 * (time.process_time() - start))
            hits += found[0][0] == place
        median, p95 = np.percentile(times, [50, 95])
        print(f"  search: median {median:.2f} ms, p95 {p95:.2f} ms; own passage first: {hits / QUESTIONS:.1%}")


def measure_quality(path: Path, settings: IndexSettings) -> None:
    """Find the paragraphs of the questions of a file."""
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(Path(folder) / "index", read_passages(path), settings)
        for method in ("bm25", "dense", "hybrid") if settings.encoder else ("bm25",):
            start = time.process_time()
            report = evaluate_search(index, read_questions(path), method)
            seconds = time.process_time() - start
            scores = ", ".join(f"{key} {score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
                               for key, score in report.scores.items())  # fmt: skip
            each = 1000 * seconds / len(report.predictions)
            print(f"{path.name}, {len(index)} passages, {method}: {scores}; {each:.2f} ms a question")


def measure_neighbors(count: int, file: Path, encoder: str) -> None:
    """Compare approximate searches with exact ones: the first texts of a file are the collection, others are looked
    for."""
    lines = list(dict.fromkeys(filter(None, map(str.strip, file.open(encoding="utf-8")))))
    texts, asked = lines[:count], lines[count : count + QUESTIONS]
    vectors, questions = (open_encoder(Path(encoder)).encode(part) for part in (texts, asked))
    print(f"{len(texts):,} texts, {vectors.shape[1]} numbers a vector, {len(asked)} other texts as questions")
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        build_neighbors(Path(folder), vectors)
        seconds = time.process_time() - start
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        print(
            f"  clusters: {seconds:.1f} s, {size:.0f} MiB on the disk, and {vectors.nbytes / 2**20:.0f} MiB of vectors"
        )
        neighbors = Neighbors(Path(folder))
        times: dict[str, list[float]] = {"exact": [], "approximate": []}
        found = []
        for question in questions:
            start = time.process_time()
            nearest = best_places(vectors @ question, 10)
            times["exact"].append(1000 * (time.process_time() - start))
            start = time.process_time()
            places = neighbors.find(question, CANDIDATES)
            best = places[best_places(vectors[places] @ question, 10)]
            times["approximate"].append(1000 * (time.process_time() - start))
            found.append(len(np.intersect1d(nearest, best)) / len(nearest))
        for name, taken in times.items():
            print(f"  {name}: median {np.median(taken):.2f} ms, p95 {np.percentile(taken, 95):.2f} ms")
        complete = np.mean(np.equal(found, 1))
        print(f"  of the 10 nearest, {np.mean(found):.1%} are found; all of them for {complete:.1%} of the questions")


def measure_duplicates(count: int) -> None:
    """Look for near duplicates in generated rows."""
    rows = Generator().rows(count)
    characters = sum(len(row[0]) for row in rows) / count
    start = time.process_time()
    groups = group_pairs(find_similar(rows), count)
    seconds = time.process_time() - start
    print(f"{count:,} rows of {characters:.0f} characters: {len(groups):,} groups of near duplicates")
    print(f"  {seconds:.1f} s; peak memory: {peak_memory()}")


def main() -> None:
    """Run the measurements that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, help="index and search this many generated passages")
    parser.add_argument("--rows", type=int, help="look for near duplicates in this many generated rows")
    parser.add_argument("--squad", type=Path, help="search for the paragraphs of a file in SQuAD's format")
    parser.add_argument("--texts", nargs=2, metavar=("N", "FILE"), help="compare approximate searches with exact ones "
                        "among the first lines of a file")  # fmt: skip
    parser.add_argument("--encoder", help="with --squad: also by vectors; with --texts: what makes the vectors")
    parser.add_argument("--query_prefix", default="")
    parser.add_argument("--passage_prefix", default="")
    given = parser.parse_args()
    if given.passages:
        measure_search(given.passages)
    if given.squad:
        prefixes = {"query_prefix": given.query_prefix, "passage_prefix": given.passage_prefix}
        measure_quality(given.squad, IndexSettings(encoder=given.encoder, **prefixes))
    if given.texts:
        measure_neighbors(int(given.texts[0]), Path(given.texts[1]), given.encoder)
    if given.rows:
        measure_duplicates(given.rows)


if __name__ == "__main__":
    main()
