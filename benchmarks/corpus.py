"""Measures the pre-training stream beside the collators of transformers: ``python benchmarks/corpus.py``.

Both sides get the same rows of token ids, of unequal lengths, and return masked batches. claf2 also reads the rows from
its shards and pads them in the measured time; the collators get lists of ids in memory. Printed are rows per CPU second
(median, least and greatest of some interleaved turns), the time from the start of a process to its first batch on a
generated corpus without any shards, and the anonymous memory of a process that reads shards of some sizes.

The text is generated unless --text names files; a real tokenizer is given with --tokenizer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ((1024, 128), (256, 512))
MIXTURE = {"name": "mixture", "mixture": {"parts": {"word": [[0, 0.5]], "ngram": [[0, 0.5]]}}}
KINDS: tuple[dict[str, Any], ...] = (*({"name": name} for name in ("token", "word", "eojeol", "ngram")), MIXTURE)
SYLLABLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호구누두루무부수우주추"


def main() -> None:
    """Run the measurements that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="text files, as a source of claf2; generated unless given")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer's folder; one is learned unless given")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cold", type=float, default=1.0, metavar="GB", help="the text of the cold start; 0: none")
    parser.add_argument("--memory", default="0.2,2,20", metavar="GB,…", help="sizes of shards; empty: none")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child = json.loads(options.child)
        print(json.dumps({"first": first_batch, "memory": memory_of_reading}[child.pop("measure")](**child)))
        return
    with tempfile.TemporaryDirectory(prefix="claf2-corpus-") as temporary:
        folder = Path(temporary)
        text = options.text or str(write_text(folder / "text.jsonl", 12e6))
        tokenizer = options.tokenizer or learn_tokenizer(folder / "tokenizer", text)
        print_speeds(text, tokenizer, folder, options.turns)
        if options.cold:
            path = write_text(folder / "cold.jsonl", options.cold * 1e9)
            result = run_child(measure="first", text=str(path), tokenizer=str(tokenizer), cache=str(folder / "cold"))
            print(
                f"\nfirst batch of {options.cold:g} GB of text without shards: {result['wall']:.1f} s after the start"
            )
            print(f"of the process, {result['cpu']:.1f} CPU s")
            path.unlink()
        sizes = [float(size) for size in options.memory.split(",") if size]
        if sizes:
            print("\nshards      RssAnon      RssFile   after 300 steps of 1024 rows of 128 tokens")
        for size in sizes:
            result = run_child(measure="memory", gigabytes=size, tokenizer=str(tokenizer), cache=str(folder / "memory"))
            print(f"{size:4.1f} GB {result['RssAnon'] / 1024:8.0f} MiB {result['RssFile'] / 1024:8.0f} MiB")


def write_text(path: Path, size: float) -> Path:
    """Write about ``size`` bytes of generated documents. A block of them is repeated with other first words, so that
    no two blocks are equal."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list(SYLLABLES), rng.integers(1, 5))) for _ in range(20_000)]
    block = []
    for _ in range(400):
        sentences = [
            " ".join(words[min(19_999, int(rng.exponential(900)))] for _ in range(rng.integers(3, 20))) + "."
            for _ in range(rng.integers(3, 40))
        ]
        block.append(" ".join(sentences))
    written, repeat = 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            rows = [json.dumps({"text": f"{repeat} {text}"}, ensure_ascii=False) for text in block]
            written += file.write("\n".join(rows) + "\n") * 3 * 0.8  # about 2.4 bytes per character
            repeat += 1
    return path


def learn_tokenizer(folder: Path, text: str) -> Path:
    """Learn a WordPiece tokenizer from the beginning of a text."""
    from itertools import islice

    from claf2.corpus.sources import TextSource, read_sources
    from claf2.tokenizers.fast import compose_tokenizer
    from claf2.tokenizers.subword import WordPiece
    from claf2.tokenizers.word import BertBasic

    texts = [document.text for document in islice(read_sources([TextSource(path=text)]), 2000)]
    folder.mkdir()
    compose_tokenizer(BertBasic(), WordPiece(vocab_size=8000), lambda: iter(texts), 512).save(folder)
    return folder


def open_stream(
    text: str, tokenizer: str | Path, cache: str | Path, rows: int, length: int, masks: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the corpus, and its stream of batches."""
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import CorpusSection, Phase
    from claf2.corpus.stream import CorpusStream
    from claf2.tokenizers.build import load_tokenizer

    section = CorpusSection(sources=[{"path": text}], masks=masks)
    corpus = Corpus(section, load_tokenizer(Path(tokenizer)), cache_dir=Path(cache), workers=2)
    phases = [Phase(until=10**6, batch_size=rows, max_seq_length=length)]
    return corpus, CorpusStream("mlm", corpus, phases, seed=1, workers=0)


