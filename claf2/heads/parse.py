"""Dependency parsing: the head of each word of a sentence, and the relation to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.heads import (
    WIDEST_LAYER,
    CollectedOutputs,
    Feature,
    Featurizer,
    Head,
    HubRow,
    Request,
    SoftAnswer,
    register_head,
)
from claf2.metrics import Prediction
from claf2.metrics.parsing import MISSING
from claf2.readers import Example, ParseExample
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

IGNORED = -100
"""The target of words that have none; the loss ignores it."""

NO_PIECE = -1
"""The position of the pieces of a word that is not there, in rows with fewer words than others."""

POS_ROWS = 64
"""Rows of the embedding of parts of speech, including the unknown one."""

SEJONG = tuple(
    "NNG NNP NNB NP NR VV VA VX VCP VCN MMA MMD MMN MAG MAJ JC IC JKS JKC JKG JKO JKB JKV JKQ JX EP EF EC ETN ETM XPN "
    "XSN XSV XSA XR SF SP SS SE SO SL SH SW SN NA".split()
)
"""The parts of speech of KLUE DP, in KLUE-baseline's order."""


class ParseFeaturizer(Featurizer):
    """``[CLS] words [SEP]`` with the position of each word's first and last piece, its part of speech, its head and its
    relation. Words that do not fit into the input are dropped, and a head among them is not a target."""

    pos_tags: tuple[str, ...] = Field(SEJONG, max_length=POS_ROWS - 1)
    """The parts of speech, numbered from 1; any other is 0."""

    def features(
        self, examples: Sequence[ParseExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        numbers = {tag: index for index, tag in enumerate(self.pos_tags, start=1)}
        texts = [" ".join(example.words) for example in examples]
        for position, (example, (encoding,)) in enumerate(
            zip(examples, tokenizer.encode(texts, max_length=self.max_seq_length), strict=True)
        ):
            pieces = _pieces(example.words, encoding.offsets, encoding.sequence)
            shown = len(pieces)
            counts["truncated"] += shown < len(example.words)
            if not shown:
                raise Claf2Error(
                    f"example {example.id!r} has no word within {self.max_seq_length} tokens: raise max_seq_length"
                )
            feature: Feature = {
                "input_ids": encoding.ids,
                "token_type_ids": encoding.type_ids,
                "first": [first for first, _ in pieces],
                "last": [last for _, last in pieces],
                "pos": [numbers.get(tag, 0) for tag in example.pos[:shown]],
                "example": position,
            }
            if example.heads is not None and example.relations is not None:
                feature["heads"] = [head if head <= shown else IGNORED for head in example.heads[:shown]]
                feature["relations"] = [labels.index(relation) for relation in example.relations[:shown]]
            yield feature


def _last_tag(pos: str) -> str:
    """Return the part of speech of a word's last morpheme, which decides its role."""
    return pos.rsplit("+", 1)[-1]


def _pieces(words: Sequence[str], offsets: Sequence[tuple[int, int]], sequence: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions of the first and the last piece of each complete word. A word that the tokenizer drops
    gets those of the piece before it."""
    spans: list[tuple[int, int]] = []
    places = [index for index, text in enumerate(sequence) if text == 0]
    covered = max((offsets[index][1] for index in places), default=0)
    start = 0
    for word in words:
        end = start + len(word)
        pieces = [index for index in places if offsets[index][0] < end and offsets[index][1] > start]
        if not places or (not pieces and covered < end):
            break
        if pieces and offsets[pieces[-1]][1] < end and pieces[-1] == places[-1]:
            break  # cut inside the word
        spans.append((pieces[0], pieces[-1]) if pieces else (spans[-1] if spans else (places[0], places[0])))
        start = end + 1
    return spans


class ParseOutput(Protocol):
    """The scores of W words: ``heads`` (B, W, W + 1), of which the first candidate is the root, and ``relations``
    (B, W, R)."""

    heads: torch.Tensor
    relations: torch.Tensor


@register_head("parse")
class ParsingHead(Head[ParseExample, ParseOutput]):
    """KLUE-baseline's biaffine parser (``networks/biaffine.py``); the loss is the cross-entropy of heads plus that of
    relations, each the mean over words. Each word's head is chosen independently; the heads need not form a tree."""

    featurizer: ClassVar[type[Featurizer]] = ParseFeaturizer
    inputs: ClassVar[Mapping[str, int]] = {"first": NO_PIECE, "last": NO_PIECE, "pos": 0}
    targets: ClassVar[Mapping[str, int]] = {"heads": IGNORED, "relations": IGNORED}
    teacher_forced: ClassVar[tuple[str, ...]] = ("heads", "relations")
    request_fields: ClassVar[tuple[str, ...]] = ("words", "pos")

    pos_size: int = Field(256, ge=1, le=WIDEST_LAYER)
    """The width of a part of speech."""
    hidden_size: int = Field(768, ge=1, le=WIDEST_LAYER)
    """The width of the recurrent layers."""
    head_size: int = Field(512, ge=1, le=WIDEST_LAYER)
    """The width in which heads are scored (KLUE-baseline's arc space)."""
    relation_size: int = Field(256, ge=1, le=WIDEST_LAYER)
    """The width in which relations are scored (KLUE-baseline's type space)."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.parser_pos, config.parser_pos_size = POS_ROWS, self.pos_size
        config.parser_hidden = self.hidden_size
        config.parser_head_size, config.parser_relation_size = self.head_size, self.relation_size

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.biaffine import BiaffineParser

        return BiaffineParser

    def weight(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.array([(batch[name] != IGNORED).sum() for name in self.targets], dtype=np.float64)

    def loss(self, outputs: ParseOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        terms = [
            cross_entropy(scores.flatten(0, 1).float(), batch[name].flatten(), ignore_index=IGNORED, reduction="sum")
            for name, scores in (("heads", outputs.heads), ("relations", outputs.relations))
        ]
        return torch.stack(terms)

    def soft_answers(
        self, outputs: ParseOutput, batch: Mapping[str, torch.Tensor]
    ) -> Sequence[Mapping[str, SoftAnswer]]:
        import torch

        candidates = outputs.heads > torch.finfo(outputs.heads.dtype).min  # the network's mark of places without a word
        heads = candidates & (batch["heads"] != IGNORED)[..., None]
        # A teacher scores the relations to the head that it has chosen, and a student learns those to the right one.
        relations = (batch["relations"] != IGNORED) & (outputs.heads.argmax(-1) == batch["heads"])
        return [
            {"heads": SoftAnswer(outputs.heads, heads)},
            {"relations": SoftAnswer(outputs.relations, relations[..., None])},
        ]

    def collect(self, outputs: ParseOutput) -> dict[str, torch.Tensor]:
        heads, relations = (scores.float().softmax(-1).max(-1) for scores in (outputs.heads, outputs.relations))
        return {
            "heads": heads.indices,
            "probability": heads.values,
            "relations": relations.indices,
            "relation_probability": relations.values,
        }

    def predict(self, collected: CollectedOutputs[ParseExample]) -> list[Prediction]:
        predictions, labels = [], collected.labels
        for example, feature, row in zip(collected.examples, collected.features, collected.outputs, strict=True):
            shown = len(feature["first"])
            missing = len(example.words) - shown
            gold = None
            if example.heads is not None and example.relations is not None:
                gold = {"heads": list(example.heads), "relations": list(example.relations)}
            predictions.append(
                Prediction(
                    id=example.id,
                    gold=gold,
                    prediction={
                        "heads": [int(head) for head in row["heads"][:shown]] + [MISSING] * missing,
                        "relations": [labels[int(relation)] for relation in row["relations"][:shown]]
                        + [labels[0]] * missing,
                    },
                    score=float(row["probability"][:shown].mean()),
                    details={"words": list(example.words)},
                )
            )
        return predictions

    def request(self, request: Request) -> Example:
        request.check_fields(("words", "pos"), "words and their pos", ("heads", "relations"))
        words, pos = request.texts("words", str.split), request.texts("pos", str.split)
        if len(words) != len(pos):
            raise Claf2Error(f"expected one part of speech per word, got {len(pos)} for {len(words)} words")
        return ParseExample(id=request.id, words=words, pos=tuple(map(_last_tag, pos)))

    @classmethod
    def from_hub_row(cls, row: HubRow) -> Example:
        return ParseExample(
            id=row.id,
            words=tuple(row["words"]),
            pos=tuple(map(_last_tag, row["pos"])),
            heads=tuple(row["heads"]),
            relations=tuple(row["relations"]),
        )
