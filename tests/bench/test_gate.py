"""Comparison and gate, on folders of runs with made-up predictions, and on real ones."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

from claf2 import config
from claf2.benchmarking import comparison, gate
from claf2.benchmarking.cells import Cell
from claf2.benchmarking.gate_report import format_gate, format_junit
from claf2.benchmarking.runs import SeedRun, load_runs
from claf2.cli import main
from claf2.cli.bench import bench_run, compare_command, gate_command
from claf2.cli.options import NumberRange
from claf2.errors import RunError
from claf2.evaluation.predictions import read_predictions, to_json_line
from claf2.runs import train as training
from claf2.runtime.files import write_json

ROWS = 200


@pytest.fixture(scope="module")
def template(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rte"
    words = ["--pretrained_model_name", str(model_folder()), "--source", "sample", "--num_steps", "2"]
    training.train(config.load("glue/rte_bert", [*words, "--log_dir", str(folder)]))
    return folder


def make(template: Path, folder: Path, seeds: Sequence[int], right: float, task: str = "rte") -> Path:
    """Make runs of a model that has so many of its answers right, by chance and by the examples' difficulty."""
    examples = read_predictions(template / f"predictions/{task}-valid.jsonl")
    labels = sorted({example.gold for example in examples})
    for seed in seeds:
        chance, hard = random.Random(f"{folder.name} {seed}"), random.Random(0)
        lines = []
        for example in examples:
            share = min(0.98, max(0.02, right + hard.uniform(-0.3, 0.3)))
            wrong = next(label for label in labels if label != example.gold)
            predicted = example.gold if chance.random() < share else wrong
            lines.append(to_json_line(replace(example, prediction=predicted)) + "\n")
        run_dir = folder / f"{task}-{seed}"
        (run_dir / "predictions").mkdir(parents=True)
        (run_dir / f"predictions/{task}-valid.jsonl").write_text("".join(lines))
        values = json.loads((template / "config.json").read_text())
        write_json(run_dir / "config.json", {**values, "seed_num": seed})
        for name in ("run.json", "metrics.json"):
            (run_dir / name).write_text((template / name).read_text())
    return folder


