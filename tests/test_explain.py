"""What `claf2 explain` says is what a run does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stored import last
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from claf2 import config
from claf2.data.batch import BatchStream
from claf2.errors import Claf2Error, Interrupted
from claf2.runs import estimate
from claf2.runs import train as training
from claf2.runs.explain import explain
from claf2.runs.explanation_text import format_explanation
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve
from claf2.runs.train import train
from claf2.training.shards import memory_to_save

TWO = "glue/rte_bert,conll2003/ner_bert"


def load(folder: Path, model: Path, *words: str, base: str = "glue/rte_bert") -> config.Experiment:
    given = ["--pretrained_model_name", str(model), "--data_reader.source", "sample", "--log_dir", str(folder)]
    return config.load(base, [*given, "--verbose_step_count", "1", *words])


def several(folder: Path, model: Path, *words: str) -> config.Experiment:
    return load(folder, model, "--tasks", TWO, *words, base="multi_task/mtdnn")


def recorded(folder: Path) -> dict[int, float]:
    """Return the learning rates that a run has noted, by step."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {Scalar.step: Scalar.value for Scalar in events.Scalars("train/learning_rate")}


def steps_of(folder: Path) -> list[int]:
    """Return the steps after which a run was evaluated."""
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


CASES = {
    "epochs": ["--num_epochs", "2", "--batch_size", "500"],
    "a fraction of an epoch": ["--num_epochs", "1.5", "--batch_size", "250", "--eval_and_save_step_count", "0.7"],
    "steps": ["--num_steps", "7", "--eval_and_save_step_count", "3", "--batch_size", "16", "--lr_scheduler_type",
              "cosine", "--warmup_steps", "3"],
    "accumulated": ["--num_epochs", "1", "--batch_size", "100", "--gradient_accumulation_steps", "4", "--op_type",
                    "sgd", "--padding", "split"],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_run_does_what_was_said(name: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    experiment = load(folder, model_folder(), "--embedding_rows", "all", *CASES[name])
    explanation = explain(experiment, steps=1)
    assert not folder.exists()
    train(experiment)
    rates = recorded(folder)
    assert explanation["steps"]["all"] == explanation["steps"]["left"] == len(rates)
    assert explanation["evaluations"]["steps"] == steps_of(folder)
    rates_by_step = dict(explanation["rates"])
    assert {1, len(rates)} <= rates_by_step.keys()
    assert rates_by_step == pytest.approx({step: rates[step] for step in rates_by_step}, rel=1e-6)
    assert sum(rates[step] < rates[step + 1] for step in range(1, len(rates))) == explanation["steps"]["warmup"]
    lock = json.loads((folder / "run.json").read_text())
    assert {name: {key: split_counts[key] for key in counts} for name, counts in lock["counts"].items()
            for split_counts in [explanation["splits"][name]]} == lock["counts"]  # fmt: skip
    tensors = last(folder)
    optimizer = sum(tensor.nbytes for key, tensor in tensors.items() if key.startswith("optimizer."))
    assert explanation["memory_mib"]["optimizer"] * 2**20 == optimizer
    assert explanation["leaves"]["best/"] * 2**20 == pytest.approx(
        (folder / "best/model.safetensors").stat().st_size, rel=0.2
    )
    assert explanation["model"]["parameters"] * 4 == explanation["memory_mib"]["gradients"] * 2**20
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {path for path in left if not any(Path(path).match(pattern.rstrip("/")) or path.startswith(pattern)
            for pattern in explanation["leaves"])} == set()  # fmt: skip
    assert all(list(folder.glob(pattern)) for pattern in explanation["leaves"])


def test_several_tasks_and_what_comes_after(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--num_steps", "5", "--eval_and_save_step_count", "2", "--tasks.num_epochs", "1", "--batch_size", "500"]
    words += ["--tasks.verbose_step_count", "1"]
    experiment = several(folder, model_folder(), *words, "--mtdnn.alone", '["rte"]', "--conll2003.batch_size", "100")
    explanation = explain(experiment, steps=2)
    assert not folder.exists()
    train(experiment)
    assert explanation["evaluations"]["steps"] == steps_of(folder) == [2, 4, 5]
    assert dict(explanation["rates"]) == pytest.approx(recorded(folder), rel=1e-6)
    assert {task: description["share"] for task, description in explanation["tasks"].items()} == {
        "rte": 3 / 18,
        "conll2003": 15 / 18,
    }
    counts = json.loads((folder / "run.json").read_text())["counts"]
    assert counts.keys() == explanation["splits"].keys()
    assert all(
        explanation["splits"][name]["features"] == description["features"] for name, description in counts.items()
    )
    for stage in explanation["stages"]:
        own = folder / "stages" / stage["stage"] / stage["of"]
        assert stage["evaluations"] == steps_of(own)
        assert stage["steps"] == len(recorded(own)) == 3
    assert all(list(folder.glob(pattern)) for pattern in explanation["leaves"])
    seconds = explanation["seconds"]
    parts = ("training", "evaluation", "saving", "stages")
    assert seconds["all"] == pytest.approx(sum(seconds[name] for name in parts))
    assert min(seconds[name] for name in ("step", *parts)) > 0
    text = format_explanation(explanation)
    for line in ("fine_tuned rte: 3 steps, 1 of warm-up, 1 evaluations", "batches      of rte 500, conll2003 100 rows",
                 "evaluations  3, after step 2, 4, 5; the best by average is kept", "(2 steps measured, "):  # fmt: skip
        assert line in text


def test_a_split_of_one_of_several_tasks_is_called_by_its_task(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    words = ["--tasks", "glue/mnli_bert,glue/rte_bert"]
    experiment = load(tmp_path / "run", model_folder(), *words, base="multi_task/mtdnn")
    splits = explain(experiment, steps=0)["splits"]
    assert list(splits) == ["mnli/train", "rte/train", "mnli/valid", "rte/valid", "mnli/valid_mismatched"]
    assert splits["mnli/valid_mismatched"]["in_train"] >= 0


def test_checkpoints_are_part_of_the_estimate(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their time grows with the number of evaluations."""
    experiment = load(tmp_path / "run", model_folder(), "--cache_dir", str(tmp_path / "cache"))
    prepared = prepare(*resolve(experiment))
    best, last = estimate.checkpoint_bytes(prepared)
    (size,) = best.values()
    clock, written = count(), []
    monkeypatch.setattr(estimate, "time", SimpleNamespace(monotonic=lambda: 2.0 * next(clock)))
    monkeypatch.setattr(estimate, "_write", lambda path, tensor: written.append(tensor.nbytes))
    assert estimate.seconds_to_save(prepared, 3, [("rte", 4)]) == pytest.approx(2.0)
    assert written == [7 * (size + last)]
    monkeypatch.setattr(estimate, "SAVED_BYTES", 1000)
    assert estimate.seconds_to_save(prepared, 1) == pytest.approx(2.0 * (size + last) / 1000)
    assert written[1:] == [1000]
    assert list((tmp_path / "cache").glob("tmp*")) == []

    def peak(most_tokens: int) -> float:
        monkeypatch.setattr(BatchStream, "largest_microbatch", lambda stream, steps: most_tokens)
        costs = estimate.StepCosts(1.0, 1.0, 1.0, 100 * 2**20, 1000, 0, 2000.0)
        return float(estimate.estimate_memory(prepared, costs)["peak"])

    saved = memory_to_save(prepared.model) / 2**20
    assert saved > 0.0
    assert peak(1000) == peak(500) == pytest.approx(2000.0 + 100.0 * estimate.HEAP_GROWTH + saved)
    assert peak(3000) == pytest.approx(peak(1000) + 200.0 * (1.0 + estimate.HEAP_GROWTH))


def test_lengths_and_what_is_cut(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = tmp_path / "rows.txt"
    lines = [f"{n}\t{'film ' * n}\t{n % 2}\n" for n in range(1, 22)]
    data.write_text("id\tdocument\tlabel\n" + "".join(lines))
    words = ["--train_file_path", str(data), "--valid_file_path", str(data), "--source", "local", "--max_seq_length"]
    explanation = explain(load(tmp_path / "run", model_folder(), *words, "18", base="klue/nsmc_bert"), steps=0)
    train = explanation["splits"]["train"]
    # Each text has its words and two more tokens, and 18 is the limit: 17 to 21 words do not fit.
    assert train["tokens"] == {"least": 3, "median": 13, "95 %": 18, "most": 18, "all": sum(range(3, 19)) + 5 * 18}
    assert (train["examples"], train["features"], train["truncated"]) == (21, 21, 5)
    assert explanation["splits"]["valid"]["in_train"] == 21
    assert "train  " in format_explanation(explanation)
    assert "21 rows also occur in train" in format_explanation(explanation)


def test_nothing_is_measured_unless_asked(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    fit = estimate.fit
    monkeypatch.setattr(estimate, "fit", lambda job: [fit(job), taken.append(job.state.step)])
    explanation = explain(load(tmp_path / "run", model_folder()), steps=0)
    assert (taken, explanation["seconds"], "activations" in explanation["memory_mib"]) == ([], None, False)
    assert "time         not measured" in format_explanation(explanation)
    explanation = explain(load(tmp_path / "run", model_folder()), steps=2)
    assert taken == [3, 3]  # in fp32, then in bf16; one of them to warm up
    assert f"{explanation['seconds']['step_bf16']:.3g} s a step" in format_explanation(explanation)
    taken.clear()
    assert "step_bf16" not in explain(load(tmp_path / "run", model_folder(), "--precision", "bf16"), steps=2)["seconds"]
    assert taken == [3]
    explanation = explain(load(tmp_path / "run", model_folder()), steps=2)
    assert explanation["memory_mib"]["activations"] > 0
    assert (
        explanation["memory_mib"]["all"]
        > explanation["memory_mib"]["weights"] + explanation["memory_mib"]["activations"]
    )
    assert f"activations {explanation['memory_mib']['activations']:,.1f} MiB at " in format_explanation(explanation)
    assert json.loads(json.dumps(explanation)) == explanation


def test_what_is_kept_for_the_backward_pass_is_weighed_once(model_folder: Callable[..., Path]) -> None:
    """A product keeps both factors, each storage once, and lets them go; weights are not counted."""
    import torch

    weight = torch.nn.Linear(10, 1, bias=False)
    meter = estimate._ActivationMeter(weight)
    one, other = torch.ones(100, requires_grad=True), torch.ones(100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda kept: kept.tensor):
        product = one * other
        square = one * one
        assert meter.peak == 800
        (product + square).sum().backward()  # type: ignore[no-untyped-call]
        del product, square
        weight(torch.ones(3, 10)).sum().backward()
    assert meter.peak == 800
    assert meter._current == 0
    assert one.grad is not None
    assert one.grad[0] == 3


MISTAKES: dict[str, tuple[list[str], str]] = {
    "warm-up": (["--warmup_linear.warmup_steps", "999", "--num_steps", "9"], "999 warm-up steps in a run of"),
    "data": (["--source", "local", "--train_file_path", "no.tsv"],
             "no.tsv: no such file; set --data_dir, or download rte from"),
    "labels": (["--source", "local", "--valid_file_path", "bare.tsv", "--train_file_path", "rte.tsv"],
               "bare.tsv: has no labels, or hidden ones; give a file with labels for training and validation"),
    "positions": (["--max_seq_length", "9999"], "9999 exceeds the 514 positions of"),
    "tokenizer": (["--token", '{"tokenizer": {"subword": {"wordpiece": {"vocab_path": "v.txt"}}}}'],
                  "the tokenizer has 5000 ids, but the embeddings of"),
    "both": (["RESUME", "OVERWRITE"], "--resume and --overwrite cannot be combined"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_it_refuses_what_train_refuses(
    name: str, model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the very words."""
    monkeypatch.chdir(tmp_path)
    Path("rte.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + "0\ta film\ta cat\tentailment\n" * 20)
    Path("bare.tsv").write_text("index\tsentence1\tsentence2\n0\ta film\ta cat\n")
    letters = [prefix + chr(code) for prefix in ("", "##") for code in range(33, 127)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"t{n}" for n in range(4995 - len(letters)))]
    Path("v.txt").write_text("\n".join(entries))
    given, message = MISTAKES[name]
    words = [word for word in given if not word.isupper()]
    how = {word.lower(): True for word in given if word.isupper()}
    experiment = load(tmp_path / "run", model_folder(), *words)
    explanation = []
    for make in (explain, train):
        with pytest.raises(Claf2Error) as caught:
            make(experiment, **how)
        explanation.append((type(caught.value), str(caught.value)))
        assert (tmp_path / "run").exists() == (make is train and name != "both")
    assert explanation[0] == explanation[1]
    assert message in explanation[0][1]


def test_a_folder_that_holds_a_run(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--num_steps", "4", "--eval_and_save_step_count", "2"]
    experiment = load(tmp_path, model_folder(), *words)

    def interrupted() -> Any:
        steps = iter([False, True])
        return lambda: next(steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "interruptible", lambda: nullcontext(interrupted()))
        with pytest.raises(Interrupted):
            train(experiment)
    with pytest.raises(Claf2Error, match="holds an unfinished run: add --resume"):
        explain(experiment)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    explanation = explain(experiment, steps=1, resume=True)
    assert explanation["state"] == "a run that resumes after step 2 of 4"
    assert (explanation["steps"]["left"], explanation["steps"]["all"]) == (2, 4)
    assert "2 remaining" in format_explanation(explanation)
    assert explain(experiment, steps=0, overwrite=True)["state"] == "a new run that replaces an unfinished one"
    with pytest.raises(Claf2Error, match="experiment has changed since the run began"):
        explain(load(tmp_path, model_folder(), *words, "--seed_num", "7"), resume=True)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train(experiment, resume=True)
    with pytest.raises(Claf2Error, match="holds a finished run: add --resume"):
        explain(experiment)
    assert explain(experiment, steps=0, resume=True)["state"] == "a finished run: nothing is trained"


PLUGIN = """
from claf2 import Task, register_task
from claf2.readers import Delimited
register_task(Task(name="mine", language="en", head="classify", labels=("0", "1"), metrics=("accuracy",),
                   reader=Delimited(columns={"text_a": "document", "label": "label"})))
"""


def test_every_value_that_is_no_default_says_where_it_is_from(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plug.py").write_text(PLUGIN)
    Path("rows.tsv").write_text("document\tlabel\n" + "".join(f"film {n}\t{n % 2}\n" for n in range(9)))
    reader = {"dataset": "mine", "train_file_path": "rows.tsv", "valid_file_path": "rows.tsv"}
    Path("mine.json").write_text(json.dumps({"data_reader": reader, "iterator": {"batch_size": 4}}, indent=1))
    words = ["--pretrained_model_name", str(model_folder()), "--learning_rate", "1e-3"]
    explanation = explain(config.load("mine.json", words, ["plug.py"]), steps=0)
    origins = {entry["path"]: entry["origin"] for entry in explanation["values"]}
    assert origins == {
        "data_reader.dataset": f"mine.json, from plug-in {tmp_path}/plug.py",
        "data_reader.train_file_path": "mine.json",
        "data_reader.valid_file_path": "mine.json",
        "iterator.batch_size": "mine.json",
        "model.encoder.pretrained_model_name": "command line --pretrained_model_name",
        "optimizer.learning_rate": "command line --learning_rate",
        "plugins": "command line --plugin",
    }
    assert "optimizer.learning_rate = 0.001  # command line --learning_rate" in format_explanation(explanation)


@pytest.mark.smoke
def test_the_command(tmp_path: Path) -> None:
    words = ["--base_config", "scratch/nsmc", "--sample", "--steps", "0", "--num_steps", "10", "--json"]
    command = [sys.executable, "-c", "from claf2.cli.main import main; main()", "explain", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["steps"]["all"] == 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base", ["glue/rte_bert", "jglue/jcommonsenseqa_bert"])
def test_all_texts_of_a_row_count(base: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    experiment = load(tmp_path / "run", model_folder(), "--num_epochs", "1", "--batch_size", "16", base=base)
    prepared = prepare(*resolve(experiment))
    steps = [microbatches for _, microbatches in prepared.stream.epoch(0)]
    seen = sum(int(batch.arrays["attention_mask"].sum()) for microbatches in steps for batch in microbatches)
    assert estimate.tokens_per_step(prepared.run, prepared.train) == pytest.approx(seen / len(steps))
