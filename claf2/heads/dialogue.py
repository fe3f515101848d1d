"""The state of a dialogue: a value for each slot that the user has given one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import Field

from claf2.errors import Claf2Error
from claf2.heads import LONGEST_INPUT, MIN_LENGTH, CollectedOutputs, Feature, Featurizer, Head, Request, register_head
from claf2.metrics import Prediction
from claf2.readers import DialogueExample, Example
from claf2.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

IGNORED = -100
"""The padding of names and values."""

GATES = ("none", "dontcare", "ptr", "yes", "no")
"""The states of a slot's gate: no value, any value, the generated one, yes, no (in KLUE-baseline's order)."""


class DialogueFeaturizer(Featurizer):
    """``[CLS] turn [SEP] turn [SEP] … turn [SEP]`` after an empty turn of the system, as in KLUE-baseline. If a
    dialogue is too long, its beginning is dropped. Further fields: the tokens of each slot's name, its gate, and
    the tokens of its value."""

    max_seq_length: int = Field(510, ge=MIN_LENGTH, le=LONGEST_INPUT)

    def features(
        self, examples: Sequence[DialogueExample], tokenizer: Tokenizer, labels: Sequence[str], counts: Counter[str]
    ) -> Iterator[Feature]:
        separator = tokenizer.separator
        if not separator:
            raise Claf2Error("the turns of a dialogue need a tokenizer with a token between texts; set its sep_token")
        texts = []
        for example in examples:
            first = [separator] if len(example.turns) == 1 else []
            texts.append(" ".join([*first, separator, f" {separator} ".join(example.turns)]))
        names = _pieces(tokenizer, [label.replace("-", " ") for label in labels])
        encoded = tokenizer.encode(texts, max_length=self.max_seq_length, keep="end")
        for position, (example, text, (encoding,)) in enumerate(zip(examples, texts, encoded, strict=True)):
            starts = (o[0] for o, s in zip(encoding.offsets, encoding.sequence, strict=True) if s == 0)
            start = min(starts, default=0)
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
                feature["values"] = [[*pieces, tokenizer.separator_id] for pieces in _pieces(tokenizer, values)]
            yield feature


def _pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts without special tokens. Each text is tokenized once: most values are ``none``."""
    ids: dict[str, list[int]] = {}
    for text in texts:
        if text not in ids:
            ((encoding,),) = tokenizer.encode([text], max_length=1 << 20, offsets=False)
            ids[text] = [token for token, s in zip(encoding.ids, encoding.sequence, strict=True) if s == 0]
    return [ids[text] for text in texts]


class DialogueOutput(Protocol):
    """The output for S slots: logits of ``gates`` (B, S, G), tokens of ``values`` (B, S, T), and ``gold_log_probs``
    (B, S, T) of the gold tokens, where there are any."""

    gates: torch.Tensor
    values: torch.Tensor
    gold_log_probs: torch.Tensor


@register_head("dialogue")
class DialogueHead(Head[DialogueExample, DialogueOutput]):
    """TRADE's state generator (``networks/slots.py``) as KLUE-baseline trains it: the loss is the mean negative
    log-likelihood of the value tokens, those of "none" among them, plus the mean cross-entropy of the gates."""

    featurizer: ClassVar[type[Featurizer]] = DialogueFeaturizer
    inputs: ClassVar[Mapping[str, int]] = {"slots": IGNORED}
    targets: ClassVar[Mapping[str, int]] = {"gates": IGNORED, "values": IGNORED}
    teacher_forced: ClassVar[tuple[str, ...]] = ("gates", "values")
    request_fields: ClassVar[tuple[str, ...]] = ("turns",)

    teacher_forcing: float = Field(0.5, ge=0, le=1)
    """How often, in training, a value is continued from its gold tokens."""
    value_maxlen: int = Field(10, ge=1, le=1000)
    """The maximum length of a value, in tokens."""

    def configure(self, config: PreTrainedConfig, labels: Sequence[str]) -> None:
        super().configure(config, labels)
        config.slot_gates = len(GATES)
        config.slot_value_maxlen, config.slot_teacher_forcing = self.value_maxlen, self.teacher_forcing

    def network(self) -> type[PreTrainedModel]:
        from claf2.heads.networks.slots import SlotGenerator

        return SlotGenerator

    def weight(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.array([(batch[name] != IGNORED).sum() for name in self.targets], dtype=np.float64)

    def loss(self, outputs: DialogueOutput, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        gates = cross_entropy(outputs.gates.flatten(0, 1).float(), batch["gates"].flatten(), reduction="sum")
        targets = batch["values"][:, :, : outputs.gold_log_probs.shape[2]]
        return torch.stack([gates, -(outputs.gold_log_probs * (targets != IGNORED)).sum()])

    def collect(self, outputs: DialogueOutput) -> dict[str, torch.Tensor]:
        gates = outputs.gates.float().softmax(-1).max(-1)
        return {"gates": gates.indices, "probability": gates.values, "values": outputs.values}

    def predict(self, collected: CollectedOutputs[DialogueExample]) -> list[Prediction]:
        predictions = []
        for example, row in zip(collected.examples, collected.outputs, strict=True):
            state = []
            for slot, gate, tokens in zip(collected.labels, row["gates"], row["values"], strict=True):
                value = GATES[int(gate)]
                if value == "ptr":
                    value = collected.tokenizer.decode([int(token) for token in tokens])
                    value = value.replace(" : ", ":").replace(" , ", ", ")
                if value != "none":
                    state.append(f"{slot}-{value}")
            gold = None if example.state is None else [f"{slot}-{value}" for slot, value in example.state.items()]
            predictions.append(Prediction(id=example.id, gold=gold, prediction=state))
        return predictions

    def request(self, request: Request) -> Example:
        field = "text" if "text" in request.values else "turns"
        request.check_fields((field,), "turns, the user's first and last", ("state",))
        turns = request.texts(field, lambda text: text.split("|"))
        if len(turns) % 2 == 0:
            raise Claf2Error("turns must begin and end with a turn of the user, so their number must be odd")
        return DialogueExample(id=request.id, turns=turns)
