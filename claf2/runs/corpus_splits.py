"""The splits of a task on a corpus: the text that a run trains on, and the rows of documents that are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from claf2.config import Experiment
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import CorpusSection
from claf2.corpus.sources import TextSource, read_sources, source_files
from claf2.corpus.stream import CorpusStream
from claf2.data.features import FeatureSet
from claf2.data.splits import Split, locate_split
from claf2.errors import ConfigError
from claf2.readers import Example, TextExample
from claf2.registry import digest
from claf2.runtime import distributed
from claf2.runtime.files import sha256
from claf2.task import Task
from claf2.tokenizers import Tokenizer
