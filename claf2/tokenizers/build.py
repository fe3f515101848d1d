"""Ready tokenizers: a model's own, one put together, or the one that a run has saved."""

from __future__ import annotations

from pathlib import Path

from claf2.errors import ModelError
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.aligned import AlignedTokenizer
from claf2.tokenizers.fast import FastTokenizer, MarkedWord, compose

__all__ = ["compose", "load_tokenizer"]


def load_tokenizer(source: Path | str, *, revision: str | None = None) -> Tokenizer:
    """Load the tokenizer of a model folder or hub id through `transformers`.

    Raises:
        ModelError: when there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        wrapped = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{source}: no usable tokenizer there: {reason}; add its files, or give a token section"
        ) from error
    if not isinstance(wrapped, PreTrainedTokenizerFast):
        return AlignedTokenizer(wrapped)
    return FastTokenizer(wrapped, MarkedWord.restored(Path(source)))
