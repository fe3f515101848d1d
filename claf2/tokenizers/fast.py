"""Tokenizers that `tokenizers` runs, and those put together here from a word and a subword tokenizer."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import Claf2Error
from claf2.tokenizers import SPECIALS, Encoding, Subword, Tokenizer, Word, subwords, words
from claf2.tokenizers.frame import Frame, windows

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
        word: the word tokenizer that runs in Python, where the backend could not be stored without it.
    """

    def __init__(self, wrapped: PreTrainedTokenizerFast, word: Word | None = None) -> None:
        self._wrapped = wrapped
        self._word = word
        self._backend: Backend = wrapped.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._frame = Frame.of(_encoding(self._backend.encode("a")), _encoding(self._backend.encode("a", "a")))

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
    ) -> list[list[Encoding]]:
        heads = [_encoding(each) for each in self._backend.encode_batch(list(first), add_special_tokens=False)]
        tails = None
        if second is not None:
            tails = [_encoding(each) for each in self._backend.encode_batch(list(second), add_special_tokens=False)]
        return windows(self._frame, heads, tails, max_length=max_length, max_first=max_first, step=step)

    def tokenize(self, text: str) -> list[str]:
        return list(self._backend.encode(text, add_special_tokens=False).tokens)

    def save(self, folder: Path) -> None:
        if self._word is None:
            self._wrapped.save_pretrained(folder)
            return
        from tokenizers import pre_tokenizers

        logger.warning(
            "%s: without claf2 this tokenizer cuts words at blanks only, not by %s",
            folder, words.name_of(type(self._word)),
        )  # fmt: skip
        mine = self._backend.pre_tokenizer
        self._backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self._wrapped.save_pretrained(folder)
        self._backend.pre_tokenizer = mine
        (folder / SPEC).write_text(json.dumps(_spec(self._word)), encoding="utf-8")


def _spec(word: Word) -> dict[str, Any]:
    return {"word": {"name": words.name_of(type(word)), "fields": word.model_dump(mode="json")}}


def restored_word(folder: Path) -> Word | None:
    """Return the word tokenizer that a folder's `tokenizer.json` cannot hold, if it notes one."""
    if not (folder / SPEC).is_file():
        return None
    noted = json.loads((folder / SPEC).read_text(encoding="utf-8"))["word"]
    return words.get(noted["name"])(**noted["fields"])


def _state(backend: Backend, word: Word | None) -> str:
    if word is None:
        return str(backend.to_str())
    mine = backend.pre_tokenizer
    backend.pre_tokenizer = None
    state = str(backend.to_str())
    backend.pre_tokenizer = mine
    return state + json.dumps(_spec(word), sort_keys=True)


def _encoding(encoded: Encoded) -> Encoding:
    sequence = [-1 if each is None else each for each in encoded.sequence_ids]
    return Encoding(ids=encoded.ids, type_ids=encoded.type_ids, offsets=encoded.offsets, sequence=sequence)


def compose(word: Word, subword: Subword, texts: Callable[[], Iterable[str]] | None, max_length: int) -> FastTokenizer:
    """Put a word and a subword tokenizer together, with BERT's special tokens around.

    Args:
        texts: what a vocabulary is learnt from where ``subword`` names no file.
        max_length: the longest input that the tokenizer announces.

    Raises:
        Claf2Error: when there is neither a vocabulary nor a text to learn one from.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if subword.vocab_path is not None:
        model = subword.read(subword.vocab_path)
    elif texts is not None:
        model = subword.learn(_merged(word, subword.vocab_size, texts), texts)
    else:
        raise Claf2Error(f"the subword tokenizer {subwords.name_of(type(subword))!r} needs a vocab_path")
    backend = _backend(word, model, marked=subword.marked)
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
    stored = word.stored
    tokenizer = FastTokenizer(wrapped, None if stored else word)
    if not stored:  # transformers copies the backend through its file format, which drops what runs in Python
        word.apply(wrapped.backend_tokenizer)
    return tokenizer


def _backend(word: Word, model: Any, *, marked: bool) -> Backend:
    from tokenizers import Tokenizer as Backend
    from tokenizers import pre_tokenizers

    backend = Backend(model)
    word.apply(backend)
    if marked:
        mark = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, mark])
    return backend


def _merged(word: Word, size: int, texts: Callable[[], Iterable[str]]) -> Backend:
    """Learn byte-pair merges of marked words."""
    from tokenizers import models, trainers

    backend = _backend(word, models.BPE(unk_token="[UNK]"), marked=True)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
    backend.train_from_iterator(texts(), trainer)
    return backend
