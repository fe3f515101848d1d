"""The splits of a task on a corpus: the text that a run trains on, and what is held out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from claf2.config import Experiment
from claf2.data.features import FeatureSet
from claf2.data.splits import SplitData, locate_split
from claf2.errors import ConfigError, DataError, RunError
from claf2.readers import Example, TextExample
from claf2.registry import digest
from claf2.runtime.files import read_json, sha256
from claf2.task import Task
from claf2.tokenizers import Tokenizer
from claf2.training.kept_steps import MANIFEST
from claf2.training.trainers.pretrain import PretrainTrainer

if TYPE_CHECKING:
    from claf2.corpus.corpus import Corpus
    from claf2.corpus.section import CorpusSection

# The modules of a corpus are imported where they are used: they are of no use to a fine-tuning.

__all__ = ["AnySplit", "CorpusText", "HeldOutFile", "HeldOutRows", "locate_corpus", "recorded_leakage"]

READ_WHOLE = 2**26
"""The most bytes of text that are digested in full at each start."""
PIECES = 64
"""How many pieces of each file are digested if there is more text."""
PIECE = 2**16
"""The bytes of a piece."""


@dataclass(frozen=True)
class CorpusText:
    """The text that a run trains on: split ``train`` of a task on a corpus."""

    task: Task
    section: CorpusSection
    data_dir: Path
    cache_dir: Path

    @property
    def files(self) -> list[Path]:
        """The files of all sources."""
        from claf2.corpus.sources import source_files

        return [file for source in self.section.sources for file in source_files(source, self.data_dir)]

    @property
    def path(self) -> Path:
        return self.files[0]

    def open(self, tokenizer: Tokenizer, workers: int) -> Corpus:
        """Return the corpus as shards of a tokenizer's ids, which are made when they are needed."""
        from claf2.corpus.corpus import Corpus

        return Corpus(
            self.section, tokenizer, cache_dir=self.cache_dir, data_dir=self.data_dir, workers=max(1, workers)
        )

    def texts(self) -> Iterator[str]:
        """Stream the texts of the documents."""
        from claf2.corpus.sources import read_sources

        for document in read_sources(self.section.sources, self.data_dir):
            yield document.text

    def leakage(self) -> dict[str, Any] | None:
        """Return what is known of the rows of benchmarks in the text; see ``find_reports``."""
        from claf2.corpus.leakage import find_reports

        return find_reports(self.files)

    def identity(self) -> str:
        """Return what distinguishes the text from any other: the files, and what is read from each."""
        from claf2.corpus.sources import source_files

        fields = [[source.text_field, len(source_files(source, self.data_dir))] for source in self.section.sources]
        return digest([self.data_digest(), fields, self.task.identity()])

    def data_digest(self) -> str:
        """Return the digest of all files, in the order of their names.

        Text of more than ``READ_WHOLE`` bytes is not read in full, which would take minutes at each start: its files
        are represented by their sizes and by pieces that are evenly spaced. An edit between the pieces that keeps the
        size is not noticed. Shards are made again all the same, since their keys are digests of their whole text.
        """
        files = self.files
        if sum(path.stat().st_size for path in files) <= READ_WHOLE:
            return digest([[path.name, sha256(path)] for path in files])
        return digest([[path.name, _sampled_sha256(path)] for path in files])


@dataclass(frozen=True)
class HeldOutRows:
    """The rows of documents that are held out of a corpus, with the same masks at each evaluation."""

    text: CorpusText
    max_seq_length: int
    workers: int = 0
    """How many shards with held-out documents are made at a time."""

    @property
    def task(self) -> Task:
        return self.text.task

    @property
    def path(self) -> Path:
        return self.text.path

    def features(self, tokenizer: Tokenizer) -> FeatureSet:
        """Return the rows as features, one example each."""
        import numpy as np
        import pyarrow as pa

        rows = self.text.open(tokenizer, self.workers).valid_rows(self.max_seq_length).features
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        kinds = {name: pa.list_(pa.int32()) if isinstance(rows[0][name], list) else pa.int64() for name in columns}
        table = pa.table({name: pa.array(column, kinds[name]) for name, column in columns.items()})
        return FeatureSet(table, {"examples": len(rows), "features": len(rows)}, np.arange(len(rows)))

    def examples(self, features: FeatureSet) -> list[Example]:
        """Return an example for each row: its number, without the text."""
        return [TextExample(id=str(row), text_a="") for row in range(len(features))]

    def texts(self) -> Iterator[str]:
        """Stream nothing: rows are token ids."""
        return iter(())

    def data_digest(self) -> str:
        """Return the digest of the files and of how the rows are made from them."""
        return self.identity()

    def identity(self) -> str:
        """Return what distinguishes the rows from any others: the text, and how it is divided and held out. Masks of
        the training are not part of it, because evaluation has its own, and neither are the names of files."""
        section = self.text.section
        read = [source.weight > 0 for source in section.sources]
        instances = [section.instances.name, section.instances.chosen().model_dump(mode="json")]
        settings = [read, section.valid_documents, section.shard_bytes, instances, self.max_seq_length]
        return digest([self.text.identity(), *settings])


