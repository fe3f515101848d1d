"""Several tasks in one run: samplers, stages, averages, exports, and what must not differ from a run of one task."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from stored import last_bytes
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from claf2 import config
from claf2.data.batch import BatchStream, TaskDataset
from claf2.data.features import FeatureSet
from claf2.data.samplers import CappedSampler, samplers
from claf2.errors import ConfigError, Interrupted, ModelError, RunError
from claf2.evaluation.report import Report, TaskReport
from claf2.export.build import export_run
from claf2.export.predictor import Predictor
from claf2.metrics import Prediction
from claf2.runs.hub import model_dir
from claf2.runs.inference import evaluate_run
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import Run, merge_evaluations, resolve_weights
from claf2.runs.train import train
from claf2.runtime.seed import generator

SIZES = {"large": 90, "middle": 9, "small": 1}

SAMPLE = ["--data_reader.source", "sample"]
FOUR = "glue/rte_bert,glue/stsb_bert,conll2003/ner_bert,squad/v1_bert"


def load(folder: Path, model: Path, *words: str, tasks: str = FOUR) -> config.Experiment:
    given = ["--tasks", tasks, "--pretrained_model_name", str(model), "--log_dir", str(folder), *SAMPLE]
    short = ["--trainer.name", "finetune", "--num_steps", "6", "--eval_and_save_step_count", "3"]
    return config.load("multi_task/mtdnn", [*given, *short, *words])


def source_of(rows: int) -> TaskDataset:
    table = pa.table({"input_ids": [[1, index] for index in range(rows)], "token_type_ids": [[0, 0]] * rows})
    return TaskDataset(FeatureSet(table, {}, np.zeros(rows)), 0, {})


@pytest.mark.parametrize("name", samplers.names())
def test_a_sampler_draws_as_it_says(name: str) -> None:
    """Its shares come out, from the generator that it is given and from nothing else."""
    sampler = samplers.get(name)()
    steps = sum(SIZES.values())
    drawn = sampler.order(SIZES, steps, 0.5, generator(1, "x"))
    assert len(drawn) == steps
    torch.manual_seed(9)
    assert drawn == sampler.order(SIZES, steps, 0.5, generator(1, "x"))
    assert drawn != sampler.order(SIZES, steps, 0.5, generator(2, "x"))
    many = Counter(sampler.order(SIZES, 20_000, 0.5, generator(3, "x")))
    shares = sampler.shares(SIZES, 0.5)
    for task, share in shares.items():
        assert many[task] / 20_000 == pytest.approx(share / sum(shares.values()), abs=0.02)


def test_shares_are_the_published_ones() -> None:
    shares = {name: dict(samplers.get(name)().shares(SIZES, 1.0)) for name in samplers.names()}
    assert shares["proportional"] == shares["mtdnn"] == SIZES
    assert set(shares["uniform"].values()) == {1.0}
    assert shares["temperature"]["large"] == pytest.approx(90**0.2)
    assert shares["annealed"]["large"] == pytest.approx(90**0.2)
    assert samplers.get("annealed")().shares(SIZES, 0.0)["large"] == 90
    assert CappedSampler(batches=5).shares(SIZES, 0.0) == {"large": 5, "middle": 5, "small": 1}
    weighted: Any = samplers.get("weighted")
    assert weighted(weights={"small": 7}).shares(SIZES, 0.0) == {"large": 1, "middle": 1, "small": 7}


def rows_of(
    stream: BatchStream, epoch: int, start: int = 0, paused: tuple[str, ...] = ()
) -> list[tuple[str, list[int]]]:
    steps = stream.epoch(epoch, start, paused)
    return [(task, [int(row[1]) for part in parts for row in part.arrays["input_ids"]]) for task, parts in steps]


@pytest.mark.parametrize("name", samplers.names())
def test_an_epoch_is_a_function_of_seed_epoch_and_rest(name: str) -> None:
    sources = {"a": source_of(50), "b": source_of(13)}

    def stream(seed: int = 5) -> BatchStream:
        stream = BatchStream(sources, batch_sizes={"a": 8, "b": 4}, seed=seed, sampler=samplers.get(name)())
        stream.epochs = 3
        return stream

    epoch_rows = rows_of(stream(), 1)
    assert len(epoch_rows) == stream().steps_per_epoch == 7 + 4
    assert rows_of(stream(), 1, 6) == epoch_rows[6:]
    assert rows_of(stream(), 2) != epoch_rows
    assert rows_of(stream(6), 1) != epoch_rows
    rest = rows_of(stream(), 1, 0, ("a",))
    assert {task for task, _ in rest} == {"b"}
    assert len(rest) == 11
    # As often as a task is drawn, it goes through all of its rows before it sees one again.
    once = [row for _, rows in rest[:4] for row in rows]
    assert sorted(once) == list(range(13))


def test_mtdnn_takes_every_row_of_every_task_once() -> None:
    stream = BatchStream({"a": source_of(50), "b": source_of(13)}, batch_sizes={"a": 8, "b": 4}, seed=5)
    seen = Counter((task, row) for task, rows in rows_of(stream, 0) for row in rows)
    assert seen == Counter({("a", row): 1 for row in range(50)} | {("b", row): 1 for row in range(13)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> tuple[Path, Report]:
    """A run on four tasks of four kinds."""
    folder = tmp_path_factory.mktemp("several")
    return folder, train(load(folder, model_folder()))


def test_a_score_of_which_less_is_better_is_not_averaged(tmp_path: Path) -> None:
    tasks = {"rte": {"base_config": "glue/rte_bert"}, "masked": {"data_reader": {"dataset": "masked_text"}}}
    model = {"name": "bert_for_multi", "bert_for_multi": {"pretrained_model_name": "x"}}
    (tmp_path / "base.json").write_text(json.dumps({"tasks": tasks, "model": model}))
    experiment = config.load(str(tmp_path / "base.json"))
    reports = [
        Report("valid", {"rte": TaskReport({"accuracy": accuracy}, 0.0, ()),
                         "masked": TaskReport({"nats_per_byte": nats}, 0.0, ())})
        for accuracy, nats in ((60.0, 4.0), (62.0, 1.0))
    ]  # fmt: skip
    assert [merge_evaluations(experiment, [report]).average for report in reports] == [60.0, 62.0]


def test_four_kinds_of_heads_train_together(finished: tuple[Path, Report]) -> None:
    folder, report = finished
    assert list(report.tasks) == ["rte", "stsb", "conll2003", "squad"]
    logs = json.loads((folder / "metrics.json").read_text())
    best = logs["best"]
    deciding = [best[f"valid/{key}"] for key in ("rte/accuracy", "conll2003/f1", "squad/f1")]
    spearman = best["valid/stsb/pearson_spearman"] or 0.0
    assert best["valid/average"] == pytest.approx((sum(deciding) + spearman) / 4)
    assert logs["metric_key"] == "average"
    assert report.average == best["valid/average"]
    assert set(json.loads((folder / "run.json").read_text())["counts"]) == {
        f"{task}/{split}" for task in report.tasks for split in ("train", "valid")
    }


def test_each_task_is_a_model_of_its_own(finished: tuple[Path, Report]) -> None:
    folder, _ = finished
    kinds: dict[str, Any] = {
        "rte": AutoModelForSequenceClassification, "conll2003": AutoModelForTokenClassification,
        "squad": AutoModelForQuestionAnswering,
    }  # fmt: skip
    loaded = {task: kind.from_pretrained(folder / "best" / task) for task, kind in kinds.items()}
    assert list(loaded["rte"].config.id2label.values()) == ["entailment", "not_entailment"]
    encoders = [dict(model.bert.encoder.named_parameters()) for model in loaded.values()]
    for name, tensor in encoders[0].items():
        assert torch.equal(tensor, encoders[1][name])
        assert torch.equal(tensor, encoders[2][name])


def test_evaluate_and_predict_take_one_task_or_all(finished: tuple[Path, Report]) -> None:
    folder, report = finished
    files = {path: path.read_bytes() for path in (folder / "predictions").iterdir()}
    again = evaluate_run(folder)
    assert again.average == report.average
    for task, task_report in report.tasks.items():
        assert again.tasks[task].scores == task_report.scores
    assert files == {path: path.read_bytes() for path in (folder / "predictions").iterdir()}
    single = evaluate_run(folder, task="rte")
    assert single.logs()["valid/accuracy"] == report.tasks["rte"].scores["accuracy"]
    prediction = Predictor(folder, "rte")(text_a="the film", text_b="a film")
    assert prediction.prediction in ("entailment", "not_entailment")
    with pytest.raises(RunError, match="several tasks: name one of rte, stsb"):
        Predictor(folder)
    with pytest.raises(RunError, match="no task 'rta': did you mean 'rte'"):
        Predictor(folder, "rta")


def test_one_task_in_section_tasks_is_the_run_of_that_task(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """To the bit: weights, optimizer, scores."""
    shared = ["--pretrained_model_name", str(model_folder()), *SAMPLE, "--num_steps", "6", "--learning_rate", "1e-3"]
    alone = config.load("glue/rte_bert", [*shared, "--log_dir", str(tmp_path / "alone")])
    stated = {
        "tasks": {"rte": {"base_config": "glue/rte_bert"}},
        "model": {"bert_for_multi": {}, "name": "bert_for_multi"},
        "trainer": {key: value for key, value in alone.values["trainer"].items() if key != "log_dir"},
        "optimizer": alone.values["optimizer"],
    }
    (tmp_path / "one.json").write_text(json.dumps(stated))
    several = config.load(str(tmp_path / "one.json"), [*shared, "--log_dir", str(tmp_path / "several")])
    assert train(alone).logs() == train(several).logs()
    assert last_bytes(tmp_path / "alone") == last_bytes(tmp_path / "several")
    names = ("last/training.pt", "best/model.safetensors")
    for name in names:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()
    assert model_dir(tmp_path / "several", None) == tmp_path / "several" / "best"
    export_run(tmp_path / "several", tmp_path / "export")
    answer, exported = (Predictor(tmp_path / name)(text_a="a", text_b="b") for name in ("alone", "export"))
    assert answer.prediction == exported.prediction


def test_a_task_without_weight_changes_nothing_of_the_others(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    without = load(tmp_path / "without", model_folder(), tasks="glue/rte_bert,glue/stsb_bert")
    beside = load(
        tmp_path / "beside", model_folder(), "--conll2003.loss_weight", "0",
        tasks="glue/rte_bert,glue/stsb_bert,conll2003/ner_bert",
    )  # fmt: skip
    first, second = train(without), train(beside)
    for task in ("rte", "stsb"):
        assert first.tasks[task].scores == pytest.approx(second.tasks[task].scores, abs=0, nan_ok=True)
        name = f"best/{task}/model.safetensors"
        assert (tmp_path / "without" / name).read_bytes() == (tmp_path / "beside" / name).read_bytes()
    assert "conll2003" in second.tasks
    with pytest.raises(ConfigError, match="loss_weight: must be positive for at least one task"):
        train(load(tmp_path / "none", model_folder(), "--loss_weight", "0"))


def test_a_weight_scales_the_gradients(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Without clipping, one SGD step goes three times as far."""
    moved = {}
    for weight in ("1", "3"):
        words = ("--rte.loss_weight", weight, "--op_type", "sgd", "--num_steps", "1", "--grad_max_norm", "null",
                 "--stsb.loss_weight", "0", "--lr_scheduler_type", "constant", "--constant.warmup_proportion", "0",
                 "--sgd.weight_decay", "0")  # fmt: skip
        folder = tmp_path / weight
        experiment = load(folder, model_folder(), *words, tasks="glue/rte_bert,glue/stsb_bert")
        train(experiment)
        trained = AutoModelForSequenceClassification.from_pretrained(folder / "best/rte").bert.encoder
        before = resolve_weights(experiment, lambda: ()).model().head("rte").bert.encoder  # type: ignore[union-attr]
        moved[weight] = torch.cat(
            [(a - b).flatten() for a, b in zip(trained.parameters(), before.parameters(), strict=True)]  # type: ignore[operator]
        )
    torch.testing.assert_close(moved["3"], 3 * moved["1"], atol=3e-7, rtol=1e-3)


