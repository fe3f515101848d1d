"""Model cards and the Hugging Face hub, which is a stand-in on loopback here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from stand_in_hub import TOKEN, StandInHub, stand_in_hub

import claf2
from claf2.data.samples import write_sample
from claf2.errors import RunError
from claf2.evaluation.model_card import model_card
from claf2.task import tasks

# The library hands a file to its own HTTP client in a way that the client discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub that this process is logged in to."""
    from huggingface_hub import constants

    with stand_in_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet is a protocol of its own
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def files_of(name: str, folder: Path) -> list[str]:
    """Write files of a task, and return the words that name them. (Scores on `--sample` are no scores of the task.)"""
    paths = write_sample(tasks.get(name), folder / name)
    return [word for split in ("train", "valid") for word in (f"--{name}.{split}_file_path", str(paths[split]))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A finished run, whose base model states its licence."""
    base, folder = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("hub")
    for path in model_folder().iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    (base / "README.md").write_text("---\nlicense: mit\n---\n# base\n")
    words = [word.replace("--korquad.", "--") for word in files_of("korquad", folder)]
    words += ["--num_steps", "2", "--log_dir", str(folder / "run"), "--pretrained_model_name", str(base)]
    claf2.train(claf2.load("scratch/korquad", argv=words))
    return folder / "run"


@pytest.fixture(scope="module")
def multi_task_run(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A finished run of two tasks."""
    folder = tmp_path_factory.mktemp("hub")
    words = [*files_of("rte", folder), *files_of("klue_ner", folder), "--trainer.num_steps", "2"]
    words += ["--log_dir", str(folder / "two"), "--pretrained_model_name", str(model_folder())]
    claf2.train(claf2.load(tasks=["glue/rte_bert", "klue/ner_bert"], argv=words))
    return folder / "two"


def results_of(folder: Path) -> dict[tuple[str, str, str], float]:
    """Return (task, data set, metric) → value of the `model-index` of a card."""
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    return {
        (result.task_type, result.dataset_name, result.metric_type): result.metric_value
        for result in card.data.eval_results or ()
    }


def test_the_card_carries_the_metadata_of_the_hub(run: Path) -> None:
    best = json.loads((run / "metrics.json").read_text())["best"]
    assert results_of(run / "best") == {
        ("question-answering", "korquad", name): round(best[f"valid/{name}"], 4) for name in ("f1", "em")
    }
    data = ModelCard.load(run / "best/README.md").data
    assert (data.license, data.language, data.library_name) == ("mit", ["ko"], "transformers")
    assert (data.pipeline_tag, data.datasets, data.base_model) == ("question-answering", ["KorQuAD/squad_kor_v1"], None)
    assert (run / "README.md").read_text() == (run / "best/README.md").read_text()


def test_what_the_card_must_not_claim(run: Path) -> None:
    """Scores on a generated sample are not shown as the task's; those on held-out rows are shown as such."""
    provenance, logs = (json.loads((run / name).read_text()) for name in ("run.json", "metrics.json"))
    reader = provenance["config"]["data_reader"]
    reader["valid_fraction"] = 0.1
    (first, *_) = ModelCard(model_card({"korquad": tasks.get("korquad")}, provenance, logs)).data.eval_results or ()
    assert first.dataset_split == "train, held out"
    reader["source"] = "sample"
    card = ModelCard(model_card({"korquad": tasks.get("korquad")}, provenance, logs))
    assert (card.data.eval_results, card.data.datasets, card.data.metrics) == (None, None, None)
    assert "these scores say nothing about the task" in card.text


def test_a_base_model_of_the_hub_is_named(run: Path) -> None:
    provenance = json.loads((run / "run.json").read_text())
    model = provenance["config"]["model"]
    model[model["name"]]["pretrained_model_name"] = provenance["weights"] = "klue/bert-base"
    logs = json.loads((run / "metrics.json").read_text())
    card = ModelCard(model_card({"korquad": tasks.get("korquad")}, provenance, logs))
    assert card.data.base_model == "klue/bert-base"
    provenance["weights"] = "0" * 64  # the name of a folder with such weights
    assert ModelCard(model_card({"korquad": tasks.get("korquad")}, provenance, logs)).data.base_model is None


@pytest.mark.slow
def test_each_of_several_tasks_has_its_own_card(multi_task_run: Path) -> None:
    best = json.loads((multi_task_run / "metrics.json").read_text())["best"]
    ner, rte = results_of(multi_task_run / "best/klue_ner"), results_of(multi_task_run / "best/rte")
    assert set(rte) == {("text-classification", "rte", "accuracy")}
    assert rte["text-classification", "rte", "accuracy"] == round(best["valid/rte/accuracy"], 4)
    assert {key[:2] for key in ner} == {("token-classification", "klue_ner")}
    assert results_of(multi_task_run) == ner | rte


def test_push_uploads_the_best_checkpoint(run: Path, hub: StandInHub) -> None:
    url = claf2.push(run, "hub:someone/korquad-bert", licence="cc-by-sa-4.0")
    assert url.startswith(f"{hub.endpoint}/someone/korquad-bert/commit/")
    assert hub.private == {"someone/korquad-bert": True}
    files = hub.branches["someone/korquad-bert", "main"]
    expected = {path.name: path.read_bytes() for path in (run / "best").iterdir()}
    card = ModelCard(files.pop("README.md").decode())
    assert expected.pop("README.md")
    assert files == expected
    assert card.data.license == "cc-by-sa-4.0"
    assert card.data.eval_results == ModelCard.load(run / "best/README.md").data.eval_results
    claf2.push(run, "hub:someone/korquad-bert", message="again")  # an existing repository
    assert hub.messages == ["run, trained by claf2", "again"]


def test_damaged_weights_are_not_pushed(run: Path, hub: StandInHub, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/best/README.md").write_text((run / "best/README.md").read_text() + "\nMore about it.\n")
    claf2.push(tmp_path / "run", "hub:someone/edited-card")
    with (tmp_path / "run/best/model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(RunError, match=r"model\.safetensors: changed since it was saved"):
        claf2.push(tmp_path / "run", "hub:someone/damaged")
    assert ("someone/damaged", "main") not in hub.branches


@pytest.mark.slow
def test_push_makes_a_branch_and_a_public_repository(multi_task_run: Path, hub: StandInHub) -> None:
    claf2.push(multi_task_run, "hub:someone/two", task="rte", private=False, revision="seed-1")
    assert hub.private == {"someone/two": False}
    assert "model.safetensors" in hub.branches["someone/two", "seed-1"]
    assert not hub.branches["someone/two", "main"]
    with pytest.raises(RunError, match="give one of rte, klue_ner with --task"):
        claf2.push(multi_task_run, "hub:someone/two")


def test_push_names_the_way_out(run: Path, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(*arguments: Any, **options: Any) -> str:
        with pytest.raises(RunError) as caught:
            claf2.push(*arguments, **options)
        return str(caught.value)

    assert "write hub:ORG/NAME" in message(run, "someone/x")
    assert "write hub:ORG/NAME" in message(run, "hub:x")
    assert "not a valid repository name" in message(run, "hub:some one/x")
    assert "finish it with --resume" in message(tmp_path, "hub:someone/x")
    assert "leave --task out" in message(run, "hub:someone/x", task="rte")
    hub.refused_metadata = '"license" must be one of the known ones'
    assert "correct it and push again" in message(run, "hub:someone/x", licence="nonsense")
    assert hub.branches == {("someone/x", "main"): {}}
    hub.refused_metadata = ""
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "log in with `hf auth login`" in message(run, "hub:someone/x")
    hub.shutdown()
    hub.server_close()
    assert "cannot be reached" in message(run, "hub:someone/x")
