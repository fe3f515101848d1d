"""Examples → features, in memory or as memory-mapped Arrow files that are found again by content."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import Claf2Error, DataError
from claf2.heads import Feature, Featurizer, heads
from claf2.readers import Example
from claf2.registry import digest
from claf2.runtime.files import create_dir_atomic
from claf2.runtime.process import freeze_heap
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["FeatureList", "FeatureSet", "feature_key", "featurize", "featurize_in_memory"]

SLICE = 1000
"""How many examples are tokenized at a time."""

AHEAD = 4
"""How many slices are turned into features while the one before is used: while Python builds the features of one, the
tokenizer encodes others. With two, the tokenizer often waits for Python."""

TOKEN_FIELDS = ("input_ids", "token_type_ids")
"""The fields that only the model reads."""

FORMAT = 5
"""Raised when the layout of the files below changes, or what readers read from a file."""


@dataclass(frozen=True)
class FeatureSet:
    """The features of one data set: M rows of an Arrow table, in the order of their N examples."""

    table: pa.Table
    counts: Mapping[str, int]
    """What was counted on the way: ``examples``, ``features``, and what did not survive: ``truncated``, ``lost_spans``
    …"""
    text_hashes: np.ndarray
    """A hash of the texts of each example, (N,)."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each feature, (M,): of its longest text where it has several."""
        import numpy as np

        return self._token_counts(np.maximum)

    def token_counts(self) -> np.ndarray:
        """Return the number of tokens of each feature, (M,): of all its texts."""
        import numpy as np

        return self._token_counts(np.add)

    def _token_counts(self, reduce: np.ufunc) -> np.ndarray:
        """Return the number of tokens of each feature, (M,), reduced over its texts."""
        import numpy as np

        counts = [_count_tokens(part, reduce) for part in self._columns["input_ids"][0]]
        return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)

    @cached_property
    def _columns(self) -> dict[str, tuple[list[pa.Array], np.ndarray]]:
        """The parts of each column, and the row that each begins with. As a whole, a column may have more tokens than
        the offsets of a list can count, which have 32 bits."""
        import numpy as np

        parts = {name: [part for part in self.table[name].chunks if len(part)] for name in self.names}
        return {name: (column, np.cumsum([0, *map(len, column[:-1])])) for name, column in parts.items()}

    def _take(self, name: str, rows: np.ndarray) -> pa.Array:
        """Return a column at ``rows``, (B,). Arrow's ``take`` joins all parts of a column first, which takes time in
        proportion to the data."""
        import numpy as np
        import pyarrow as pa

        parts, starts = self._columns[name]
        numbers = np.searchsorted(starts, rows, side="right") - 1
        places = zip(numbers.tolist(), (rows - starts[numbers]).tolist(), strict=True)
        return pa.concat_arrays([parts[number].slice(place, 1) for number, place in places])

    def token_ids(self) -> np.ndarray:
        """Return the different ids of all features, ascending."""
        import numpy as np
        import pyarrow as pa

        different = [np.zeros(0, dtype=np.int64)]
        for ids in self._columns["input_ids"][0]:
            while pa.types.is_list(ids.type):
                ids = ids.flatten()
            different.append(np.unique(ids.to_numpy()))
        return np.unique(np.concatenate(different))

    @property
    def names(self) -> list[str]:
        """The names of the fields that every feature has."""
        return list(self.table.column_names)

    def arrays(self, rows: np.ndarray, padding: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Return some fields of the features at ``rows``, (B,), each as one array, (B, …): name → padding value."""
        return {name: _pad_column(self._take(name, rows), fill) for name, fill in padding.items()}

    def check_targets(self, targets: Iterable[str], path: Path) -> None:
        """Check that the data has what the loss compares with.

        Raises:
            DataError: naming the file without labels.
        """
        if not set(targets) <= set(self.names):
            raise DataError(path, "has no labels, or hidden ones; give a file with labels for training and validation")

    def shared_rows(self, other: FeatureSet) -> int:
        """Count the examples whose texts also occur in ``other``."""
        import numpy as np

        return int(np.isin(self.text_hashes, other.text_hashes).sum())

    def records(self) -> list[Feature]:
        """Return every feature without its token ids, as ``Head.predict`` reads them: numbers, and arrays of them."""
        names = [name for name in self.names if name not in TOKEN_FIELDS]
        columns = [chain.from_iterable(map(_to_values, self._columns[name][0])) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class FeatureList:
    """A few features in memory; see ``FeatureSet``."""

    features: Sequence[Feature]
    """All have the same fields."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> list[str]:
        """The names of the fields that every feature has."""
        return list(self.features[0])

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each feature, (M,): of its longest text where it has several."""
        import numpy as np

        return np.array([_length(feature["input_ids"]) for feature in self.features])

    def token_counts(self) -> np.ndarray:
        """Return the number of tokens of each feature, (M,): of all its texts."""
        import numpy as np

        return np.array([len(np.hstack(feature["input_ids"])) for feature in self.features])

    def arrays(self, rows: np.ndarray, padding: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Return some fields of the features at ``rows``, (B,), each as one array, (B, …): name → padding value."""
        chosen = [self.features[row] for row in rows.tolist()]
        return {name: _pad_lists([feature[name] for feature in chosen], fill) for name, fill in padding.items()}

    def records(self) -> list[Feature]:
        """Return every feature without its token ids, as ``Head.predict`` reads them: numbers, and arrays of them."""
        return [
            {name: _to_record(value) for name, value in feature.items() if name not in TOKEN_FIELDS}
            for feature in self.features
        ]


def feature_key(data: str, featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str]) -> str:
    """Return the digest of everything that determines the features of the data set with digest ``data``."""
    kind = next(name for name in heads.names() if heads.get(name).featurizer is type(featurizer))
    spec = featurizer.model_dump(mode="json")
    return digest([FORMAT, data, kind, type(featurizer).version, spec, tokenizer.digest, list(labels)])


