"""What tokenizers of `transformers` have in common, with a backend in Rust or without."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from claf2.errors import Claf2Error, ModelError
from claf2.tokenizers import BareEncoding, Encoding, Tokenizer
from claf2.tokenizers.markers import Markers, add_marker_tokens, decode_ids
from claf2.tokenizers.template import InputTemplate, build_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["WrappedTokenizer"]

TODAY = {"%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024"}
"""What a chat template takes for today, so that its texts are the same tomorrow: the date that the template of Llama
3.1 falls back to."""

FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f" | replace('{field}', '{value}')" for field, value in TODAY.items())
    + " }}{%- endmacro -%}"
)
"""Takes the place of the function ``strftime_now`` of chat templates."""


class WrappedTokenizer(Tokenizer):
    """A tokenizer of `transformers`.

    Args:
        wrapped: the tokenizer.
    """

    _template: InputTemplate
    """The special tokens around one or two texts; set by the subclass."""

    def __init__(self, wrapped: PreTrainedTokenizerBase) -> None:
        self._wrapped = wrapped
        self._markers = Markers()

    @abstractmethod
    def _encode_bare(self, texts: Sequence[str], offsets: bool) -> list[BareEncoding]:
        """Encode texts without special tokens; without their offsets unless these are asked for or markers need
        them."""

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int,
        max_first: int | None = None,
        step: int | None = None,
        keep: Literal["start", "end"] = "start",
        offsets: bool = True,
    ) -> list[list[Encoding]]:
        heads = self._encode_bare(first, offsets)
        tails = None if second is None else self._encode_bare(second, offsets)
        return build_inputs(
            self._template, heads, tails, max_length=max_length, max_first=max_first, step=step, keep=keep
        )

    @property
    def pad_id(self) -> int:
        return int(self._wrapped.pad_token_id or 0)

    @property
    def vocab_size(self) -> int:
        return len(self._wrapped)

    @property
    def entries(self) -> dict[str, int]:
        return dict(self._wrapped.get_vocab())

    @property
    def template(self) -> InputTemplate:
        return self._template

    @property
    def mask_id(self) -> int | None:
        token: Any = self._wrapped.mask_token_id
        return None if token is None else int(token)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(map(int, self._wrapped.all_special_ids))

    @property
    def separator(self) -> str:
        return str(self._wrapped.sep_token or "")

    @property
    def separator_id(self) -> int:
        return int(self._wrapped.sep_token_id or 0)

    @property
    def end_id(self) -> int:
        end: Any = self._wrapped.eos_token_id
        end = self._wrapped.sep_token_id if end is None else end
        if end is None:
            raise ModelError("the tokenizer has no token that ends a text; set eos_token in its tokenizer_config.json")
        return int(end)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._wrapped.chat_template)

    def render_chat(self, messages: Sequence[Mapping[str, str]], *, opens_answer: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            template = self._wrapped.get_chat_template()
            text = self._wrapped.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=FIXED_DATE + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=opens_answer,
            )
        except TemplateError as error:
            raise Claf2Error(f"the chat template refuses the conversation: {error}; set layout") from error
        return str(text)

    @property
    @abstractmethod
    def _is_wordpiece(self) -> bool:
        """Whether ``##`` marks the pieces that continue a word."""

    def decode(self, ids: Sequence[int]) -> str:
        text = decode_ids(self._wrapped, ids)
        # The decoder leaves the mark of a first piece that continues a word.
        return text.removeprefix("##") if self._is_wordpiece else text

    def add_markers(self, pairs: Sequence[tuple[str, str]]) -> int:
        added, self._markers = add_marker_tokens(self._wrapped, pairs)
        return added

    def save(self, folder: Path) -> None:
        self._wrapped.save_pretrained(folder)
