"""A larger vocabulary for a model: the entries of another tokenizer are added, as LLaMA was extended for Korean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.adapters.layers.stored import is_adapted
from claf2.errors import ModelError, RunError
from claf2.models.source import resolve_model
from claf2.runtime.files import default_cache_dir, read_json, write_json
from claf2.runtime.model_files import reading_model
from claf2.tokenizers.build import load_tokenizer
from claf2.vocabulary.folder import is_vacant, write_folder

if TYPE_CHECKING:
    import torch

__all__ = ["ExtendResult", "extend_model"]


@dataclass(frozen=True)
class ExtendResult:
    """What was added to a model."""

    entries_before: int
    entries: int
    pieces_per_entry: float
    """Into how many entries of the old vocabulary a new one was divided, on average."""


def extend_model(name: str, tokenizer: str, folder: Path, *, size: int | None = None) -> ExtendResult:
    """Write a model whose vocabulary has the entries of another one as well. The row of a new entry in the embeddings,
    of the input and of the output, is the mean of the rows of the pieces that it was before.

    Ids of the old vocabulary stay. Its merges come before the new ones, so a text that needs no new entry keeps its
    tokens.

    Args:
        name: the model: a folder, an archive, a URL or a hub id. Its tokenizer has byte-pair merges.
        tokenizer: the other tokenizer: a folder or hub id, of the same kind.
        folder: the new folder.
        size: the most entries of the new vocabulary; ``None``: as many as there are.

    Raises:
        ModelError: if the model cannot be read, or the tokenizers do not fit together.
        RunError: if the folder exists, the vocabulary has that many entries already, or nothing is added.
    """
    if not is_vacant(folder):
        raise RunError(f"{folder}: exists; choose another folder")
    source = resolve_model(name, cache=default_cache_dir())
    if is_adapted(source):
        raise ModelError(f"{name}: its weights need the adapter that they were trained with; extend a plain model")
    added = Path(tokenizer).expanduser()  # the folder of a tokenizer alone has no config.json
    state, other = _read_state(source), _read_state(added if added.is_dir() else tokenizer)
    if _alphabet(state) != _alphabet(other):
        raise ModelError(f"{tokenizer}: writes spaces or bytes differently from that of {name}; use one like it")
    old = load_tokenizer(source)
    room = None if size is None else size - old.vocab_size
    if room is not None and room <= 0:
        raise RunError(f"--size {size}: {name} has {old.vocab_size} entries already; give a larger size")
    entries, merges = _new_entries(state, other, room)
    if not entries:
        raise RunError(f"{tokenizer}: has no entry that {name} lacks; nothing to add")
    pieces = _old_pieces(state, entries)

    def fill(target: Path) -> None:
        model = _load(source)
        _add_rows(model, pieces, old.vocab_size)
        model.save_pretrained(target)
        old.save(target)
        _extend_file(target / "tokenizer.json", entries, merges, old.vocab_size)
        new = load_tokenizer(target)
        if new.vocab_size != old.vocab_size + len(entries):
            raise ModelError(
                f"{target}: the extended tokenizer has {new.vocab_size} ids, not {old.vocab_size + len(entries)}"
            )

    write_folder(folder, fill)
    mean = sum(map(len, pieces)) / len(pieces)
    return ExtendResult(old.vocab_size, old.vocab_size + len(entries), mean)


def _read_state(source: Path | str) -> dict[str, Any]:
    """Return the content of a tokenizer's ``tokenizer.json``."""
    from transformers import AutoTokenizer

    with reading_model(
        source, "no usable tokenizer there", "tokenizer.json", hint="give a folder with a tokenizer.json"
    ):
        backend: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not hasattr(backend, "backend_tokenizer"):
        raise ModelError(f"{source}: its tokenizer has no tokenizer.json")
    state: dict[str, Any] = json.loads(backend.backend_tokenizer.to_str())
    if state["model"].get("type") != "BPE":
        raise ModelError(f"{source}: its tokenizer is {state['model'].get('type')}, and only BPE can be extended")
    return state


def _alphabet(state: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether bytes are written as letters, and spaces as ``▁``."""
    text = json.dumps([state.get("pre_tokenizer"), state.get("normalizer"), state.get("decoder")], ensure_ascii=False)
    return "ByteLevel" in text, "▁" in text


def _merges(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer; older files write each as one string."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in state["model"]["merges"])
    return [(first, second) for first, second in pairs]


def _new_entries(
    state: Mapping[str, Any], other: Mapping[str, Any], room: int | None
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the entries of another vocabulary that one lacks, and the merges that make them: first single characters,
    then entries in the order in which they were learned, as far as their parts are there."""
    special = {token["content"] for token in (*state.get("added_tokens", ()), *other.get("added_tokens", ()))}
    known = set(state["model"]["vocab"]) | special
    by_id = sorted(other["model"]["vocab"], key=lambda entry: int(other["model"]["vocab"][entry]))
    entries = [entry for entry in by_id if len(entry) == 1 and entry not in known][:room]
    known.update(entries)
    merges = []
    for first, second in _merges(other):
        whole = first + second
        if whole in known or first not in known or second not in known or (room is not None and len(entries) >= room):
            continue
        known.add(whole)
        entries.append(whole)
        merges.append((first, second))
    return entries, merges


def _old_pieces(state: Mapping[str, Any], entries: Sequence[str]) -> list[list[int]]:
    """Return the ids into which the old model divides each new entry."""
    from tokenizers import Tokenizer as Backend

    model = Backend.from_str(json.dumps(state)).model
    return [[token.id for token in model.tokenize(entry)] for entry in entries]


def _load(source: Path | str) -> Any:
    """Return the model as the class that wrote it."""
    import transformers
    from transformers import AutoConfig, AutoModel

    with reading_model(source, "its weights cannot be loaded", "*.safetensors", "*.bin", hint="download it again"):
        names = AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or []
        kind: Any = getattr(transformers, names[0], AutoModel) if names else AutoModel
        return kind.from_pretrained(source, dtype="auto")


def _add_rows(model: Any, pieces: Sequence[Sequence[int]], entries: int) -> None:
    """Give the embeddings of a model, of ``entries`` ids so far, a row for each new entry."""
    import torch

    before = [model.get_input_embeddings().weight, getattr(model.get_output_embeddings(), "weight", None)]
    old: list[torch.Tensor | None] = [None if weight is None else weight.detach().clone() for weight in before]
    is_tied = before[0] is before[1]
    rows = max(entries + len(pieces), len(before[0]))
    model.resize_token_embeddings(rows, mean_resizing=False)
    after = [model.get_input_embeddings(), None if is_tied else model.get_output_embeddings()]
    with torch.no_grad():
        for module, weight in zip(after, old, strict=True):
            if module is None or weight is None:
                continue
            for index, ids in enumerate(pieces):
                # A character that the old vocabulary cannot write has no pieces: it begins like an average entry.
                rows_of_pieces = weight[list(ids)] if ids else weight[:entries]
                module.weight[entries + index] = rows_of_pieces.float().mean(0).to(weight.dtype)


def _extend_file(path: Path, entries: Sequence[str], merges: Sequence[tuple[str, str]], first: int) -> None:
    """Add entries, from id ``first`` on, and merges to a ``tokenizer.json``."""
    state = read_json(path)
    model = state["model"]
    model["vocab"] |= {entry: first + index for index, entry in enumerate(entries)}
    model["merges"] = [list(pair) for pair in (*_merges(state), *merges)]
    write_json(path, state)