def featurize(
    examples: Iterable[Example], featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str], folder: Path
) -> FeatureSet:
    """Return the features in ``folder``, which is made from ``examples`` where it is missing or damaged.

    Raises:
        Claf2Error: when an example cannot be turned into features.
    """
    with freeze_heap():
        create_dir_atomic(folder, lambda target: _write(examples, featurizer, tokenizer, labels, target))
    return _open(folder)


def featurize_in_memory(
    examples: Sequence[Example], featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str]
) -> FeatureList:
    """Return the features of a few examples as plain values. For one request, an Arrow table would take longer to
    build than a small model takes to answer.

    Raises:
        Claf2Error: when an example cannot be turned into features.
    """
    return FeatureList(list(featurizer.features(examples, tokenizer, labels, Counter())))


def _count_tokens(ids: pa.Array, reduce: np.ufunc) -> np.ndarray:
    """Return the number of tokens of each row of a column, reduced over its texts where it has several."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    counts: np.ndarray = pc.list_value_length(ids).to_numpy()
    if not pa.types.is_list(ids.type.value_type):
        return counts
    inner = pc.list_value_length(ids.flatten()).to_numpy()
    reduced: np.ndarray = reduce.reduceat(inner, np.cumsum(counts) - counts)
    return reduced


def _to_values(column: pa.Array) -> list[Any]:
    """Return the values of a column: numbers, arrays, or where lists hold lists, lists."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type) or pa.types.is_list(column.type.value_type):
        values: list[Any] = column.to_pylist()
        return values
    flat = column.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.list_value_length(column).to_numpy())
    return np.split(flat, ends[:-1])


def _to_record(value: Any) -> Any:
    """Return a number, an array of numbers, or where a list holds lists, the list."""
    import numpy as np

    is_flat = isinstance(value, list) and not (value and isinstance(value[0], list))
    return np.array(value) if is_flat else value


def _length(ids: Sequence[Any]) -> int:
    """Return the number of tokens of a text, or of the longest of several texts."""
    return max(map(len, ids)) if ids and isinstance(ids[0], list) else len(ids)


def _pad_column(column: pa.Array, fill: int) -> np.ndarray:
    """Turn a column of numbers into (B,), one of lists into (B, L), one of lists of lists into (B, C, L) …"""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type):
        return np.array(column.to_numpy(zero_copy_only=False))
    return _pad(_pad_column(column.flatten(), fill), pc.list_value_length(column).to_numpy(), fill)


def _pad_lists(values: Sequence[Any], fill: int) -> np.ndarray:
    """Turn numbers into (B,), lists into (B, L), lists of lists into (B, C, L) …"""
    import numpy as np

    if not isinstance(values[0], list):
        return np.array(values)
    flat = [item for items in values for item in items]
    return _pad(_pad_lists(flat, fill), np.array([len(items) for items in values]), fill)


