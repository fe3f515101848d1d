"""Rows as people read them: which tokens are hidden, what was put in their place, and where texts begin."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from claf2.corpus.batches import MaskDraws
from claf2.corpus.corpus import Corpus
from claf2.corpus.encoding import BEGINS_EOJEOL
from claf2.corpus.stream import CorpusStream
from claf2.heads.predicted_tokens import NO_TARGET

__all__ = ["preview_rows"]


def preview_rows(corpus: Corpus, stream: CorpusStream, step: int, count: int) -> list[str]:
    """Return the first rows of a step as text.

    A hidden token is shown as ``{text}``, one that is predicted but kept as ``{=text}``, and one that is replaced by
    another as ``{text>other}``. One that is deleted is shown as ``{text}``, too. Special tokens are shown as they are.

    Args:
        corpus: the corpus.
        stream: its stream.
        step: the optimizer step, from 0.
        count: the most rows.
    """
    whole = stream.step_rows(step)
    rows = whole.rows.take(slice(0, count))
    drawn = MaskDraws.of_step(stream.seed, step, len(whole.rows), whole.length)
    own = MaskDraws(drawn.draws[:, :count], drawn.order[:count])
    arrays = stream.layout.arrays(rows, corpus.shard, whole.length, corpus.masks, own, step)
    original, flags, _, lengths = stream.layout.tokens(rows, corpus.shard, whole.length)
    if corpus.masks.effect == "delete":
        deleted = stream.layout.select(flags, corpus.masks, own, step)
        arrays |= {
            "input_ids": np.where(deleted, NO_TARGET, original),
            "labels": np.where(deleted, original, NO_TARGET),
        }
    texts = []
    for number, length in enumerate(lengths.tolist()):
        ids, labels = arrays["input_ids"][number, :length], arrays["labels"][number, :length]
        label = ""
        if "next_sentence_label" in arrays:
            label = "random next: " if arrays["next_sentence_label"][number] else "true next: "
        texts.append(label + _row_text(corpus, ids, labels, flags[number, :length]))
    return texts


def _row_text(corpus: Corpus, ids: np.ndarray, labels: np.ndarray, flags: np.ndarray) -> str:
    tokenizer = corpus.tokenizer
    original = np.where(labels == NO_TARGET, ids, labels)
    special = np.isin(original, sorted(tokenizer.special_ids)) | (flags == 0)
    is_hidden = (ids == tokenizer.mask_id) | (ids == NO_TARGET)
    # 0 as it is, 1 hidden, 2 kept, 3 replaced
    state = np.where(labels == NO_TARGET, 0, np.where(is_hidden, 1, np.where(ids == labels, 2, 3)))
    eojeol = np.cumsum((flags & BEGINS_EOJEOL) != 0)
    # Tokens that are replaced are shown one by one, since each has another in its place; others in one piece.
    keys = [
        (int(word), bool(is_special), int(shown), place if is_special or shown == 3 else -1)
        for place, (word, is_special, shown) in enumerate(zip(eojeol, special, state, strict=True))
    ]
    text, last = "", -1
    for (word, is_special, shown, _), group in groupby(range(len(ids)), key=lambda place: keys[place]):
        places = list(group)
        if is_special:
            text += f" {tokenizer.tokens_of([int(original[places[0]])])[0]}"
            last = -1
            continue
        piece = tokenizer.decode(original[places].tolist()).replace(" ", "")
        other = tokenizer.tokens_of([int(ids[places[0]])])[0] if shown == 3 else ""
        marked = (piece, f"{{{piece}}}", f"{{={piece}}}", f"{{{piece}>{other}}}")[shown]
        text += marked if word == last else f" {marked}"
        last = word
    return text.strip()
