"""Caches: what is stored is compared with its digests when it is used, and made again where it has changed."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claf2.data.features import featurize
from claf2.data.hub import convert_split
from claf2.data.samples import write_sample
from claf2.errors import DataError
from claf2.heads import LabelFeaturizer
from claf2.models.source import resolve_model
from claf2.readers import TextExample
from claf2.runtime.files import DIGESTS, create_dir_atomic, is_intact, sha256
from claf2.task import tasks
from claf2.tokenizers.build import load_tokenizer


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return a function that returns the warnings of claf2 since its last call."""
    monkeypatch.setattr(logging.getLogger("claf2"), "propagate", True)

    def take() -> list[str]:
        messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        caplog.clear()
        return messages

    return take


def zero_page(path: Path) -> None:
    """Overwrite a page with zeros, as a disk or file system that loses one does."""
    before = path.read_bytes()
    start = len(before) // 4
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(min(4096, len(before) - start)))
    assert path.read_bytes() != before


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "zero page": zero_page, "cut": cut, "missing": Path.unlink, "empty": lambda path: os.truncate(path, 0),
}  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "numbers.bin").write_bytes(bytes(range(1, 256)) * 100)
    (folder / "inner/text.txt").write_text("the film\n" * 100)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["numbers.bin", "inner/text.txt", DIGESTS])
