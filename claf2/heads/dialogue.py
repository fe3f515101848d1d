"""The state of a dialogue: a value for each slot that the user has given one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.heads import SHORTEST, Feature, Featurizer, Head, register_head
from claf2.metrics import Prediction
from claf2.readers import DialogueExample, Example
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

IGNORED = -100
"""What fills up names and values of unlike length."""

GATES = ("none", "dontcare", "ptr", "yes", "no")
"""What a slot's gate may say: no value, any value, the generated one, yes, no (KLUE-baseline's order)."""


class DialogueFeaturizer(Featurizer):
    """``[CLS] turn [SEP] turn [SEP] … turn [SEP]`` with an empty turn of the system in front, as KLUE-baseline lays it
    out; of what is too long the beginning is left out. Besides: the tokens of each slot's name, its gate, its value's
    tokens.
    """

    max_seq_length: int = Field(510, ge=SHORTEST)

    def features(
        self, examples: Sequence[DialogueExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        mark = tokenizer.separator
        texts = []
        for example in examples:
            first = [mark] if len(example.turns) == 1 else []
            texts.append(" ".join([*first, mark, f" {mark} ".join(example.turns)]))
        names = _pieces(tokenizer, [label.replace("-", " ") for label in labels])
        encoded = tokenizer.encode(texts, max_length=self.max_seq_length, keep="end")
        for position, (example, text, (encoding,)) in enumerate(zip(examples, texts, encoded, strict=True)):
            start = min((o[0] for o, s in zip(encoding.offsets, encoding.sequence, strict=True) if s == 0), default=0)
            counts["truncated"] += start > len(text) - len(text.lstrip())
            feature: Feature = {
                "input_ids": encoding.ids,
                "token_type_ids": encoding.type_ids,
                "slots": names,
                "example": position,
            }
            if example.state is not None:
                values = [example.state.get(label, "none") for label in labels]
                feature["gates"] = [GATES.index(value) if value in GATES else GATES.index("ptr") for value in values]
                feature["values"] = [[*each, tokenizer.separator_id] for each in _pieces(tokenizer, values)]
            yield feature


def _pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts without special tokens; ``none`` and its like are taken once."""
    known: dict[str, list[int]] = {}
    for text in texts:
        if text not in known:
            ((whole,),) = tokenizer.encode([text], max_length=1 << 20)
            known[text] = [token for token, each in zip(whole.ids, whole.sequence, strict=True) if each == 0]
    return [known[text] for text in texts]


@register_head("dialogue")
class Dialogue(Head):
    """TRADE's state generator (``networks/slots.py``) as KLUE-baseline trains it: the loss is the mean negative
    log-likelihood of the value tokens, those of "none" among them, plus the mean cross-entropy of the gates."""

    featurizer: ClassVar[type[Featurizer]] = DialogueFeaturizer
    inputs: ClassVar[Mapping[str, int]] = {"slots": IGNORED}
    targets: ClassVar[Mapping[str, int]] = {"gates": IGNORED, "values": IGNORED}
    follows: ClassVar[tuple[str, ...]] = ("gates", "values")

    teacher_forcing: float = Field(0.5, ge=0, le=1)
    """How often, in training, a value goes on from its gold tokens."""
    value_maxlen: int = Field(10, ge=1)
    """The longest value, in tokens."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.slot_gates = len(GATES)
        config.slot_value_maxlen, config.slot_teacher_forcing = self.value_maxlen, self.teacher_forcing

    def network(self) -> type[PreTrainedModel]:
        from claf2.networks.slots import SlotGenerator

        return SlotGenerator

    def weight(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.array([(batch[name] != IGNORED).sum() for name in self.targets], dtype=np.float64)

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        gates = cross_entropy(outputs.gates.flatten(0, 1).float(), batch["gates"].flatten(), reduction="sum")
        wanted = batch["values"][:, :, : outputs.told.shape[2]]
        return torch.stack([gates, -(outputs.told * (wanted != IGNORED)).sum()])

    def collect(self, outputs: Any) -> dict[str, torch.Tensor]:
        return {"gates": outputs.gates.argmax(-1), "values": outputs.values}

    def predict(
        self,
        examples: Sequence[DialogueExample],
        features: Sequence[Feature],
        collected: Sequence[Mapping[str, np.ndarray]],
        labels: Sequence[str],
        tokenizer: Tokenizer,
    ) -> list[Prediction]:
        predictions = []
        for example, row in zip(examples, collected, strict=True):
            state = []
            for slot, gate, tokens in zip(labels, row["gates"], row["values"], strict=True):
                value = GATES[int(gate)]
                if value == "ptr":
                    value = tokenizer.decode([int(each) for each in tokens]).replace(" : ", ":").replace(" , ", ", ")
                if value != "none":
                    state.append(f"{slot}-{value}")
            gold = None if example.state is None else [f"{slot}-{value}" for slot, value in example.state.items()]
            predictions.append(Prediction(id=example.id, gold=gold, prediction=state))
        return predictions

    def request(self, values: Mapping[str, Any]) -> Example:
        known = {"id": "0", **values}
        turns = known.pop("turns", None) or known.pop("text", None)
        if not turns or set(known) - {"id", "state"}:
            raise Claf2Error(f"a request has turns, the user's first and last; got: {', '.join(values) or 'nothing'}")
        listed = turns.split("|") if isinstance(turns, str) else [str(each) for each in turns]
        if len(listed) % 2 == 0:
            raise Claf2Error("turns begin and end with the user's, so there is an odd number of them")
        return DialogueExample(id=str(known["id"]), turns=tuple(listed))
