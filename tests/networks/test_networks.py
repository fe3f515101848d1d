"""Networks: gradients against finite differences, masks, and what they must not see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig

from claf2.heads import heads
from claf2.heads.networks.biaffine import BiaffineParser
from claf2.heads.networks.slots import SlotGenerator

SIZES: dict[str, Any] = {
    "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "max_position_embeddings": 16,
}  # fmt: skip
IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
BATCHES = {
    "parse": {
        "first": torch.tensor([[1, 2], [1, -1]]), "last": torch.tensor([[1, 3], [1, -1]]),
        "pos": torch.tensor([[1, 2], [1, 0]]), "heads": torch.tensor([[2, 0], [0, -100]]),
        "relations": torch.tensor([[0, 1], [1, -100]]),
    },
    "san": {"token_type_ids": torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]]), "labels": torch.tensor([1, 0])},
    "dialogue": {
        "slots": torch.tensor([[[9, 10], [11, -100]]] * 2), "gates": torch.tensor([[0, 2], [3, 0]]),
        "values": torch.tensor([[[5, 3, -100], [6, 7, 3]], [[8, 3, -100], [5, 3, -100]]]),
    },
}  # fmt: skip


def make(kind: str) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    sizes = {"pos_size": 4, "hidden_size": 6, "head_size": 5, "relation_size": 5} if kind == "parse" else {}
    head = heads.get(kind)(**sizes)
    config = BertConfig(**SIZES)
    head.configure(config, ["x", "y"])
    torch.manual_seed(0)
    network = head.network()(config).double().eval()
    batch = {"input_ids": IDS, "attention_mask": (IDS > 0).long(), **BATCHES[kind]}
    return head, network, batch


@pytest.mark.parametrize("kind", ["parse", "dialogue", "san"])
def test_gradients_equal_finite_differences(kind: str) -> None:
    head, network, batch = make(kind)
    given = {name: tensor for name, tensor in batch.items() if kind != "san" or name != "labels"}

    def loss() -> torch.Tensor:
        # Through the gold heads and values, whose choice does not jump.
        network.training = kind != "san"  # which leaves steps out at random
        if kind == "dialogue":
            network.config.slot_teacher_forcing = 1.0
        total: torch.Tensor = head.loss(network(**given), batch).sum()
        return total

    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network._drop = lambda values, whole_words=False: values
    loss().backward()
    checked = 0
    for name, tensor in network.named_parameters():
        if tensor.grad is None or "pooler" in name:
            continue
        place = int(tensor.grad.abs().argmax())
        flat = tensor.data.view(-1)
        before, step = float(flat[place]), 1e-3
        sides = []
        for side in (before + step, before - step):
            flat[place] = side
            sides.append(float(loss().detach()))
        flat[place] = before
        # Losses are taken in single precision, which bounds how close the two can come.
        expected = (sides[0] - sides[1]) / (2 * step)
        assert float(tensor.grad.view(-1)[place]) == pytest.approx(expected, rel=1e-2, abs=3e-3), name
        checked += 1
    assert checked > (20 if kind == "san" else 25)


def test_an_answer_hangs_on_both_texts_and_on_no_padding() -> None:
    _, network, batch = make("san")
    ids, mask, types = IDS, batch["attention_mask"], batch["token_type_ids"]
    network.eval()
    batched = network(ids, mask, types).logits.detach()
    assert batched.exp().sum(-1).tolist() == pytest.approx([1.0, 1.0])
    alone = network(ids[1:, :3], mask[1:, :3], types[1:, :3]).logits
    torch.testing.assert_close(alone, batched[1:])
    for place in (1, 3):
        other = ids.clone()
        other[0, place] = 12
        assert not torch.allclose(network(other, mask, types).logits[0], batched[0])
    assert torch.isfinite(network(ids, mask, types * 0).logits).all()  # one text stands for both


def test_a_step_is_always_kept() -> None:
    _, network, batch = make("san")
    network.train()
    network.left_out = 0.99
    assert torch.isfinite(network(IDS, batch["attention_mask"], batch["token_type_ids"]).logits).all()


def test_no_word_hangs_on_padding_and_rows_do_not_touch_each_other() -> None:
    _, network, batch = make("parse")
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("heads", "relations")}
    with torch.no_grad():
        both = network(**inputs)
        alone = network(**{name: tensor[1:] for name, tensor in inputs.items()})
    assert both.heads.shape == (2, 2, 3)
    assert both.heads[1, :, 2].max() < -1e30
    torch.testing.assert_close(both.heads[1, 0, :2], alone.heads[0, 0, :2])


def test_a_word_at_the_first_position_can_be_a_head() -> None:
    """As with a tokenizer that puts no special token before a text."""
    _, network, batch = make("parse")
    with torch.no_grad():
        scores = network(**{**batch, "first": batch["first"] - 1, "last": batch["last"] - 1, "heads": None}).heads
    assert scores[0].min() > -1e30
    assert scores[1, 0, :2].min() > -1e30


def test_a_parser_at_work_does_not_look_at_gold_heads() -> None:
    _, network, batch = make("parse")
    assert isinstance(network, BiaffineParser)
    with torch.no_grad():
        output = network(**batch)
        other = network(**{**batch, "heads": 1 - batch["heads"].clamp(0, 1)})
    torch.testing.assert_close(output.relations, other.relations)


def test_a_generator_at_work_does_not_look_at_gold_values() -> None:
    _, network, batch = make("dialogue")
    assert isinstance(network, SlotGenerator)
    with torch.no_grad():
        output = network(**batch)
        other = network(**{**batch, "values": batch["values"] * 0 + 12})
    assert output.values.shape == (2, 2, network.config.slot_value_maxlen)
    torch.testing.assert_close(output.values, other.values)


@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_training_generates_up_to_the_end_of_each_value(forced: float, monkeypatch: pytest.MonkeyPatch) -> None:
    head, network, batch = make("dialogue")
    network.config.slot_teacher_forcing = forced
    network.dropout.p = 0.0
    products = []
    narrow = network.narrow.forward
    monkeypatch.setattr(network.narrow, "forward", lambda states: products.append(len(states)) or narrow(states))

    def gradients(values: torch.Tensor) -> list[torch.Tensor]:
        network.zero_grad()
        network.encoder.eval()
        network.training = True
        head.loss(network(**{**batch, "values": values}), batch).sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    values = batch["values"]
    ended = gradients(values)
    assert products == [4, 4, 1]
    torch.testing.assert_close(ended, gradients(values.clamp_min(0)))
    assert products == [4, 4, 1, 4, 4, 4]


def test_copying_reaches_tokens_of_the_dialogue_only() -> None:
    _, network, batch = make("dialogue")
    with torch.no_grad():
        network.mix.weight.zero_()
        network.mix.bias.fill_(-50.0)  # copy always
        values = network(**{name: tensor for name, tensor in batch.items() if name not in ("gates", "values")}).values
    assert set(values[0].flatten().tolist()) <= set(IDS[0].tolist())
    assert set(values[1].flatten().tolist()) <= {2, 8, 3}
