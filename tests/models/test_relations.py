"""MiniLM's relations: against their definition, against the attention of transformers, packed or not, in a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretraining_runs import train_until
from safetensors.torch import load_file, save_file
from stored import last, last_bytes
from torch.nn.functional import kl_div
from transformers import AutoModel

from claf2 import config
from claf2.errors import ConfigError, Interrupted, ModelError
from claf2.heads import heads
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.models.relations import PROJECTIONS, RelationTeacher, relation_distances
from claf2.runs.train import train


def build(folder: Path, *, pack: bool = False) -> EncoderWithHeads:
    head = TaskHead(heads.get("classify")(), ["no", "yes"])
    model = build_model(ModelSpec(), folder, {"t": head}, vocab_size=100, pad_id=0, seed=1).eval()
    model.first_token_tasks = frozenset()  # as in a run with an objective that reads all tokens
    if pack:
        model.pack()
    return model


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 10, 11, 12, 13, 3], [2, 14, 3, 0, 0, 0], [2, 15, 16, 3, 0, 0]])
    mask = (ids > 0).long()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0, "lengths": mask.sum(-1)}


def test_the_distance_is_the_mean_divergence_of_both_relations() -> None:
    torch.manual_seed(0)
    student, teacher = ([torch.randn(2, 5, width) for _ in range(3)] for width in (8, 12))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = []
    for row, length in enumerate((5, 3)):
        total = 0.0
        for first, second in ((0, 1), (2, 2)):
            for head in range(2):
                relations = []
                for side, size in ((student, 4), (teacher, 6)):
                    one, other = (
                        side[index][row, :length, head * size : (head + 1) * size] for index in (first, second)
                    )
                    relations.append((one @ other.T / size**0.5).log_softmax(-1))
                total += float(kl_div(*relations, reduction="sum", log_target=True)) / (2 * length)
        expected.append(total)
    distances = relation_distances(student, teacher, mask, 2)
    torch.testing.assert_close(distances, torch.tensor(expected))
    torch.testing.assert_close(relation_distances(teacher, teacher, mask, 2), torch.zeros(2))


@pytest.mark.parametrize("pack", [False, True])
def test_a_row_that_lacks_a_text_has_the_mean_of_the_others(
    pack: bool, model_folder: Callable[..., Path], batch: dict[str, torch.Tensor]
) -> None:
    """As a triplet without a hard negative."""
    model = build(model_folder("bert"), pack=pack)
    with torch.no_grad():
        next(model.encoder.encoder.layer[-1].parameters()).mul_(30)  # its query
    teacher = RelationTeacher(model_folder("bert"), model, None)

    def distances(**inputs: torch.Tensor) -> torch.Tensor:
        model("t", {name: tensor.flatten(0, -2) if tensor.dim() > 2 else tensor for name, tensor in inputs.items()})
        return teacher.distances(inputs)

    alone = distances(**batch)
    assert alone.min() > 1e-4
    lengths = batch["lengths"]
    pairs = {name: torch.stack([tensor, tensor * 0], 1) for name, tensor in batch.items() if name != "lengths"}
    pairs["lengths"] = torch.stack([lengths, lengths * 0], 1)
    torch.testing.assert_close(distances(**pairs), alone)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_relations_of_queries_and_keys_are_the_attention_of_the_last_layer(
    kind: str, model_folder: Callable[..., Path], batch: dict[str, torch.Tensor]
) -> None:
    model = build(model_folder(kind))
    teacher = RelationTeacher(model_folder(kind), model, None)
    model("t", batch)
    queries, keys, _ = teacher._recorders[0].take()
    eager = AutoModel.from_pretrained(model_folder(kind), attn_implementation="eager").eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    attention = eager(**inputs, output_attentions=True).attentions[-1]
    own, other = (tensor.unflatten(-1, (2, -1)).transpose(1, 2) for tensor in (queries, keys))
    scores = (own @ other.transpose(2, 3) / own.shape[-1] ** 0.5).masked_fill(
        batch["attention_mask"][:, None, None] == 0, float("-inf")
    )
    torch.testing.assert_close(scores.softmax(-1), attention)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_student_with_the_teachers_weights_has_distance_zero(
    kind: str, model_folder: Callable[..., Path], batch: dict[str, torch.Tensor]
) -> None:
    model = build(model_folder(kind))
    for folder, is_same in ((model_folder(kind), True), (model_folder(), False)):
        teacher = RelationTeacher(folder, model, 2)
        model("t", batch)
        distances = teacher.distances(batch)
        assert distances.shape == (3,)
        assert bool((distances.abs() < 1e-6).all()) == (is_same or kind == "bert")


def test_a_projection_that_positions_share_is_recorded_for_the_tokens(
    model_folder: Callable[..., Path], batch: dict[str, torch.Tensor]
) -> None:
    """As in the published DeBERTa-v3."""
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    folder = model_folder("deberta-v2", share_att_key=True, position_buckets=8, **relative)
    model = build(folder)
    teacher = RelationTeacher(folder, model, None)
    model("t", {**batch, "input_ids": batch["input_ids"].flip(0)})  # an earlier pass, which nobody reads
    model("t", batch)
    encoder: Any = AutoModel.from_pretrained(folder).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = encoder(**inputs, output_hidden_states=True).hidden_states[-2]
    attention = encoder.encoder.layer[-1].attention.self
    expected = [getattr(attention, f"{name}_proj")(hidden) for name in ("query", "key", "value")]
    torch.testing.assert_close(teacher._recorders[0].take(), expected)


def test_packed_or_not_distances_and_gradients_are_the_same(
    model_folder: Callable[..., Path], batch: dict[str, torch.Tensor]
) -> None:
    large = model_folder("bert", hidden_size=48, num_attention_heads=4, num_hidden_layers=3)
    results = []
    for pack in (False, True):
        model = build(model_folder(), pack=pack)
        teacher = RelationTeacher(large, model, 8)
        model("t", batch)
        distances = teacher.distances(batch)
        distances.sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((distances.detach(), gradients))
        assert gradients.norm() > 1e-4
        assert not any(parameter.requires_grad for parameter in teacher._encoder.parameters())
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
    alone = {name: tensor[1:2, :3] if tensor.dim() > 1 else tensor[1:2] for name, tensor in batch.items()}
    model("t", alone)
    torch.testing.assert_close(teacher.distances(alone)[0], results[1][0][1], rtol=1e-4, atol=1e-7)


def test_rows_of_several_texts_have_one_distance(model_folder: Callable[..., Path]) -> None:
    head = TaskHead(heads.get("choice")(), ["0", "1"])
    model = build_model(ModelSpec(), model_folder(), {"t": head}, vocab_size=100, pad_id=0, seed=1).eval()
    model.first_token_tasks = frozenset()
    model.pack()
    teacher = RelationTeacher(model_folder("bert", num_hidden_layers=1), model, None)
    ids = torch.tensor([[[2, 10, 3, 0], [2, 11, 12, 3]], [[2, 13, 3, 0], [2, 14, 3, 0]]])
    mask = (ids > 0).long()
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0, "lengths": mask.sum(-1)}
    model("t", batch)
    distances = teacher.distances(batch)
    flat = {name: tensor.flatten(0, 1) for name, tensor in batch.items()}
    single = build(model_folder())
    other = RelationTeacher(model_folder("bert", num_hidden_layers=1), single, None)
    single("t", flat)
    torch.testing.assert_close(distances, other.distances(flat).view(2, 2).mean(1))


def test_what_has_no_such_relations_is_refused(model_folder: Callable[..., Path]) -> None:
    for kind in ("albert", "modernbert"):
        with pytest.raises(ModelError, match=f"relations of {kind} cannot be distilled; supported: bert"):
            RelationTeacher(model_folder(kind), build(model_folder()), None)
    with pytest.raises(ModelError, match="width 32 of the student cannot be divided into 3 heads"):
        RelationTeacher(model_folder(), build(model_folder()), 3)


def test_a_damaged_teacher_is_refused(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A missing pooler is no damage: relations do not use it."""
    source, student, folder = model_folder("bert"), build(model_folder()), tmp_path / "teacher"
    shutil.copytree(source, folder)
    weights = load_file(source / "model.safetensors")
    name = "encoder.layer.1.attention.self.query.weight"

    def store(**changed: torch.Tensor) -> None:
        rest = {key: tensor for key, tensor in weights.items() if key != name and "pooler" not in key}
        save_file(rest | changed, folder / "model.safetensors", {"format": "pt"})

    store()
    with pytest.raises(ModelError, match=rf"1 encoder weights are missing, e\.g\. {name}: use a full checkpoint"):
        RelationTeacher(folder, student, None)
    store(**{name: weights[name] * float("nan")})
    with pytest.raises(ModelError, match=rf"{folder}: its weight {name} holds NaN"):
        RelationTeacher(folder, student, None)
    store(**{name: weights[name]})
    RelationTeacher(folder, student, None)


