"""Prompts: an example as a text with a placeholder for its answer, and the answers that are compared there."""

from __future__ import annotations

import re
from abc import ABC
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field

from claf2.errors import Claf2Error, ConfigError, nearest
from claf2.heads import Feature, Featurizer
from claf2.heads.templates import PROMPT_TEMPLATES, TASK_PROMPTS, TaskPrompt
from claf2.readers import ChoiceExample, TextExample
from claf2.task import Task
from claf2.tokenizers import METASPACE, Tokenizer

__all__ = ["NO_ANSWER", "CausalPromptFeaturizer", "MaskPromptFeaturizer", "PromptFeaturizer", "Seq2SeqPromptFeaturizer"]

ANSWER = "{answer}"
PLACES = re.compile(r"\{(text_a|text_b|question)\}")
ANY_PLACE = re.compile(r"\{\s*(\w+)\s*\}")
PLACE_NAMES = ("text_a", "text_b", "question")

NO_ANSWER = -100
"""Pads the ids of answers."""

SHARED, PADDING = 0, -1
"""The segment of the tokens that all answers of a row share, and that of padding. Answers are numbered from 1."""

CONTENT_FREE = "N/A"
"""The text of an example without content (Zhao et al., 2021)."""


EncodedPrompt: TypeAlias = tuple[list[int], list[list[int]]]
"""The ids of a prompt, and those of each answer."""


