"""Features: cached by content, read without filling memory, and what was counted on the way."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from claf2.data import features as features_module
from claf2.data.batch import TaskDataset, batches_by_length
from claf2.data.features import FeatureList, FeatureSet, feature_key, featurize
from claf2.data.splits import SplitData
from claf2.errors import Claf2Error, DataError
from claf2.heads import LabelFeaturizer
from claf2.heads.choice import ChoiceFeaturizer
from claf2.readers import ChoiceExample, TextExample
from claf2.task import tasks
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import load_tokenizer

LABELS = ["0", "1"]


@pytest.fixture
def tokenizer(model_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(model_folder())


def rows(*texts: str, label: str | None = "0") -> list[TextExample]:
    return [TextExample(id=str(n), text_a=text, label=label) for n, text in enumerate(texts)]


def made(examples: list[TextExample], tokenizer: Tokenizer, folder: Path) -> FeatureSet:
    return featurize(examples, LabelFeaturizer(max_seq_length=16), tokenizer, LABELS, folder)


def test_whatever_changes_the_features_changes_the_key(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("sentence\tlabel\nthe film\t0\n")
    task = tasks.get("sst")

    def keyed(length: int = 16, labels: tuple[str, ...] = ("0", "1"), side: str = "whole") -> str:
        data = SplitData(task, path, side, 0.5 if side != "whole" else 0.0)  # type: ignore[arg-type]
        return feature_key(data.identity(), LabelFeaturizer(max_seq_length=length), tokenizer, labels)

    before = keyed()
    assert keyed() == before
    others = {keyed(length=17), keyed(labels=("1", "0")), keyed(side="train"), keyed(side="valid")}
    path.write_text("sentence\tlabel\nthe film \t0\n")
    others.add(keyed())
    tokenizer.add_markers((("<a>", "</a>"),))
    others.add(keyed())
    assert len(others | {before}) == 7


def test_a_cache_is_used_and_not_written_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    first = made(rows("the film", "a dog"), tokenizer, tmp_path / "f")
    again = made(rows("never read"), tokenizer, tmp_path / "f")
    assert again.table.equals(first.table)
    assert (again.text_hashes == first.text_hashes).all()


def test_duplicates_and_rows_of_train_are_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    train = made(rows("the film", "a dog", "the film"), tokenizer, tmp_path / "train")
    assert (train.counts["duplicate_rows"], train.counts["duplicate_ids"]) == (1, 0)
    valid = made(rows("a dog", "a cat", "a dog"), tokenizer, tmp_path / "valid")
    assert valid.shared_rows(train) == 2
    twice = [TextExample(id="7", text_a=text, label="0") for text in ("x", "y", "z")]
    assert made(twice, tokenizer, tmp_path / "ids").counts["duplicate_ids"] == 2
    # A pair is one row, whichever way the texts could be cut.
    pairs = [TextExample(id=str(n), text_a=a, text_b=b) for n, (a, b) in enumerate([("a b", "c"), ("a", "b c")])]
    assert made(pairs, tokenizer, tmp_path / "pairs").counts["duplicate_rows"] == 0


def test_slices_are_joined_in_order(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = rows("the film", "a dog", "the king ran", "a cat", "the city")
    whole = made(examples, tokenizer, tmp_path / "whole")
    monkeypatch.setattr(features_module, "SLICE", 2)
    sliced = made(examples, tokenizer, tmp_path / "sliced")
    assert sliced.table["input_ids"].num_chunks == 3
    assert sliced.table.equals(whole.table)
    assert sliced.counts == whole.counts
    assert (sliced.text_hashes == whole.text_hashes).all()
    # An error in a slice is that of the caller, although the slice is computed in another thread.
    pair = replace(examples[4], id="5", text_b="x")
    with pytest.raises(Claf2Error, match="example '4' has only one text"):
        made([*examples, pair], tokenizer, tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    with pytest.raises(Claf2Error, match="some examples have labels and others have none"):
        made([*examples, replace(examples[0], label=None)], tokenizer, tmp_path / "broken")


def test_the_heap_is_frozen_while_features_are_made(tokenizer: Tokenizer, tmp_path: Path) -> None:
    frozen: list[int] = []

    def examples() -> Iterator[TextExample]:
        for example in rows("the film", "a dog"):
            frozen.append(gc.get_freeze_count())
            yield example

    features_module.featurize(examples(), LabelFeaturizer(), tokenizer, LABELS, tmp_path / "f")
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:  # what the program has frozen itself stays so
        features_module.featurize(examples(), LabelFeaturizer(), tokenizer, LABELS, tmp_path / "g")
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_data_without_labels_cannot_be_trained_on(tokenizer: Tokenizer, tmp_path: Path) -> None:
    features = made(rows("the film", label=None), tokenizer, tmp_path / "f")
    with pytest.raises(DataError, match="has no labels, or hidden ones"):
        features.check_targets({"labels": 0}, Path("train.tsv"))


def test_lists_of_lists_become_one_block(tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = [
        ChoiceExample(id="0", question="who ran", choices=("the king", "a dog in the city"), label="1"),
        ChoiceExample(id="1", question="who", choices=("he", "they"), label="0"),
    ]
    features = featurize(examples, ChoiceFeaturizer(max_seq_length=32), tokenizer, LABELS, tmp_path / "f")
    assert features.lengths().tolist() == [10, 5]
    assert [rows.tolist() for rows in batches_by_length(features.lengths(), 1)] == [[0], [1]]
    batch = TaskDataset(features, tokenizer.pad_id, {"labels": 0}).batch(np.array([1, 0]))
    assert batch.arrays["input_ids"].shape == (2, 2, 10)
    assert batch.arrays["attention_mask"].sum(-1).tolist() == [[5, 5], [7, 10]]
    assert (batch.arrays["input_ids"][0, 0, 5:] == tokenizer.pad_id).all()
    assert batch.arrays["labels"].tolist() == [0, 1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Ten times the rows, 20,000 more, within 40 MiB; all of them as Python objects would take 100 MiB and more."""
    script = tmp_path / "peak.py"
    script.write_text(
        textwrap.dedent(f"""
        import resource, sys
        from pathlib import Path
        from claf2.data.splits import SplitData
        from claf2.data.features import featurize
        from claf2.heads import LabelFeaturizer
        from claf2.task import tasks
        from claf2.tokenizers.build import load_tokenizer
        size, folder = int(sys.argv[1]), Path({str(tmp_path)!r})
        path = folder / f"{{size}}.tsv"
        with path.open("w") as file:
            file.write("sentence1\\tsentence2\\tlabel\\n")
            for number in range(size):
                file.write(f"the king lived in {{number}} and ran\\tthe queen was not {{number}}\\tentailment\\n")
        task = tasks.get("rte")
        tokenizer = load_tokenizer({str(model_folder())!r})
        featurizer = LabelFeaturizer(max_seq_length=64)
        examples, labels = SplitData(task, path).examples(), list(task.labels)
        features = featurize(examples, featurizer, tokenizer, labels, folder / f"f{{size}}")
        assert len(features) == size
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        """)
    )
    small, large = (
        int(subprocess.run([sys.executable, str(script), size], capture_output=True, text=True, check=True).stdout)
        for size in ("2000", "22000")
    )
    assert large - small < 40