def test_killed_and_resumed_it_is_the_same_run(
    finished: tuple[Path, Report], model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    epoch = BatchStream.epoch

    def dying(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
        for index, batch in enumerate(epoch(self, number, start, paused)):
            if index == 4:
                raise Stop
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "epoch", dying)
        with pytest.raises(Stop):
            train(load(tmp_path, model_folder()))
    train(load(tmp_path, model_folder()), resume=True)
    assert last_bytes(tmp_path) == last_bytes(finished[0])


def test_more_evaluations_change_nothing(
    finished: tuple[Path, Report], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    train(load(tmp_path, model_folder(), "--eval_and_save_step_count", "1"))
    assert last_bytes(tmp_path) == last_bytes(finished[0])


def test_features_are_those_of_the_run_of_one_task(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Found again in the cache, so nothing is tokenized twice."""
    experiment = load(tmp_path / "x", model_folder())
    several = resolve_weights(experiment, lambda: ())
    alone = experiment.tasks["rte"].single_task
    assert alone is not None
    one = resolve_weights(alone, lambda: ())
    data = locate_splits(experiment)["rte"]["train"]
    first = several.features("rte", data).table
    assert first.equals(one.features("rte", locate_splits(alone)["rte"]["train"]).table)
    assert several.tokenizer.digest == one.tokenizer.digest


def test_each_task_keeps_its_own_best(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ("--keep", "each", "--eval_and_save_step_count", "1", "--learning_rate", "1e-3")
    train(load(tmp_path, model_folder(), *words))
    logs = json.loads((tmp_path / "metrics.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logs["best"].keys() == lines[0].keys() - {"step", "epoch", "valid/average"}
    for task, key in (("rte", "accuracy"), ("conll2003", "f1"), ("squad", "f1")):
        assert logs["best"][f"valid/{task}/loss"] == lines[logs["tasks"][task]["step"] - 1][f"valid/{task}/loss"]
        scores = [line[f"valid/{task}/{key}"] for line in lines]
        assert logs["tasks"][task]["score"] == max(scores)
        assert logs["tasks"][task]["step"] == 1 + scores.index(max(scores))
        assert evaluate_run(tmp_path, task=task).tasks[task].scores[key] == pytest.approx(max(scores))


def test_a_tired_task_leaves_its_steps_to_the_others(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    epoch = BatchStream.epoch

    def watching(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
        seen.append(tuple(paused))
        return epoch(self, number, start, paused)

    monkeypatch.setattr(BatchStream, "epoch", watching)
    rising = iter(range(1, 100))

    def judged(self: Run, model: Any, sets: Any) -> Report:
        scores = {"rte": {"accuracy": float(next(rising))}, "cola": {"matthews": 1.0}}
        one = [Prediction("0", "a", "a")]
        return Report("valid", {task: TaskReport(own, 0.0, one) for task, own in scores.items()}, average=1.0)

    monkeypatch.setattr(Run, "evaluate_sets", judged)
    words = "--task_early_stopping_threshold 2 --num_epochs 5 --batch_size 500 --num_steps null".split()
    words += "--eval_and_save_step_count epoch".split()
    train(load(tmp_path, model_folder(), *words, tasks="glue/rte_bert,glue/cola_bert"))
    assert seen == [(), (), (), ("cola",), ("cola",)]


def test_both_stages_and_their_table(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ("--trainer.name", "mtdnn", "--num_steps", "2", "--tasks.num_steps", "2", "--eval_and_save_step_count", "2")
    train(load(tmp_path, model_folder(), *words, tasks="glue/rte_bert,conll2003/ner_bert"))
    rows = json.loads((tmp_path / "stages.json").read_text())
    assert list(rows) == ["rte", "conll2003"]
    assert all(sorted(row) == ["fine_tuned", "refined", "single"] for row in rows.values())
    assert (tmp_path / "stages.md").read_text().startswith("| task | score | single | refined | fine_tuned |")
    own = config.load(str(tmp_path / "stages/fine_tuned/rte/config.json"))
    assert own.model.pretrained_model_name == str(tmp_path / "best/rte")
    assert own.optimizer_config.op_type == "adamw"  # its own recipe, not that of the mixed stage
    for stage in ("single", "fine_tuned"):
        assert evaluate_run(tmp_path / "stages" / stage / "conll2003").tasks["conll2003"].scores


def test_a_stop_during_the_last_evaluation_stops_before_the_next_stage(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--trainer.name", "mtdnn", "--single", "false", "--num_steps", "2", "--tasks.num_steps", "2")
    words += ("--eval_and_save_step_count", "2")
    experiment = load(tmp_path, model_folder(), *words, tasks="glue/rte_bert,glue/mrpc_bert")
    evaluate_sets = Run.evaluate_sets

    def stopped(self: Run, *arguments: Any) -> Report:
        signal.raise_signal(signal.SIGINT)
        return evaluate_sets(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate_sets", stopped)
        with pytest.raises(Interrupted, match=f"stopped after {tmp_path}, which is finished; add --resume to continue"):
            train(experiment)
        assert not (tmp_path / "stages").exists()
        with pytest.raises(Interrupted, match=r"stopped after .*fine_tuned/rte, which is finished"):
            train(experiment, resume=True)
        train(experiment, resume=True)  # nothing follows the last stage
    assert set(json.loads((tmp_path / "stages.json").read_text())) == {"rte", "mrpc"}


def test_one_task_has_its_stages_as_well(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ("--trainer.name", "mtdnn", "--single", "false", "--num_steps", "2", "--tasks.num_steps", "2")
    train(load(tmp_path, model_folder(), *words, tasks="glue/rte_bert"))
    assert set(json.loads((tmp_path / "stages.json").read_text())["rte"]) == {"refined", "fine_tuned"}
    with pytest.raises(ConfigError, match=r"trainer.mtdnn.alone: 'rta' is not a task of this run; did you mean 'rte'"):
        train(load(tmp_path, model_folder(), *words, "--mtdnn.alone", '["rta"]', tasks="glue/rte_bert"))


def test_words_find_their_task() -> None:
    words = "--learning_rate 1e-4 --mrpc.learning_rate 1e-3 --tasks.rte.batch_size 7 --data_dir d --tasks.num_epochs 1"
    words += " --num_epochs 2 --sampler.name annealed --last 0.5"
    experiment = config.load("multi_task/glue_mtdnn", words.split())
    alone = {task: part.single_task for task, part in experiment.tasks.items()}
    assert experiment.optimizer_config.learning_rate == 1e-4
    assert alone["mrpc"] is not None
    assert alone["rte"] is not None
    assert (alone["mrpc"].optimizer_config.learning_rate, alone["rte"].optimizer_config.learning_rate) == (1e-3, 2e-5)
    assert [part.iterator.batch_size for part in experiment.tasks.values()] == [32, 32, 32, 32, 32, 7, 32, 32]
    assert {part.data.data_dir for part in experiment.tasks.values()} == {"d"}
    assert (experiment.trainer_config.num_epochs, alone["rte"].trainer_config.num_epochs) == (2, 1)
    assert experiment.sampler.model_dump() == {"last": 0.5}
    assert experiment.tasks["mnli"].dropout == 0.3


@pytest.mark.parametrize("name", ["glue_mtdnn", "klue_mtdnn", "jglue_mtdnn", "larva_klue_mtdnn", "glue_squad_mtdnn"])
def test_a_filled_config_is_the_experiment(name: str, tmp_path: Path) -> None:
    experiment = config.load(f"multi_task/{name}", ["--rte.batch_size=3"] if "glue_" in name[:5] else [])
    (tmp_path / "filled.json").write_text(json.dumps(experiment.values))
    again = config.load(str(tmp_path / "filled.json"))
    assert again.values == experiment.values
    assert again.digest() == experiment.digest()
    assert again.recipe_digest() == experiment.recipe_digest()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "tasks: names no task"),
        ({"a": 3}, "tasks.a: is not an object"),
        ({"a/b": {}}, "tasks.a/b: is not a valid name for a task"),
        ({"a": {"base_config": "multi_task/glue_mtdnn"}}, "tasks.a.base_config: has several tasks itself"),
        ({"a": {"base_config": "glue/rta_bert"}}, "no BaseConfig 'glue/rta_bert'; did you mean 'glue/rte_bert'"),
        ({"a": {"base_config": "glue/rte_bert", "iterator": {"batch_size": 0}}}, "tasks.a.iterator.batch_size: 0 "),
        ({"a": {"base_config": "glue/rte_bert", "mix": {"loss_wait": 1}}}, "tasks.a.mix.loss_wait: no such field"),
        ({"a": {"base_config": "glue/rte_bert", "seed_num": 7}}, "tasks.a.seed_num: can only be set for the whole run"),
        (
            {"a": {"base_config": "glue/rte_bert", "model": "bert_for_san"}},
            "tasks.a.model: 'bert_for_san' is not an object",
        ),
        ({"a": {"base_config": "glue/rte_bert", "trainer": 3}}, "tasks.a.trainer: 3 is not an object"),
        ({"trainer": {"base_config": "glue/rte_bert"}}, "tasks.trainer: is not a valid name for a task"),
        (
            {"a": {"base_config": "glue/rte_bert", "trainer": {"name": "mtdnn"}}},
            "tasks.a.trainer.name: needs several tasks",
        ),
    ],
)
def test_mistakes_in_section_tasks(values: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"tasks": values}))
    with pytest.raises(ConfigError) as caught:
        config.load(str(tmp_path / "c.json"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rte.seed_num 7", "rte.seed_num: can only be set for the whole run"),
        ("--tasks.precision bf16", "tasks.precision: can only be set for the whole run"),
        ("--rte.model.peft.name lora", "can only be set for the whole run (from command line); use --model.peft.name"),
        ("--rte.pretrained_model_name x", "rte.pretrained_model_name: can only be set for the whole run"),
        ("--model.name bert_for_san", "model.name: 'bert_for_san' supports only one kind of task"),
        ('--sampler.name weighted --weights {"rtee":5}', "sampler.weighted.weights: 'rtee' is not a task of this run"),
        ('--sampler.name weighted --weights {"rte":0,"mrpc":0}', "sampler.weighted.weights: must not be 0 for all"),
        ('--sampler.name weighted --weights {"rte":-2}', "sampler.weighted.weights"),
        ('--distil.teachers {"rtee":"x"}', "objectives.distil.teachers: 'rtee' is not a task of this run"),
        ("--distil.weight 1", "objectives.distil.teachers: names no teacher"),
        ("--tasks.average_weight 0", "mix.average_weight: must be positive for at least one task"),
        ("--rte.loss_weight Infinity", "mix.loss_weight"),
    ],
)
def test_words_that_make_no_sense(words: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load("multi_task/mtdnn", ["--tasks", "glue/rte_bert, glue/mrpc_bert", *words.split()])
    assert message in str(caught.value)


def test_a_task_keeps_the_encoder_whatever_answers() -> None:
    """A task's own words win over those for all, and a change of its head leaves the whole's encoder."""
    words = """--tasks glue/rte_bert,glue/mrpc_bert --pretrained_model_name scratch --architecture {"hidden_size":64}
    --rte.model.name bert_for_san --rte.max_seq_length 99 --max_seq_length 64 --dropout 0.3"""
    experiment = config.load("multi_task/mtdnn", words.split())
    alone = experiment.tasks["rte"].single_task
    assert alone is not None
    assert alone.model.architecture == {"hidden_size": 64}
    assert alone.model.pretrained_model_name == "scratch"
    assert [part.featurizer.max_seq_length for part in experiment.tasks.values()] == [99, 64]
    assert [part.dropout for part in experiment.tasks.values()] == [0.3, 0.3]
    other = config.load("multi_task/mtdnn", ["--tasks", "glue/mrpc_bert,glue/rte_bert", *words.split()[2:]])
    assert other.digest() != experiment.digest()


@pytest.mark.slow
def test_each_combination_of_tasks_has_a_folder_of_its_own() -> None:
    folders = [
        config.load("multi_task/mtdnn", ["--tasks", tasks]).trainer_config.log_dir
        for tasks in ("glue/rte_bert,glue/mrpc_bert", "glue/rte_bert,glue/stsb_bert")
    ]
    assert folders == ["logs/multi_task/rte+mrpc", "logs/multi_task/rte+stsb"]
    names = [name for name in config.source.list_configs() if name.startswith("klue/") and name.endswith("_bert")]
    many, one_less = (
        config.load("multi_task/mtdnn", ["--tasks", ",".join(chosen)]).trainer_config.log_dir
        for chosen in (names, names[:-1])
    )
    assert max(len(many), len(one_less)) < 140
    assert many != one_less


def test_short_names_of_base_configs_get_a_hint() -> None:
    with pytest.raises(ConfigError, match="no BaseConfig 'rte'; did you mean 'glue/rte_bert' or "):
        config.load("multi_task/mtdnn", ["--tasks", "rte,mrpc"])
    with pytest.raises(ConfigError, match=r"no BaseConfig 'korquad'; did you mean .*'klue/korquad_bert' or 'scratch/"):
        config.load("korquad")


def test_the_lengths_of_the_stages_are_said_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["--tasks", "glue/rte_bert,glue/stsb_bert", *SAMPLE, "--pretrained_model_name", str(tmp_path / "none"),
             "--log_dir", str(tmp_path / "run"), "--num_steps", "2", "--tasks.rte.num_steps", "3"]  # fmt: skip
    with caplog.at_level("INFO", logger="claf2"), pytest.raises(ModelError):
        train(config.load("multi_task/mtdnn", words))
    expected = "after the shared stage, 4 runs on single tasks follow: rte 3 steps, stsb 3 epochs; --tasks.num_steps N"
    assert expected in caplog.text


def test_words_that_fit_no_task() -> None:
    with pytest.raises(ConfigError, match=r"rte\.batch_sise: no such field.*batch_size"):
        config.load("multi_task/glue_mtdnn", ["--rte.batch_sise", "3"])
    with pytest.raises(ConfigError, match="task 'rte' is duplicated"):
        config.load("multi_task/mtdnn", ["--tasks", "glue/rte_bert,glue/rte_claf_bert"])


def test_clafs_form_is_understood(tmp_path: Path) -> None:
    """Its reader of readers, its lists of batch sizes and dropouts."""
    claf = {
        "data_reader": {
            "dataset": "multitask_bert",
            "train_file_path": "train",
            "multitask_bert": {
                "batch_sizes": [32, 16],
                "readers": [
                    {"dataset": "cola_bert", "train_file_path": "CoLA/train.tsv", "valid_file_path": "CoLA/dev.tsv",
                     "cola_bert": {"sequence_max_length": 64}},
                    {"dataset": "squad_bert", "train_file_path": "t.json", "valid_file_path": "d.json",
                     "squad_bert": {"lang_code": "en", "max_seq_length": 384, "context_stride": 128}},
                ],
            },
        },
        "iterator": {"batch_size": 1},
        "model": {"name": "bert_for_multi", "bert_for_multi": {"pretrained_model_name": "b", "dropouts": [0.05, 0.0]}},
        "trainer": {"num_epochs": 5, "metric_key": "average", "log_dir": "x"},
    }  # fmt: skip
    (tmp_path / "claf.json").write_text(json.dumps(claf))
    experiment = config.load(str(tmp_path / "claf.json"))
    assert list(experiment.tasks) == ["cola", "squad"]
    assert [part.iterator.batch_size for part in experiment.tasks.values()] == [32, 16]
    assert [part.dropout for part in experiment.tasks.values()] == [0.05, 0.0]
    assert experiment.tasks["cola"].featurizer.max_seq_length == 64
    assert experiment.tasks["cola"].data.train_file_path == "CoLA/train.tsv"
    assert experiment.model.pretrained_model_name == "b"
    claf["data_reader"]["multitask_bert"]["batch_sizes"] = [1]  # type: ignore[index]
    (tmp_path / "claf.json").write_text(json.dumps(claf))
    with pytest.raises(ConfigError, match="batch_sizes: expected one value per reader, got 1 for 2 readers"):
        config.load(str(tmp_path / "claf.json"))