class PromptFeaturizer(Featurizer, ABC):
    """Featurizers of heads that compare the words of labels, or the choices of a question, at one place of a text."""

    template: str = "default"
    """The name of a template for the kind of task, or a text with `{text_a}`, `{text_b}` or `{question}`, and
    `{answer}`."""
    template_kind: str | None = None
    """The kind of task: `nli`, `sentiment`, `topic`, `paraphrase` or `choice`; `null`: that of the task."""
    label_words: dict[str, str] = Field(default={})
    """Label → its word; a label that is not named has the template's word, or else its own name."""

    def for_task(self, task: Task) -> Self:
        """Return the featurizer with the template's text and the word of each label.

        Raises:
            ConfigError: if there is no such template, a place of it cannot be filled, or two labels have the same word.
        """
        path = f"data_reader.{task.name}"
        prompt = TASK_PROMPTS.get(task.name, TaskPrompt("choice" if task.head == "choice" else ""))
        kind = self.template_kind or prompt.kind
        known = PROMPT_TEMPLATES.get((kind, self.lang_code or task.language), {})
        if self.template not in known and ANSWER not in self.template:
            if not known:
                problem = f"there is no template for task {task.name!r}"
                hint = "set template_kind, or write the template as a text with {text_a} and {answer}"
                raise ConfigError(f"{path}.template", problem, hint=hint)
            raise ConfigError(
                f"{path}.template", f"{self.template!r} is not a template", hint=nearest(self.template, known)
            )
        text, words = self.template, dict[str, str]()
        if self.template in known:
            text, template_words = known[self.template].text, known[self.template].words
            words = {label: template_words.get(prompt.meanings.get(label, label), label) for label in task.labels}
        _check_places(text, f"{path}.template")
        unknown = set(self.label_words) - set(task.labels)
        if unknown:
            name = min(unknown)
            raise ConfigError(f"{path}.label_words", f"{name!r} is not a label", hint=nearest(name, task.labels))
        words = {label: self.label_words.get(label, words.get(label, label)) for label in task.labels}
        if len(set(words.values())) < len(words):
            problem = "two labels have the same word, so they cannot be told apart"
            raise ConfigError(f"{path}.label_words", problem, hint="give each label a word of its own")
        return self.model_copy(update={"template": text, "template_kind": kind, "label_words": words})

    def render(self, example: TextExample | ChoiceExample, *, content: str | None = None) -> tuple[str, str]:
        """Return the texts before and after the answer.

        Args:
            example: fills the places of the template.
            content: what to write instead of the example's texts.

        Raises:
            Claf2Error: if the template has a place that the example cannot fill.
        """

        def fill(place: re.Match[str]) -> str:
            text = getattr(example, place[1], None)
            if text is None:
                raise Claf2Error(f"example {example.id!r} has no {place[1]}, which the template asks for")
            return text if content is None else content

        before, _, after = self.template.partition(ANSWER)
        return PLACES.sub(fill, before), PLACES.sub(fill, after)

    def answers(self, example: TextExample | ChoiceExample, labels: Sequence[str]) -> list[str]:
        """Return the answers that are compared, in the order of the labels.

        Raises:
            Claf2Error: if a question has another number of choices than labels.
        """
        if isinstance(example, ChoiceExample):
            if len(example.choices) != len(labels):
                raise Claf2Error(f"example {example.id!r} has {len(example.choices)} choices, not {len(labels)}")
            return list(example.choices)
        return [self.label_words.get(label, label) for label in labels]

    def check_distinct(
        self, example: TextExample | ChoiceExample, answers: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> None:
        """Refuse words of labels that have the same tokens, so that the first one would always win. The choices of a
        question are data, and may be the same.

        Raises:
            Claf2Error: naming the words.
        """
        if len(set(map(tuple, ids))) < len(ids) and not isinstance(example, ChoiceExample):
            words = ", ".join(repr(answer) for answer in answers)
            raise Claf2Error(f"two of the answers {words} are the same tokens for this model; set label_words")


def _check_places(template: str, path: str) -> None:
    """Refuse a template with a place that no example fills, or with another number of answers than one."""
    hint = "use {text_a}, {text_b} or {question}, and {answer} once"
    for place in ANY_PLACE.finditer(template):
        if place[0] != ANSWER and not PLACES.fullmatch(place[0]):
            raise ConfigError(path, f"{place[0]} is not a place of a template", hint=hint)
    if template.count(ANSWER) != 1:
        raise ConfigError(path, f"the template has {template.count(ANSWER)} places for the answer", hint=hint)


def _bare(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts without special tokens."""
    flat = tokenizer.encode_flat(texts)
    ends = flat.lengths.cumsum().tolist()
    return [flat.ids[end - size : end].tolist() for end, size in zip(ends, flat.lengths.tolist(), strict=True)]


class CausalPromptFeaturizer(PromptFeaturizer):
    """The prompt once, and after it each answer as a segment of its own. A row has the prompt's tokens in segment 0,
    and those of answer c in segment c + 1; ``divisors``, (C,), is what an answer's sum of log-probabilities is divided
    by."""

    version: ClassVar[int] = 2

    prompt_shots: int = Field(0, ge=0, le=256)
    """How many examples of the training data come before the prompt, with their answers (Brown et al., 2020). They are
    drawn by `seed_num`, so that the spread over seeds is also that over examples."""
    demonstrations: list[dict[str, str]] = Field(default=[])
    """These examples themselves, as objects with `text_a` (and `text_b`) or `question`, and `answer`; empty: they are
    drawn."""
    demonstration_separator: str = "\n\n"
    """The text between two examples."""
    score: Literal["sum", "tokens", "bytes", "calibrated"] = "sum"
    """How answers are compared: by the sum of their log-probabilities, by the mean per token or per byte, or by the sum
    minus that after an example without content, `N/A` (contextual calibration; Zhao et al., 2021)."""

    @property
    def shots_to_draw(self) -> int:
        """One more than `prompt_shots`, which takes the place of a demonstration that is the row itself."""
        return self.prompt_shots + 1 if self.prompt_shots and not self.demonstrations else 0

    def for_task(self, task: Task) -> Self:
        bound = super().for_task(task)
        if bound.template.partition(ANSWER)[2].strip():
            path = f"data_reader.{task.name}.template"
            problem = "a causal language model needs the answer at the end"
            raise ConfigError(path, problem, hint="use another template, such as default")
        bound._check_demonstrations(f"data_reader.{task.name}.demonstrations")
        return bound

    def _check_demonstrations(self, path: str) -> None:
        needed = [*dict.fromkeys(PLACES.findall(self.template)), "answer"]
        for number, values in enumerate(self.demonstrations, start=1):
            unknown = [name for name in values if name not in (*PLACE_NAMES, "answer")]
            missing = [name for name in needed if name not in values]
            if unknown or missing:
                problem = f"{unknown[0]!r} is not a field" if unknown else f"{missing[0]!r} is missing"
                raise ConfigError(path, f"example {number}: {problem}", hint=f"its fields are {', '.join(needed)}")

    def with_shots(self, examples: Sequence[TextExample | ChoiceExample]) -> Self:
        return self.model_copy(update={"demonstrations": [self._to_values(example) for example in examples]})

    def _to_values(self, example: TextExample | ChoiceExample) -> dict[str, str]:
        if isinstance(example, ChoiceExample):
            right = list(self.label_words).index(str(example.label))  # in the order of the labels
            return {"question": example.question, "answer": example.choices[right]}
        second = {} if example.text_b is None else {"text_b": example.text_b}
        return {"text_a": example.text_a, **second, "answer": self.label_words[str(example.label)]}

    def _demonstrations(self, example: TextExample | ChoiceExample) -> list[str]:
        """Return the demonstrations of a row as texts: never one with the row's own texts."""
        texts = []
        for values in self.demonstrations:
            row_texts = {name: getattr(example, name, None) for name in values if name != "answer"}
            if row_texts == {name: text for name, text in values.items() if name != "answer"}:
                continue
            before, _, after = self.template.partition(ANSWER)
            text = PLACES.sub(partial(_value_at, values), before) + values["answer"] + after
            texts.append(text + self.demonstration_separator)
        return texts[: self.prompt_shots or len(texts)]

    def features(
        self,
        examples: Sequence[TextExample | ChoiceExample],
        tokenizer: Tokenizer,
        labels: Sequence[str],
        counts: Counter[str],
    ) -> Iterator[Feature]:
        for position, example in enumerate(examples):
            shots, answers = self._demonstrations(example), self.answers(example, labels)
            prompts = [self.render(example)[0]]
            if self.score == "calibrated":
                prompts.append(self.render(example, content=CONTENT_FREE)[0])
            encoded, dropped = self._encode_prompts(tokenizer, shots, prompts, answers)
            self.check_distinct(example, answers, encoded[0][1])
            counts["dropped_demonstrations"] += dropped
            feature, is_cut = self._row(tokenizer, *encoded[0], name=example.id)
            counts["truncated"] += is_cut
            feature["divisors"] = self._divisors(answers, feature["segments"])
            if self.score == "calibrated":
                free_row, _ = self._row(tokenizer, *encoded[1], name=example.id)
                feature |= {"free_ids": free_row["input_ids"], "free_segments": free_row["segments"]}
            feature["token_type_ids"] = [0] * len(feature["input_ids"])
            feature["example"] = position
            if example.label is not None:
                feature["labels"] = labels.index(example.label)
            yield feature

    def _room(self, tokenizer: Tokenizer, answer_ids: Sequence[Sequence[int]]) -> int:
        """Return how many tokens of a prompt fit, apart from those that begin every text."""
        return self.max_seq_length - sum(map(len, answer_ids)) - len(tokenizer.template.single[0].ids)

    def _encode_prompts(
        self, tokenizer: Tokenizer, shots: Sequence[str], prompts: Sequence[str], answers: Sequence[str]
    ) -> tuple[list[EncodedPrompt], int]:
        """Return each prompt after the same demonstrations, and how many of these are left out, from the first one on,
        so that all prompts fit."""
        for dropped in range(len(shots) + 1):
            before = "".join(shots[dropped:])
            encoded = [_split_answers(tokenizer, before + prompt, answers) for prompt in prompts]
            if all(len(ids) <= self._room(tokenizer, answer_ids) for ids, answer_ids in encoded):
                break
        return encoded, dropped

    def _row(
        self, tokenizer: Tokenizer, prompt: list[int], answer_ids: Sequence[Sequence[int]], *, name: str
    ) -> tuple[Feature, bool]:
        """Return ids and segments of a prompt and its answers, and whether the prompt loses its beginning."""
        room = self._room(tokenizer, answer_ids)
        if room < 1:
            problem = f"the answers leave no room for a prompt in {self.max_seq_length} tokens"
            raise Claf2Error(f"example {name!r}: {problem}; raise max_seq_length")
        # An answer is predicted by what is before it: without a token there, by the end of another text.
        shared = [*tokenizer.template.single[0].ids, *prompt[-room:]] or [tokenizer.end_id]
        segments = [SHARED] * len(shared) + [index + 1 for index, ids in enumerate(answer_ids) for _ in ids]
        feature: Feature = {"input_ids": [*shared, *chain.from_iterable(answer_ids)], "segments": segments}
        return feature, len(prompt) > room

    def _divisors(self, answers: Sequence[str], segments: Sequence[int]) -> list[int]:
        if self.score == "tokens":
            sizes = Counter(segments)
            return [sizes[index + 1] for index in range(len(answers))]
        return [len(answer.encode()) if self.score == "bytes" else 1 for answer in answers]


def _value_at(values: Mapping[str, str], place: re.Match[str]) -> str:
    return values.get(place[1], "")


def _split_answers(tokenizer: Tokenizer, text: str, answers: Sequence[str]) -> EncodedPrompt:
    """Return the ids of a prompt, and those of each answer after it.

    Tokens may span the seam. So prompt and answer are encoded together, the space at the end of the prompt belongs to
    the answer, and the answer's ids are those after as many as the prompt has alone, as lm-evaluation-harness does.
    """
    stem = text.rstrip(" ")
    space = text[len(stem) :]
    prompt, *together = _bare(tokenizer, [stem, *(f"{stem}{space}{answer}" for answer in answers)])
    answer_ids = [ids[len(prompt) :] for ids in together]
    for index, answer in enumerate(answers):
        if not answer_ids[index]:  # the answer's characters are part of the prompt's last token
            answer_ids[index] = _bare(tokenizer, [answer])[0]
        if not answer_ids[index]:
            raise Claf2Error(f"the answer {answer!r} has no tokens; give its label another word")
    return prompt, answer_ids


class Seq2SeqPromptFeaturizer(PromptFeaturizer):
    """The text around the answer as the input of an encoder, and the answers, ``answer_ids`` (C, T), for a decoder. A
    text that is too long loses its beginning, since templates ask at the end."""

    version: ClassVar[int] = 2

    def features(
        self,
        examples: Sequence[TextExample | ChoiceExample],
        tokenizer: Tokenizer,
        labels: Sequence[str],
        counts: Counter[str],
    ) -> Iterator[Feature]:
        texts = ["".join(self.render(example)).strip() for example in examples]
        encodings = tokenizer.encode(texts, max_length=self.max_seq_length, keep="end", offsets=False)
        known: dict[str, list[int]] = {}
        for position, (example, (encoding,)) in enumerate(zip(examples, encodings, strict=True)):
            answers = self.answers(example, labels)
            new = [answer for answer in answers if answer not in known]
            if new:
                encoded = tokenizer.encode(new, max_length=self.max_seq_length, offsets=False)
                known |= {answer: encoding.ids for answer, (encoding,) in zip(new, encoded, strict=True)}
                self.check_distinct(example, answers, [known[answer] for answer in answers])
            counts["truncated"] += encoding.dropped > 0
            feature: Feature = {
                "input_ids": encoding.ids,
                "token_type_ids": encoding.type_ids,
                "answer_ids": [known[answer] for answer in answers],
                "example": position,
            }
            if example.label is not None:
                feature["labels"] = labels.index(example.label)
            yield feature


class MaskPromptFeaturizer(PromptFeaturizer):
    """The text with a mask token at the place of the answer, ``mask_places`` (), and the id of each label's word,
    ``word_ids`` (C,)."""

    version: ClassVar[int] = 2

    template: str = "mask"

    def features(
        self,
        examples: Sequence[TextExample | ChoiceExample],
        tokenizer: Tokenizer,
        labels: Sequence[str],
        counts: Counter[str],
    ) -> Iterator[Feature]:
        if tokenizer.mask_id is None:
            raise Claf2Error("the tokenizer has no mask token; use rank_causal or rank for this model")
        begin, end = tokenizer.template.single
        for position, example in enumerate(examples):
            before, after = self.render(example)
            answers = self.answers(example, labels)
            # The space in front of the mask belongs to the word: many models were pre-trained without a token for it.
            stem = before.rstrip(" ")
            left, right, *words = _bare(tokenizer, [stem, after, *_in_place(before, answers)])
            left, right, cut = _cut(left, right, self.max_seq_length - len(begin.ids) - len(end.ids) - 1)
            counts["truncated"] += cut
            follows_letter = bool(stem) and stem == before
            ids = [*begin.ids, *left, tokenizer.mask_id, *right, *end.ids]
            feature: Feature = {
                "input_ids": ids,
                "token_type_ids": [tokenizer.template.type_ids[0]] * len(ids),
                "mask_places": len(begin.ids) + len(left),
                "word_ids": [
                    self._single(tokenizer, ids, word, follows_letter) for ids, word in zip(words, answers, strict=True)
                ],
                "example": position,
            }
            self.check_distinct(example, answers, [[word] for word in feature["word_ids"]])
            if example.label is not None:
                feature["labels"] = labels.index(example.label)
            yield feature

    def _single(self, tokenizer: Tokenizer, ids: Sequence[int], word: str, follows_letter: bool) -> int:
        if follows_letter and len(ids) == 2 and tokenizer.tokens_of(ids[:1]) == [METASPACE]:
            ids = ids[1:]  # the mark of a word's beginning, which this word is not
        if len(ids) != 1 or ids[0] == tokenizer.unknown_id:
            pieces = " ".join(tokenizer.tokens_of(ids))
            raise Claf2Error(f"the word {word!r} is not a single token of this model, but {pieces}; set label_words")
        return int(ids[0])


def _in_place(before: str, answers: Sequence[str]) -> list[str]:
    """Return answers with the space before the mask, if there is one: some tokenizers then use other tokens."""
    return [f" {answer}" if before.endswith(" ") else answer for answer in answers]


def _cut(left: list[int], right: list[int], room: int) -> tuple[list[int], list[int], bool]:
    """Shorten two sequences to ``room`` tokens together, the longer one first: the left one at its beginning, the right
    one at its end, so that what is next to the mask stays."""
    excess = len(left) + len(right) - room
    if excess <= 0:
        return left, right, False
    from_left = min(len(left), max(0, (excess + len(left) - len(right) + 1) // 2), excess)
    from_left = max(from_left, excess - len(right))
    return left[from_left:], right[: len(right) - (excess - from_left)], True
