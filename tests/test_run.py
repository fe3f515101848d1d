"""Runs of each kind of task on its sample, and on real rows where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from language_models import save_language_model

from claf2 import config
from claf2.config import source
from claf2.errors import ConfigError, DataError
from claf2.runs.prepare import build_plan
from claf2.runs.train import train


@pytest.mark.parametrize(
    ("name", "key", "floor", "words"),
    [
        ("nsmc", "accuracy", 90, ["--num_steps", "60"]),
        ("klue_nli", "accuracy", 80, ["--num_steps", "140"]),
        ("korsts", "spearman", 60, ["--num_steps", "140"]),
        ("wnut17", "f1", 80, ["--num_steps", "90"]),
        ("klue_ner", "entity_macro_f1", 80, ["--num_steps", "60"]),
        ("klue_re", "micro_f1", 30, ["--num_steps", "94"]),
        pytest.param("klue_dp", "las", 80, ["--num_steps", "80"], marks=pytest.mark.slow),
        pytest.param(
            "jcommonsenseqa", "accuracy", 60, ["--num_steps", "200", "--learning_rate", "5e-4"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_fresh_encoder_learns_the_sample(name: str, key: str, floor: float, words: list[str], tmp_path: Path) -> None:
    """Well above what always the same answer would score (50, 33, undefined, 0, 0, 3, below 20, 20)."""
    given = ["--data_reader.source", "sample", "--learning_rate", "2e-3", *words, "--log_dir", str(tmp_path)]
    report = train(config.load(f"scratch/{name}", given))
    score = next(iter(report.tasks.values())).scores[key]
    assert score is not None
    assert score > floor


def test_real_rows_with_a_cut(benchmark_data: Path, tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    words = ["--pretrained_model_name", str(model_folder()), "--valid_fraction", "0.1", "--num_steps", "2"]
    words += ["--data_dir", str(benchmark_data), "--log_dir", str(tmp_path)]
    report = train(config.load("glue/rte_bert", words))
    predictions = report.tasks["rte"].predictions
    assert len(predictions) == 249
    again = train(config.load("glue/rte_bert", [*words, "--seed_num", "7"]), overwrite=True)
    assert [prediction.id for prediction in again.tasks["rte"].predictions] == [
        prediction.id for prediction in predictions
    ]


def test_official_korquad_scores_of_a_real_run(benchmark_data: Path, tmp_path: Path) -> None:
    """The run's scores are what its predictions file gives when it is scored anew, question by question."""
    sample = benchmark_data / "korquad/KorQuAD_v1.0_train_sample.json"
    words = ["--train_file_path", str(sample), "--valid_file_path", str(sample), "--num_steps", "2"]
    report = train(config.load("scratch/korquad", [*words, "--log_dir", str(tmp_path)]))
    lines = [json.loads(line) for line in (tmp_path / "predictions/korquad-valid.jsonl").read_text().splitlines()]
    assert len(lines) == 142
    exact = sum(line["prediction"] in line["gold"] for line in lines) / 1.42
    assert report.tasks["korquad"].scores["em"] == pytest.approx(exact, abs=3)


@pytest.mark.parametrize(
    ("epochs", "steps", "every", "interval"),
    [("1.1", 55, "0.29", 14), ("1.11", 56, "0.58", 29), ("3", 150, "epoch", 50)],
)
def test_fractions_of_epochs_are_steps(epochs: str, steps: int, every: str, interval: int) -> None:
    words = ["--num_epochs", epochs, "--eval_and_save_step_count", every]
    plan = build_plan(config.load("scratch/nsmc", words), 50)
    assert (plan.total_steps, plan.interval, plan.per_epoch) == (steps, interval, True)