def _pad(values: np.ndarray, lengths: np.ndarray, fill: int) -> np.ndarray:
    """Divide values, (T, …), into rows of these lengths, (B,), that add up to T, each padded to the longest one."""
    import numpy as np

    longest = int(lengths.max())
    if len(values) == len(lengths) * longest:
        return values.reshape(len(lengths), longest, *values.shape[1:])
    present = np.arange(longest)[None, :] < lengths[:, None]
    padded = np.full((*present.shape, *values.shape[1:]), fill, dtype=values.dtype)
    padded[present] = values
    return padded


def _open(folder: Path) -> FeatureSet:
    import numpy as np
    import pyarrow as pa

    with pa.memory_map(str(folder / "features.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    return FeatureSet(table=table, counts=counts, text_hashes=np.load(folder / "rows.npy"))


@dataclass
class _Progress:
    """What is noted about the examples while they are turned into features."""

    counts: Counter[str] = field(default_factory=Counter)
    text_hashes: array[int] = field(default_factory=lambda: array("Q"))
    id_hashes: array[int] = field(default_factory=lambda: array("q"))


def _record_batches(
    examples: Iterable[Example],
    featurizer: Featurizer,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    progress: _Progress,
) -> Iterator[pa.RecordBatch]:
    """Yield the features of one slice of examples after another; all have the schema of the first feature."""
    import pyarrow as pa

    schema = None
    for slice_, features in _featurize_slices(examples, featurizer, tokenizer, labels, progress.counts):
        progress.text_hashes.extend(_hash(*example.texts()) for example in slice_)
        progress.id_hashes.extend(hash(example.id) for example in slice_)
        if schema is None:
            schema = pa.schema([(name, _arrow_type(value)) for name, value in features[0].items()])
            names = set(schema.names)
        if any(feature.keys() != names for feature in features):
            raise Claf2Error("some examples have labels and others have none: give all of them labels, or none")
        columns = [pa.array([feature[field.name] for feature in features], field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _write(
    examples: Iterable[Example], featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str], folder: Path
) -> None:
    import numpy as np
    import pyarrow as pa

    progress = _Progress()
    writer = None
    with pa.OSFile(str(folder / "features.arrow"), "wb") as sink:
        for batch in _record_batches(examples, featurizer, tokenizer, labels, progress):
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
        assert writer is not None, "the task's reader refuses a data set without examples"
        writer.close()
    text_hashes = np.array(progress.text_hashes, dtype=np.uint64)
    counts = progress.counts
    counts["duplicate_ids"] = len(progress.id_hashes) - len(np.unique(np.array(progress.id_hashes)))
    counts["duplicate_rows"] = len(text_hashes) - len(np.unique(text_hashes))
    np.save(folder / "rows.npy", text_hashes)
    (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def _hash(*texts: str) -> int:
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def _arrow_type(value: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return pa.list_(_arrow_type(value[0]))
        return pa.list_(pa.float32() if value and isinstance(value[0], float) else pa.int32())
    return pa.float64() if isinstance(value, float) else pa.int64()


def _featurize_slices(
    examples: Iterable[Example],
    featurizer: Featurizer,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    counts: Counter[str],
) -> Iterator[tuple[list[Example], list[Feature]]]:
    """Yield one slice of examples after another with its features. Threads turn the next slices into features while one
    is used: fast tokenizers release the interpreter's lock."""

    def featurize_slice(slice_: list[Example]) -> tuple[list[Feature], Counter[str]]:
        own: Counter[str] = Counter()
        return list(featurizer.features(slice_, tokenizer, labels, own)), own

    with ThreadPoolExecutor(AHEAD) as pool:
        pending: deque[tuple[list[Example], Future[tuple[list[Feature], Counter[str]]]]] = deque()
        slices = _slices(examples)
        pending.extend((slice_, pool.submit(featurize_slice, slice_)) for slice_ in islice(slices, AHEAD))
        while pending:
            slice_, future = pending.popleft()
            features, own = future.result()
            pending.extend((slice_, pool.submit(featurize_slice, slice_)) for slice_ in islice(slices, 1))
            for feature in features:
                feature["example"] += counts["examples"]  # positions in the slice become positions in the data set
            counts.update(own)
            counts["examples"] += len(slice_)
            counts["features"] += len(features)
            yield slice_, features


def _slices(examples: Iterable[Example]) -> Iterator[list[Example]]:
    stream = iter(examples)
    while slice_ := list(islice(stream, SLICE)):
        yield slice_
