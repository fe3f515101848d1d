"""Every architecture under every head: built, stepped, saved, and loaded again without claf2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from claf2.data.batch import Batch
from claf2.errors import Claf2Error, ConfigError, ModelError
from claf2.heads import heads
from claf2.models import ModelSpec
from claf2.models.configuration import make_configuration, position_limit, stored_label_order
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.models.packing import GROUP_OVERHEAD, PACKABLE, Layout, Packing
from claf2.tokenizers.build import load_tokenizer
from claf2.training.checkpoint import save_task_model

ARCHITECTURES = ("bert", "roberta", "electra", "deberta-v2", "modernbert", "xlm-roberta", "albert", "distilbert")
LABELS = {
    "classify": ["no", "yes", "so"], "regress": [], "tag": ["O", "B-PS", "I-PS"], "span": [], "choice": ["0", "1"],
    "parse": ["NP", "VP"], "dialogue": ["city-name", "house-boat"],
}  # fmt: skip
TARGETS: dict[str, dict[str, Any]] = {
    "classify": {"labels": [0, 2]},
    "regress": {"labels": [0.5, 4.0]},
    "tag": {"labels": [[-100, 1, 2, 0, -100], [-100, 0, -100, -100, -100]]},
    "span": {"start_positions": [1, 0], "end_positions": [2, 0]},
    "choice": {"labels": [0, 1]},
    "parse": {
        "first": [[1, 2], [1, 0]], "last": [[1, 3], [1, 0]], "pos": [[3, 0], [1, 0]],
        "heads": [[2, 0], [0, -100]], "relations": [[0, 1], [1, -100]],
    },
    "dialogue": {
        "slots": [[[7, 8], [9, -100]]] * 2, "gates": [[0, 2], [3, 0]],
        "values": [[[14, 3, -100], [15, 16, 3]], [[17, 3, -100], [14, 3, -100]]],
    },
}  # fmt: skip


def make(folder: Path, kind: str, labels: Sequence[str] | None = None, seed: int = 1) -> EncoderWithHeads:
    head = heads.get(kind)()
    part = TaskHead(head, LABELS[kind] if labels is None else labels)
    return build_model(ModelSpec(), folder, {"t": part}, vocab_size=100, pad_id=0, seed=seed)


def tensors(kind: str) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 13, 3, 0, 0]])
    if kind == "choice":
        ids = torch.stack([ids, ids.flip(0)], 1)
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": ids * 0}
    return batch | {name: torch.tensor(value) for name, value in TARGETS[kind].items()}


@pytest.mark.smoke
@pytest.mark.parametrize("kind", sorted(LABELS))
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_steps_and_reloads(model_type: str, kind: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = model_folder(model_type)
    model, head = make(folder, kind), heads.get(kind)()
    batch = tensors(kind)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    head.loss(model("t", batch), batch).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert any(not torch.equal(before[name], tensor) for name, tensor in model.weights().items())

    model.eval()
    save_task_model(model, load_tokenizer(folder), "t", tmp_path)
    kinds = head.network() if not head.auto_class else getattr(transformers, head.auto_class)
    again = kinds.from_pretrained(tmp_path).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", *head.inputs)}
    with torch.no_grad():
        output, reloaded_output = model("t", batch), again(**inputs)
    compared = {"logits", "start_logits", "end_logits", "heads", "relations", "gates"} & vars(output).keys()
    assert compared
    for name in compared:
        torch.testing.assert_close(getattr(output, name), getattr(reloaded_output, name))
    if LABELS[kind]:
        assert list(again.config.id2label.values()) == LABELS[kind]


@pytest.mark.smoke
@pytest.mark.parametrize("kind", sorted(LABELS))
@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_a_packed_encoder_computes_the_same(model_type: str, kind: str, model_folder: Callable[..., Path]) -> None:
    """The same loss and the same gradient of every weight, padded or packed; saved, it is a model like any other."""
    folder = model_folder(model_type)
    head = heads.get(kind)()
    batch = tensors(kind)
    padded, packed = make(folder, kind).eval(), make(folder, kind).eval()
    assert packed.pack()
    results = []
    for model in (padded, packed):
        loss = head.loss(model("t", batch | {"lengths": batch["attention_mask"].sum(-1)}), batch).sum()
        loss.backward()
        results.append(
            (loss, {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None})
        )
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)
    assert results[0][1].keys() == results[1][1].keys()
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(tensor, results[1][1][name], atol=1e-5, rtol=1e-5)
    assert "packed" not in packed.head("t").config.to_json_string()


def inputs_of(module: torch.nn.Module, widths: list[int]) -> Any:
    """Record how many tokens go into a module."""
    return module.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))


def test_the_last_layer_computes_only_what_is_read(model_folder: Callable[..., Path]) -> None:
    folder = model_folder("bert")
    parts = {kind: TaskHead(heads.get(kind)(), LABELS[kind]) for kind in ("classify", "tag", "choice")}
    model = build_model(ModelSpec(), folder, parts, vocab_size=100, pad_id=0, seed=1)
    assert model.pack()
    widths: tuple[list[int], list[int]] = ([], [])
    encoder: Any = model.encoder
    for layer, of in zip(encoder.encoder.layer, widths, strict=True):
        inputs_of(layer.intermediate, of)
    for kind in parts:
        batch = tensors(kind)
        model(kind, batch | {"lengths": batch["attention_mask"].sum(-1)})
    # Two rows of 5 and 3 tokens; twice as many choices. A tag head on the same encoder still gets all tokens.
    assert widths == ([8, 8, 16], [2, 8, 4])


def test_a_last_layer_that_computes_all_tokens_gives_the_same(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of `transformers` may call its layers in another way."""
    monkeypatch.setattr(Packing, "_before_last_layer", lambda *_: None)
    padded, packed = make(model_folder("bert"), "classify").eval(), make(model_folder("bert"), "classify").eval()
    assert packed.pack()
    batch = tensors("classify")
    batch["lengths"] = batch["attention_mask"].sum(-1)
    torch.testing.assert_close(packed("t", batch).logits, padded("t", batch).logits)


