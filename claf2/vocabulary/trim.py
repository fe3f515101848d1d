"""A smaller model with the same answers: the entries that texts do not use are removed from vocabulary and weights."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claf2.corpus.sources import TextSource, read_documents, source_files
from claf2.errors import DataError, ModelError, RunError
from claf2.models.source import resolve_model
from claf2.runs.progress import show_progress
from claf2.runtime.files import default_cache_dir, read_json, write_json
from claf2.runtime.model_files import reading_model
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import load_tokenizer
from claf2.vocabulary.bench import TEXTS_AT_ONCE, UNLIMITED, encode_bare
from claf2.vocabulary.folder import is_vacant, write_folder
from claf2.vocabulary.sample import HELD_OUT, is_held_out
from claf2.vocabulary.tokenizer_file import (
    complete_entries,
    normalizer_of,
    read_tokenizer_files,
    renumber,
    renumber_settings,
    trim_tokenizer_file,
    vocabulary_of,
)

if TYPE_CHECKING:
    import torch

__all__ = ["RECORD_NAME", "TrimResult", "trim_model"]

logger = logging.getLogger("claf2")

RECORD_NAME = "trimmed.json"
"""The file that says which ids were kept, and what was compared."""

EMBEDDINGS = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight", "wte.weight", "shared.weight")
"""The names of weights with one row per entry, by their ends: the embeddings of the input,"""
PREDICTIONS = tuple(
    "decoder.weight decoder.bias predictions.bias lm_head.weight lm_head.bias vocab_projector.weight "
    "vocab_projector.bias".split()
)
"""and the predictions of masked tokens."""

COPIED = ("README*", "LICENSE*", "NOTICE*", "modules.json", "*sentence*.json", "[0-9]*_*")
"""Other files of a model that stay as they are, among them those of sentence-transformers."""

COMPARED = 32
"""The number of held-out texts for which the outputs of both models are compared."""
COMPARED_CHARACTERS = 500
"""How much of each of these texts is used."""
MAX_DIFFERENCE = 1e-4
"""The largest difference of outputs that the rounding of another order of summation can explain."""


@dataclass(frozen=True)
class TrimResult:
    """What a trimmed model keeps of its original."""

    entries_before: int
    entries: int
    parameters_before: int
    parameters: int
    bytes_before: int
    """The size of the weights on disk, in bytes."""
    bytes: int
    held_out_tokens: int
    """The tokens of held-out texts under the old vocabulary,"""
    held_out_tokens_kept: int
    """those of them whose entries were kept,"""
    held_out_tokens_after: int
    """and the tokens under the new vocabulary."""
    compared_texts: int
    """The texts on which both models were compared,"""
    equal_texts: int
    """and those with equal tokens, on which the outputs are compared."""
    largest_difference: float
    """Between an output of the model and of its original: the last hidden states."""


def trim_model(
    name: str,
    sources: Sequence[TextSource],
    folder: Path,
    *,
    data_dir: Path | None = None,
    markers: Sequence[tuple[str, str]] = (),
    min_count: int = 1,
    size: int | None = None,
) -> TrimResult:
    """Write a model without the entries that texts do not use.

    The model and the original give the same outputs for every text whose tokens were all kept. A text with removed
    entries is spelled with smaller ones.

    Args:
        name: a folder, an archive, a URL or a hub id.
        sources: the texts. Their weights are not used.
        folder: the new folder.
        data_dir: the folder that relative paths of sources start from.
        markers: the entity markers of the texts, which decide how the words around them are divided.
        min_count: how often an entry must occur in the texts to be kept.
        size: the most entries that are kept because they occur, most frequent first; ``None``: all of them.

    Raises:
        ModelError: if the model cannot be read or trimmed, the outputs differ, or nothing can be compared, because no
            held-out text keeps all its tokens.
        DataError: if a text cannot be read.
        RunError: if the folder exists.
    """
    if not is_vacant(folder):
        raise RunError(f"{folder}: exists; choose another folder")
    files = [source_files(source, data_dir) for source in sources]
    original = _resolve_folder(name)
    _check_architecture(original)
    tokenizer = load_tokenizer(original, markers=markers)
    state, settings = read_tokenizer_files(original, tokenizer)
    counts, letters, held_out = _count_tokens(tokenizer, normalizer_of(state), sources, files, is_marked=bool(markers))
    names = {number: entry for entry, number in vocabulary_of(state).items()}
    # Ties are broken by the id, which does not depend on the order of the texts.
    frequent = sorted((number for number in counts if counts[number] >= min_count), key=lambda n: (-counts[n], n))
    kept = complete_entries(state, (names[number] for number in frequent[:size]), letters)
    new_ids = renumber(state, kept)
    results: list[TrimResult] = []

    def fill(target: Path) -> None:
        tokenizer.save(target)
        write_json(target / "tokenizer.json", trim_tokenizer_file(state, kept, new_ids))
        write_json(target / "tokenizer_config.json", renumber_settings(settings, new_ids))
        weights = _write_weights(original, target, new_ids)
        _write_other_files(original, target, new_ids)
        trimmed = load_tokenizer(target, markers=markers)
        results.append(_compare(original, target, tokenizer, trimmed, new_ids, held_out, weights))
        record = {"model": name, "min_count": min_count, "size": size, "kept_ids": list(new_ids)}
        write_json(target / RECORD_NAME, {**asdict(results[0]), **record})

    write_folder(folder, fill)
    return results[0]


def _resolve_folder(name: str) -> Path:
    """Return the local folder of a model; one on the hub is downloaded."""
    source = resolve_model(name, cache=default_cache_dir())
    if isinstance(source, Path):
        return source
    from huggingface_hub import snapshot_download

    with reading_model(source, "cannot be downloaded", hint="give its folder, or check the name and the network"):
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors", "*.bin", "*.model", "*.txt"]))


def _check_architecture(original: Path) -> None:
    """Raise a ``ModelError`` unless a model is an encoder."""
    from transformers import AutoConfig

    with reading_model(original, "its configuration cannot be read", "config.json", hint="check its files"):
        config = AutoConfig.from_pretrained(original)
    if config.is_encoder_decoder:
        raise ModelError(
            f"{original}: a {config.model_type} model has an encoder and a decoder, and cannot be trimmed; "
            "give a model that is an encoder alone, such as BERT"
        )


def _count_tokens(
    tokenizer: Tokenizer,
    normalize: Callable[[str], str],
    sources: Sequence[TextSource],
    files: Sequence[Sequence[Path]],
    *,
    is_marked: bool,
) -> tuple[Counter[int], set[str], list[str]]:
    """Return how often each id occurs, the characters of the texts before and after normalization, and the documents
    that were held out."""
    counts, divided = Counter[int](), Counter[int]()
    letters = {chr(number) for number in range(33, 127)}
    held_out: list[str] = []
    for batch in _batches(sources, files, held_out):
        for text in batch:
            letters.update(text, normalize(text))
        for ids in encode_bare(tokenizer, batch):
            counts.update(ids)
        if is_marked:  # a piece that becomes another one after a marker is needed as well
            divided.update(tokenizer.encode_flat(batch).ids.tolist())
    if not counts or not held_out:
        problem = f"too few documents: one in {HELD_OUT} is held out to measure on"
        raise DataError(sources[0].path, problem, hint="in a text file, separate them by blank lines")
    return counts | divided, letters, held_out


def _batches(
    sources: Sequence[TextSource], files: Sequence[Sequence[Path]], held_out: list[str]
) -> Iterator[list[str]]:
    """Yield the documents in batches, without those that are held out."""
    batch: list[str] = []
    done = 0
    with show_progress(
        "counting tokens", sum(path.stat().st_size for paths in files for path in paths), "B"
    ) as progress:
        for source, paths in zip(sources, files, strict=True):
            for path in paths:
                for document in read_documents(path, text_field=source.text_field):
                    if is_held_out(document) and document.text:
                        held_out.append(document.text)
                        continue
                    batch.append(document.text)
                    if len(batch) == TEXTS_AT_ONCE:
                        yield batch
                        batch = []
                done += path.stat().st_size
                progress.update(done)
    if batch:
        yield batch


def _write_other_files(original: Path, target: Path, new_ids: Mapping[int, int]) -> None:
    """Write config.json, and generation_config.json if there is one, with the new size and ids, and copy what stays as
    it is."""
    for pattern in COPIED:
        for path in original.glob(pattern):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, target / path.name)
    for name in ("config.json", "generation_config.json"):
        if not (original / name).is_file():
            continue
        config = read_json(original / name)
        if "vocab_size" in config:
            config["vocab_size"] = len(new_ids)
        for key, value in config.items():
            if key.endswith("_token_id") and isinstance(value, int):
                config[key] = new_ids.get(value)
            elif key.endswith("_token_id") and isinstance(value, list):
                config[key] = [new_ids[number] for number in value if number in new_ids]
        write_json(target / name, config)


@dataclass(frozen=True)
class _WeightSizes:
    """The size of weights before and after trimming, in numbers and in bytes."""

    parameters_before: int
    parameters: int
    bytes_before: int
    bytes: int


def _write_weights(original: Path, target: Path, new_ids: Mapping[int, int]) -> _WeightSizes:
    """Write the weights with the kept rows alone.

    Raises:
        ModelError: if there are no weights, or it is unclear which of them have one row per entry.
    """
    import torch
    from safetensors.torch import save_file

    config = read_json(original / "config.json")
    rows = config.get("vocab_size")
    by_entry = (*EMBEDDINGS, *PREDICTIONS)
    weights = _read_weights(original)
    before = sum(tensor.numel() for tensor in weights.values()), _count_bytes(weights)
    if not any(name.endswith(EMBEDDINGS) and weights[name].shape[0] == rows for name in weights):
        raise ModelError(f"{original}: no weights of {rows} word embeddings found, so it cannot be trimmed")
    assert isinstance(rows, int)  # it equals the rows of a weight
    if max(new_ids) >= rows:
        raise ModelError(
            f"{original}: its tokenizer has the id {max(new_ids)}, but there are {rows} word embeddings only; "
            "give the tokenizer that the model was trained with, or resize the embeddings"
        )
    others = [number for key, number in config.items() if key != "vocab_size" and isinstance(number, int)]
    unclear = [
        name
        for name, tensor in weights.items()
        if tensor.dim() > 0 and tensor.shape[0] == rows and not name.endswith(by_entry) and rows not in others
    ]
    if unclear:
        raise ModelError(
            f"{original}: {unclear[0]} has {rows} rows like the vocabulary, but is unknown to claf2 vocab trim"
        )
    kept = torch.tensor(list(new_ids))
    trimmed = {}
    for name, tensor in weights.items():
        is_by_entry = tensor.dim() > 0 and tensor.shape[0] == rows and name.endswith(by_entry)
        trimmed[name] = tensor[kept].contiguous() if is_by_entry else tensor.contiguous()
    save_file(trimmed, target / "model.safetensors", metadata={"format": "pt"})
    return _WeightSizes(before[0], sum(tensor.numel() for tensor in trimmed.values()), before[1], _count_bytes(trimmed))


def _count_bytes(weights: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def _read_weights(original: Path) -> dict[str, torch.Tensor]:
    import torch
    from safetensors.torch import load_file

    files = sorted(original.glob("model*.safetensors")) or sorted(original.glob("pytorch_model*.bin"))
    if not files:
        raise ModelError(f"{original}: has no weights: neither model.safetensors nor pytorch_model.bin")
    weights: dict[str, torch.Tensor] = {}
    with reading_model(original, "its weights cannot be read", "*.safetensors", "*.bin", hint="download it again"):
        for file in files:
            if file.suffix == ".safetensors":
                weights |= load_file(file)
            else:
                weights |= torch.load(file, map_location="cpu", weights_only=True)
    return weights


def _compare(
    original: Path,
    target: Path,
    before: Tokenizer,
    after: Tokenizer,
    new_ids: Mapping[int, int],
    held_out: Sequence[str],
    weights: _WeightSizes,
) -> TrimResult:
    """Compare tokens and outputs of the two models on held-out texts.

    Raises:
        ModelError: if outputs for equal tokens differ, kept tokens change, or no text has equal tokens.
    """
    tokens = kept = tokens_after = 0
    for start in range(0, len(held_out), TEXTS_AT_ONCE):
        batch = held_out[start : start + TEXTS_AT_ONCE]
        for ids in encode_bare(before, batch):
            tokens += len(ids)
            kept += sum(number in new_ids for number in ids)
        tokens_after += sum(map(len, encode_bare(after, batch)))
    texts = [text[:COMPARED_CHARACTERS] for text in held_out[:COMPARED]]
    pairs = []
    for text in texts:
        ((old,),), ((new,),) = (side.encode([text], max_length=UNLIMITED) for side in (before, after))
        expected = [new_ids.get(number) for number in old.ids]
        if expected == new.ids:
            pairs.append((old.ids, new.ids))
        # A word may be unknown because of an entry that was removed.
        elif None not in expected and before.unknown_id not in old.ids:
            raise ModelError(f"{original}: the tokens of {text!r} change, but all are kept; please report this model")
    if not pairs:
        raise ModelError(
            f"{original}: none of {len(texts)} held-out texts keeps all its tokens, so the trimmed model cannot be "
            "compared with it; give more texts, raise --size, or lower --min_count"
        )
    difference = _largest_difference(original, target, pairs)
    if difference > MAX_DIFFERENCE:
        raise ModelError(
            f"{original}: outputs of the trimmed model differ by {difference:.2g}; please report this model"
        )
    return TrimResult(
        entries_before=before.vocab_size,
        entries=after.vocab_size,
        **asdict(weights),
        held_out_tokens=tokens,
        held_out_tokens_kept=kept,
        held_out_tokens_after=tokens_after,
        compared_texts=len(texts),
        equal_texts=len(pairs),
        largest_difference=difference,
    )


def _largest_difference(original: Path, target: Path, pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Return the largest difference of the last hidden states of two models, for pairs of equal inputs."""
    import torch
    from transformers import AutoConfig, AutoModel

    from claf2.runtime.device import configure_backends, preserve_backends

    with (
        preserve_backends(),
        reading_model(original, "cannot be loaded", "*.safetensors", "*.bin", "config.json", hint="check its files"),
    ):
        configure_backends(deterministic=False)
        config = AutoConfig.from_pretrained(original)
        models = [AutoModel.from_pretrained(path, dtype=torch.float32).eval() for path in (original, target)]
    # An input that is too long is cut, special tokens at its end included, which changes nothing about the comparison.
    limit = min(getattr(config, "max_position_embeddings", None) or 512, 512) - 2
    largest = 0.0
    with torch.inference_mode():
        for inputs in pairs:
            states = [
                model(input_ids=torch.tensor([ids[:limit]])).last_hidden_state
                for model, ids in zip(models, inputs, strict=True)
            ]
            largest = max(largest, float((states[0] - states[1]).abs().max()))
    return largest