def print_speeds(text: str, tokenizer: Path, folder: Path, turns: int) -> None:
    """Print the rows per CPU second of each kind of masks and of the collators, on the same rows."""
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    wrapped = AutoTokenizer.from_pretrained(tokenizer)
    for rows, length in SHAPES:
        sides: dict[str, Any] = {}
        for masks in KINDS:
            corpus, stream = open_stream(text, tokenizer, folder / "cache", rows, length, masks)
            sides[f"claf2, {masks['name']}"] = ClafTurns(stream)
        step = stream.step_rows(0)
        features = collator_features(*stream.layout.tokens(step.rows, corpus.shard, length))
        for tensors in ("pt", "np"):
            for name, whole_words in (("token", False), ("whole word, rows padded before", True)):
                collator = DataCollatorForLanguageModeling(
                    wrapped, whole_word_mask=whole_words, mask_replace_prob=1.0 if whole_words else 0.8,
                    random_replace_prob=0.0 if whole_words else 0.1, return_tensors=tensors,
                )  # fmt: skip
                sides[f"transformers, {name} ({tensors})"] = CollatorTurns(collator, features[whole_words])
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(turns):
            for name, side in sides.items():
                start = time.process_time()
                count = side.turn()
                speeds[name].append(count / (time.process_time() - start))
        base = statistics.median(speeds["transformers, token (pt)"])
        print(f"\n{rows} x {length}: rows per CPU second, median (least-greatest), and its ratio to the first collator")
        for name, values in speeds.items():
            median = statistics.median(values)
            print(f"  {name:<46} {median:>9,.0f} ({min(values):,.0f}-{max(values):,.0f})  x{median / base:.2f}")