def load(folder: Path, model: Path, *words: str) -> config.Experiment:
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "6",
             "--batch_size", "8", "--eval_and_save_step_count", "6", "--learning_rate", "1e-3"]  # fmt: skip
    return config.load("klue/ner_bert", [*given, *words])


def test_a_run_learns_the_relations_and_is_resumed(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tags, whose number is not that of the rows; the teacher is wider, and in no checkpoint."""
    large = model_folder("bert", hidden_size=48, num_attention_heads=4, num_hidden_layers=3)
    words = ["--objectives.relations.teacher", str(large), "--relations.weight", "1"]
    whole, parts = (load(tmp_path / name, model_folder(), *words) for name in ("whole", "parts"))
    train(whole)
    with pytest.raises(Interrupted):
        train_until(parts, 2, monkeypatch)
    train(parts, resume=True)
    assert last_bytes(tmp_path / "parts") == last_bytes(tmp_path / "whole")
    assert all(48 not in tensor.shape for tensor in last(tmp_path / "whole").values())
    ids = torch.tensor([[2, *range(20, 40), 3]])
    mask = torch.ones_like(ids)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0, "lengths": mask.sum(-1)}
    distances = []
    for folder in (model_folder(), tmp_path / "whole/best"):
        model: Any = build(folder)
        teacher = RelationTeacher(large, model, None)
        model("t", batch)
        distances.append(float(teacher.distances(batch).detach()))
    assert distances[1] < 0.9 * distances[0]


def test_the_teacher_is_named_and_has_the_same_tokenizer(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"objectives\.relations\.teacher: names no teacher"):
        load(tmp_path, model_folder(), "--objectives.relations", "{}")
    words = ["--relations.teacher", str(model_folder()), "--token.tokenizer.subword.wordpiece.vocab_size", "900"]
    with pytest.raises(ConfigError, match="another tokenizer than the student"):
        train(load(tmp_path / "run", model_folder(vocab_size=3000), *words))