def test_the_same_model_passes_and_a_damaged_one_fails(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", range(1, 6), 0.8)
    assert gate.record_baseline(old, tmp_path / "baseline.json", "first") == ["rte"]
    same = gate.run_gate(tmp_path / "baseline.json", make(template, tmp_path / "same", range(6, 11), 0.8))
    assert not same.failed
    damaged = gate.run_gate(tmp_path / "baseline.json", make(template, tmp_path / "damaged", range(1, 6), 0.6))
    assert damaged.failed
    (task,) = damaged.tasks
    assert task.decision == "fail"
    assert task.difference.high < -1
    assert task.baseline == pytest.approx(float(load_runs(old)["rte"].scored().scores.mean()))
    tolerant = gate.run_gate(tmp_path / "baseline.json", tmp_path / "damaged", tolerance=40)
    assert tolerant.tasks[0].decision == "pass"
    lines = (tmp_path / "baseline.json").read_text()
    assert "first" in lines
    assert "the film" not in lines  # answers, not examples


def test_non_inferiority_fails_without_evidence(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", range(1, 6), 0.8)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    same, junit = make(template, tmp_path / "same", range(6, 11), 0.8), tmp_path / "j.xml"
    words = (same, "--baseline", tmp_path / "b.json", "--junit", junit, "--json", tmp_path / "g.json")
    code, text = invoke(*words, "--tolerance", 1)
    assert code == 0
    assert "pass: no evidence of a drop" in text
    code, text = invoke(*words, "--non-inferior", 1)
    assert code == 3
    assert "Non-inferiority within 1 points must be shown; at most 5 % false passes." in text
    assert "FAIL: not shown that it did not drop by more than the tolerance |" in text
    assert next(iter(cases(junit).values())).startswith("failure: FAIL: not shown")
    assert json.loads((tmp_path / "g.json").read_text())["verdict"] == "fail"
    code, text = invoke(*words, "--non-inferior", 20)
    assert code == 0
    assert "pass: did not drop by more than the tolerance" in text
    assert cases(junit) == {}
    damaged = make(template, tmp_path / "damaged", range(1, 6), 0.4)
    assert invoke(damaged, "--baseline", tmp_path / "b.json", "--non-inferior", 10)[0] == 3
    with pytest.raises(click.UsageError, match="--tolerance cannot be combined with --non-inferior"):
        invoke(*words, "--non-inferior", 1, "--tolerance", 1)


def test_one_seed_is_judged_by_the_spread_of_the_other_side(template: Path, tmp_path: Path) -> None:
    gate.record_baseline(make(template, tmp_path / "old", range(1, 6), 0.8), tmp_path / "b.json", "first")
    result = gate.run_gate(tmp_path / "b.json", make(template, tmp_path / "new", [1], 0.5))
    assert result.failed
    assert result.tasks[0].difference.borrowed
    with pytest.raises(RunError, match="one seed shows no variance over seeds"):
        gate.record_baseline(tmp_path / "new", tmp_path / "c.json", "x")
    with pytest.raises(RunError, match="needs a --reason"):
        gate.record_baseline(tmp_path / "old", tmp_path / "c.json", " ")


def test_a_sequential_gate_trains_until_it_knows(template: Path, tmp_path: Path) -> None:
    gate.record_baseline(make(template, tmp_path / "old", range(1, 6), 0.85), tmp_path / "b.json", "first")
    asked: list[int] = []

    def train_seed(run: SeedRun) -> None:
        asked.append(run.seed + 1)
        make(template, run.folder.parent, [run.seed + 1], 0.5)

    result = gate.run_gate(
        tmp_path / "b.json", make(template, tmp_path / "bad", [1], 0.5), budget=5, train_seed=train_seed
    )
    assert result.failed
    assert asked == list(range(2, result.tasks[0].seeds + 1))
    assert result.tasks[0].seeds < 5

    def same(run: SeedRun) -> None:
        make(template, run.folder.parent, [run.seed + 1], 0.85)

    result = gate.run_gate(tmp_path / "b.json", make(template, tmp_path / "good", [1], 0.85), budget=4, train_seed=same)
    assert not result.failed
    assert result.tasks[0].seeds <= 4
    with pytest.raises(RunError, match=r"a seed was trained, but not into .*: give the folder of the model"):
        gate.run_gate(
            tmp_path / "b.json", make(template, tmp_path / "none", [1], 0.8), budget=4, train_seed=lambda _: None
        )


def test_another_seed_is_trained_beside_the_first(template: Path, tmp_path: Path) -> None:
    (run_dir := tmp_path / "rte").mkdir()
    for name in ("config.json", "run.json", "metrics.json"):
        (run_dir / name).write_text((template / name).read_text())
    gate.train_next_seed(SeedRun(run_dir, 42, {}, []))
    (next_dir,) = [path for path in tmp_path.iterdir() if path != run_dir]
    assert next_dir.name.startswith("rte-43-")
    assert json.loads((next_dir / "config.json").read_text())["seed_num"] == 43
    assert len(read_predictions(next_dir / "predictions/rte-valid.jsonl")) == ROWS


def test_what_cannot_be_held_against_each_other_is_named(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    stored = json.loads((tmp_path / "b.json").read_text())

    def refused(match: str, **changed: object) -> None:
        other = {**stored, "tasks": {"rte": {**stored["tasks"]["rte"], **changed}}}
        (tmp_path / "c.json").write_text(json.dumps(other))
        with pytest.raises(RunError, match=match):
            gate.run_gate(tmp_path / "c.json", old)

    refused("recorded with a different metric variant .*F1", metric="F1 f1 {}")
    refused("recorded with a different recipe", recipe="x")
    refused("recorded with different examples", examples="x")
    refused("recorded with different validation data", data="x")
    earlier = {"rte": {name: value for name, value in stored["tasks"]["rte"].items() if name != "data"}}
    (tmp_path / "c.json").write_text(json.dumps({**stored, "tasks": earlier}))
    assert not gate.run_gate(tmp_path / "c.json", old).failed, "a baseline of an earlier version"
    refused("tasks.rte.recipe: .*at least 1 character; record a new one", recipe="")
    refused("tasks.rte.runs: .*at least 1 item", runs=[])
    refused("damaged", runs=[{"seed": 1}])
    refused("damaged", runs=[{"seed": 1, "answers": '["entailment"]'}])
    entry = {name: value for name, value in stored["tasks"]["rte"].items() if name != "recipe"}
    (tmp_path / "c.json").write_text(json.dumps({**stored, "tasks": {"rte": entry}}))
    with pytest.raises(RunError, match=r"tasks.rte.recipe: Field required; record a new one"):
        gate.run_gate(tmp_path / "c.json", old)
    (tmp_path / "c.json").write_text('{"form": 9}')
    with pytest.raises(RunError, match="not a baseline, or damaged: form"):
        gate.run_gate(tmp_path / "c.json", old)
    with pytest.raises(RunError, match="nowhere: is not a folder; give a run"):
        gate.run_gate(tmp_path / "b.json", tmp_path / "nowhere")
    provenance = json.loads((old / "rte-2/run.json").read_text())
    for name in ("recipe", "data"):
        (old / "rte-2/run.json").write_text(json.dumps({**provenance, name: None}))
        with pytest.raises(RunError, match=rf"rte-2/run\.json: damaged: it has no {name}; train the run again"):
            gate.run_gate(tmp_path / "b.json", old)
    (old / "rte-2/run.json").write_text(json.dumps(provenance))
    (old / "rte-2/predictions/rte-valid.jsonl").unlink()
    with pytest.raises(RunError, match=r"rte-valid\.jsonl: missing; write it again with `claf2 evaluate"):
        gate.run_gate(tmp_path / "b.json", old)


def test_two_models_are_compared_by_their_answers(template: Path, tmp_path: Path) -> None:
    one = make(template, tmp_path / "one", range(1, 6), 0.65)
    other = make(template, tmp_path / "other", range(1, 6), 0.85)
    result = comparison.compare_models(one, other)
    (task,) = result.tasks
    assert task.verdict == "better"
    assert task.means[1] - task.means[0] == pytest.approx(task.difference.value)
    assert len(task.gained) > len(task.lost)
    assert task.gained[0].second - task.gained[0].first >= task.gained[-1].second - task.gained[-1].first
    text = comparison.format_comparison(result)
    assert "| better |" in text
    assert f"gained `{task.gained[0].id}`" in text
    back = comparison.compare_models(other, one)
    assert back.tasks[0].verdict == "worse"
    shutil.copytree(one, tmp_path / "same")
    assert comparison.compare_models(one, tmp_path / "same").tasks[0].verdict in ("no evidence", "too noisy to tell")
    lonely = comparison.compare_models(one / "rte-1", other / "rte-1")
    assert "the result holds for these two runs (mcnemar), not for the models" in comparison.format_comparison(lonely)


def test_other_recipes_and_other_data_are_refused(template: Path, tmp_path: Path) -> None:
    one, other = (make(template, tmp_path / name, [1, 2], 0.7) for name in ("one", "other"))
    for path in other.rglob("run.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "another"}))
    for path in other.rglob("config.json"):
        values = json.loads(path.read_text())
        values["optimizer"]["learning_rate"] = 1.0
        path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"different recipes, .*optimizer.learning_rate: .* and 1.0"):
        comparison.compare_models(one, other)
    for folder, variant, words in ((one, "", ("--num_steps", "2")), (other, "fast", ("--learning_rate", "1.0"))):
        for path in folder.glob("*/run.json"):
            write_json(path.with_name("cell.json"), {"variant": variant, "overrides": ["--data_dir", variant, *words]})
    with pytest.raises(RunError, match="different recipes"):  # not the recipe of one and a field more
        comparison.compare_models(one, other)
    for path in one.glob("*/cell.json"):
        write_json(path, {"variant": "", "overrides": ["--data_dir", "elsewhere"]})
    assert comparison.compare_models(one, other).variants == ("full", "fast")
    for path in tmp_path.glob("*/*/cell.json"):
        write_json(path, {"overrides": "--data_dir"})
    with pytest.raises(RunError, match=r"cell\.json: damaged: -: is not an option"):
        comparison.compare_models(one, other)
    for path in tmp_path.glob("*/*/cell.json"):
        path.unlink()
    forced = comparison.compare_models(one, other, force=True)
    assert forced.forced
    assert "FORCED: the recipes differ" in comparison.format_comparison(forced)
    for path in other.rglob("run.json"):
        lock = json.loads(path.read_text())
        path.write_text(json.dumps({**lock, "data": {**lock["data"], "valid": "x"}}))
    with pytest.raises(RunError, match="evaluated on different data"):
        comparison.compare_models(one, other, force=True)
    make(template, tmp_path / "again/deeper", [1], 0.7)
    make(template, tmp_path / "again", [1], 0.7)
    with pytest.raises(RunError, match="rte has two runs with seed 1: give a folder with runs of one model"):
        load_runs(tmp_path / "again")
    path = one / "rte-2/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "third"}))
    with pytest.raises(RunError, match="differs in recipe from"):
        comparison.compare_models(one, other)


def test_the_commands_and_what_they_write(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2, 3], 0.8)
    bad = make(template, tmp_path / "bad", [1, 2, 3], 0.4)
    base = str(tmp_path / "baseline.json")
    call = CliRunner().invoke
    assert call(gate_command, [str(old), "--baseline", base, "--update", "--reason", "new"]).exit_code == 0
    files = [
        "--markdown",
        str(tmp_path / "s.md"),
        "--junit",
        str(tmp_path / "j.xml"),
        "--json",
        str(tmp_path / "g.json"),
    ]
    done = call(gate_command, [str(bad), "--baseline", base, *files], standalone_mode=False)
    assert done.return_value == 3
    assert "FAIL" in done.output
    assert (tmp_path / "s.md").read_text() == done.output
    suite = ElementTree.fromstring((tmp_path / "j.xml").read_text())
    assert suite.get("failures") == "1"
    assert suite.find("testcase/failure") is not None
    assert json.loads((tmp_path / "g.json").read_text())["verdict"] == "fail"
    gate_process = [
        sys.executable,
        "-c",
        "from claf2.cli.main import main; main()",
        "gate",
        str(bad),
        "--baseline",
        base,
    ]
    assert subprocess.run(gate_process, check=False, capture_output=True).returncode == 3
    done = call(gate_command, [str(old), "--baseline", base, *files], standalone_mode=False)
    assert done.return_value == 0
    done = call(compare_command, [str(old), str(bad), "--examples", "1"], standalone_mode=False)
    assert "| worse |" in done.output
    call(gate_command, [str(bad), "--baseline", base, "--update", "--reason", "accepted: smaller"])
    assert [entry["reason"] for entry in json.loads(Path(base).read_text())["history"]] == ["new", "accepted: smaller"]


def lose(folder: Path, task: str, seed: int, failure: str = "the loss is not a number at step 212") -> None:
    """Add a cell of a bench that has no scores."""
    cell = Cell("glue", "m", "m", task, seed, "bert", f"glue/{task}_bert")
    write_json(folder / f"{task}-{seed}/cell.json", {**asdict(cell), "failure": failure})


def with_task(baseline: Path, name: str) -> Path:
    """Add a task to a baseline."""
    stored = json.loads(baseline.read_text())
    stored["tasks"][name] = stored["tasks"]["rte"]
    baseline.write_text(json.dumps(stored))
    return baseline


def invoke(*words: object) -> tuple[int, str]:
    """Return exit code and output of the command."""
    done = CliRunner().invoke(gate_command, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.output


def cases(path: Path) -> dict[str, str]:
    """Return the test cases of a JUnit file that did not pass: name → kind and message."""
    suite = ElementTree.fromstring(path.read_text())
    found = {}
    for case in suite:
        for child in case:
            if child.tag in ("failure", "skipped"):
                found[str(case.get("name"))] = f"{child.tag}: {child.get('message')}"
    for kind, attribute in (("failure", "failures"), ("skipped", "skipped")):
        assert int(suite.get(attribute, "")) == sum(text.startswith(kind) for text in found.values())
    assert int(suite.get("tests", "")) == len(suite)
    return found


@pytest.mark.parametrize("failed", [False, True])
def test_a_task_without_runs_fails_unless_it_is_waived(failed: bool, template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    baseline, junit = with_task(tmp_path / "b.json", "cola"), tmp_path / "j.xml"
    reason = f"no finished run in {old}"
    if failed:
        lose(old, "cola", 1)
        reason += "; seed 1: the loss is not a number at step 212"
    words = (old, "--baseline", baseline, "--junit", junit, "--json", tmp_path / "g.json")
    code, text = invoke(*words)
    assert code == 3
    assert "# Gate: FAILED" in text
    assert f"| cola | | | | | | | FAIL: not measured: {reason} |" in text
    assert cases(junit) == {"cola measured": f"failure: FAIL: not measured: {reason}"}
    code, text = invoke(*words, "--waive", "cola")
    assert code == 0
    assert "# Gate: passed" in text
    assert f"| cola | | | | | | | waived: not measured: {reason} |" in text
    assert cases(junit) == {"cola measured": f"skipped: waived: not measured: {reason}"}
    (entry,) = json.loads((tmp_path / "g.json").read_text())["unmeasured"]
    assert entry == {"task": "cola", "reason": reason, "waived": True}
    with pytest.raises(RunError, match=r"--waive colla: neither the baseline nor .* has it; did you mean 'cola'"):
        invoke(*words, "--waive", "colla")


def test_a_seed_without_a_score_fails_unless_it_is_waived(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2, 3, 4], 0.8)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    new = tmp_path / "new"
    for seed in (1, 2):
        shutil.copytree(old / f"rte-{seed}", new / f"rte-{seed}")
    lose(new, "rte", 3, "line | one\nline \x00 two")
    (new / "rte-4").mkdir()
    for name in ("config.json", "run.json"):  # a run of claf2 train that was interrupted
        (new / "rte-4" / name).write_text((old / "rte-4" / name).read_text())
    words = (new, "--baseline", tmp_path / "b.json", "--junit", tmp_path / "j.xml")
    code, text = invoke(*words)
    assert code == 3
    assert "| 2 (4) | pass" in text
    assert "| rte | | | | | | | FAIL: not measured: seed 3: line / one line two; seed 4: not finished |" in text
    assert "rte: 2 of the baseline's 4 seeds" in text
    assert list(cases(tmp_path / "j.xml")) == ["rte measured"]
    code, text = invoke(*words, "--waive", "rte")
    assert code == 0
    assert "waived: not measured: seed 3" in text
    make(template, tmp_path / "bad", [1, 2], 0.4)
    lose(tmp_path / "bad", "rte", 3)
    code, _ = invoke(tmp_path / "bad", "--baseline", tmp_path / "b.json", "--waive", "rte")
    assert code == 3, "a waiver is not one for a score that has dropped"


def test_a_task_that_the_baseline_does_not_have_is_named(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    stored = with_task(tmp_path / "b.json", "cola")
    text = json.loads(stored.read_text())
    result = replace(gate.run_gate(tmp_path / "b.json", old, waive=["cola"]), unmeasured=(), added=("sst",))
    assert "sst: not compared, because the baseline does not have it" in format_gate(result)
    (tmp_path / "j.xml").write_text(format_junit(result))
    assert cases(tmp_path / "j.xml") == {"sst": "skipped: not compared, because the baseline does not have it"}
    assert set(text["tasks"]) == {"rte", "cola"}


def test_an_update_does_not_drop_a_task_or_a_seed_silently(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    baseline = tmp_path / "b.json"
    gate.record_baseline(old, baseline, "first")
    before = with_task(baseline, "cola").read_text()
    update = (old, "--baseline", baseline, "--update", "--reason", "second")
    with pytest.raises(RunError, match=r"cola: no finished run in .*: train it, or accept this with --waive cola"):
        invoke(*update)
    lose(old, "rte", 3)
    with pytest.raises(RunError, match=r"rte: seed 3: the loss is not a number .*: train it, or .*--waive rte"):
        invoke(*update, "--waive", "cola")
    assert baseline.read_text() == before
    assert invoke(*update, "--waive", "cola", "--waive", "rte")[0] == 0
    stored = json.loads(baseline.read_text())
    assert list(stored["tasks"]) == ["rte"]
    assert "cola: no finished run" in stored["history"][-1]["waived"]
    lose(old, "sst", 1)
    with pytest.raises(RunError, match=r"sst: no finished run in .*; seed 1: .*--waive sst"):
        gate.record_baseline(old, tmp_path / "new.json", "a first baseline", waive=["rte"])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "NaN", "two"])
@pytest.mark.parametrize(
    ("command", "option"), [(gate_command, "--alpha"), (gate_command, "--tolerance"), (gate_command, "--non-inferior"),
                            (compare_command, "--level"), (compare_command, "--margin"), (bench_run, "--gpus")],
)  # fmt: skip
def test_numbers_that_are_none_or_out_of_range_are_refused(
    command: click.Command, option: str, value: str, tmp_path: Path
) -> None:
    words = {"gate": [tmp_path, "--baseline", "b"], "compare": [tmp_path, tmp_path], "run": ["--suite", "glue"]}
    given = [str(word) for word in words[str(command.name)]]
    done = CliRunner().invoke(command, [*given, f"{option}={value}"])
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output


def test_every_number_of_a_command_has_a_range() -> None:
    commands, floats = [main.claf2], []
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        floats += [
            f"{command.name} {option.name}"
            for option in command.params
            if isinstance(option.type, click.types.FloatParamType) and not isinstance(option.type, NumberRange)
        ]
    assert len(commands) > 10
    assert floats == []


def test_arguments_out_of_range_are_refused(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    other = make(template, tmp_path / "other", [1, 2], 0.4)
    gate.record_baseline(old, tmp_path / "b.json", "first")
    for settings in ({"alpha": math.nan}, {"alpha": 0.0}, {"alpha": 0.6}, {"tolerance": math.nan}, {"tolerance": -1.0}):
        with pytest.raises(RunError, match=r"expected a tolerance from 0 and an alpha"):
            gate.run_gate(tmp_path / "b.json", other, **settings)
    for settings in ({"level": math.nan}, {"level": 1.0}, {"level": 95.0}, {"margin": math.nan}, {"margin": math.inf}):
        with pytest.raises(RunError, match=r"expected a level in"):
            comparison.compare_models(old, other, **settings)