@pytest.mark.parametrize(("layers", "groups", "inner"), [(3, 1, 1), (4, 2, 1), (3, 2, 2)])
def test_the_last_application_of_shared_layers_computes_only_what_is_read(
    layers: int, groups: int, inner: int, model_folder: Callable[..., Path]
) -> None:
    folder = model_folder("albert", num_hidden_layers=layers, num_hidden_groups=groups, inner_group_num=inner)
    padded, packed = make(folder, "classify").eval(), make(folder, "classify").eval()
    assert packed.pack()
    widths: list[int] = []
    encoder: Any = packed.encoder
    for group in encoder.encoder.albert_layer_groups:
        for layer in group.albert_layers:
            inputs_of(layer.ffn, widths)
    batch = tensors("classify")
    batch["lengths"] = batch["attention_mask"].sum(-1)
    torch.testing.assert_close(packed("t", batch).logits, padded("t", batch).logits)
    assert widths == [8] * (layers * inner - 1) + [2]


@pytest.mark.parametrize("model_type", ["bert", "electra", "deberta-v2"])
def test_an_answer_module_is_saved_and_loaded(
    model_type: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Head san, a network of ours: the same logits from what is saved, packed or not, and none without segments."""
    folder = model_folder(model_type, type_vocab_size=2)
    part = TaskHead(heads.get("san")(), LABELS["classify"])
    model = build_model(ModelSpec(), folder, {"t": part}, vocab_size=100, pad_id=0, seed=1).eval()
    batch = {name: tensor for name, tensor in tensors("classify").items() if name != "labels"}
    batch["token_type_ids"] = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    save_task_model(model, load_tokenizer(folder), "t", tmp_path)
    again = part.head.network().from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits = model("t", batch).logits
        reloaded_logits = again(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits
        torch.testing.assert_close(logits, reloaded_logits)
        if model.pack():
            torch.testing.assert_close(model("t", batch | {"lengths": batch["attention_mask"].sum(-1)}).logits, logits)
    with pytest.raises(ConfigError, match="does not distinguish a first text from a second"):
        build_model(ModelSpec(), model_folder("modernbert"), {"t": part}, vocab_size=100, pad_id=0, seed=1)


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_an_architecture_that_cannot_be_packed_says_so(model_type: str, model_folder: Callable[..., Path]) -> None:
    assert not make(model_folder(model_type), "classify").pack()


def test_a_fresh_model_names_no_id_that_its_vocabulary_lacks() -> None:
    spec = ModelSpec(architecture={"model_type": "modernbert"})
    config = make_configuration(spec, "scratch", vocab_size=100, pad_id=3)
    assert (config.pad_token_id, config.eos_token_id, config.sep_token_id) == (3, None, None)
    spec = ModelSpec(architecture={"model_type": "modernbert", "eos_token_id": 5})
    assert make_configuration(spec, "scratch", vocab_size=100, pad_id=3).eos_token_id == 5


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12), overhead=st.sampled_from([0, 30, 10**6]))
def test_what_is_packed_is_unpacked(lengths: list[int], overhead: int) -> None:
    """Every real token comes back to its place, whatever the groups."""
    width = max(1, *lengths)
    with patch.dict(GROUP_OVERHEAD, cpu=overhead):
        layout = Layout(np.array(lengths), width, torch.device("cpu"))
    hidden = torch.arange(1.0, len(lengths) * width + 1).view(len(lengths), width, 1)
    packed = layout.pack(hidden)
    assert packed.shape[1] == sum(group.tokens for group in layout.groups) == sum(max(1, length) for length in lengths)
    back = layout.unpack(packed, len(lengths), width)
    for row, length in enumerate(lengths):
        assert torch.equal(back[row, :length], hidden[row, :length])
        assert not back[row, max(1, length) :].any()


def test_one_segment_type_gets_no_segment_ids(model_folder: Callable[..., Path]) -> None:
    batch = tensors("classify")
    batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    one = make(model_folder("roberta", type_vocab_size=1), "classify")
    assert one("t", batch).logits.shape == (2, 3)  # an embedding look-up would fail at id 1
    two = make(model_folder("bert"), "classify").eval()
    other = two("t", {**batch, "token_type_ids": batch["token_type_ids"] * 0})
    assert not torch.equal(two("t", batch).logits, other.logits)


def test_fresh_weights_depend_on_the_seed_alone(model_folder: Callable[..., Path]) -> None:
    first, second, third = (make(model_folder(), "classify", seed=seed).weights() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_several_heads_share_one_encoder(model_folder: Callable[..., Path]) -> None:
    parts = {kind: TaskHead(heads.get(kind)(), LABELS[kind]) for kind in ("classify", "tag", "span")}
    model = build_model(ModelSpec(), model_folder(), parts, vocab_size=100, pad_id=0, seed=1)
    alone = sum(parameter.numel() for parameter in make(model_folder(), "classify").parameters())
    shared = sum(parameter.numel() for parameter in model.parameters())
    assert shared - alone == 32 * 3 + 3 + 32 * 2 + 2
    assert model.head("classify").bert is model.head("tag").bert is model.head("span").bert


def test_a_part_of_the_encoder_must_not_stay_random(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    source = model_folder()
    weights = load_file(source / "model.safetensors")
    lost = next(name for name in weights if name.endswith("query.weight"))
    save_file(
        {name: tensor for name, tensor in weights.items() if name != lost},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (folder / "config.json").write_text((source / "config.json").read_text())
    with pytest.raises(ModelError, match=r"1 encoder weights are missing, .*query\.weight"):
        make(folder, "classify")


def test_a_stored_head_for_other_labels_is_not_taken_over(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    trained = make(model_folder(), "classify", ["no", "yes", "so"])
    save_task_model(trained, load_tokenizer(model_folder()), "t", tmp_path)
    same = make(tmp_path, "classify", ["no", "yes", "so"], seed=5)
    other = make(tmp_path, "classify", ["a", "b", "c"], seed=5)
    stored = trained.head("t").classifier.weight
    assert torch.equal(same.head("t").classifier.weight, stored)
    assert not torch.equal(other.head("t").classifier.weight, stored)
    assert torch.equal(
        other.head("t").bert.embeddings.word_embeddings.weight, trained.head("t").bert.embeddings.word_embeddings.weight
    )


@pytest.mark.parametrize("kind", ["classify", "tag", "parse", "dialogue", "choice", "san"])
@pytest.mark.parametrize("model_type", ["bert", "deberta-v2"])
def test_a_stored_head_is_put_into_the_order_of_the_task(
    kind: str, model_type: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Each label keeps its output, and what is saved says so."""
    folder = model_folder(model_type, type_vocab_size=2)
    labels = LABELS["classify" if kind == "san" else kind]
    moved = [*labels[1:], labels[0]]
    batch = tensors("classify" if kind == "san" else kind)
    del batch[next(iter({"labels", "heads", "gates"} & batch.keys()))]
    stored, twice = make(folder, kind, labels).eval(), tmp_path / "twice"
    save_task_model(stored, load_tokenizer(folder), "t", tmp_path)
    model = make(tmp_path, kind, moved).eval()
    save_task_model(model, load_tokenizer(folder), "t", twice)
    back = make(twice, kind, labels).eval()
    assert list(model.head("t").config.id2label.values()) == moved
    with torch.no_grad():
        before, after, again = (vars(entry("t", batch)) for entry in (stored, model, back))
    ordered = {"classify": "logits", "tag": "logits", "san": "logits", "parse": "relations"}.get(kind)
    for name in {"logits", "heads", "relations", "gates"} & before.keys():
        order = [labels.index(label) for label in moved] if name == ordered else [*range(before[name].shape[-1])]
        torch.testing.assert_close(after[name], before[name][..., order])
        assert torch.equal(again[name], before[name])


def test_the_order_of_stored_labels(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    save_task_model(
        make(model_folder(), "classify", ["no", "yes", "so"]), load_tokenizer(model_folder()), "t", tmp_path
    )
    assert stored_label_order(ModelSpec(), tmp_path, ["so", "no", "yes"]) == [2, 0, 1]
    assert stored_label_order(ModelSpec(), tmp_path, ["no", "yes", "so"]) is None
    assert stored_label_order(ModelSpec(), tmp_path, ["so", "no", "maybe"]) is None
    assert stored_label_order(ModelSpec(), "scratch", ["so", "no", "yes"]) is None


def test_wrong_inputs_are_one_line(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    part = {"t": TaskHead(heads.get("classify")(), ["a", "b"])}
    with pytest.raises(ModelError, match="leave out the token section"):
        build_model(ModelSpec(), model_folder(), part, vocab_size=100_000, pad_id=0, seed=1, has_token_section=True)
    with pytest.raises(ModelError, match=r"100000 ids, .* rows: save the model again after resize_token"):
        build_model(ModelSpec(), model_folder(), part, vocab_size=100_000, pad_id=0, seed=1)
    with pytest.raises(Claf2Error, match="is not an architecture; did you mean 'bert'"):
        build_model(ModelSpec(architecture={"model_type": "bertt"}), "scratch", part, vocab_size=9, pad_id=0, seed=1)
    with pytest.raises(Claf2Error, match="no such setting; did you mean 'hidden_size'"):
        build_model(ModelSpec(architecture={"hiden_size": 3}), "scratch", part, vocab_size=9, pad_id=0, seed=1)
    with pytest.raises(ModelError, match=r"not a usable model: .*; correct its config\.json"):
        build_model(ModelSpec(), tmp_path, part, vocab_size=9, pad_id=0, seed=1)
    with pytest.raises(ModelError, match=r"not a usable model: .*; check its name and the network"):
        build_model(ModelSpec(), "no/such-model", part, vocab_size=9, pad_id=0, seed=1)


def test_positions(model_folder: Callable[..., Path]) -> None:
    assert position_limit(ModelSpec(), model_folder("bert")) == 514
    assert position_limit(ModelSpec(), model_folder("roberta")) == 512


@pytest.mark.parametrize(
    ("model_type", "settings", "limit"),
    [
        ("bert", {}, 40),
        ("roberta", {"pad_token_id": 1}, 38),
        ("mpnet", {"pad_token_id": 1}, 38),
        ("longformer", {"pad_token_id": 1, "attention_window": [8, 8]}, 38),
        ("camembert", {"pad_token_id": 3}, 36),
        ("albert", {}, 40),
        ("deberta-v2", {"relative_attention": True, "position_biased_input": True}, 40),
        ("deberta-v2", {"relative_attention": True, "position_biased_input": False}, None),
        ("deberta", {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p"]}, None),
        ("modernbert", {}, None),
        ("xlnet", {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64}, None),
    ],
)
def test_the_longest_input_is_computed_and_a_longer_one_not(
    model_type: str, settings: dict[str, Any], limit: int | None, tmp_path: Path
) -> None:
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 40, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
        "cls_token_id": 2, "sep_token_id": 3,
    }  # fmt: skip
    known = transformers.AutoConfig.for_model(model_type).to_dict()
    fitting = {name: size for name, size in sizes.items() if name in known} | settings
    config = transformers.AutoConfig.for_model(model_type, **fitting)
    config.save_pretrained(tmp_path)
    assert position_limit(ModelSpec(), tmp_path) == limit
    encoder = transformers.AutoModel.from_config(config).eval()

    def compute(length: int) -> None:
        with torch.no_grad():
            encoder(input_ids=torch.full((1, length), 5))

    compute(limit or 100)
    if limit is not None:
        with pytest.raises((IndexError, RuntimeError)):
            compute(limit + 1)


def _pointer(_: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 440473133\n"


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is empty: download it again"),
    "pointer": (_pointer, "is a Git LFS pointer, not the file: git lfs pull"),
    "page": (lambda _: b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page"),
    "cut": (lambda content: content[: len(content) // 2], r"is incomplete \(\d+ bytes\)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin", "shards", "index", "config.json"])
def test_a_damaged_file_is_named(layout: str, damage: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    if damage == "cut" and layout in ("index", "config.json"):
        pytest.skip("JSON that ends too early is reported by its parser")
    source = model_folder()
    weights = load_file(source / "model.safetensors")
    shutil.copy(source / "config.json", tmp_path)
    name = layout
    if layout == "pytorch_model.bin":
        torch.save(weights, tmp_path / name)
    elif layout in ("shards", "index"):
        name = "model-00001-of-00001.safetensors"
        shutil.copy(source / "model.safetensors", tmp_path / name)
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        name = "model.safetensors.index.json" if layout == "index" else name
    else:
        shutil.copy(source / "model.safetensors", tmp_path)
    make(tmp_path, "classify")  # whole, it loads
    change, reason = DAMAGES[damage]
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(
        ModelError, match=rf"(its weights cannot be loaded|not a usable model): {name} {reason}"
    ) as info:
        make(tmp_path, "classify")
    assert info.value.exit_code == 2


@pytest.mark.parametrize("content", [None, [1, 2], nn.Linear(2, 2)])
def test_a_pickle_that_is_no_state_dict_is_one_line(
    content: object, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copy(model_folder() / "config.json", tmp_path)
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"its weights cannot be loaded: .*save the model again with save_pretrained"):
        make(tmp_path, "classify")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id2label": ["0", "1"]}, "id2label does not map numbers to names"),
        ({"id2label": {"a": "0"}}, "id2label does not map numbers to names"),
        ({"hidden_size": "32"}, "'hidden_size' expected int"),
        ({"num_attention_heads": 0}, "modulo by zero"),
        ({"hidden_act": "gulu"}, "KeyError: 'gulu'"),
        ({"model_type": ["bert"]}, "unhashable type"),
        ({"dtype": "float99"}, "float99"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, "contains custom code"),
    ],
)
def test_odd_values_of_a_configuration_are_one_line(
    change: dict[str, Any], reason: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    values = json.loads((model_folder() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    shutil.copy(model_folder() / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match=rf"(its weights cannot be loaded|not a usable model): .*{reason}"):
        make(tmp_path, "classify")


def test_layers_that_are_left_out_are_named(
    model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = json.loads((model_folder() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 1}))
    shutil.copy(model_folder() / "model.safetensors", tmp_path)
    make(model_folder(), "tag")
    assert not caplog.records
    make(tmp_path, "tag")
    assert "weights of layers are not used" in caplog.text


def test_best_works_in_a_pipeline_without_claf2(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    save_task_model(make(model_folder(), "classify"), load_tokenizer(model_folder()), "t", tmp_path)
    code = (
        "import sys, json\n"
        "from transformers import pipeline\n"
        f"answer = pipeline('text-classification', {str(tmp_path)!r})('the film')[0]\n"
        "print(json.dumps([answer['label'], 'claf2' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    label, imported = json.loads(done.stdout.splitlines()[-1])
    assert label in LABELS["classify"]
    assert not imported


def test_a_batch_becomes_tensors() -> None:

    ids = np.array([[1, 0]], dtype=np.int32)
    batch = Batch({"input_ids": ids, "attention_mask": ids, "labels": np.array([0.5])})
    made = batch.tensors(torch.device("cpu"))
    assert made["lengths"].tolist() == [1]
    assert made["input_ids"].dtype == torch.int64
    assert made["labels"].dtype == torch.float32
