"""Heads of masked tokens: the loss of transformers, computed for the tokens with a target alone, on every architecture
that can be packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from claf2.data.batch import Batch
from claf2.errors import Claf2Error, ConfigError
from claf2.heads import CollectedOutputs, heads
from claf2.heads.mlm import MaskedTextFeaturizer
from claf2.metrics import Prediction, metrics
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.models.packing import PACKABLE
from claf2.readers import TextExample
from claf2.tokenizers.build import load_tokenizer

VOCABULARY = 120


def make(kind: str, head: str = "mlm", **settings: Any) -> EncoderWithHeads:
    architecture = {
        "model_type": kind,
        **({"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64} if kind == "distilbert" else {}),
        **({"embedding_size": 16} if kind in ("albert", "electra") else {}),
        **({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if "bert" in kind else {}),
        **({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}),
        **settings,
    }
    config = transformers.AutoConfig.for_model(kind).to_dict()
    known = {name: value for name, value in architecture.items() if name in config or name == "model_type"}
    spec = ModelSpec(pretrained_model_name="scratch", architecture=known)
    tasks = {"task": TaskHead(heads.get(head)(), [])}
    return build_model(spec, "scratch", tasks, vocab_size=VOCABULARY, pad_id=0, seed=1)


def make_batch(rows: int = 5, length: int = 20, *, pairs: bool = False) -> Batch:
    dice = np.random.default_rng(0)
    lengths = dice.integers(6, length + 1, rows)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = dice.integers(5, VOCABULARY, (rows, length)) * mask
    targets = np.where((dice.random((rows, length)) < 0.3) & (mask == 1), ids, -100)
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids), "labels": targets}
    return Batch({**arrays, **({"next_sentence_label": dice.integers(0, 2, rows)} if pairs else {})})


@pytest.mark.parametrize("kind", [*sorted(PACKABLE), "modernbert", "deberta-v2"])
def test_the_loss_is_that_of_all_tokens(kind: str) -> None:
    model = make(kind)
    head, batch = heads.get("mlm")(), make_batch()
    tensors = batch.tensors(torch.device("cpu"))
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if model.takes_segments else [])]
    module: Any = model.head("task")
    logits = module.eval()(**{name: tensors[name] for name in names}).logits
    expected = cross_entropy(logits.flatten(0, 1), tensors["labels"].flatten(), reduction="sum")
    expected.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    for packed in (False, True) if kind in PACKABLE else (False,):
        assert not packed or model.pack()
        outputs = model("task", tensors)
        assert outputs["logits"].shape == (1, int(head.weight(batch.arrays)), VOCABULARY)
        loss = head.loss(outputs, tensors)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        for name, parameter in module.named_parameters():
            assert (parameter.grad is None) == (gradients[name] is None), name
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad, gradients[name], atol=2e-5, rtol=1e-4)
        module.zero_grad(set_to_none=True)


def test_pairs_have_two_losses_with_two_denominators() -> None:
    model = make("bert", "mlm_nsp")
    head, batch = heads.get("mlm_nsp")(), make_batch(pairs=True)
    tensors = batch.tensors(torch.device("cpu"))
    model.eval()
    module: Any = model.head("task")
    names = ("input_ids", "attention_mask", "token_type_ids", "labels", "next_sentence_label")
    expected = module(**{name: tensors[name] for name in names}).loss
    assert model.pack()
    loss, weight = head.loss(model("task", tensors), tensors), head.weight(batch.arrays)
    assert np.shape(weight) == loss.shape == (2,)
    assert float((loss / torch.as_tensor(weight)).sum().detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_a_batch_without_a_target_has_no_loss() -> None:
    model, head, batch = make("bert"), heads.get("mlm")(), make_batch()
    empty = Batch({**batch.arrays, "labels": np.full_like(batch.arrays["labels"], -100)})
    tensors = empty.tensors(torch.device("cpu"))
    outputs = model("task", tensors)
    loss = head.loss(outputs, tensors)
    loss.backward()
    assert (head.weight(empty.arrays), float(loss.detach())) == (0.0, 0.0)
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)
    assert head.collect(outputs)["nats"].tolist() == [0.0] * len(batch)


def test_sums_of_rows_are_those_of_their_tokens() -> None:
    model, head, batch = make("bert").eval(), heads.get("mlm")(), make_batch()
    tensors = batch.tensors(torch.device("cpu"))
    module: Any = model.head("task")
    with torch.inference_mode():
        logits = module(tensors["input_ids"], tensors["attention_mask"], tensors["token_type_ids"]).logits
        collected = head.collect(model("task", tensors))
    for row in range(len(batch)):
        labels = tensors["labels"][row]
        nats = cross_entropy(logits[row], labels, reduction="sum")
        right = (logits[row].argmax(-1) == labels).sum()
        assert float(collected["nats"][row]) == pytest.approx(float(nats), rel=1e-5)
        assert int(collected["right"][row]) == int(right)


def test_an_architecture_without_pairs_is_refused() -> None:
    with pytest.raises(ConfigError, match="roberta does not predict whether a sentence follows another; use bert"):
        make("roberta", "mlm_nsp")


def test_a_decoder_is_tied_to_the_shared_encoder() -> None:
    """Also where another task has made the encoder, which then replaces the decoder's own."""
    spec = ModelSpec(pretrained_model_name="scratch", architecture={"model_type": "bert", "hidden_size": 24})
    tasks = {"first": TaskHead(heads.get("classify")(), ["0", "1"]), "second": TaskHead(heads.get("mlm")(), [])}
    model = build_model(spec, "scratch", tasks, vocab_size=VOCABULARY, pad_id=0, seed=1)
    decoder: Any = model.head("second")
    encoder: Any = model.encoder
    assert decoder.get_output_embeddings().weight is encoder.embeddings.word_embeddings.weight
    assert decoder.bert is encoder