@dataclass(frozen=True)
class HeldOutFile(SplitData):
    """A file of the user's own that a task on a corpus is evaluated on; it is read like a source."""

    text_field: str = "text"
    """The key or column that holds the text in JSON Lines and Parquet."""

    def examples(self) -> Iterator[Example]:
        """Stream the documents that are not empty, in the order of the file.

        Raises:
            DataError: when the file cannot be read, or holds no text.
        """
        from claf2.corpus.sources import read_documents

        found = False
        for document in read_documents(self.path, text_field=self.text_field):
            if document.text and not document.text.isspace():
                found = True
                yield TextExample(id=document.id, text_a=document.text)
        if not found:
            raise DataError(self.path, "holds no text")

    def identity(self) -> str:
        return f"{super().identity()}:{self.text_field}"


AnySplit: TypeAlias = SplitData | CorpusText | HeldOutRows
"""Where the data of a split comes from."""


def _sampled_sha256(path: Path) -> str:
    """Return the digest of a file's size and of pieces of its bytes, evenly spaced from the first to the last byte."""
    size = path.stat().st_size
    if size <= PIECES * PIECE:
        return sha256(path)
    hasher = hashlib.sha256(f"{size}:".encode())
    with path.open("rb") as file:
        for number in range(PIECES):
            file.seek((size - PIECE) * number // (PIECES - 1))
            hasher.update(file.read(PIECE))
    return hasher.hexdigest()


def locate_corpus(experiment: Experiment, name: str, *, data_dir: Path, cache: Path) -> dict[str, AnySplit]:
    """Return the text of a task on a corpus, and the documents that it is evaluated on.

    ``train_file_path``, or the text of a generated sample, takes the place of the sources. Without a
    ``valid_file_path``, documents of the training text are held out.

    Raises:
        ConfigError: when nothing is held out, or a file of documents is given where pairs are needed.
        DataError: when a source has no files.
    """
    from claf2.corpus.sources import TextSource, source_files

    config = experiment.tasks[name]
    task, reader, section = config.task, config.data, config.corpus
    assert section is not None
    assert isinstance(experiment.trainer, PretrainTrainer)
    if reader.source == "hub":
        problem = "a corpus is read from files"
        raise ConfigError("data_reader.source", problem, hint="use local, and name the files as sources")
    train, valid = (
        locate_split(task, split, source=reader.source, given=given, data_dir=data_dir, cache=cache)
        for split, given in (("train", reader.train_file_path), ("valid", reader.valid_file_path))
    )
    fields = {source.text_field for source in section.sources}
    text_field = fields.pop() if len(fields) == 1 else "text"
    if train is not None:
        # The file is found from the working folder, as that of any other task.
        replacement = TextSource(path=str(train.absolute()), text_field=text_field)
        section = section.model_copy(update={"sources": [replacement]})
    text = CorpusText(task, section, data_dir.absolute(), cache)
    for source in section.sources:
        source_files(source, data_dir)  # raises before anything is loaded
    path = f"data_reader.{reader.dataset}"
    if reader.valid_file_path is None:
        if not section.valid_documents:
            problem = "no documents are held out for evaluation"
            raise ConfigError(f"{path}.valid_documents", problem, hint="set it to 100 or more")
        # Rows as long as the first ones, so that losses before and after a change of length can be compared, and later
        # phases of a run that is resumed can change.
        first = experiment.trainer.phases[0].max_seq_length
        return {"train": text, "valid": HeldOutRows(text, first, experiment.runtime.workers)}
    assert valid is not None
    if "next_sentence_label" in config.head.targets:
        problem = "documents of a file are not divided into pairs"
        hint = f"leave it out, and set {reader.dataset}.valid_documents"
        raise ConfigError("data_reader.valid_file_path", problem, hint=hint)
    task.check_file(valid)
    source_files(TextSource(path=str(valid)))  # an early error
    return {"train": text, "valid": HeldOutFile(task, valid, text_field=text_field)}


def recorded_leakage(data: Mapping[str, Mapping[str, AnySplit]], source: Path | str) -> dict[str, Any]:
    """Return what is known of the rows of benchmarks in the text of a pre-training, for `run.json`.

    Args:
        data: task → split → its examples.
        source: the folder of the weights that the run starts from.

    Returns:
        ``leakage`` if the run is a pre-training, and ``weights_leakage`` if its weights are those of one by claf2, or
        were fine-tuned from such. Both are task → report, or ``None`` where nobody looked.
    """
    texts = {task: splits.get("train") for task, splits in data.items()}
    own = {task: text.leakage() for task, text in texts.items() if isinstance(text, CorpusText)}
    earlier = _leakage_of_weights(source) if isinstance(source, Path) else {}
    return {**({"leakage": own} if own else {}), **({"weights_leakage": earlier} if earlier else {})}


def _leakage_of_weights(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a kept step says, or the record of the run whose best checkpoint this is."""
    reports: dict[str, Any] = {}
    for path in (folder / MANIFEST, folder.parent / "run.json"):
        with suppress(RunError):  # other tools write files of these names too
            record = read_json(path)
            for name in ("weights_leakage", "leakage"):
                reports |= value if isinstance(value := record.get(name), dict) else {}
    return reports