def collator_features(
    ids: np.ndarray, flags: np.ndarray, types: np.ndarray, lengths: np.ndarray
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows as the collators expect them: of their own lengths, and with offsets of words, for which rows
    must be padded before, since the collator cannot pad offsets."""
    special = (flags == 0).astype(int)
    # Tokens of a word touch, and words have a gap between them.
    ends = np.cumsum(1 + (flags & 1), axis=1)
    offsets = np.stack([ends - 1, ends], axis=2)
    short, padded = [], []
    for row, length in enumerate(lengths.tolist()):
        short.append({"input_ids": ids[row, :length].tolist(), "special_tokens_mask": special[row, :length].tolist()})
        padded.append(
            {
                "input_ids": ids[row].tolist(),
                "special_tokens_mask": special[row].tolist(),
                "offset_mapping": offsets[row].tolist(),
            }
        )
    return short, padded


class ClafTurns:
    """Turns of claf2: eight batches as tensors, read from shards."""

    def __init__(self, stream: Any) -> None:
        self._batches = stream.epoch(0)
        next(self._batches)

    def turn(self) -> int:
        """Make some batches, and return the number of their rows."""
        import torch

        count = 0
        for _, batches in (next(self._batches) for _ in range(8)):
            count += sum(len(batch) for batch in batches)
            tensors = batches[0].tensors(torch.device("cpu"))
            assert tensors["input_ids"].dtype == torch.int64
        return count


class CollatorTurns:
    """Turns of a collator: one batch of the same rows."""

    def __init__(self, collator: Any, examples: list[dict[str, Any]]) -> None:
        self._collator, self._examples = collator, examples

    def turn(self) -> int:
        """Make a batch, and return the number of its rows."""
        self._collator([dict(example) for example in self._examples])
        return len(self._examples)


def run_child(**child: Any) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(child)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def first_batch(text: str, tokenizer: str, cache: str) -> dict[str, float]:
    """Return how long a process takes to its first batch."""
    stream = open_stream(text, tokenizer, cache, 1024, 128, {"name": "word"})[1]
    next(stream.epoch(0))
    # The start of the process, in seconds since the machine was started.
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / 100
    return {"wall": float(Path("/proc/uptime").read_text().split()[0]) - started, "cpu": time.process_time()}


def memory_of_reading(gigabytes: float, tokenizer: str, cache: str) -> dict[str, float]:
    """Return the memory of a process, in KiB, after it has read rows from all over many shards.

    The shards are sparse files behind a corpus whose text is not there.
    """
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import CorpusSection, Phase
    from claf2.corpus.stream import CorpusStream
    from claf2.tokenizers.build import load_tokenizer

    folder = Path(cache) / f"{gigabytes}"
    folder.mkdir(parents=True)
    shard_bytes = 4 * 2**20
    shards = max(1, round(gigabytes * 1e9 / (3 * 700_000)))
    text = folder / "text.txt"
    with text.open("wb") as file:
        file.truncate(shards * shard_bytes)
    corpus = Corpus(CorpusSection(sources=[{"path": str(text)}]), load_tokenizer(Path(tokenizer)), cache_dir=folder)
    corpus.shard = SparseShards(folder, corpus.section.window).shard  # type: ignore[method-assign]
    corpus._keys = {number: str(number) for number in range(shards)}
    phases = [Phase(until=10**9, batch_size=1024, max_seq_length=128)]
    stream = CorpusStream("mlm", corpus, phases, seed=1, workers=1)
    # All shards have the same rows. A resumed run knows their number as well.
    room = 128 - stream.layout.special_tokens
    for number in range(shards):
        corpus._counts.add(number, room, corpus.row_count(0, room))
    # The steps are far apart, as in a resumed run, so that many windows are read.
    total = shards * 700_000 // (120 * 1024)
    for start in np.linspace(0, max(0, total - 60), 5).astype(int).tolist():
        for _, _batches in zip(range(60), stream.epoch(0, start), strict=False):
            pass
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: float(status[name].split()[0]) for name in ("RssAnon", "RssFile")}


class SparseShards:
    """Shards of 700,000 tokens: sparse files with a few flags, opened as those of a corpus are."""

    def __init__(self, folder: Path, window: int) -> None:
        from collections import OrderedDict

        self._folder, self._window = folder, window
        self._open: Any = OrderedDict()

    def shard(self, number: int, stopped: Any = None) -> Any:
        """Return a shard; only as many stay open as in a corpus."""
        from claf2.corpus.shards import Shard

        if number not in self._open:
            path = self._folder / f"{number}.bin"
            if not path.exists():
                with path.open("wb") as file:
                    file.truncate(700_000 * 3)
                    file.seek(700_000 * 2)
                    # A sentence of 20 tokens each, and a document of 4,000.
                    flags = np.ones(700_000, np.uint8)
                    flags[::20] = 7
                    flags[::4000] = 15
                    file.write(flags.tobytes())
            data = np.memmap(path, np.uint8, "r")
            ids = np.asarray(data[: 700_000 * 2]).view("<u2")
            self._open[number] = Shard(ids, np.asarray(data[700_000 * 2 :]), 175, 35_000, 4 * 2**20)
            while len(self._open) > 3 * self._window:
                self._open.popitem(last=False)
        return self._open[number]


if __name__ == "__main__":
    main()