def test_texts_are_masked_alike_every_time(model_folder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(model_folder())
    featurizer = MaskedTextFeaturizer(max_seq_length=12)
    examples = [
        TextExample(id=str(number), text_a="the king and the queen ran to the city " * 3) for number in range(4)
    ]
    features = list(featurizer.features(examples, tokenizer, [], Counter()))
    assert features == list(featurizer.features(examples, tokenizer, [], Counter()))
    assert [feature["example"] for feature in features] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for feature in features:
        targets = np.array(feature["labels"])
        assert 1 <= (targets != -100).sum() <= 2
        assert (np.array(feature["input_ids"])[targets != -100] == tokenizer.mask_id).all()
        assert (targets[[0, -1]] == -100).all()  # special tokens are never masked
    assert len({tuple(feature["labels"]) for feature in features}) > 4


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    class Unmasked:
        mask_id = None

    with pytest.raises(Claf2Error, match="the tokenizer has no mask token"):
        next(MaskedTextFeaturizer().features([TextExample(id="0", text_a="x")], Unmasked(), [], Counter()))  # type: ignore[arg-type]


PIECES = [
    ("bert", {"the": 3, "##s": 1, "서울": 6, "[MASK]": 0, "[UNK]": 0}),
]


@pytest.mark.parametrize(("kind", "lengths"), PIECES)
def test_bytes_of_pieces(kind: str, lengths: dict[str, int], model_folder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(model_folder(kind))
    wrapped = transformers.AutoTokenizer.from_pretrained(model_folder(kind))
    ids = wrapped.convert_tokens_to_ids(list(lengths))
    assert tokenizer.byte_lengths(ids) == list(lengths.values())


def test_bytes_of_byte_level_pieces() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from claf2.tokenizers.fast import FastTokenizer

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = ["서울 특별시\n서울 a cat"] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    ids = backend.encode(texts[0]).ids
    assert len(ids) < len(texts[0].encode())
    assert sum(FastTokenizer(wrapped).byte_lengths(ids)) == len("".join(texts[0].split()).encode())


def test_losses_per_token_and_per_byte() -> None:
    predictions = [
        Prediction("0", {"tokens": 2, "bytes": 7}, {"nats": 3.0, "right": 1}),
        Prediction("1", {"tokens": 3, "bytes": 5}, {"nats": 1.5, "right": 3}),
    ]
    scores = metrics.get("masked_lm")().compute(predictions, [])
    assert scores == {
        "nats_per_byte": 4.5 / 12,
        "nats_per_token": 4.5 / 5,
        "perplexity": pytest.approx(np.exp(0.9)),
        "masked_accuracy": 80.0,
    }
    empty = [Prediction("0", {"tokens": 0, "bytes": 0}, {"nats": 0.0, "right": 0})]
    assert set(metrics.get("masked_lm")().compute(empty, []).values()) == {None}


def test_predictions_join_the_windows_of_a_text(model_folder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(model_folder())
    examples = [
        TextExample(id="a", text_a="the king ran to the city and sat " * 2),
        TextExample(id="b", text_a="a dog"),
    ]
    features = list(MaskedTextFeaturizer(max_seq_length=8).features(examples, tokenizer, [], Counter()))
    rows = [{"nats": np.float32(2.0), "right": np.float32(1.0)} for _ in features]
    collected = CollectedOutputs(examples, features, rows, [], tokenizer)
    first, second = heads.get("mlm")().predict(collected)
    windows = len(features) - 1
    assert (first.id, first.prediction) == ("a", {"nats": 2.0 * windows, "right": windows})
    assert (second.gold["tokens"], second.prediction) == (1, {"nats": 2.0, "right": 1})
    assert 0 < first.gold["bytes"] <= 40
