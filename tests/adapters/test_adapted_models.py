"""Adapted models: what is trained, and that merged, packed and stored they compute the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from claf2.adapters import adapters
from claf2.adapters.layers.adapt import adapt
from claf2.adapters.layers.stored import ADAPTED, frozen_digest
from claf2.errors import ConfigError, ModelError
from claf2.heads import heads
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.models.packing import PACKABLE
from claf2.tokenizers.build import load_tokenizer
from claf2.training.checkpoint import save_task_model

pytest.importorskip("peft")

ARCHITECTURES = ("bert", "roberta", "electra", "deberta-v2", "modernbert", "xlm-roberta", "albert", "distilbert")
LABELS = {"classify": ["no", "yes", "so"], "tag": ["O", "B-PS", "I-PS"], "span": [], "choice": ["0", "1"]}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"r": 4}),
    "rslora": ("lora", {"r": 4, "use_rslora": True, "targets": ["key", "attention_output", "inner", "outer"]}),
    "dora": ("lora", {"r": 4, "use_dora": True}),
    "nf4": ("lora", {"r": 4, "quantize": "nf4", "targets": ["query", "value", "inner", "outer"]}),
    "int8": ("lora", {"r": 4, "quantize": "int8", "targets": ["query", "value", "inner", "outer"]}),
    "ia3": ("ia3", {}),
    "bitfit": ("bitfit", {}),
    "head_only": ("head_only", {}),
    "prefix": ("prefix", {"num_tokens": 3}),
    "prompt": ("prompt", {"num_tokens": 3}),
    "ptuning": ("ptuning", {"num_tokens": 3, "hidden_size": 8}),
    "bottleneck": ("bottleneck", {"size": 8}),
}
UNSERVED = {
    "ia3": ({"modernbert"}, set()),
    "bitfit": ({"modernbert"}, set()),
    "prefix": ({"deberta-v2"}, set()),
    "prompt": (set(), {"tag", "span"}),
    "ptuning": (set(), {"tag", "span"}),
}
"""Method → the architectures and the heads that it cannot serve."""


def make(folder: Path, kind: str, method: str | None, *, added_tokens: int = 0, seed: int = 1) -> EncoderWithHeads:
    """Return a model with fresh heads, whose trained weights are moved away from where they begin."""
    task = TaskHead(heads.get(kind)(), LABELS[kind], is_filled_later=(folder / ADAPTED).is_file())
    size = load_tokenizer(folder).vocab_size + added_tokens
    model = build_model(
        ModelSpec(), folder, {"t": task}, vocab_size=size, pad_id=0, seed=seed, added_tokens=added_tokens
    )
    if method is not None:
        name, fields = METHODS[method]
        adapter = adapters.get(name)(**fields)
        adapter.check({"t": task.head})
        adapt(model, adapter, ModelSpec(), folder, added_ids=range(size - added_tokens, size), seed=seed)
    return model.eval()


def move(model: EncoderWithHeads) -> None:
    """Move what is trained, as a training does."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)


def batch_of(kind: str) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 13, 3, 0, 0]])
    if kind == "choice":
        ids = torch.stack([ids, ids.flip(0)], 1)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": ids * 0}
    return batch | {"lengths": batch["attention_mask"].sum(-1)}


@torch.no_grad()
def outputs_of(model: EncoderWithHeads, kind: str) -> dict[str, torch.Tensor]:
    """Return what a head computes, of real tokens alone."""
    batch = batch_of(kind)
    output: Mapping[str, Any] = vars(model("t", batch))
    real = batch["attention_mask"]
    tensors = {key: output[key] for key in ("logits", "start_logits", "end_logits") if output.get(key) is not None}
    return {
        key: value * (real if value.ndim == 2 else real[..., None]) if kind in ("tag", "span") else value
        for key, value in tensors.items()
    }


def assert_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], tolerance: float) -> None:
    assert one
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=tolerance, rtol=0)


def serves(method: str, model_type: str, kind: str) -> bool:
    kinds, unserved_heads = UNSERVED.get(method, (set(), set()))
    return model_type not in kinds and kind not in unserved_heads


