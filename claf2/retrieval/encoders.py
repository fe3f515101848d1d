"""Encoders of passages and questions: any folder with an encoder and its tokenizer, or a finished run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from claf2.errors import ModelError
from claf2.heads.pooling import Pooling, pool

if TYPE_CHECKING:
    from claf2.runs.embedding import EncodedText

__all__ = ["EncoderFolder", "RunEncoder", "TextEncoder", "batches_of_tokens", "open_encoder"]

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
"""The most tokens of a batch, padding included, by kind of device; a single text may be longer. On a processor, larger
batches are slower, since what a layer computes does not fit into the caches. The number for GPUs is a guess."""
TOKENIZED_AT_ONCE = 4096
"""How many texts are tokenized at once, since the tokens of a whole collection take more memory than its text."""
MOST_TOKENS = 512
"""The most tokens of a text, even if its encoder reads more. Longer texts are truncated."""


class TextEncoder(ABC):
    """Turns texts into vectors of length 1: the mean over their tokens, or what the folder of a sentence encoder
    says."""

    name: str
    """The name of the encoder in error messages."""
    digest: str
    """SHA-256 of configuration and weights. An index can be searched only with the encoder that it was made with."""
    tokenizer_digest: str
    """SHA-256 of the files of its tokenizer, for the same reason."""

    device: Literal["cpu", "cuda"] = "cpu"
    """The kind of device that computes vectors."""
    query_prefix: str = ""
    """What it was trained to find before a question, as far as its folder says. ``encode`` does not add it."""
    passage_prefix: str = ""
    """What it was trained to find before a passage."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[Any]:
        """Return texts as the encoder reads them."""

    @abstractmethod
    def compute(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Return the vectors of a batch of tokenized texts, (B, H)."""

    @abstractmethod
    def token_length(self, encoded: Any) -> int:
        """Return the length of a tokenized text."""

    def encode(self, texts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Return the vectors of texts, in order, (N, H) with N ≥ 1.

        Args:
            texts: the texts.
            on_batch: is called with the number of texts that are done.

        Raises:
            ModelError: if a text has no tokens, or a vector is not finite.
        """
        return np.concatenate([
            self._encode_part(texts[start : start + TOKENIZED_AT_ONCE], start, on_batch)
            for start in range(0, len(texts), TOKENIZED_AT_ONCE)
        ])  # fmt: skip

    def _encode_part(
        self, texts: Sequence[str], done: int, on_batch: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        encoded = self.tokenize(texts)
        empty = next((text for text, item in zip(texts, encoded, strict=True) if not self.token_length(item)), None)
        if empty is not None:
            raise ModelError(f"{self.name}: its tokenizer finds no token in {empty[:80]!r}; leave out such texts")
        # Texts of similar length together, so that little is computed for padding.
        lengths = [self.token_length(item) for item in encoded]
        vectors: NDArray[np.float32] | None = None
        for places in batches_of_tokens(lengths, BATCH_TOKENS[self.device]):
            computed = self.compute([encoded[place] for place in places])
            if not np.isfinite(computed).all():
                raise ModelError(f"{self.name}: its vectors are not finite; give another encoder, or one in 32 bits")
            if vectors is None:
                vectors = np.empty((len(texts), computed.shape[1]), np.float32)
            vectors[places] = computed / np.maximum(np.linalg.norm(computed, axis=1, keepdims=True), 1e-12)
            done += len(places)
            if on_batch is not None:
                on_batch(done)
        assert vectors is not None
        return vectors


def batches_of_tokens(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the places of texts in batches of similar length, the shortest first.

    Args:
        lengths: the length of each text in tokens.
        most: the most tokens of a batch, padding included; a longer text is a batch.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) + 1) * lengths[place] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


class EncoderFolder(TextEncoder):
    """A folder that ``transformers`` can open: an encoder and its tokenizer. If ``sentence-transformers`` can open it,
    too, its pooling, its longest text and its default prompt are used.

    Args:
        folder: the folder.

    Raises:
        ModelError: if it holds no encoder.
    """

    def __init__(self, folder: Path) -> None:
        from claf2.models.configuration import OFFSET_POSITIONS
        from claf2.models.packing import Packing, is_packable
        from claf2.models.sentence_modules import read_sentence_modules
        from claf2.models.source import tokenizer_digest, weights_digest
        from claf2.registry import digest
        from claf2.runtime.device import select_device

        self._tokenizer, self._model = _load_encoder(folder)
        self._device = select_device("auto")
        self._model.to(self._device)
        self.device = "cuda" if self._device.type == "cuda" else "cpu"
        self._packing = Packing(self._model) if is_packable(self._model) else None
        self.name = str(folder)
        self.digest, self.tokenizer_digest = weights_digest(folder), tokenizer_digest(folder)
        positions = int(getattr(self._model.config, "max_position_embeddings", MOST_TOKENS) or MOST_TOKENS)
        # In these architectures, positions begin after the padding, so that two of them are never used.
        unused = 2 if self._model.config.model_type in OFFSET_POSITIONS else 0
        self._longest = min(MOST_TOKENS, positions - unused)
        modules = read_sentence_modules(folder)
        self._pooling: Pooling = "mean" if modules is None else modules.pooling
        if modules is not None:
            # Version 6 of the library keeps the longest text in the tokenizer alone.
            self._longest = min(self._longest, modules.max_length or int(self._tokenizer.model_max_length))
            self.query_prefix = self.passage_prefix = modules.prompt
            self.digest = digest([self.digest, self._pooling, self._longest, modules.lower_case])
        self._lower_case = modules is not None and modules.lower_case

    def tokenize(self, texts: Sequence[str]) -> list[Any]:
        given = [text.lower() if self._lower_case else text for text in texts]
        ids: list[list[int]] = self._tokenizer(
            given, truncation=True, max_length=self._longest, padding=False, verbose=False
        )["input_ids"]
        return ids

    def token_length(self, encoded: Any) -> int:
        return len(encoded)

    def compute(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        import torch

        padded = self._tokenizer.pad({"input_ids": list(batch)}, return_tensors="pt").to(self._device)
        lengths = torch.tensor([len(ids) for ids in batch])
        packed = nullcontext() if self._packing is None else self._packing.packed(
            lengths, padded["input_ids"].shape[1], self._device, first_tokens=self._pooling == "cls"
        )  # fmt: skip
        with torch.inference_mode(), packed:
            hidden = self._model(**padded).last_hidden_state.float()
        vectors: NDArray[np.float32] = pool(hidden, padded["attention_mask"], self._pooling).cpu().numpy()
        return vectors


def _load_encoder(folder: Path) -> tuple[Any, Any]:
    """Return the tokenizer and the model in a folder.

    Raises:
        ModelError: if it holds no encoder, or not all of its weights.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as hf_logging

    from claf2.models.stored_weights import weight_files
    from claf2.runtime.device import preserve_backends
    from claf2.runtime.model_files import reading_model

    with preserve_backends():
        # What `transformers` says about missing weights is an error below; heads beside the encoder are no fault.
        hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        with reading_model(folder, "it cannot be loaded", "*.json", *weight_files(folder), hint="give another encoder"):
            tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
            model, info = AutoModel.from_pretrained(str(folder), output_loading_info=True)
    missing = sorted(str(key) for key in info["missing_keys"] if "pooler" not in str(key))
    obstacle = "is an encoder-decoder" if model.config.is_encoder_decoder else ""
    if not obstacle and tokenizer.pad_token is None:
        obstacle = "its tokenizer has no padding token, as is usual for decoders"
    if not obstacle and missing:
        obstacle = f"{len(missing)} of its weights are missing, e.g. {missing[0]}"
    if obstacle:
        raise ModelError(f"model {folder}: {obstacle}; give an encoder, such as BERT or E5")
    tokenizer.padding_side = "right"  # a text begins its row, also for the pooling `cls` and for packed passes
    return tokenizer, model.eval()


class RunEncoder(TextEncoder):
    """The encoder of a finished run.

    Args:
        folder: the folder of the run.

    Raises:
        RunError: if it is not finished, damaged, or no encoder.
    """

    def __init__(self, folder: Path) -> None:
        from claf2.models.source import tokenizer_digest, weights_digest
        from claf2.runs.answerer import Answerer
        from claf2.runs.embedding import Embedder

        answerer = Answerer.open(folder)
        self._embedder = Embedder(answerer)
        self._embedder.check()
        self.device = self._embedder.device
        self.name = str(folder)
        best = folder / "best"
        own = best if (best / "config.json").is_file() else best / self._embedder.task
        self.digest, self.tokenizer_digest = weights_digest(own), tokenizer_digest(own)
        self.query_prefix, self.passage_prefix = self._embedder.prefixes

    def tokenize(self, texts: Sequence[str]) -> list[EncodedText]:
        return self._embedder.encode([{"text": text} for text in texts])

    def token_length(self, encoded: EncodedText) -> int:
        return encoded.tokens

    def compute(self, batch: Sequence[EncodedText]) -> NDArray[np.float32]:
        return self._embedder.compute_vectors(self._embedder.pooling, batch)


def open_encoder(folder: Path) -> TextEncoder:
    """Open the encoder in a folder, or the encoder of a run.

    Raises:
        Claf2Error: if it holds neither.
    """
    if (folder / "run.json").is_file():
        return RunEncoder(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: is neither a run nor an encoder; give a folder with config.json, or a finished run"
        )
    return EncoderFolder(folder)
