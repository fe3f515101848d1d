"""The head of each word of a sentence, and the relation to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.heads import Feature, Featurizer, Head, register_head
from claf2.metrics import Prediction
from claf2.readers import Example, ParseExample
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

MISSING = -1
"""The head that is told for a word that did not fit into the input: no word's."""

IGNORED = -100
"""The target of words without one."""

POS_ROWS = 64
"""Rows of the table of parts of speech, the unknown one's among them."""

SEJONG = tuple(
    "NNG NNP NNB NP NR VV VA VX VCP VCN MMA MMD MMN MAG MAJ JC IC JKS JKC JKG JKO JKB JKV JKQ JX EP EF EC ETN ETM XPN "
    "XSN XSV XSA XR SF SP SS SE SO SL SH SW SN NA".split()
)
"""The parts of speech of KLUE DP, in KLUE-baseline's order."""


class ParseFeaturizer(Featurizer):
    """``[CLS] words [SEP]`` with the position of each word's first and last piece, its part of speech, its head and its
    relation. Words that do not fit are left out of the input, and a head among them is no target."""

    pos_tags: tuple[str, ...] = Field(SEJONG, max_length=POS_ROWS - 1)
    """The parts of speech, by which they are numbered from 1; 0 is any other."""

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
                    f"example {example.id!r} has no word that the tokenizer sees in {self.max_seq_length} tokens"
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
                feature["relations"] = [labels.index(each) for each in example.relations[:shown]]
            yield feature


def _pieces(words: Sequence[str], offsets: Sequence[tuple[int, int]], sequence: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions of the first and the last piece of each word that is wholly there. A word that the tokenizer
    passes over has those of the piece before it."""
    found: list[tuple[int, int]] = []
    places = [index for index, each in enumerate(sequence) if each == 0]
    covered = max((offsets[index][1] for index in places), default=0)
    start = 0
    for word in words:
        end = start + len(word)
        mine = [index for index in places if offsets[index][0] < end and offsets[index][1] > start]
        if not places or (not mine and covered < end):
            break
        if mine and offsets[mine[-1]][1] < end and mine[-1] == places[-1]:
            break  # cut inside the word
        found.append((mine[0], mine[-1]) if mine else (found[-1] if found else (places[0], places[0])))
        start = end + 1
    return found


@register_head("parse")
class Parse(Head):
    """KLUE-baseline's biaffine parser (``networks/biaffine.py``); the loss is the cross-entropy of heads plus that of
    relations, each the mean over words. Heads are taken one by one, with no care for whether they make a tree."""

    featurizer: ClassVar[type[Featurizer]] = ParseFeaturizer
    inputs: ClassVar[Mapping[str, int]] = {"first": 0, "last": 0, "pos": 0}
    targets: ClassVar[Mapping[str, int]] = {"heads": IGNORED, "relations": IGNORED}
    follows: ClassVar[tuple[str, ...]] = ("heads", "relations")

    pos_size: int = Field(256, ge=1)
    """The width of a part of speech."""
    hidden_size: int = Field(768, ge=1)
    """The width of the recurrent layers."""
    head_size: int = Field(512, ge=1)
    """The width in which heads are scored (KLUE-baseline's arc space)."""
    relation_size: int = Field(256, ge=1)
    """The width in which relations are scored (KLUE-baseline's type space)."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.parser_pos, config.parser_pos_size = POS_ROWS, self.pos_size
        config.parser_hidden = self.hidden_size
        config.parser_head_size, config.parser_relation_size = self.head_size, self.relation_size

    def network(self) -> type[PreTrainedModel]:
        from claf2.networks.biaffine import BiaffineParser

        return BiaffineParser

    def weight(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.array([(batch[name] != IGNORED).sum() for name in self.targets], dtype=np.float64)

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        terms = [
            cross_entropy(scores.flatten(0, 1).float(), batch[name].flatten(), ignore_index=IGNORED, reduction="sum")
            for name, scores in (("heads", outputs.heads), ("relations", outputs.relations))
        ]
        return torch.stack(terms)

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        best = outputs.heads.float().softmax(-1).max(-1)
        return {"heads": best.indices, "chances": best.values, "relations": outputs.relations.argmax(-1)}

    def predict(
        self,
        examples: Sequence[ParseExample],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        predictions = []
        for example, feature, row in zip(examples, features, collected, strict=True):
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
                        "heads": [int(each) for each in row["heads"][:shown]] + [MISSING] * missing,
                        "relations": [labels[int(each)] for each in row["relations"][:shown]] + [labels[0]] * missing,
                    },
                    score=float(row["chances"][:shown].mean()),
                    details={"words": list(example.words)},
                )
            )
        return predictions

    def request(self, values: Mapping[str, Any]) -> Example:
        known = {"id": "0", **values}
        words, pos = known.pop("words", None), known.pop("pos", None)
        if words is None or set(known) - {"id", "heads", "relations"}:
            raise Claf2Error(f"a request has words and their pos; got: {', '.join(values) or 'nothing'}")
        listed = [each.split() if isinstance(each, str) else list(map(str, each)) for each in (words, pos or [])]
        if pos is not None and len(listed[0]) != len(listed[1]):
            raise Claf2Error(f"{len(listed[0])} words but {len(listed[1])} parts of speech")
        return ParseExample(id=str(known["id"]), words=tuple(listed[0]), pos=tuple(listed[1] or [""] * len(listed[0])))