def test_a_damaged_folder_is_made_again_with_one_warning(
    damage: str, name: str, tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    folder = tmp_path / "cache/key"
    create_dir_atomic(folder, fill)
    assert is_intact(folder)
    before = content(folder)
    DAMAGES[damage](folder / name)
    assert not is_intact(folder)
    create_dir_atomic(folder, fill)
    (warning,) = warnings()
    assert str(folder) in warning
    assert warning.endswith(": made again")
    assert content(folder) == before
    create_dir_atomic(folder, lambda _: pytest.fail("it is intact"))
    assert not warnings()
    assert [path.name for path in folder.parent.iterdir()] == ["key"]


def test_a_cached_folder_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    create_dir_atomic(tmp_path / "cached", fill)
    (tmp_path / "plain").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cached", "plain")}
    assert len(modes) == 1


@pytest.mark.parametrize("damaged", [False, True])
def test_two_writers_leave_one_whole_folder(damaged: bool, tmp_path: Path) -> None:
    folder = tmp_path / "key"
    create_dir_atomic(folder, fill)
    before = content(folder)
    (zero_page if damaged else shutil.rmtree)(folder / "numbers.bin" if damaged else folder)
    barrier, problems = threading.Barrier(4), list[Exception]()

    def slow(target: Path) -> None:
        barrier.wait()  # all writers have seen that there is work before the first one is done
        fill(target)

    def write() -> None:
        try:
            create_dir_atomic(folder, slow)
        except Exception as error:  # noqa: BLE001 a thread's error would not fail the test
            problems.append(error)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not problems
    assert content(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_full_disk_is_named_and_leaves_no_part(damaged: bool, tmp_path: Path) -> None:
    folder = tmp_path / "key"
    if damaged:
        create_dir_atomic(folder, fill)
        cut(folder / "numbers.bin")

    def full(target: Path) -> None:
        fill(target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=f"No space left on device: '{folder}'"):
        create_dir_atomic(folder, full)
    assert [path.name for path in tmp_path.iterdir()] == (["key"] if damaged else [])
    assert not is_intact(folder)
    create_dir_atomic(folder, fill)
    assert is_intact(folder)


@pytest.mark.parametrize("name", ["features.arrow", "rows.npy", "counts.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_features_are_made_again(
    damage: str, name: str, model_folder: Callable[..., Path], tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    tokenizer = load_tokenizer(model_folder())
    examples = [TextExample(id=str(n), text_a=f"the film {n} ran" * (n % 7), label=str(n % 2)) for n in range(400)]

    def make() -> tuple[object, ...]:
        features = featurize(examples, LabelFeaturizer(max_seq_length=32), tokenizer, ["0", "1"], tmp_path / "f")
        return features.table.to_pylist(), dict(features.counts), features.text_hashes.tolist()

    before = make()
    assert make() == before
    assert not warnings()
    DAMAGES[damage](tmp_path / "f" / name)
    assert make() == before
    assert len(warnings()) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_sample_is_made_again(damage: str, tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    task = tasks.get("nsmc")
    paths = write_sample(task, tmp_path)
    before = {split: path.read_bytes() for split, path in paths.items()}
    DAMAGES[damage](paths["train"])
    assert write_sample(task, tmp_path) == paths
    assert {split: path.read_bytes() for split, path in paths.items()} == before
    assert len(warnings()) == 1


def pack(tmp_path: Path, model: Path) -> Path:
    """Pack a model folder as an archive without a folder inside, with a file of digests as best/ has."""
    shutil.copytree(model, tmp_path / "best")
    (tmp_path / "best" / DIGESTS).write_text(json.dumps({"config.json": sha256(model / "config.json")}))
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "best", arcname=".")
    return archive


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_unpacked_again(
    name: str, model_folder: Callable[..., Path], tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    archive = pack(tmp_path, model_folder())
    folder = Path(resolve_model(str(archive), cache=tmp_path / "cache"))
    assert folder == resolve_model(str(archive), cache=tmp_path / "cache")
    assert content(folder) == content(tmp_path / "best")
    zero_page(folder / name)
    assert resolve_model(str(archive), cache=tmp_path / "cache") == folder
    assert content(folder) == content(tmp_path / "best")
    assert len(warnings()) == 1


@pytest.mark.parametrize("name", ["rte", "klue_nli"])  # one is written by its reader, the other as rows
def test_damaged_rows_of_the_hub_are_converted_again(
    name: str, tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    first, second = ("premise", "hypothesis") if name == "klue_nli" else ("sentence1", "sentence2")
    columns = {"guid": [str(n) for n in range(90)], first: ["the film"] * 90, second: ["a dog"] * 90,
               "label": [n % 2 for n in range(90)]}  # fmt: skip
    labels = {"label": {"names": ["entailment", "neutral" if name == "klue_nli" else "not_entailment"]}}
    metadata = {b"huggingface": json.dumps({"info": {"features": labels}}).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    blob, link = tmp_path / "blobs/x", tmp_path / "snapshot/train-00000-of-00001.parquet"
    for path in (blob, link):
        path.parent.mkdir()
    pq.write_table(table, blob)
    blob = blob.rename(blob.with_name(sha256(blob)))
    link.symlink_to(blob)
    task = tasks.get(name)

    def convert() -> Path:
        return convert_split(task, "train", link.parent, "", tmp_path / "cache")

    path = convert()
    before = path.read_bytes()
    zero_page(path)
    assert convert() == path
    assert path.read_bytes() == before
    assert len(warnings()) == 1
    zero_page(blob)
    with pytest.raises(DataError, match=f"changed since it was downloaded; delete {blob} to download it again"):
        convert()


def test_each_shard_of_a_split_decides_what_is_converted(tmp_path: Path) -> None:
    def write(shard: int, sentence: str) -> None:
        columns = {"sentence1": [sentence], "sentence2": ["b"], "label": [0]}
        labels = {"label": {"names": ["entailment", "not_entailment"]}}
        metadata = {b"huggingface": json.dumps({"info": {"features": labels}}).encode()}
        path = tmp_path / f"hub/train-{shard:05d}-of-00009-{'x' * 20}.parquet"
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)

    (tmp_path / "hub").mkdir()
    for shard in range(9):
        write(shard, f"the film {shard}")
    first = convert_split(tasks.get("rte"), "train", tmp_path / "hub", "", tmp_path / "cache")
    write(8, "another film")
    second = convert_split(tasks.get("rte"), "train", tmp_path / "hub", "", tmp_path / "cache")
    assert "another film" not in first.read_text()
    assert "another film" in second.read_text()
