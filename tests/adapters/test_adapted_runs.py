"""Runs with an adapter: the same bytes again, after any interruption, and over several tasks and processes."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stored import last, last_bytes

import claf2
from claf2 import config
from claf2.data.batch import BatchStream
from claf2.errors import ChangedError, ConfigError, Interrupted, ModelError, RunError
from claf2.export.build import export_run
from claf2.runs.train import train
from claf2.runtime.files import write_json

pytest.importorskip("peft")

ROOT = Path(__file__).parents[2]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
METHODS = {
    "lora": ["--lora.r", "2", "--lora.dropout", "0.1"],
    "ia3": [],
    "bitfit": [],
    "head_only": [],
    "prefix": ["--prefix.num_tokens", "3"],
    "prompt": ["--prompt.num_tokens", "3"],
    "ptuning": ["--ptuning.num_tokens", "3"],
    "bottleneck": ["--bottleneck.size", "4"],
}
PLAIN = ("lora", "ia3", "bitfit", "head_only")
"""The methods whose `best/` needs no claf2."""


def load(folder: Path, model: Path, method: str, *words: str, base: str = "scratch/nsmc") -> config.Experiment:
    """Return a short run on a generated sample."""
    given = ["--pretrained_model_name", str(model), "--token", "null", "--data_reader.source", "sample"]
    steps = ["--num_steps", "4", "--eval_and_save_step_count", "2", "--batch_size", "8", "--learning_rate", "1e-2"]
    adapter = ["--model.peft.name", method, *METHODS[method]]
    return config.load(base, [*given, *steps, *adapter, "--log_dir", str(folder), *words])


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}


def stored(folder: Path) -> dict[str, bytes]:
    """Return what the numbers of a run are made of."""
    files = [*sorted((folder / "best").rglob("*.safetensors")), folder / "metrics.jsonl"]
    return (
        {str(path.relative_to(folder)): path.read_bytes() for path in files} | predictions(folder) | last_bytes(folder)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_run_trains_stores_and_evaluates(method: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder, model = tmp_path / "run", model_folder()
    train(load(folder, model, method))
    before = predictions(folder)
    best = folder / "best"
    assert (best / "model.safetensors").is_file() == (method in PLAIN)
    assert (best / "adapted.safetensors").is_file() == (method not in PLAIN)

    # Frozen weights are those of the model, to the bit, in what is stored as well.
    base = {f"bert.{name}": tensor for name, tensor in load_file(model / "model.safetensors").items()}
    weights = load_file(best / ("model.safetensors" if method in PLAIN else "adapted.safetensors"))
    changed = {name for name in base if name in weights and not torch.equal(base[name], weights[name])}
    touched = {
        "lora": ("query.weight", "value.weight"),
        "ia3": ("key.weight", "key.bias", "value.weight", "value.bias", "output.dense.weight"),
        "bitfit": ("bias",),
        "bottleneck": ("LayerNorm.weight", "LayerNorm.bias"),
    }.get(method, ())
    assert all(name.endswith(touched) for name in changed), changed
    assert bool(changed) == bool(touched)

    record = json.loads((folder / "run.json").read_text())
    assert record["trained_parameters"] < record["parameters"]
    trained = [name for name in last(folder) if not name.startswith("optimizer.") and "_ids" not in name]
    assert not set(trained) & {f"heads.0.{name}" for name in base if not name.endswith((*touched, "x"))}
    assert (best / "adapter/adapter_model.safetensors").stat().st_size == record["adapter_bytes"]

    card = (best / "README.md").read_text()
    assert f"Trained with the adapter `{method}`. {record['trained_parameters']:,} of" in card
    assert ("only claf2 opens this model" in card) == (method not in PLAIN)

    claf2.evaluate(folder)
    assert predictions(folder) == before
    answer = claf2.Predictor(folder)(text="영화")
    assert answer.prediction in ("0", "1")


@pytest.mark.parametrize(("method", "step"), [("lora", 1), ("lora", 2), ("lora", 3), ("prefix", 3), ("prompt", 1)])
def test_interrupted_at_any_step_and_resumed(
    method: str, step: int, model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(load(tmp_path / "whole", model_folder(), method))
    experiment = load(tmp_path / "cut", model_folder(), method)
    with monkeypatch.context() as patch:
        epoch = BatchStream.epoch

        def interrupting(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
            for index, batch in enumerate(epoch(self, number, start, paused), start=1):
                if index == step:
                    signal.raise_signal(signal.SIGINT)
                yield batch

        patch.setattr(BatchStream, "epoch", interrupting)
        with pytest.raises(Interrupted, match=f"stopped after step {step}"):
            train(experiment)
    train(experiment, resume=True)
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole")


def test_a_resume_refuses_another_base(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(load(folder, model_folder(), "lora"))
    (folder / "metrics.json").unlink()
    with pytest.raises(ChangedError, match="weights"):
        train(load(folder, model_folder("bert", initializer_range=0.05), "lora"), resume=True)
    # What is trained says itself what it belongs to.
    base = json.loads((folder / "last/base.json").read_text())
    assert len(base["frozen"]) == 64
    digests = json.loads((folder / "last/sha256.json").read_text())
    write_json(folder / "last/base.json", {"frozen": "0" * 64})
    from claf2.runtime.files import sha256

    for entry in (digests, digests.get("files", {})):
        if "base.json" in entry:
            entry["base.json"] = sha256(folder / "last/base.json")
    write_json(folder / "last/sha256.json", digests)
    with pytest.raises(RunError, match="what it has trained belongs to other frozen weights"):
        train(load(folder, model_folder(), "lora"), resume=True)


def test_accumulated_micro_batches_equal_the_batch(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder("bert", **NO_DROPOUT)
    words = ["--lora.dropout", "0", "--num_steps", "2", "--learning_rate", "1e-3"]
    train(load(tmp_path / "one", model, "lora", *words, "--batch_size", "32"))
    train(load(tmp_path / "four", model, "lora", *words, "--batch_size", "8", "--gradient_accumulation_steps", "4"))
    one, four = (last(tmp_path / name) for name in ("one", "four"))
    assert one.keys() == four.keys()
    for name in one:
        if "_ids" not in name and not name.startswith("optimizer."):
            torch.testing.assert_close(one[name], four[name], atol=1e-5, rtol=0)


def test_packed_equals_padded(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder("bert", **NO_DROPOUT)
    for method in ("lora", "prompt"):
        words = ["--num_steps", "2", "--learning_rate", "1e-3"]
        words += ["--lora.dropout", "0"] if method == "lora" else []
        train(load(tmp_path / f"{method}-pack", model, method, *words, "--padding", "pack"))
        train(load(tmp_path / f"{method}-keep", model, method, *words, "--padding", "keep"))
        packed, padded = (last(tmp_path / f"{method}-{padding}") for padding in ("pack", "keep"))
        for name in packed:
            if "_ids" not in name and not name.startswith("optimizer."):
                torch.testing.assert_close(packed[name], padded[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantized_weights_are_trained_over(
    quantize: str, model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tmp_path / "run"
    with caplog.at_level(logging.ERROR, logger="bitsandbytes"):
        train(load(folder, model_folder(), "lora", "--lora.quantize", quantize))
    before = predictions(folder)
    claf2.evaluate(folder)
    assert predictions(folder) == before
    assert (
        load_file(folder / "best/model.safetensors")["bert.encoder.layer.0.output.dense.weight"].dtype == torch.float32
    )


def test_several_tasks_share_an_adapter(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = [
        "--pretrained_model_name", str(model_folder()), "--token", "null", "--source", "sample", "--num_steps", "4",
        "--batch_size", "8", "--trainer.name", "finetune", "--model.peft.name", "lora", "--lora.r", "2",
        "--log_dir", str(tmp_path / "run"),
    ]  # fmt: skip
    experiment = claf2.load(tasks=["scratch/nsmc", "scratch/klue_ner"], argv=words)
    train(experiment)
    before = predictions(tmp_path / "run")
    assert len(before) == 2
    for task in ("nsmc", "klue_ner"):
        assert (tmp_path / "run/best" / task / "adapter/adapter_config.json").is_file()
    claf2.evaluate(tmp_path / "run")
    assert predictions(tmp_path / "run") == before
    with pytest.raises(ConfigError, match="can only be set for the whole run"):
        claf2.load(tasks=["scratch/nsmc", "scratch/klue_ner"], argv=[*words, "--nsmc.lora.r", "4"])


@pytest.mark.parametrize(
    "name", ["scratch/klue_re", "scratch/klue_dp", pytest.param("scratch/wos", marks=pytest.mark.slow)]
)
def test_heads_and_markers_of_other_tasks(name: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    train(load(tmp_path / "run", model_folder(), "lora", "--num_steps", "2", base=name))
    before = predictions(tmp_path / "run")
    claf2.evaluate(tmp_path / "run")
    assert predictions(tmp_path / "run") == before


def test_an_objective_with_virtual_tokens(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    train(load(tmp_path / "run", model_folder(), "prompt", "--objectives.smart", "{}", "--num_steps", "2"))
    assert (tmp_path / "run/metrics.json").is_file()


def test_mistakes_are_one_line(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.peft: fresh weights would be frozen; name a model"):
        train(config.load("scratch/nsmc", ["--source", "sample", "--model.peft.name", "lora"]))
    with pytest.raises(ConfigError, match=r"model\.peft\.name: 'prompt' serves heads of labels and numbers"):
        load(tmp_path, model_folder(), "prompt", base="scratch/klue_ner")
    with pytest.raises(ConfigError, match=r"model\.peft\.lora.*leave out one of use_dora and quantize"):
        load(tmp_path, model_folder(), "lora", "--use_dora", "true", "--quantize", "nf4")
    with pytest.raises(ConfigError, match=r"model\.peft\.name: 'prompt' adds tokens to the student.*use 'lora', or"):
        load(tmp_path, model_folder(), "prompt", "--relations.teacher", str(model_folder()))
    with pytest.raises(ConfigError, match=r"model\.peft\.name: adapter 'lorra' is not registered.*lora"):
        config.load("scratch/nsmc", ["--model.peft.name", "lorra"])
    with pytest.raises(
        ConfigError, match=r"length: 512 and 3 learned tokens exceed the 514 positions.*set it to 511 or"
    ):
        train(load(tmp_path, model_folder(), "prompt", "--max_seq_length", "512"))
    with pytest.raises(
        ConfigError, match=r"512 and 512 learned tokens exceed the 514 positions.*; set fewer num_tokens"
    ):
        train(load(tmp_path, model_folder(), "prompt", "--max_seq_length", "512", "--num_tokens", "512"))
    folder = tmp_path / "run"
    train(load(folder, model_folder(), "prefix"))
    with pytest.raises(ModelError, match="cannot be used without the adapter"):
        train(load(tmp_path / "next", folder / "best", "lora"))
    with pytest.raises(RunError, match="a model with 'prefix' cannot be merged, so it has no export"):
        export_run(folder, tmp_path / "export")


def test_no_adapter_is_as_if_the_section_were_left_out() -> None:
    plain, none = config.load("scratch/nsmc"), config.load("scratch/nsmc", ["--model.peft.name", "none"])
    assert plain.recipe_digest() == none.recipe_digest()
    assert plain.digest() == none.digest()
    assert "peft" not in plain.values["model"]
    lora = config.load("glue/sst_bert", ["--model.peft.name", "lora"])
    assert lora.recipe_digest() != config.load("glue/sst_bert").recipe_digest()
    assert (
        lora.recipe_digest()
        != config.load("glue/sst_bert", ["--model.peft.name", "lora", "--lora.r", "4"]).recipe_digest()
    )
    assert dataclasses.replace(lora, adapter=None).values["model"]["peft"]["name"] == "lora"


@pytest.mark.slow
def test_an_adapter_of_a_plug_in(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    (tmp_path / "my_adapter.py").write_text(
        "from claf2.adapters import Adapter, register_adapter\n\n\n"
        "@register_adapter('embeddings_only')\n"
        "class EmbeddingsOnly(Adapter):\n"
        "    '''The word embeddings are trained.'''\n\n"
        "    def apply(self, encoder):\n"
        "        from claf2.adapters.layers.adapted import EncoderChanges\n\n"
        "        encoder.get_input_embeddings().weight.requires_grad_(True)\n"
        "        return EncoderChanges()\n"
    )
    words = [
        "--pretrained_model_name",
        str(model_folder()),
        "--token",
        "null",
        "--source",
        "sample",
        "--num_steps",
        "2",
    ]
    words += ["--plugin", str(tmp_path / "my_adapter.py"), "--model.peft.name", "embeddings_only"]
    done = subprocess.run(
        [sys.executable, "train.py", "--base_config", "scratch/nsmc", *words, "--log_dir", str(tmp_path / "run")],
        check=False, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run/best/model.safetensors")
    base = load_file(model_folder() / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], weights[f"bert.{name}"])}
    assert changed == {"embeddings.word_embeddings.weight"}


DRIVER = """
import json, sys
from claf2 import config
from claf2.runs.train import train
from claf2.runtime import distributed
with distributed.process_group():
    for base, words in json.load(open(sys.argv[1])):
        train(config.load(base, words))
"""


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = model_folder("bert", **NO_DROPOUT)
    runs = []
    for method in ("lora", "prefix"):
        dropout = [f"--{method}.dropout", "0", "--learning_rate", "1e-3"]
        train(load(tmp_path / f"{method}-one", model, method, *dropout))
        for engine in ("ddp", "fsdp"):
            experiment = load(tmp_path / f"{method}-{engine}", model, method, *dropout, "--engine", engine)
            runs.append(("scratch/nsmc", experiment.overrides))
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    (tmp_path / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(tmp_path / "driver.py"), str(tmp_path / "runs.json")],
        check=False, cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    for method in ("lora", "prefix"):
        expected = load_file(tmp_path / f"{method}-one/best/adapter/adapter_model.safetensors")
        for engine in ("ddp", "fsdp"):
            folder = tmp_path / f"{method}-{engine}"
            weights = load_file(folder / "best/adapter/adapter_model.safetensors")
            assert weights.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=0)
            before = predictions(folder)
            claf2.evaluate(folder)
            assert [
                json.loads(line)["prediction"] for line in next(iter(predictions(folder).values())).splitlines()
            ] == [json.loads(line)["prediction"] for line in next(iter(before.values())).splitlines()]
