"""What a vocabulary costs: its size, the length of texts in tokens, unknown tokens, and steps of pre-training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from claf2.corpus.scripts import SCRIPTS
from claf2.corpus.sources import TextSource, read_documents, source_files
from claf2.errors import DataError, ModelError
from claf2.readers.text import read_json_document
from claf2.runs.progress import show_progress
from claf2.task import report_damage
from claf2.tokenizers import Tokenizer

__all__ = [
    "PretrainingShape",
    "TextMeasures",
    "VocabularyMeasures",
    "count_script_entries",
    "encode_bare",
    "guess_language",
    "measure_vocabulary",
    "read_texts",
]

SCRIPT_NAMES = {"ko": "Hangul", "ja": "kana or kanji", "en": "Latin letters"}
SCRIPT_LETTERS = {language: re.compile(f"[{letters}]") for language, letters in SCRIPTS.items()}

SPACE_OF_BYTES = "Ġ"
"""What a byte-level vocabulary writes for a blank."""
PRINTABLE_BYTES = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""The bytes that a byte-level vocabulary writes as the character of the same number. The others follow from U+0100."""

UNLIMITED = 10**9
"""The length of inputs that are not truncated, in tokens."""
TEXTS_AT_ONCE = 64
"""How many texts are tokenized at a time."""
GIGABYTE = 10**9

Language = Literal["ko", "ja", "en"]


@dataclass(frozen=True)
class PretrainingShape:
    """A model and its batches, for which the cost of a vocabulary is computed. The defaults are BERT-base's (Devlin et
    al., 2019)."""

    hidden_size: int = 768
    layers: int = 12
    max_seq_length: int = 512
    batch_size: int = 256
    masked_share: float = 0.15
    """The share of the tokens that are predicted."""

    def steps(self, num_tokens: float) -> float:
        """Return the steps in which tokens are seen once."""
        return num_tokens / (self.batch_size * self.max_seq_length)

    def flops(self, num_tokens: float, vocab_size: int) -> float:
        """Return the floating-point operations of a training pass over tokens.

        Six per weight and token: two for the forward pass and four for the backward pass. The weights are those of the
        layers (12 L H²), and for predicted tokens those of the vocabulary (V H); attention adds 12 L S H per token.
        """
        layers = 12 * self.layers * self.hidden_size**2 + 2 * self.layers * self.max_seq_length * self.hidden_size
        return 6 * num_tokens * (layers + self.masked_share * vocab_size * self.hidden_size)


@dataclass(frozen=True)
class TextMeasures:
    """What a tokenizer makes of the texts of a source, without special tokens."""

    name: str
    register_name: str | None
    documents: int
    bytes: int
    """In UTF-8."""
    words: int
    """Words between white space."""
    tokens: int
    unknown_tokens: int

    @property
    def length(self) -> float:
        """The average number of tokens of a document."""
        return self.tokens / self.documents

    @property
    def unknown_share(self) -> float:
        """The share of the tokens that are unknown, 0–1."""
        return self.unknown_tokens / self.tokens if self.tokens else 0.0

    @property
    def bytes_per_token(self) -> float:
        """The bytes of text that a token stands for, on average, white space included."""
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def fertility(self) -> float:
        """The average number of tokens of a word. Where words are not separated by blanks, it says little."""
        return self.tokens / self.words if self.words else 0.0


@dataclass(frozen=True)
class VocabularyMeasures:
    """What a vocabulary costs."""

    name: str
    entries: int
    """Its size, special and added tokens included."""
    language: Language
    script_entries: int
    """The entries with at least one letter of the script of the language."""
    texts: tuple[TextMeasures, ...]
    shape: PretrainingShape

    @property
    def script_share(self) -> float:
        """The share of the entries with a letter of the script, 0–1."""
        return self.script_entries / self.entries

    @property
    def total(self) -> TextMeasures:
        """The measures of all texts together."""
        sums = {name: sum(getattr(text, name) for text in self.texts) for name in COUNTED}
        return TextMeasures("all", None, **sums)

    @property
    def steps_per_gigabyte(self) -> float:
        """The steps of pre-training in which 10⁹ bytes of such texts are seen once."""
        return self.shape.steps(GIGABYTE / self.total.bytes_per_token)

    @property
    def flops_per_gigabyte(self) -> float:
        """The floating-point operations of these steps."""
        return self.shape.flops(GIGABYTE / self.total.bytes_per_token, self.entries)

    @property
    def embedding_parameters(self) -> int:
        """The weights of its embeddings."""
        return self.entries * self.shape.hidden_size

    def to_json(self) -> dict[str, Any]:
        """Return all measures as JSON values."""
        return {
            "name": self.name,
            "entries": self.entries,
            "language": self.language,
            "script_entries": self.script_entries,
            "script_share": self.script_share,
            "embedding_parameters": self.embedding_parameters,
            "steps_per_gigabyte": self.steps_per_gigabyte,
            "flops_per_gigabyte": self.flops_per_gigabyte,
            "texts": [
                {**vars(text), **{name: getattr(text, name) for name in DERIVED}} for text in (*self.texts, self.total)
            ],
        }


