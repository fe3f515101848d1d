"""Sentence encoders that learn from plain text: words are deleted, and the text is restored from its vector (TSDAE)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from claf2.errors import ConfigError
from claf2.heads import Feature, Featurizer, register_head
from claf2.heads.pooling import Pooling
from claf2.heads.predicted_tokens import NO_TARGET, PredictedTokensHead
from claf2.readers import TextExample
from claf2.runtime.seed import generator
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedConfig, PreTrainedModel


class DamagedTextFeaturizer(Featurizer):
    """``[CLS] text [SEP]`` without some of its words, the same ones every time, and the tokens of the whole text. A
    text that is too long is divided. Training on a corpus deletes other words in every epoch instead."""

    delete_rate: float = Field(0.6, gt=0, lt=1)
    """The share of words that are deleted; at least one stays. A word is what the pre-tokenizer separates."""

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        flat = tokenizer.encode_flat([example.text_a for example in examples])
        parts = tokenizer.template.single
        room = self.max_seq_length - len(parts[0].ids) - len(parts[-1].ids)
        place = 0
        for position, (example, length) in enumerate(zip(examples, flat.lengths.tolist(), strict=True)):
            for number, start in enumerate(range(0, max(1, length), room)):
                window = slice(place + start, place + min(length, start + room))
                ids, words = flat.ids[window], flat.begins_word[window]
                kept = ids[self._is_kept(words, f"{example.id}/{number}")]
                whole, left = ([*parts[0].ids, *some.tolist(), *parts[-1].ids] for some in (ids, kept))
                yield {
                    "input_ids": left,
                    "token_type_ids": [tokenizer.template.type_ids[0]] * len(left),
                    "labels": [*whole[1:], NO_TARGET],
                    "example": position,
                }
            place += length

    def _is_kept(self, begins_word: np.ndarray, name: str) -> np.ndarray:
        """Return which tokens of a window stay, (T,)."""
        import numpy as np

        words = np.cumsum(begins_word) - begins_word[:1]
        chances = generator(0, "deleted words", name).random(int(words.max(initial=0)) + 1)
        chances[chances.argmax()] = 1.0  # one word stays
        kept: np.ndarray = chances[words] >= self.delete_rate
        return kept


@register_head("tsdae")
class DenoisingHead(PredictedTokensHead):
    """A decoder with the encoder's weights that sees nothing but the vector of a damaged text, and predicts the whole
    text; cross-entropy (Wang et al., 2021, https://arxiv.org/abs/2104.06979)."""

    featurizer: ClassVar[type[Featurizer]] = DamagedTextFeaturizer
    teacher_forced: ClassVar[tuple[str, ...]] = ("labels",)
    is_shardable: ClassVar[bool] = False

    pooling: Pooling = "cls"
    """How the vectors of tokens become that of the text: `cls`, `mean` or `max`."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        from claf2.heads.networks.denoising import DENOISED

        if config.model_type not in DENOISED:
            problem = f"the layers of {config.model_type} cannot be those of a decoder as well"
            hint = f"use {', '.join(sorted(DENOISED))}"
            raise ConfigError("model.architecture.model_type", problem, hint=hint)
        config.sentence_pooling = self.pooling

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.denoising import SentenceDenoiser

        return SentenceDenoiser