def test_no_training_file_no_development_file_no_row(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    base = ["--pretrained_model_name", str(model_folder()), "--log_dir", str(tmp_path / "log")]
    few = tmp_path / "few.tsv"
    few.write_text("index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n")
    with pytest.raises(DataError, match=r"valid_fraction 0\.1 of 1 rows leaves a split empty"):
        train(config.load("glue/rte_bert", [*base, "--train_file_path", str(few), "--valid_fraction", "0.1"]))
    both = ["--train_file_path", str(few), "--valid_file_path", str(few), "--valid_fraction", "0.1"]
    with pytest.raises(ConfigError, match=r"valid_file_path: cannot be combined with valid_fraction.*_fraction null"):
        train(config.load("glue/rte_bert", [*base, *both]), overwrite=True)
    with pytest.raises(ConfigError, match="task 'korsts' has no data set on the hub"):
        train(config.load("klue/korsts_bert", [*base, "--source", "hub"]), overwrite=True)
    with pytest.raises(DataError, match=r"hub:nyu-mll/glue:rte: cannot be downloaded: .*"):
        train(config.load("glue/rte_bert", [*base, "--source", "hub"]), overwrite=True)


PRETRAINING = {name for name in source.list_configs() if name.startswith("pretrain/")} | {
    "scratch/pretrain", "scratch/pretrain_decoder", "scratch/tsdae",
}  # fmt: skip
"""Their number of steps is that of their phases: they are tried in `tests/pretraining`."""


DECODERS = {name for name in source.list_configs() if name.startswith("instruct/")}
"""They need a decoder: they are tried below."""

DISTILLATION = {name for name in source.list_configs() if name.startswith("distil/")}
"""They need a teacher: they are tried in `tests/test_distil_configs.py`."""


OTHERS = sorted({*source.list_configs()} - PRETRAINING - DECODERS - DISTILLATION)


# Large models have the recipes of the base ones with other numbers.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.endswith("_large") else []) for name in OTHERS]
)
def test_every_shipped_config_is_built_and_stepped(
    name: str, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    """With a small model in the place of its own, on the sample of its task."""
    words = ["--num_steps", "3", "--data_reader.source", "sample", "--log_dir", str(tmp_path), "--batch_size", "4"]
    if not name.startswith("scratch/"):
        architecture = "roberta" if "roberta" in name else "bert"
        words += ["--pretrained_model_name", str(model_folder(architecture))]
    if name.startswith("multi_task/"):
        words += ["--mtdnn.alone", "[]"]  # the later stages are runs of their own, as long as their recipes say
    report = train(config.load(name, words))
    steps = (0,) if name.endswith("_zero_shot") else (1, 2, 3)
    assert json.loads((tmp_path / "metrics.json").read_text())["best_global_step"] in steps
    # These cut a tenth off their 1,500 rows, or a twentieth.
    rows = {"klue/parakqc_bert": 150, "scratch/instruct": 75}.get(name, 200)
    assert len(next(iter(report.tasks.values())).predictions) == rows


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_config_of_a_decoder_is_built_and_stepped(name: str, tmp_path: Path) -> None:
    """With a small GPT-NeoX, on the sample of its task."""
    if "kullm" in name:
        pytest.importorskip("bitsandbytes", reason="extra qlora is not installed")
    model = save_language_model("gpt_neox", tmp_path / "model")
    words = ["--num_steps", "3", "--data_reader.source", "sample", "--log_dir", str(tmp_path / "run")]
    words += ["--iterator.batch_size", "4", "--gradient_accumulation_steps", "1", "--pretrained_model_name", str(model)]
    report = train(config.load(name, words))
    assert len(next(iter(report.tasks.values())).predictions) > 10


def test_runtime_knobs_change_the_cost_and_not_the_result(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    """Without dropout: whole batches, micro-batches, small memory, activations made again."""
    model = str(model_folder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    words = ["--pretrained_model_name", model, "--source", "sample", "--num_steps", "6", "--batch_size", "16"]
    losses, recipes = {}, set()
    for knob in (
        ("--padding", "keep"),
        ("--padding", "pack"),
        ("--padding", "split", "--micro_batch_overhead", "2"),
        ("--padding", "keep", "--max_tokens_per_micro_batch", "40"),
        ("--max_tokens_per_micro_batch", "40"),
        ("--activation_checkpointing", "true"),
        ("--precision", "bf16"),
    ):
        folder = tmp_path / "".join(knob)
        experiment = config.load("klue/nsmc_bert", [*words, *knob, "--log_dir", str(folder)])
        losses[knob] = next(iter(train(experiment).tasks.values())).loss
        recipes.add(experiment.recipe_digest())
        report = json.loads((folder / "run.json").read_text())
        assert {"threads", "tf32", "peak_memory_mib", "rows_per_second"} <= report.keys()
    exact = losses.pop(("--padding", "keep"))
    assert losses.pop(("--precision", "bf16")) == pytest.approx(exact, abs=0.02)
    assert list(losses.values()) == pytest.approx([exact] * 5, abs=1e-5)
    assert len(recipes) == 2  # what moves scores is of the recipe


def test_an_architecture_that_cannot_compute_activations_again_says_so(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = ["--pretrained_model_name", str(model_folder("albert")), "--source", "sample", "--num_steps", "1"]
    words += ["--activation_checkpointing", "true", "--log_dir", str(tmp_path), "--warmup_proportion", "0"]
    with pytest.raises(ConfigError, match=r"albert cannot compute activations again.*; use false"):
        train(config.load("klue/nsmc_bert", words))
