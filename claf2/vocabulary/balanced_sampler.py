"""A random sample of sentences from several sources, balanced by weight, in one pass and bounded memory."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from itertools import pairwise

from claf2.corpus.encoding import END_OF_SENTENCE
from claf2.runtime.seed import derive_seed

__all__ = ["BalancedSampler", "split_sentences"]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the white space around them; see ``claf2.corpus.encoding`` for where they
    end."""
    edges = [0, *(match.end() for match in END_OF_SENTENCE.finditer(text)), len(text)]
    return [sentence for start, end in pairwise(edges) if (sentence := text[start:end].strip())]


class BalancedSampler:
    """Keeps a random sample of sentences from several sources.

    Each source gets its share of the sample by weight. What a source lacks, because it is too small, goes to the
    others in proportion to their weights. Within a source, every sentence has the same chance. A sentence gets a random
    key, and a source keeps those with the smallest keys. A smaller sample with the same seed is therefore a part of a
    larger one.

    Args:
        weights: the weight of each source; one with weight 0 gets nothing.
        size: the most bytes of the sample, of text in UTF-8.
        seed: determines the sample, together with the order of the sentences.
    """

    def __init__(self, weights: Sequence[float], size: int, seed: int) -> None:
        self._weights = weights
        self._size = size
        self._total = 0
        self._random = [random.Random(derive_seed(seed, "sample", number)).random for number in range(len(weights))]
        # Heaps of (-key, sentence): the largest key is on top. A tuple per sentence is most of what it costs besides
        # its text, so there is nothing else in it.
        self._heaps: list[list[tuple[float, str]]] = [[] for _ in weights]
        self._limits = [1.0] * len(weights)
        self.kept_bytes = [0] * len(weights)
        """The bytes of each source in the sample."""
        self.seen_bytes = [0] * len(weights)
        """The bytes of each source that were added."""
        self.seen_sentences = [0] * len(weights)
        """The sentences of each source that were added."""

    def add(self, source: int, text: str) -> None:
        """Add the next sentence of a source. The order of the sources among each other does not matter."""
        key = self._random[source]()
        size = _count_bytes(text)
        self.seen_bytes[source] += size
        self.seen_sentences[source] += 1
        # What exceeds the largest key that has been dropped would be dropped at once.
        # A sentence that is larger than the sample has no place in it, and would drop all others.
        if key >= self._limits[source] or not self._weights[source] or size > self._size:
            return
        heapq.heappush(self._heaps[source], (-key, text))
        self.kept_bytes[source] += size
        self._total += size
        while self._total > self._size:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the sentence with the largest key of the source that exceeds its share the most."""
        source = max(
            (number for number, heap in enumerate(self._heaps) if heap),
            key=lambda number: self.kept_bytes[number] / self._weights[number],
        )
        negative_key, text = heapq.heappop(self._heaps[source])
        self._limits[source] = -negative_key
        size = _count_bytes(text)
        self.kept_bytes[source] -= size
        self._total -= size

    def sentences(self, source: int) -> list[str]:
        """Return the sample of a source in random order: by ascending keys, so that its beginning is a sample too."""
        return [text for _, text in sorted(self._heaps[source], reverse=True)]

    def num_sentences(self, source: int) -> int:
        """Return the number of sentences of a source in the sample."""
        return len(self._heaps[source])

    def exact_size(self) -> int:
        """Return the size, in bytes, of the largest sample in which every source has the share that its weight asks
        for."""
        total = sum(self._weights)
        return int(
            min(seen * total / weight for seen, weight in zip(self.seen_bytes, self._weights, strict=True) if weight)
        )


def _count_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
