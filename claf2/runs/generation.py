"""Texts that a finished run generates: answers of a decoder that was tuned on instructions, or continuations."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from claf2.errors import Claf2Error, RunError
from claf2.heads import heads
from claf2.heads.chat import Segment, prompt_text, turn_text
from claf2.heads.continuation import (
    ContinuationHead,
    ConversationFeaturizer,
    Decoding,
    InstructionHead,
    encode_segments,
    end_ids,
)
from claf2.models.configuration import position_limit
from claf2.readers import Turn, order_problem
from claf2.readers.instructions import parse_instruction, parse_turns
from claf2.registry import make_component
from claf2.runs.progress import show_progress
from claf2.runs.resolve import open_run
from claf2.runtime.device import select_device
from claf2.runtime.seed import derive_seed, preserve_rng

__all__ = ["GeneratedText", "TextGenerator", "parse_prompts"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class GeneratedText:
    """What a run answers to a prompt."""

    prompt: str
    """The prompt as the model reads it, without what the tokenizer puts in front."""
    text: str
    is_complete: bool
    """Whether the text has ended, and not only reached the longest length."""


def parse_prompts(lines: Iterable[str]) -> Iterator[tuple[Turn, ...]]:
    """Yield the conversations of some lines: a JSON object with ``instruction`` (and ``input``), ``messages`` or
    ``conversations``, or the text of an instruction. Empty lines are left out.

    Raises:
        Claf2Error: if an object is not a conversation of user and assistant in alternation, or ends with an answer.
    """
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        if not text.lstrip().startswith("{"):
            yield (Turn("user", text),)
            continue
        try:
            row = json.loads(text)
            if "messages" in row or "conversations" in row:
                turns = parse_turns(row.get("messages", row.get("conversations")))
            else:
                turns = (parse_instruction(row),)
        except (ValueError, KeyError, TypeError) as error:
            raise Claf2Error(f"line {number}: not a conversation: {error}; give instruction or messages") from error
        if not turns or turns[-1].role != "user":
            raise Claf2Error(f"line {number}: the last message must be the user's")
        if problem := order_problem(turns):
            raise Claf2Error(f"line {number}: {problem}")
        yield turns


class TextGenerator:
    """Generates texts with the best checkpoint of a run.

    Args:
        folder: the run, of the head ``instruct`` or ``clm``.
        settings: settings of ``Decoding`` that replace those of the run.

    Raises:
        RunError: if the run does not generate text.
        ConfigError: if a setting is wrong.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self._run = open_run(folder)
        config = self._run.experiment.only_task
        if not isinstance(config.head, ContinuationHead):
            name = heads.name_of(type(config.head))
            raise RunError(f"{folder}: its head {name!r} does not generate text; use a run of instruct or clm")
        own = config.head.decoding.model_dump() if isinstance(config.head, InstructionHead) else {}
        self.decoding = make_component(Decoding, {**own, **(settings or {})}, prefix="--")
        """How texts are generated."""
        inert = self.decoding.inert()
        if inert:
            logger.warning("%s: no effect without sampling; add --do-sample to use them", ", ".join(inert))
        self._layout = config.featurizer.layout if isinstance(config.featurizer, ConversationFeaturizer) else None
        model = self._run.model().eval()
        module: Any = model.head(model.names[0])
        self._ends = {self._run.tokenizer.end_id, *end_ids(module)}
        # The settings that a base model was published with would take the place of those that are not given.
        module.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self._module = module
        self._device = select_device(self._run.experiment.runtime.device)
        self._limit = position_limit(self._run.experiment.model, self._run.source)

    def _prompt(self, turns: Sequence[Turn]) -> tuple[str, list[int]]:
        if self._layout is None:
            pieces = [Segment("\n\n".join(map(turn_text, turns)))]
        else:
            pieces = prompt_text(self._layout, turns, self._run.tokenizer)
        ids, _ = encode_segments(pieces, self._run.tokenizer)
        if self._limit is not None and len(ids) + self.decoding.max_new_tokens > self._limit:
            longest = self._limit - self.decoding.max_new_tokens
            raise Claf2Error(
                f"a prompt has {len(ids)} tokens, and the model's {self._limit} positions leave room for {longest}; "
                "shorten it, or set a smaller --max_new_tokens"
            )
        return "".join(piece.text for piece in pieces), ids

    def stream(
        self, conversations: Sequence[Sequence[Turn]], *, batch_size: int = 8, seed: int = 42
    ) -> Iterator[GeneratedText]:
        """Yield a text for each conversation, in order.

        Prompts are padded on the left, so that a text does not depend on the others of its batch; sampled texts do.

        Args:
            conversations: each ends with a turn of the user.
            batch_size: how many texts are generated at a time.
            seed: where sampling begins.

        Raises:
            Claf2Error: if a prompt is too long.
        """
        prompts = [self._prompt(turns) for turns in conversations]
        with show_progress("generating", len(prompts), "text") as progress, preserve_rng():
            torch.manual_seed(derive_seed(seed, "generate"))
            for first in range(0, len(prompts), batch_size):
                batch = prompts[first : first + batch_size]
                yield from self._generate([ids for _, ids in batch], [text for text, _ in batch])
                progress.update(first + len(batch))

    def _generate(self, rows: Sequence[list[int]], texts: Sequence[str]) -> Iterator[GeneratedText]:
        tokenizer = self._run.tokenizer
        longest = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_id] * (longest - len(row)) + row for row in rows], device=self._device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self._device)
        with torch.inference_mode():
            generated = self._module.generate(
                input_ids=ids,
                attention_mask=mask,
                pad_token_id=tokenizer.pad_id,
                eos_token_id=sorted(self._ends),
                **self.decoding.settings(),
            )
        for text, row in zip(texts, generated[:, longest:].tolist(), strict=True):
            # The end is looked for in the ids, since the padding after it may be the same token.
            end = next((place for place, token in enumerate(row) if token in self._ends), None)
            yield GeneratedText(text, tokenizer.decode(row[:end]), is_complete=end is not None)