COUNTED = ("documents", "bytes", "words", "tokens", "unknown_tokens")
DERIVED = ("length", "unknown_share", "bytes_per_token", "fertility")


def read_texts(source: TextSource, data_dir: Path | None = None, limit: int | None = None) -> list[str]:
    """Return the documents of a source; of a ``.json`` file in SQuAD's format, its paragraphs.

    Args:
        source: the source.
        data_dir: the folder that relative paths start from.
        limit: the most documents; ``None``: all.

    Raises:
        DataError: if a file cannot be read, or there is no text.
    """
    if source.path.endswith(".json"):
        texts = _read_paragraphs(Path(source.path) if data_dir is None else data_dir / source.path)
    else:
        files = source_files(source, data_dir)
        texts = (document.text for file in files for document in read_documents(file, text_field=source.text_field))
    kept = list(islice((text for text in texts if text and not text.isspace()), limit))
    if not kept:
        raise DataError(source.path, "holds no text")
    return kept


def _read_paragraphs(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise DataError(path, "no such file")
    with report_damage(path):
        document = read_json_document(path)
    try:
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                text = str(paragraph["context"])
                text.encode()  # raises for half of a surrogate pair, which is no text
                yield text
    except UnicodeEncodeError as error:
        raise DataError(path, f"a context contains a lone surrogate: {error}", hint="correct the file") from error
    except (KeyError, TypeError) as error:
        raise DataError(path, "not in the format of SQuAD", hint="convert other JSON to .jsonl") from error


def guess_language(texts: Sequence[str]) -> Language:
    """Return the language of some texts, judged by their letters: Korean, Japanese, or else English."""
    sample = "".join(text[:2000] for text in texts[:200])
    counts = {language: len(letters.findall(sample)) for language, letters in SCRIPT_LETTERS.items()}
    if max(counts["ko"], counts["ja"]) * 3 < counts["en"]:
        return "en"
    return "ko" if counts["ko"] >= counts["ja"] else "ja"


def measure_vocabulary(
    name: str,
    tokenizer: Tokenizer,
    texts: Mapping[str, Sequence[str]],
    *,
    language: Language,
    registers: Mapping[str, str | None] | None = None,
    shape: PretrainingShape | None = None,
) -> VocabularyMeasures:
    """Measure a vocabulary on texts.

    Args:
        name: what it is called in tables.
        tokenizer: its tokenizer.
        texts: source → its documents.
        language: the language whose script is counted among the entries.
        registers: source → its register.
        shape: the model for which costs are computed; ``None``: BERT-base.

    Raises:
        ModelError: if the tokenizer makes no token of any text.
    """
    measured = []
    with show_progress(name, sum(map(len, texts.values())), "text") as progress:
        done = 0
        for source, documents in texts.items():
            tokens = unknown = 0
            for start in range(0, len(documents), TEXTS_AT_ONCE):
                batch = documents[start : start + TEXTS_AT_ONCE]
                for ids in encode_bare(tokenizer, batch):
                    tokens += len(ids)
                    unknown += ids.count(tokenizer.unknown_id) if tokenizer.unknown_id is not None else 0
                done += len(batch)
                progress.update(done)
            measured.append(
                TextMeasures(
                    name=source,
                    register_name=(registers or {}).get(source),
                    documents=len(documents),
                    bytes=sum(len(text.encode()) for text in documents),
                    words=sum(len(text.split()) for text in documents),
                    tokens=tokens,
                    unknown_tokens=unknown,
                )
            )
    if not any(text.tokens for text in measured):
        raise ModelError(f"{name}: makes no token of the texts, so there is nothing to measure; give other texts")
    return VocabularyMeasures(
        name=name,
        entries=tokenizer.vocab_size,
        language=language,
        script_entries=count_script_entries(tokenizer.entries, language),
        texts=tuple(measured),
        shape=shape or PretrainingShape(),
    )


def encode_bare(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids of each text, without special tokens."""
    for (encoding,) in tokenizer.encode(texts, max_length=UNLIMITED):
        yield [token for token, sequence in zip(encoding.ids, encoding.sequence, strict=True) if sequence == 0]


def count_script_entries(entries: Iterable[str], language: Language) -> int:
    """Return how many entries contain a letter of the script of a language.

    Entries of a byte-level vocabulary are decoded first; one that holds only a part of a letter does not count.
    """
    letters, alphabet = SCRIPT_LETTERS[language], _byte_alphabet()
    entries = list(entries)
    # All entries of a byte-level vocabulary consist of these characters, apart from special tokens.
    num_bytes = sum(all(letter in alphabet for letter in entry) for entry in entries)
    if SPACE_OF_BYTES in entries and num_bytes > 0.95 * len(entries):
        entries = [bytes(alphabet.get(letter, 0x20) for letter in entry).decode(errors="ignore") for entry in entries]
    return sum(letters.search(entry) is not None for entry in entries)


def _byte_alphabet() -> dict[str, int]:
    """Return character → byte, as byte-level vocabularies write bytes (Radford et al., 2019)."""
    others = [byte for byte in range(256) if byte not in PRINTABLE_BYTES]
    return {chr(byte): byte for byte in PRINTABLE_BYTES} | {chr(256 + i): byte for i, byte in enumerate(others)}
