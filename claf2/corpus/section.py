"""What a BaseConfig says of a corpus, and of the phases in which it is read."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from claf2.corpus.instances import Instances, instances
from claf2.corpus.instances.document import DocumentRows
from claf2.corpus.instances.full_sentences import FullSentences
from claf2.corpus.instances.sentence import SentenceRows
from claf2.corpus.instances.sentence_pair import SentencePairs
from claf2.corpus.masks import Masks, masks
from claf2.corpus.masks.deletion import Deletion
from claf2.corpus.masks.eojeol import EojeolMasks
from claf2.corpus.masks.mixture import MixtureMasks
from claf2.corpus.masks.next_token import NextTokens
from claf2.corpus.masks.ngram import NgramMasks
from claf2.corpus.masks.token import TokenMasks
from claf2.corpus.masks.word import WordMasks
from claf2.corpus.sources import TextSource
from claf2.registry import LARGEST, Component

__all__ = ["CorpusSection", "InstancesSection", "MasksSection", "Phase"]

NOT_WRITTEN: dict[str, Any] = {"written": False}
"""The mark of a block that is left out of a complete config unless it is given."""


class InstancesSection(Component):
    """Section `instances`: how text is divided into rows."""

    name: str = "full_sentences"
    full_sentences: FullSentences | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    document: DocumentRows | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    sentence: SentenceRows | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    sentence_pair: SentencePairs | None = Field(default=None, json_schema_extra=NOT_WRITTEN)

    def chosen(self) -> Instances:
        """Return the block with the section's name, or its defaults."""
        kind = instances.get(self.name)
        return getattr(self, self.name, None) or kind()


class MasksSection(Component):
    """Section `masks`: which tokens are hidden and predicted."""

    name: str = "token"
    token: TokenMasks | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    word: WordMasks | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    eojeol: EojeolMasks | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    ngram: NgramMasks | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    next_token: NextTokens | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    mixture: MixtureMasks | None = Field(default=None, json_schema_extra=NOT_WRITTEN)
    deletion: Deletion | None = Field(default=None, json_schema_extra=NOT_WRITTEN)

    def chosen(self) -> Masks:
        """Return the block with the section's name, or its defaults."""
        kind = masks.get(self.name)
        return getattr(self, self.name, None) or kind()


class CorpusSection(Component):
    """The text of a pre-training, and how it becomes rows."""

    sources: list[TextSource] = Field(min_length=1)
    """The files. The weight of a source says how often each of its shards is read in an epoch: 2 twice, 0.5 in every
    second epoch, 0 never."""
    valid_documents: int = Field(default=0, ge=0, le=LARGEST)
    """How many documents are held out for evaluation."""
    instances: InstancesSection = InstancesSection()
    masks: MasksSection = MasksSection()
    window: int = Field(default=64, ge=1, le=4096)
    """How many shards are shuffled together."""
    shard_bytes: int = Field(default=4 * 2**20, ge=256, le=2**30)
    """The bytes of text that become one shard."""

    def ignored_blocks(self) -> dict[str, str]:
        """Return the blocks that were given but are not selected: dotted path → what is wrong with it."""
        return {
            f"{name}.{block}": f"has no effect while {name}.name is {section.name!r}"
            for name, section in (("instances", self.instances), ("masks", self.masks))
            for block in sorted(section.model_fields_set - {"name", section.name})
        }


class Phase(Component):
    """A part of a pre-training with rows and batches of one size."""

    until: int = Field(ge=1, le=LARGEST)
    """The step before which it ends."""
    batch_size: int = Field(ge=1, le=LARGEST)
    """The rows of an optimizer step, over all devices."""
    max_seq_length: int = Field(ge=8, le=2**20)
    """The length of a row in tokens, special tokens included."""
