"""Examples → features, kept as memory-mapped Arrow and found again by content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import Claf2Error, DataError
from claf2.heads import Feature, Featurizer, heads
from claf2.readers import Example
from claf2.registry import digest
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["FeatureSet", "featurize", "key"]

SLICE = 1000
"""How many examples are tokenised at a time."""

FORMAT = 2
"""Raised when the layout of the files below changes."""


@dataclass(frozen=True)
class FeatureSet:
    """The features of one data set: M rows of a memory-mapped Arrow table, in the order of their examples."""

    table: pa.Table
    counts: Mapping[str, int]
    """What did not survive the way here: ``examples``, ``features``, ``truncated``, ``lost_spans`` …"""
    rows: np.ndarray
    """A hash of the texts of each example, (N,)."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each feature, shape (M,): of its longest text where it has several."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = self.table["input_ids"].combine_chunks()
        counts: np.ndarray = pc.list_value_length(ids).to_numpy()
        if not pa.types.is_list(ids.type.value_type):
            return counts
        inner = pc.list_value_length(ids.flatten()).to_numpy()
        longest: np.ndarray = np.maximum.reduceat(inner, np.cumsum(counts) - counts)
        return longest

    def take(self, rows: np.ndarray, fields: Iterable[str]) -> pa.Table:
        """Return some rows' fields, in the order of ``rows``."""
        return self.table.select(list(fields)).take(rows)

    def require(self, targets: Iterable[str], path: Path) -> None:
        """Raise ``DataError`` where what the loss compares with is not there."""
        if not set(targets) <= set(self.table.column_names):
            raise DataError(path, "has no labels, or hidden ones: nothing can be learnt from it, or judged by it")

    def shared_rows(self, other: FeatureSet) -> int:
        """Count the examples whose texts are those of an example of ``other``."""
        import numpy as np

        return int(np.isin(self.rows, other.rows).sum())

    def records(self) -> list[Feature]:
        """Return every feature without its token ids, as ``Head.predict`` reads them: numbers, and arrays of them."""
        names = [name for name in self.table.column_names if name not in ("input_ids", "token_type_ids")]
        columns = [_values(self.table[name].combine_chunks()) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def key(data: str, featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str]) -> str:
    """Return the digest of all that determines the features of the data set whose digest is ``data``."""
    kind = next(name for name in heads.names() if heads.get(name).featurizer is type(featurizer))
    spec = featurizer.model_dump(mode="json")
    return digest([FORMAT, data, kind, type(featurizer).version, spec, tokenizer.digest, list(labels)])


def featurize(
    examples: Iterable[Example], featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str], folder: Path
) -> FeatureSet:
    """Return the features in ``folder``, after writing them there from ``examples`` where they are not there yet.

    The folder appears at once and whole, so that an interrupted or a concurrent run cannot leave half of it.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name[:16]}-", dir=folder.parent))
        try:
            _write(examples, featurizer, tokenizer, labels, scratch)
            os.replace(scratch, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and wrote the same
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _open(folder)


def _values(column: pa.Array) -> list[Any]:
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


def _open(folder: Path) -> FeatureSet:
    import numpy as np
    import pyarrow as pa

    with pa.memory_map(str(folder / "features.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    return FeatureSet(table=table, counts=counts, rows=np.load(folder / "rows.npy"))


def _write(
    examples: Iterable[Example], featurizer: Featurizer, tokenizer: Tokenizer, labels: Sequence[str], folder: Path
) -> None:
    import numpy as np
    import pyarrow as pa

    counts: Counter[str] = Counter()
    rows, ids = array("Q"), array("Q")
    writer = None
    with pa.OSFile(str(folder / "features.arrow"), "wb") as sink:
        for batch in _slices(examples):
            features = list(featurizer.features(batch, tokenizer, labels, counts))
            for feature in features:
                feature["example"] += counts["examples"]
            counts["examples"] += len(batch)
            rows.extend(_hash(*example.texts()) for example in batch)
            ids.extend(_hash(example.id) for example in batch)
            counts["features"] += len(features)
            if writer is None:
                schema = pa.schema([(name, _arrow_type(value)) for name, value in features[0].items()])
                writer = pa.ipc.new_file(sink, schema)
            uneven = next((each for each in features if each.keys() != set(schema.names)), None)
            if uneven is not None:
                raise Claf2Error("some examples have labels and others have none: a data set has them all or none")
            writer.write_batch(pa.RecordBatch.from_pylist(features, schema=schema))
        assert writer is not None, "a data set without an example is refused by the task's reader"
        writer.close()
    counts["duplicate_ids"] = len(ids) - len(np.unique(np.array(ids)))
    counts["duplicate_rows"] = len(rows) - len(np.unique(np.array(rows)))
    np.save(folder / "rows.npy", np.array(rows, dtype=np.uint64))
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


def _slices(examples: Iterable[Example]) -> Iterator[list[Example]]:
    stream = iter(examples)
    while batch := list(islice(stream, SLICE)):
        yield batch
