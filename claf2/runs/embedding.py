"""Vectors of texts: the encoder of a run, without its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from claf2.errors import RunError
from claf2.heads.pooling import Pooling, pool
from claf2.heads.request import read_request_text
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.answerer import Answerer
from claf2.runs.resolve import Run

__all__ = ["Embedder", "EncodedText"]


@dataclass(frozen=True)
class EncodedText:
    """A text as the encoder reads it."""

    id: str
    ids: Sequence[int]
    type_ids: Sequence[int]
    truncated: bool
    """Whether the text was cut to the longest input of the model's task."""

    @property
    def tokens(self) -> int:
        """The length in tokens."""
        return len(self.ids)


class Embedder:
    """The encoder of a model.

    Args:
        answerer: the model.
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    @cached_property
    def task(self) -> str:
        """The task whose encoder, longest input and pooling are used: the first one whose head makes vectors of texts;
        the first one of all where there is none."""
        tasks = self._answerer.tasks
        heads = {task: self._answerer.model(task).run.experiment.only_task.head for task in tasks}
        return next((task for task, head in heads.items() if hasattr(head, "pooling")), tasks[0])

    @cached_property
    def _run(self) -> Run:
        return self._answerer.model(self.task).run

    @cached_property
    def _encoder(self) -> EncoderWithHeads | None:
        engine = self._answerer.model(self.task).engine
        return engine if isinstance(engine, EncoderWithHeads) else None

    @property
    def pooling(self) -> Pooling:
        """How the model was trained to make the vector of a text; the mean where its head makes none."""
        own: Pooling = getattr(self._run.experiment.only_task.head, "pooling", "mean")
        return own

    @property
    def prefixes(self) -> tuple[str, str]:
        """What the model was trained to find before a question, and before a text that answers it. ``encode`` adds
        neither, since it does not know which of the two a text is."""
        featurizer = self._run.experiment.only_task.featurizer
        return getattr(featurizer, "prefix_a", ""), getattr(featurizer, "prefix_b", "")

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The kind of device that computes vectors."""
        return "cuda" if self._encoder is not None and self._encoder.device.type == "cuda" else "cpu"

    def check(self) -> None:
        """Check that there is an encoder.

        Raises:
            RunError: if the model is an export, whose graph returns the outputs of its head alone, or an
                encoder-decoder, whose last vectors are those of its decoder.
        """
        if self._encoder is None:
            raise RunError("this model is an export without vectors: its graph ends in its head; serve the run itself")
        encoder: Any = self._encoder.encoder
        if encoder.config.is_encoder_decoder:
            raise RunError("this model is an encoder-decoder; give an encoder, such as BERT or E5")

    def encode(self, requests: Sequence[Mapping[str, Any]]) -> list[EncodedText]:
        """Turn texts into what the encoder reads, in order.

        Raises:
            Claf2Error: when a request is not ``text`` and, if wanted, ``id``.
        """
        texts = []
        for request in requests:
            if not {"text"} <= request.keys() <= {"id", "text"}:
                raise RunError(f"a request needs text; got: {', '.join(request) or 'nothing'}")
            texts.append(read_request_text(request, "text"))
        longest = self._run.experiment.only_task.featurizer.max_seq_length
        encodings = self._run.tokenizer.encode(texts, None, max_length=longest, offsets=False)
        return [
            EncodedText(str(request.get("id", "0")), encoding.ids, encoding.type_ids, encoding.dropped > 0)
            for request, (encoding,) in zip(requests, encodings, strict=True)
        ]

    def embed(self, pooling: Pooling, encoded: Sequence[EncodedText]) -> list[list[float]]:
        """Return the vector of each text, (H,). Its numbers are the shortest that are the same in single precision."""
        return [[float(str(number)) for number in vector] for vector in self.compute_vectors(pooling, encoded)]

    def compute_vectors(self, pooling: Pooling, encoded: Sequence[EncodedText]) -> NDArray[np.float32]:
        """Return the vectors of texts in one batch, (B, H)."""
        assert self._encoder is not None
        shape = (len(encoded), max(text.tokens for text in encoded))
        ids, mask, types = np.full(shape, self._run.tokenizer.pad_id), np.zeros(shape, int), np.zeros(shape, int)
        for row, text in enumerate(encoded):
            ids[row, : text.tokens], mask[row, : text.tokens] = text.ids, 1
            types[row, : text.tokens] = text.type_ids
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        inputs = {name: torch.from_numpy(array).to(self._encoder.device) for name, array in arrays.items()}
        inputs["lengths"] = torch.tensor([text.tokens for text in encoded])
        with torch.inference_mode(), self._run.precision().forward():
            hidden = self._encoder.hidden_states(inputs).float()
        array: NDArray[np.float32] = pool(hidden, inputs["attention_mask"], pooling).cpu().numpy()
        return array
