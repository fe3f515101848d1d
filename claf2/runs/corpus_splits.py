"""The splits of a task on a corpus: the text that a run trains on, and what is held out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from claf2.config import Experiment
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import CorpusSection
from claf2.corpus.sources import TextSource, read_sources, source_files
from claf2.data.splits import Split, SplitData, locate_split
from claf2.errors import ConfigError
from claf2.readers import Example, TextExample
from claf2.registry import digest
from claf2.runtime.files import sha256
from claf2.task import Task
from claf2.tokenizers import Tokenizer

__all__ = ["CorpusText", "locate_corpus"]


@dataclass(frozen=True)
class CorpusText:
    """The text that a run trains on: the split ``train`` of a task on a corpus."""

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
        return Corpus(
            self.section, tokenizer, cache_dir=self.cache_dir, data_dir=self.data_dir, workers=max(1, workers)
        )

    def examples(self) -> Iterator[Example]:
        """Stream the documents."""
        for document in read_sources(self.section.sources, self.data_dir):
            yield TextExample(id=document.id, text_a=document.text)

    def texts(self) -> Iterable[str]:
        for document in read_sources(self.section.sources, self.data_dir):
            yield document.text

    def sha256(self) -> str:
        """Return the digest of all files, in the order of their names."""
        return digest([[path.name, _file_digest(path, *_stamp(path))] for path in self.files])

    def identity(self) -> str:
        return f"{self.sha256()}:{self.task.identity()}"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    """Return the digest of a file, which is read once while its size and its time of change stay the same."""
    return sha256(path)


def locate_corpus(experiment: Experiment, name: str, *, data_dir: Path, cache: Path) -> dict[str, Split]:
    """Return the text of a task on a corpus, and the documents that it is evaluated on.

    ``train_file_path`` takes the place of the sources, and a generated sample that of both splits.

    Raises:
        ConfigError: when nothing is held out.
        DataError: when a source has no files.
    """
    config = experiment.tasks[name]
    task, reader, section = config.task, config.data, config.corpus
    assert section is not None
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
    text.path  # noqa: B018  # an early error
    if valid is not None:
        return {"train": text, "valid": SplitData(task, valid)}
    raise ConfigError("data_reader.valid_file_path", "nothing is held out", hint="set valid_documents")