def test_short_rows_go_into_larger_batches() -> None:
    lengths = np.array([3, 40, 4, 20, 5, 20, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    batches = batches_by_length(lengths, 2)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(16))
    assert batches[0].tolist() == [1, 3]
    assert max(len(batch) for batch in batches) == 8  # four times two
    assert all(len(batch) * lengths[batch].max() <= 80 for batch in batches)


def test_only_fields_of_tokens_are_rounded_up_with_the_tokens() -> None:
    def feature(length: int) -> dict[str, list[int]]:
        tokens = list(range(10, 10 + length))
        return {"input_ids": tokens, "token_type_ids": [0] * length, "segments": tokens, "word_ids": list(range(30))}

    fields = {"segments": -1, "word_ids": 0}
    dataset = TaskDataset(FeatureList([feature(20), feature(30)]), pad_id=0, fields=fields, multiple=32)
    for rows in ([0, 1], [1]):  # the longest row has as many tokens as there are words
        arrays = dataset.batch(np.array(rows)).arrays
        assert {name: array.shape[1] for name, array in arrays.items()} == {
            "input_ids": 32, "token_type_ids": 32, "attention_mask": 32, "segments": 32, "word_ids": 30,
        }  # fmt: skip
        assert arrays["segments"][-1, 30:].tolist() == [-1, -1]


def test_columns_of_more_tokens_than_32_bits_count() -> None:
    """Two parts of 1.5 billion places each, which take no memory because they hold nothing but nulls."""
    size = 1_500_000_000
    part = pa.ListArray.from_arrays(pa.array([0, size - 1, size], pa.int32()), pa.nulls(size))
    features = FeatureSet(pa.table({"input_ids": pa.chunked_array([part, part])}), {}, np.zeros(4, dtype=np.uint64))
    assert features.lengths().tolist() == features.token_counts().tolist() == [size - 1, 1, size - 1, 1]
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        features.table.take([1, 3])
    assert features._take("input_ids", np.array([3, 1])).to_pylist() == [[None], [None]]


def test_an_empty_table_has_no_tokens() -> None:
    schema = pa.schema({"input_ids": pa.list_(pa.int32()), "label": pa.int64()})
    features = FeatureSet(schema.empty_table(), {}, np.zeros(0, dtype=np.uint64))
    assert (features.lengths().tolist(), features.token_ids().tolist(), features.records()) == ([], [], [])


def test_rows_come_from_all_parts_of_a_table() -> None:
    parts = [[[1], [2, 2]], [], [[3, 3, 3]], [[4], [5]]]
    ids = pa.chunked_array([pa.array(part, pa.list_(pa.int32())) for part in parts])
    labels = pa.chunked_array([pa.array([10, 20, 30, 40, 50])])
    features = FeatureSet(pa.table({"input_ids": ids, "label": labels}), {}, np.zeros(5, dtype=np.uint64))
    arrays = features.arrays(np.array([4, 1, 2, 1]), {"input_ids": -1, "label": 0})
    assert arrays["input_ids"].tolist() == [[5, -1, -1], [2, 2, -1], [3, 3, 3], [2, 2, -1]]
    assert arrays["label"].tolist() == [50, 20, 30, 20]
    assert [record["label"] for record in features.records()] == [10, 20, 30, 40, 50]
    assert features.token_ids().tolist() == [1, 2, 3, 4, 5]
