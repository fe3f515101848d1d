"""The splits of a task on a corpus: the text that a run trains on, and what is held out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from claf2.config import Experiment
from claf2.corpus.section import CorpusSection
from claf2.corpus.sources import TextSource, read_sources, source_files
from claf2.data.features import FeatureSet
from claf2.data.splits import SplitData, locate_split
from claf2.errors import ConfigError
from claf2.readers import Example, TextExample
from claf2.registry import digest
from claf2.runtime.files import sha256
from claf2.task import Task
from claf2.tokenizers import Tokenizer
from claf2.training.trainers.pretrain import PretrainTrainer

if TYPE_CHECKING:
    from claf2.corpus.corpus import Corpus

__all__ = ["AnySplit", "CorpusText", "HeldOutRows", "locate_corpus"]


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
        return [file for source in self.section.sources for file in source_files(source, self.data_dir)]

    @property
    def path(self) -> Path:
        return self.files[0]

    def open(self, tokenizer: Tokenizer, workers: int) -> Corpus:
        """Return the corpus as shards of a tokenizer's ids, which are made when they are needed."""
        from claf2.corpus.corpus import Corpus  # of no use to a fine-tuning

        return Corpus(
            self.section, tokenizer, cache_dir=self.cache_dir, data_dir=self.data_dir, workers=max(1, workers)
        )

    def texts(self) -> Iterator[str]:
        """Stream the texts of the documents."""
        for document in read_sources(self.section.sources, self.data_dir):
            yield document.text

    def identity(self) -> str:
        """Return what distinguishes the text from any other."""
        return f"{self.sha256()}:{self.task.identity()}"

    def sha256(self) -> str:
        """Return the digest of all files, in the order of their names."""
        for path in self.files:
            if _stamp(path) not in _digests:
                _digests[_stamp(path)] = sha256(path)
        return digest([[path.name, _digests[_stamp(path)]] for path in self.files])


@dataclass(frozen=True)
class HeldOutRows:
    """The rows of documents that are held out of a corpus, with the same masks at each evaluation."""

    text: CorpusText
    max_seq_length: int

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

        rows = self.text.open(tokenizer, 0).valid_rows(self.max_seq_length).features
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

    def identity(self) -> str:
        """Return what distinguishes the rows from any others."""
        return digest([self.text.identity(), self.text.section.valid_documents, self.max_seq_length])


AnySplit: TypeAlias = SplitData | CorpusText | HeldOutRows
"""Where the data of a split comes from."""


_digests: dict[tuple[Path, int, int], str] = {}
"""Path, size and time of change of a file → its digest, so that a large file is read once."""


def _stamp(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


def locate_corpus(experiment: Experiment, name: str, *, data_dir: Path, cache: Path) -> dict[str, AnySplit]:
    """Return the text of a task on a corpus, and the documents that it is evaluated on.

    ``train_file_path``, or a generated sample, takes the place of the sources. Documents of ``valid_file_path`` are
    evaluated like ordinary texts; without it, documents are held out.

    Raises:
        ConfigError: when nothing is held out, or a file of documents is given where pairs are needed.
        DataError: when a source has no files.
    """
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
    if train is not None:
        # The file is found from the working folder, as that of any other task.
        section = section.model_copy(update={"sources": [TextSource(path=str(train.absolute()))]})
    text = CorpusText(task, section, data_dir.absolute(), cache)
    for source in section.sources:
        source_files(source, data_dir)  # raises before anything is loaded
    path = f"data_reader.{reader.dataset}"
    if reader.valid_file_path is None:
        if not section.valid_documents:
            problem = "no documents are held out for evaluation"
            raise ConfigError(f"{path}.valid_documents", problem, hint="set it to 100 or more")
        # The shortest rows, so that losses before and after a change of length can be compared.
        shortest = min(phase.max_seq_length for phase in experiment.trainer.phases)
        return {"train": text, "valid": HeldOutRows(text, shortest)}
    assert valid is not None
    if "next_sentence_label" in config.head.targets:
        problem = "documents of a file are not divided into pairs"
        hint = f"leave it out, and set {reader.dataset}.valid_documents"
        raise ConfigError("data_reader.valid_file_path", problem, hint=hint)
    return {"train": text, "valid": SplitData(task, valid)}