def check_model(folder: Path, model_type: str, kind: str, method: str, stored: Path) -> None:
    """Check what becomes of a model whose trained weights have moved: merged, stored and loaded, and packed."""
    model = make(folder, kind, method)
    before = outputs_of(model, kind)
    frozen = frozen_digest(model)
    move(model)
    assert frozen_digest(model) == frozen
    unmerged = outputs_of(model, kind)
    assert any(not torch.equal(unmerged[name], before[name]) for name in before)
    with model.merged():
        merged = outputs_of(model, kind)
    # The kernel for 8 bits rounds what it reads to 8 bits as well.
    tolerance = 1e-3 if method == "int8" else 1e-5
    assert_same(merged, unmerged, tolerance)
    assert_same(outputs_of(model, kind), unmerged, 0)  # and back again, to the bit
    assert frozen_digest(model) == frozen

    save_task_model(model, load_tokenizer(folder), "t", stored)
    again = make(stored, kind, None if model.adapted and model.adapted.adapter.can_merge else method, seed=2)
    assert_same(outputs_of(again, kind), merged, 0)  # over fresh heads
    if model_type in PACKABLE:
        assert again.pack()
        assert_same(outputs_of(again, kind), merged, 1e-5)
        assert model.pack()
        assert_same(outputs_of(model, kind), unmerged, tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapted_bert_computes_the_same_merged_stored_and_packed(
    method: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    if method in ("nf4", "int8"):
        pytest.importorskip("bitsandbytes")
    check_model(model_folder(), "bert", "classify", method, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_and_head(
    model_type: str, method: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    for kind in LABELS:
        if serves(method, model_type, kind):
            check_model(model_folder(model_type), model_type, kind, method, tmp_path / kind)
        else:
            with pytest.raises((ConfigError, ModelError), match=r"cannot serve|serves heads of labels"):
                make(model_folder(model_type), kind, method)


@pytest.mark.parametrize(
    ("method", "model_type", "message"),
    [
        ("ia3", "modernbert", "IA3 cannot serve modernbert, which has one matrix"),
        ("prefix", "deberta-v2", "a prefix cannot serve deberta-v2"),
        ("bitfit", "modernbert", "BitFit cannot serve this modernbert: it has no biases"),
        ("lora", "mpnet", "adapters do not know the layers of mpnet; supported: albert"),
    ],
)
def test_an_architecture_that_a_method_cannot_serve_is_named(
    method: str, model_type: str, message: str, model_folder: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match=message):
        make(model_folder(model_type), "classify", method)


@pytest.mark.parametrize("kind", ["tag", "span"])
def test_prompts_refuse_heads_that_read_all_tokens(kind: str, model_folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"'prompt' serves heads of labels and numbers, and task 't' reads"):
        make(model_folder(), kind, "prompt")


def test_what_is_trained(model_folder: Callable[..., Path]) -> None:
    folder = model_folder()

    def trained(method: str) -> set[str]:
        model = make(folder, "classify", method)
        assert all(
            model.get_parameter(name).requires_grad == (name in model.weights()) for name, _ in model.named_parameters()
        )
        names = {name.removeprefix("heads.0.bert.") for name, _ in model.named_parameters() if name in model.weights()}
        return {name for name in names if "classifier" not in name}

    layers = [f"encoder.layer.{index}" for index in range(2)]
    assert trained("head_only") == set()
    assert trained("lora") == {
        f"{layer}.attention.self.{part}.lora_{matrix}.default.weight"
        for layer in layers for part in ("query", "value") for matrix in "AB"
    }  # fmt: skip
    assert trained("prefix") == {f"{layer}.attention.self.prefix.key_values" for layer in layers}
    assert all(name.endswith("bias") for name in trained("bitfit"))
    assert trained("prompt") == {"prompt.vectors"}
    norms = {name for name in trained("bottleneck") if "LayerNorm" in name}
    assert len(norms) == 8
    assert all("_bottleneck." in name for name in trained("bottleneck") - norms)


def test_a_pooler_that_no_checkpoint_brings_is_trained_and_stored(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "headless"
    transformers.AutoModel.from_pretrained(model_folder(), add_pooling_layer=False).save_pretrained(folder)
    load_tokenizer(model_folder()).save(folder)
    model = make(folder, "classify", "lora")
    assert {name for name in model.weights() if "pooler" in name} == {
        "heads.0.bert.pooler.dense.weight",
        "heads.0.bert.pooler.dense.bias",
    }
    with_pooler = make(model_folder(), "classify", "lora")
    assert not [name for name in with_pooler.weights() if "pooler" in name]


def test_long_packed_rows_train_a_prefix_with_dropout(model_folder: Callable[..., Path]) -> None:
    model = make(model_folder(), "classify", "prefix")
    ids = torch.randint(5, 60, (2, 80))
    batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    assert model.pack()
    model.train()("t", batch | {"lengths": batch["attention_mask"].sum(-1)}).logits.sum().backward()
    prefixes = [parameter for name, parameter in model.named_parameters() if name.endswith("prefix.key_values")]
    assert prefixes
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in prefixes)


@pytest.mark.parametrize("padding", [0, 64])
@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_embeddings_of_added_tokens_are_trained_and_merged(
    method: str, padding: int, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder(), folder)
    size = load_tokenizer(folder).vocab_size
    plain = transformers.AutoModel.from_pretrained(folder)
    plain.resize_token_embeddings(size + padding)  # many checkpoints have more rows than ids
    plain.save_pretrained(folder)
    model = make(folder, "classify", method, added_tokens=2)
    move(model)
    ids = torch.tensor([[2, size, 10, size + 1, 3]])
    batch = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    with torch.no_grad():
        unmerged = model("t", batch).logits
        with model.merged():
            merged = model("t", batch).logits
            table = model.encoder.get_input_embeddings().weight.clone()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=0)
    rows = model.encoder.get_input_embeddings()  # type: ignore[operator]
    assert torch.equal(table[size : size + 2], rows.added)
    assert torch.equal(table[:size], rows.weight[:size])
    assert torch.equal(table[size + 2 :], rows.weight[size + 2 :])


def test_targets_by_role_or_name(model_folder: Callable[..., Path]) -> None:
    from claf2.adapters.layers.parts import find_linear

    encoder = make(model_folder(), "tag", None).encoder
    assert find_linear(encoder, ["outer"]) == [f"encoder.layer.{index}.output.dense" for index in range(2)]
    assert find_linear(encoder, ["intermediate.dense"]) == find_linear(encoder, ["inner"])
    with pytest.raises(ModelError, match=r"a bert has no linear layer 'q_lin' to adapt; name some of query, key"):
        find_linear(encoder, ["q_lin"])


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["classify", "tag", "span"])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_peft_loads_the_adapter_alone(
    method: str, kind: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    import peft

    model = make(model_folder(), kind, method)
    move(model)
    save_task_model(model, load_tokenizer(model_folder()), "t", tmp_path, base="0f")
    auto = {
        "classify": peft.AutoPeftModelForSequenceClassification,
        "tag": peft.AutoPeftModelForTokenClassification,
        "span": peft.AutoPeftModelForQuestionAnswering,
    }[kind]
    given = {"num_labels": len(LABELS[kind])} if LABELS[kind] else {}
    loaded = auto.from_pretrained(tmp_path / "adapter", **given).eval()
    batch = batch_of(kind)
    with torch.no_grad():
        again = loaded(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
        expected = model("t", batch)
    for name in ("logits", "start_logits", "end_logits"):
        if expected.get(name) is not None:
            torch.testing.assert_close(again[name], expected[name], atol=1e-6, rtol=0)
    assert (tmp_path / "adapter/adapter_model.safetensors").stat().st_size < 64 * 2**10


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_loss_falls_over_quantized_weights(method: str, model_folder: Callable[..., Path]) -> None:
    pytest.importorskip("bitsandbytes")
    model = make(model_folder("bert", initializer_range=0.3), "classify", method)
    for parameter in model.head("t").classifier.parameters():  # type: ignore[operator, union-attr]
        parameter.requires_grad_(False)  # so that only the updates of quantized matrices can lower it
    frozen = frozen_digest(model)
    batch = batch_of("classify") | {"labels": torch.tensor([0, 2])}
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = heads.get("classify")().loss(model("t", batch), batch).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert frozen_digest(model) == frozen


def test_transformers_finds_no_weights_in_what_cannot_be_merged(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = make(model_folder(), "classify", "prefix")
    save_task_model(model, load_tokenizer(model_folder()), "t", tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_a_full_size_adapter_is_a_fiftieth_of_the_model() -> None:
    """BERT base with LoRA of rank 8, whose weights are not even allocated."""
    from claf2.adapters.layers.parts import find_linear

    with torch.device("meta"):
        encoder = transformers.BertModel(transformers.BertConfig())
        head = torch.nn.Linear(768, 3)
        whole = sum(parameter.numel() for parameter in encoder.parameters())
        adapters.get("lora")().apply(encoder)
    targets = find_linear(encoder, ["query.base_layer", "value.base_layer"])
    assert len(targets) == 24
    trained = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    assert trained == 294_912
    assert trained + sum(parameter.numel() for parameter in head.parameters()) < 0.02 * whole
