"""The entries of a ``tokenizer.json``: which ones a set of entries depends on, and the file with these alone."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from claf2.errors import ModelError
from claf2.runtime.files import read_json
from claf2.tokenizers import METASPACE, Tokenizer

__all__ = [
    "complete_entries",
    "normalizer_of",
    "read_tokenizer_files",
    "renumber",
    "renumber_settings",
    "trim_tokenizer_file",
    "vocabulary_of",
]

BYTE_ENTRY = re.compile(r"<0x[0-9A-F]{2}>")
"""The entries that stand for single bytes, where a vocabulary falls back to them."""
INNER_PREFIX = "##"
TRIMMABLE = ("Unigram", "WordPiece", "BPE", "WordLevel")


def read_tokenizer_files(original: Path, tokenizer: Tokenizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of the ``tokenizer.json`` and the ``tokenizer_config.json`` of a model.

    Args:
        original: the folder of the model, for errors.
        tokenizer: its tokenizer.

    Raises:
        ModelError: if it has no ``tokenizer.json``.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save(Path(temporary))
        if not (Path(temporary) / "tokenizer.json").is_file():
            raise ModelError(
                f"{original}: its tokenizer runs in Python and has no tokenizer.json, so it cannot be trimmed; "
                "give a model whose folder has one"
            )
        state = json.loads((Path(temporary) / "tokenizer.json").read_text(encoding="utf-8"))
        return state, read_json(Path(temporary) / "tokenizer_config.json")


def vocabulary_of(state: Mapping[str, Any]) -> dict[str, int]:
    """Return entry → id of a tokenizer, added tokens included.

    Args:
        state: the content of its ``tokenizer.json``.

    Raises:
        ModelError: if it is of an unknown kind.
    """
    model = state["model"]
    if model.get("type") not in TRIMMABLE:
        raise ModelError(f"a tokenizer of the kind {model.get('type')!r} cannot be trimmed; {', '.join(TRIMMABLE)} can")
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        entries = {piece: number for number, (piece, _) in enumerate(vocabulary)}
    else:
        entries = dict(vocabulary)
    return entries | {token["content"]: token["id"] for token in state.get("added_tokens", ())}


def normalizer_of(state: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what a tokenizer does with a text before it divides it.

    Args:
        state: the content of its ``tokenizer.json``.
    """
    from tokenizers import Tokenizer as Backend

    normalizer = Backend.from_str(json.dumps(state)).normalizer
    return (lambda text: text) if normalizer is None else normalizer.normalize_str


def complete_entries(state: Mapping[str, Any], used: Iterable[str], letters: Iterable[str]) -> set[str]:
    """Return the entries that a tokenizer must keep, so that a text whose tokens are all used is tokenized as before.

    Kept besides the used ones are added tokens, the entries of single characters and bytes, and what the algorithm
    needs: BPE builds an entry out of smaller ones, and Unigram derives the score of unknown characters from its least
    likely entry.

    Args:
        state: the content of ``tokenizer.json``.
        used: the entries that are used.
        letters: the characters whose own entries are kept, so that new words can be spelled.
    """
    model = state["model"]
    vocabulary = vocabulary_of(state)
    kept = set(used) | {token["content"] for token in state.get("added_tokens", ())}
    kept |= {entry for entry in vocabulary if BYTE_ENTRY.fullmatch(entry)}
    for letter in letters:
        kept |= {letter, f"{METASPACE}{letter}", f"{INNER_PREFIX}{letter}", f"{letter}</w>"}
    if model.get("unk_token") is not None:
        kept.add(model["unk_token"])
    if model["type"] == "Unigram":
        kept.add(METASPACE)
        if model.get("unk_id") is not None:
            kept.add(model["vocab"][model["unk_id"]][0])
        kept.add(min(model["vocab"], key=lambda entry: entry[1])[0])
    if model["type"] == "BPE":
        kept |= {entry for entry in vocabulary if len(entry) == 1}
        kept &= vocabulary.keys()
        _add_parts(kept, map(_parts_of, model["merges"]))
    return kept & vocabulary.keys()


def _parts_of(merge: str | Sequence[str]) -> tuple[str, str]:
    """Return the two entries that are merged; older files write them as one string."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _add_parts(kept: set[str], merges: Iterable[tuple[str, str]]) -> None:
    """Add the entries from which kept ones are merged. If an entry can be merged in several ways, all are kept."""
    parts: dict[str, set[str]] = {}
    for first, second in merges:
        parts.setdefault(first + second, set()).update((first, second))
    pending = list(kept)
    while pending:
        for part in parts.get(pending.pop(), ()):
            if part not in kept:
                kept.add(part)
                pending.append(part)


def renumber(state: Mapping[str, Any], kept: set[str]) -> dict[int, int]:
    """Return old id → new id of the entries to keep. Their order stays."""
    old_ids = sorted({number for entry, number in vocabulary_of(state).items() if entry in kept})
    return {old: new for new, old in enumerate(old_ids)}


def trim_tokenizer_file(state: Mapping[str, Any], kept: set[str], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of ``tokenizer.json`` with the kept entries alone.

    Args:
        state: the content of the file.
        kept: the entries to keep, from ``complete_entries``.
        new_ids: old id → new id, from ``renumber``.
    """
    model = dict(state["model"])
    if model["type"] == "Unigram":
        model["vocab"] = [pair for pair in model["vocab"] if pair[0] in kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {entry: new_ids[number] for entry, number in model["vocab"].items() if entry in kept}
    if model["type"] == "BPE":
        model["merges"] = [
            merge for merge in model["merges"] if {*(parts := _parts_of(merge)), parts[0] + parts[1]} <= kept
        ]
    trimmed = {**state, "model": model}
    trimmed["added_tokens"] = [{**token, "id": new_ids[token["id"]]} for token in state.get("added_tokens", ())]
    trimmed["post_processor"] = _renumber_processor(state.get("post_processor"), new_ids)
    if state.get("padding"):
        trimmed["padding"] = {**state["padding"], "pad_id": new_ids[state["padding"]["pad_id"]]}
    return trimmed


def renumber_settings(settings: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json`` with the new ids of added tokens.

    Args:
        settings: the content of the file.
        new_ids: old id → new id, from ``renumber``.
    """
    # Where a tokenizer was loaded from says nothing about the new one.
    settings = {name: value for name, value in settings.items() if name not in ("is_local", "local_files_only")}
    if "added_tokens_decoder" not in settings:
        return settings
    added = {str(new_ids[int(number)]): token for number, token in settings["added_tokens_decoder"].items()}
    return {**settings, "added_tokens_decoder": added}


def _renumber_processor(processor: Any, new_ids: Mapping[int, int]) -> Any:
    """Return a post-processor, which adds special tokens, with the new ids."""
    if processor is None:
        return None
    if processor["type"] == "Sequence":
        return {**processor, "processors": [_renumber_processor(part, new_ids) for part in processor["processors"]]}
    renumbered = dict(processor)
    for name in ("sep", "cls"):
        if name in processor:
            token, number = processor[name]
            renumbered[name] = [token, new_ids[number]]
    if "special_tokens" in processor:
        renumbered["special_tokens"] = {
            name: {**token, "ids": [new_ids[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return renumbered
