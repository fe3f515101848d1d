"""Encoders of passages and questions: any folder with an encoder and its tokenizer, or a finished run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from claf2.errors import ModelError, first_line

if TYPE_CHECKING:
    from claf2.runs.embedding import EncodedText

__all__ = ["EncoderFolder", "RunEncoder", "TextEncoder", "open_encoder"]

BATCH_SIZE = 32
TOKENIZED_AT_ONCE = 4096
"""How many texts are tokenized at once: the tokens of a whole collection take more memory than its text."""
MOST_TOKENS = 512
"""The most tokens of a text, if its encoder does not have a limit of its own. What is longer is cut."""


class TextEncoder(ABC):
    """Turns texts into vectors: the mean over their tokens, of length 1."""

    name: str
    """What errors call it."""
    digest: str
    """SHA-256 of configuration and weights. An index can be searched only with the encoder that it was made with."""

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
        order = sorted(range(len(texts)), key=lambda place: self.token_length(encoded[place]))
        vectors: NDArray[np.float32] | None = None
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            computed = self.compute([encoded[place] for place in places])
            if not np.isfinite(computed).all():
                raise ModelError(f"{self.name}: its vectors are not finite; give another encoder, or one in 32 bits")
            if vectors is None:
                vectors = np.empty((len(texts), computed.shape[1]), np.float32)
            vectors[places] = computed / np.maximum(np.linalg.norm(computed, axis=1, keepdims=True), 1e-12)
            if on_batch is not None:
                on_batch(done + start + len(places))
        assert vectors is not None
        return vectors


class EncoderFolder(TextEncoder):
    """A folder that ``transformers`` can open: an encoder and its tokenizer.

    Args:
        folder: the folder.

    Raises:
        ModelError: if it holds no encoder.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as hf_logging

        from claf2.models.configuration import OFFSET_POSITIONS
        from claf2.models.source import weights_digest
        from claf2.runtime.device import select_device

        hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
            self._model: Any = AutoModel.from_pretrained(str(folder)).eval()
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"model {folder}: {first_line(error)}") from error
        obstacle = "is an encoder-decoder" if self._model.config.is_encoder_decoder else ""
        if not obstacle and self._tokenizer.pad_token is None:
            obstacle = "its tokenizer has no padding token, as is usual for decoders"
        if obstacle:
            raise ModelError(f"model {folder}: {obstacle}; give an encoder, such as BERT or E5")
        self._device = select_device("auto")
        self._model.to(self._device)
        self.name = str(folder)
        self.digest = weights_digest(folder)
        positions = int(getattr(self._model.config, "max_position_embeddings", MOST_TOKENS) or MOST_TOKENS)
        # In these architectures, positions begin after the padding, so that two of them are never used.
        unused = 2 if self._model.config.model_type in OFFSET_POSITIONS else 0
        self._longest = min(MOST_TOKENS, positions - unused)

    def tokenize(self, texts: Sequence[str]) -> list[Any]:
        ids: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=self._longest, padding=False, verbose=False
        )["input_ids"]
        return ids

    def token_length(self, encoded: Any) -> int:
        return len(encoded)

    def compute(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        import torch

        padded = self._tokenizer.pad({"input_ids": list(batch)}, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            hidden = self._model(**padded).last_hidden_state.float()
        weights = padded["attention_mask"][..., None].float()
        vectors: NDArray[np.float32] = ((hidden * weights).sum(1) / weights.sum(1)).cpu().numpy()
        return vectors


class RunEncoder(TextEncoder):
    """The encoder of a finished run.

    Args:
        folder: the folder of the run.

    Raises:
        RunError: if it is not finished, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        from claf2.models.source import weights_digest
        from claf2.runs.answerer import Answerer
        from claf2.runs.embedding import Embedder

        answerer = Answerer.open(folder)
        self._embedder = Embedder(answerer)
        self.name = str(folder)
        best = folder / "best"
        self.digest = weights_digest(best if (best / "config.json").is_file() else best / answerer.tasks[0])

    def tokenize(self, texts: Sequence[str]) -> list[EncodedText]:
        return self._embedder.encode([{"text": text} for text in texts])

    def token_length(self, encoded: EncodedText) -> int:
        return encoded.tokens

    def compute(self, batch: Sequence[EncodedText]) -> NDArray[np.float32]:
        return self._embedder.compute_vectors("mean", batch)


def open_encoder(folder: Path) -> TextEncoder:
    """Open the encoder in a folder, or that of a run.

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
