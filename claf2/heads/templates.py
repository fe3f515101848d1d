"""Templates of prompts: how an example becomes a text with a placeholder for its answer, and the words for answers.

A template is known by a kind of task, a language and a name. Its text never changes, because the name is what a recipe
records: another wording gets another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PROMPT_TEMPLATES", "TASK_PROMPTS", "PromptTemplate", "TaskPrompt"]


@dataclass(frozen=True)
class PromptTemplate:
    """A text with the placeholders ``{text_a}``, ``{text_b}`` or ``{question}``, and ``{answer}``."""

    text: str
    words: Mapping[str, str] = field(default_factory=dict)
    """Meaning of a label → its word; a label without one is its own word."""


@dataclass(frozen=True)
class TaskPrompt:
    """Which templates fit a task, and what its labels mean in them."""

    kind: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Label → its meaning, where the label's name does not say it."""


_NLI = {"entailment": "True", "neutral": "Neither", "contradiction": "False", "not_entailment": "False"}
_YES_NO = {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No", "not_entailment": "No"}
_NLI_KO = {"entailment": "예", "neutral": "아마", "contradiction": "아니오", "not_entailment": "아니오"}
_NLI_JA = {"entailment": "はい", "neutral": "不明", "contradiction": "いいえ", "not_entailment": "いいえ"}

PROMPT_TEMPLATES: dict[tuple[str, str], dict[str, PromptTemplate]] = {
    # GPT-3's for RTE and ANLI (Brown et al., 2020, appendix G); `mask` is that of LM-BFF (Gao et al., 2021, table 1).
    ("nli", "en"): {
        "default": PromptTemplate("{text_a}\nQuestion: {text_b} True, False, or Neither?\nAnswer: {answer}", _NLI),
        "mask": PromptTemplate("{text_a} ? {answer} , {text_b}", _YES_NO),
        "plain": PromptTemplate("Premise: {text_a}\nHypothesis: {text_b}\nAnswer: {answer}", _YES_NO),
    },
    ("nli", "ko"): {
        "default": PromptTemplate("{text_a}\n질문: {text_b} 맞습니까?\n답: {answer}", _NLI_KO),
        "mask": PromptTemplate("{text_a} ? {answer} , {text_b}", _NLI_KO),
        "plain": PromptTemplate("전제: {text_a}\n가설: {text_b}\n답: {answer}", _NLI_KO),
    },
    ("nli", "ja"): {
        "default": PromptTemplate("{text_a}\n質問: {text_b} 正しいですか？\n答え: {answer}", _NLI_JA),
        "mask": PromptTemplate("{text_a} ? {answer} , {text_b}", _NLI_JA),
        "plain": PromptTemplate("前提: {text_a}\n仮説: {text_b}\n答え: {answer}", _NLI_JA),
    },
    ("sentiment", "en"): {
        "default": PromptTemplate(
            "Review: {text_a}\nSentiment: {answer}", {"positive": "positive", "negative": "negative"}
        ),
        "mask": PromptTemplate("{text_a} It was {answer} .", {"positive": "great", "negative": "terrible"}),
    },
    ("sentiment", "ko"): {
        "default": PromptTemplate("리뷰: {text_a}\n감정: {answer}", {"positive": "긍정", "negative": "부정"}),
        "mask": PromptTemplate("{text_a} 이 영화는 {answer} .", {"positive": "좋다", "negative": "나쁘다"}),
    },
    ("sentiment", "ja"): {
        "default": PromptTemplate("レビュー: {text_a}\n感情: {answer}", {"positive": "肯定", "negative": "否定"}),
        "mask": PromptTemplate("{text_a} これは{answer}です。", {"positive": "良い", "negative": "悪い"}),
    },
    ("topic", "en"): {
        "default": PromptTemplate("Title: {text_a}\nTopic: {answer}"),
        "mask": PromptTemplate("{answer} : {text_a}"),
    },
    ("topic", "ko"): {
        "default": PromptTemplate("제목: {text_a}\n주제: {answer}"),
        "mask": PromptTemplate("{answer} : {text_a}"),
    },
    ("topic", "ja"): {
        "default": PromptTemplate("見出し: {text_a}\n話題: {answer}"),
        "mask": PromptTemplate("{answer} : {text_a}"),
    },
    ("paraphrase", "en"): {
        "default": PromptTemplate(
            "Sentence 1: {text_a}\nSentence 2: {text_b}\nSame meaning: {answer}", {"same": "Yes", "different": "No"}
        ),
        "mask": PromptTemplate("{text_a} {answer} , {text_b}", {"same": "Yes", "different": "No"}),
    },
    ("paraphrase", "ko"): {
        "default": PromptTemplate(
            "문장 1: {text_a}\n문장 2: {text_b}\n같은 뜻: {answer}", {"same": "예", "different": "아니오"}
        ),
        "mask": PromptTemplate("{text_a} {answer} , {text_b}", {"same": "예", "different": "아니오"}),
    },
    ("paraphrase", "ja"): {
        "default": PromptTemplate(
            "文1: {text_a}\n文2: {text_b}\n同じ意味: {answer}", {"same": "はい", "different": "いいえ"}
        ),
        "mask": PromptTemplate("{text_a} {answer} , {text_b}", {"same": "はい", "different": "いいえ"}),
    },
    # The answers are the choices of each question.
    ("choice", "en"): {"default": PromptTemplate("Question: {question}\nAnswer: {answer}")},
    ("choice", "ko"): {"default": PromptTemplate("질문: {question}\n답: {answer}")},
    ("choice", "ja"): {"default": PromptTemplate("質問: {question}\n答え: {answer}")},
}
"""(Kind of task, language) → name → template."""

_POLARITY = {"0": "negative", "1": "positive"}
_EQUALITY = {"0": "different", "1": "same"}

TASK_PROMPTS: dict[str, TaskPrompt] = {
    **{name: TaskPrompt("nli") for name in ("ax", "cb", "jnli", "klue_nli", "kornli", "mnli", "rte")},
    "marc_ja": TaskPrompt("sentiment"),
    **{name: TaskPrompt("sentiment", _POLARITY) for name in ("nsmc", "sst")},
    "ynat": TaskPrompt("topic"),
    **{name: TaskPrompt("paraphrase", _EQUALITY) for name in ("mrpc", "paws_ko", "qqp")},
    "question_pair": TaskPrompt("paraphrase", {"0": "same", "1": "different"}),
    **{name: TaskPrompt("choice") for name in ("jcommonsenseqa", "qnli_rank")},
}
"""Task → its kind of template. A plug-in adds its own tasks here, or its BaseConfig names ``template_kind`` and
``label_words``."""
