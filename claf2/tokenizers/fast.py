"""Tokenizers that `tokenizers` runs, and those put together here from a word and a subword tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from claf2.errors import Claf2Error
from claf2.tokenizers import SPECIALS, Encoding, Subword, Tokenizer, Word, subwords, words
from claf2.tokenizers.frame import Frame, windows
from claf2.tokenizers.marks import Marks, decoded, marked
from claf2.tokenizers.word import Whitespace

if TYPE_CHECKING:
    from tokenizers import Encoding as Encoded
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger("claf2")

SPEC = "claf2_tokenizer.json"
"""What a folder holds besides `tokenizer.json` where that file cannot say all."""


class FastTokenizer(Tokenizer):
    """A `transformers` tokenizer with a `tokenizers` backend, from which the character offsets come.

    Args:
        wrapped: the tokenizer.
        word: the word tokenizer, where it runs in Python and so is lost whenever the backend is stored or copied.
    """

    def __init__(self, wrapped: PreTrainedTokenizerFast, word: MarkedWord | None = None) -> None:
        self._wrapped = wrapped
        self._word = word
        self._backend: Backend = wrapped.backend_tokenizer
        if word is not None:
            word.apply(self._backend)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._frame = Frame.of(_encoding(self._backend.encode("a")), _encoding(self._backend.encode("a", "a")))
        self._marks = Marks()

    @property
    def pad_id(self) -> int:
        return int(self._wrapped.pad_token_id or 0)

    @property
    def vocab_size(self) -> int:
        return len(self._wrapped)

    @property
    def digest(self) -> str:
        state = _state(self._backend, self._word)
        return hashlib.sha256(state.encode()).hexdigest()

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int,
        max_first: int | None = None,
        step: int | None = None,
        keep: Literal["start", "end"] = "start",
    ) -> list[list[Encoding]]:
        heads = self._bare(first)
        tails = None if second is None else self._bare(second)
        return windows(self._frame, heads, tails, max_length=max_length, max_first=max_first, step=step, keep=keep)

    def _bare(self, texts: Sequence[str]) -> list[Encoding]:
        encoded = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [self._marks.repaired(_text(each)) for each in encoded]

    def tokenize(self, text: str) -> list[str]:
        return list(self._backend.encode(text, add_special_tokens=False).tokens)

    @property
    def separator(self) -> str:
        return str(self._wrapped.sep_token)

    @property
    def separator_id(self) -> int:
        return int(self._wrapped.sep_token_id)

    def decode(self, ids: Sequence[int]) -> str:
        return decoded(self._wrapped, ids)

    def mark(self, pairs: Sequence[tuple[str, str]]) -> int:
        added, self._marks = marked(self._wrapped, pairs)
        return added

    def save(self, folder: Path) -> None:
        if self._word is None:
            self._wrapped.save_pretrained(folder)
            return
        logger.warning(
            "%s: without claf2 this tokenizer cuts words at blanks only, not by %s",
            folder,
            words.name_of(type(self._word.word)),
        )
        MarkedWord(Whitespace(), self._word.marked).apply(self._backend)
        self._wrapped.save_pretrained(folder)
        self._word.apply(self._backend)
        (folder / SPEC).write_text(json.dumps(self._word.noted()), encoding="utf-8")


@dataclass(frozen=True)
class MarkedWord:
    """A word tokenizer, and whether its words get a ``▁`` in front."""

    word: Word
    marked: bool

    def apply(self, backend: Backend) -> None:
        """Set normaliser and pre-tokeniser of ``backend``."""
        from tokenizers import pre_tokenizers

        self.word.apply(backend)
        if self.marked:
            mark = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, mark])

    def noted(self) -> dict[str, Any]:
        """Return what ``restored`` reads."""
        name = words.name_of(type(self.word))
        return {"word": {"name": name, name: self.word.model_dump(mode="json")}, "marked": self.marked}

    @classmethod
    def restored(cls, folder: Path) -> MarkedWord | None:
        """Return the word tokenizer that a folder's `tokenizer.json` cannot hold, if the folder notes one."""
        if not (folder / SPEC).is_file():
            return None
        noted = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        name = noted["word"]["name"]
        return cls(words.get(name)(**noted["word"][name]), noted["marked"])


def _state(backend: Backend, word: MarkedWord | None) -> str:
    if word is None:
        return str(backend.to_str())
    MarkedWord(Whitespace(), word.marked).apply(backend)
    state = str(backend.to_str())
    word.apply(backend)
    return state + json.dumps(word.noted(), sort_keys=True)


def _encoding(encoded: Encoded) -> Encoding:
    sequence = [-1 if each is None else each for each in encoded.sequence_ids]
    return Encoding(ids=encoded.ids, type_ids=encoded.type_ids, offsets=encoded.offsets, sequence=sequence)


def _text(encoded: Encoded) -> Encoding:
    """Return the encoding of a bare text, of which nothing is special."""
    ids = encoded.ids
    zeros = [0] * len(ids)
    return Encoding(ids=ids, type_ids=zeros, offsets=encoded.offsets, sequence=zeros)


def compose(word: Word, subword: Subword, texts: Callable[[], Iterable[str]] | None, max_length: int) -> FastTokenizer:
    """Put a word and a subword tokenizer together, with BERT's special tokens around.

    Args:
        texts: what a vocabulary is learnt from where ``subword`` names no file.
        max_length: the longest input that the tokenizer announces.

    Raises:
        Claf2Error: when there is neither a vocabulary nor a text to learn one from.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if subword.vocab_path is not None:
        model = subword.read(subword.vocab_path)
    elif texts is not None:
        model = subword.learn(_merged(MarkedWord(word, True), subword.vocab_size, texts), texts)
    else:
        raise Claf2Error(f"the subword tokenizer {subwords.name_of(type(subword))!r} needs a vocab_path")
    cutter = MarkedWord(word, subword.marked)
    backend = Backend(model)
    # transformers copies the backend through its file format, in which what runs in Python has no place.
    (cutter if word.stored else MarkedWord(Whitespace(), subword.marked)).apply(backend)
    backend.decoder = subword.decoder()
    ids = {token: backend.token_to_id(token) for token in SPECIALS if backend.token_to_id(token) is not None}
    backend.add_special_tokens(list(ids))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token[1:-1].lower()}_token": token for token in ids}
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )
    return FastTokenizer(wrapped, None if word.stored else cutter)


def _merged(word: MarkedWord, size: int, texts: Callable[[], Iterable[str]]) -> Backend:
    """Learn byte-pair merges of marked words."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, trainers

    backend = Backend(models.BPE(unk_token="[UNK]"))
    word.apply(backend)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    backend.train_from_iterator(texts(), trainer)
    return backend
