"""Comparison and gate, on folders of runs whose answers are made up, and on real ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from claf2 import config, run
from claf2.bench import comparison, gate
from claf2.bench.commands import compare_command, gate_command
from claf2.bench.runs import Seed, below
from claf2.errors import RunError
from claf2.store import prediction_line, read_predictions, write_json

ROWS = 200


@pytest.fixture(scope="module")
def template(model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rte"
    words = ["--pretrained_model_name", str(model_folder()), "--source", "sample", "--num_steps", "2"]
    run.train(config.load("glue/rte_bert", [*words, "--log_dir", str(folder)]))
    return folder


def make(template: Path, folder: Path, seeds: Sequence[int], right: float, task: str = "rte") -> Path:
    """Make runs of a model that has so many of its answers right, by chance and by the examples' difficulty."""
    examples = read_predictions(template / f"predictions/{task}-valid.jsonl")
    labels = sorted({each.gold for each in examples})
    for seed in seeds:
        chance, hard = random.Random(f"{folder} {seed}"), random.Random(0)
        lines = []
        for each in examples:
            share = min(0.98, max(0.02, right + hard.uniform(-0.3, 0.3)))
            wrong = next(label for label in labels if label != each.gold)
            said = each.gold if chance.random() < share else wrong
            lines.append(prediction_line(replace(each, prediction=said)) + "\n")
        place = folder / f"{task}-{seed}"
        (place / "predictions").mkdir(parents=True)
        (place / f"predictions/{task}-valid.jsonl").write_text("".join(lines))
        values = json.loads((template / "config.json").read_text())
        write_json(place / "config.json", {**values, "seed_num": seed})
        for name in ("run.json", "metrics.json"):
            (place / name).write_text((template / name).read_text())
    return folder


def test_the_same_model_passes_and_a_damaged_one_fails(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", range(1, 6), 0.8)
    assert gate.record(old, tmp_path / "baseline.json", "first") == ["rte"]
    same = gate.check(tmp_path / "baseline.json", make(template, tmp_path / "same", range(6, 11), 0.8))
    assert not same.failed
    damaged = gate.check(tmp_path / "baseline.json", make(template, tmp_path / "damaged", range(1, 6), 0.6))
    assert damaged.failed
    (task,) = damaged.tasks
    assert task.decision == "fail"
    assert task.difference.high < -1
    assert task.baseline == pytest.approx(float(below(old)["rte"].runs().scores.mean()))
    tolerant = gate.check(tmp_path / "baseline.json", tmp_path / "damaged", tolerance=40)
    assert tolerant.tasks[0].decision == "pass"
    lines = (tmp_path / "baseline.json").read_text()
    assert "first" in lines
    assert "the film" not in lines  # answers, not examples


def test_one_seed_is_judged_by_the_spread_of_the_other_side(template: Path, tmp_path: Path) -> None:
    gate.record(make(template, tmp_path / "old", range(1, 6), 0.8), tmp_path / "b.json", "first")
    found = gate.check(tmp_path / "b.json", make(template, tmp_path / "new", [1], 0.5))
    assert found.failed
    assert found.tasks[0].difference.borrowed
    with pytest.raises(RunError, match="one seed says nothing of the spread"):
        gate.record(tmp_path / "new", tmp_path / "c.json", "x")
    with pytest.raises(RunError, match="needs its --reason"):
        gate.record(tmp_path / "old", tmp_path / "c.json", " ")


def test_a_sequential_gate_trains_until_it_knows(template: Path, tmp_path: Path) -> None:
    gate.record(make(template, tmp_path / "old", range(1, 6), 0.85), tmp_path / "b.json", "first")
    asked: list[int] = []

    def more(like: Seed) -> None:
        asked.append(like.number + 1)
        make(template, like.folder.parent, [like.number + 1], 0.5)

    found = gate.check(tmp_path / "b.json", make(template, tmp_path / "bad", [1], 0.5), budget=5, more=more)
    assert found.failed
    assert asked == list(range(2, found.tasks[0].seeds + 1))
    assert found.tasks[0].seeds < 5

    def same(like: Seed) -> None:
        make(template, like.folder.parent, [like.number + 1], 0.85)

    found = gate.check(tmp_path / "b.json", make(template, tmp_path / "good", [1], 0.85), budget=4, more=same)
    assert not found.failed
    assert found.tasks[0].seeds <= 4
    with pytest.raises(RunError, match="a further seed was asked for, and none came"):
        gate.check(tmp_path / "b.json", make(template, tmp_path / "none", [1], 0.8), budget=4, more=lambda _: None)


def test_another_seed_is_trained_beside_the_first(template: Path, tmp_path: Path) -> None:
    (place := tmp_path / "rte").mkdir()
    for name in ("config.json", "run.json", "metrics.json"):
        (place / name).write_text((template / name).read_text())
    gate.another_seed(Seed(place, 42, {}, []))
    (found,) = [path for path in tmp_path.iterdir() if path != place]
    assert found.name.startswith("rte-43-")
    assert json.loads((found / "config.json").read_text())["seed_num"] == 43
    assert len(read_predictions(found / "predictions/rte-valid.jsonl")) == ROWS


def test_what_cannot_be_held_against_each_other_is_named(template: Path, tmp_path: Path) -> None:
    old = make(template, tmp_path / "old", [1, 2], 0.8)
    gate.record(old, tmp_path / "b.json", "first")
    stored = json.loads((tmp_path / "b.json").read_text())

    def refused(match: str, **changed: object) -> None:
        other = {**stored, "tasks": {"rte": {**stored["tasks"]["rte"], **changed}}}
        (tmp_path / "c.json").write_text(json.dumps(other))
        with pytest.raises(RunError, match=match):
            gate.check(tmp_path / "c.json", old)

    refused("made with another metric variant .*F1", metric="F1 f1 {}")
    refused("made with another recipe", recipe="x")
    refused("made with another examples", examples="x")
    refused("damaged", runs=[{"seed": 1}])
    refused("damaged", runs=[{"seed": 1, "answers": '["entailment"]'}])
    (tmp_path / "c.json").write_text('{"form": 9}')
    with pytest.raises(RunError, match="is no baseline of form 1"):
        gate.check(tmp_path / "c.json", old)
    with pytest.raises(RunError, match="holds no finished run"):
        gate.check(tmp_path / "b.json", tmp_path / "nowhere")
    (old / "rte-2/predictions/rte-valid.jsonl").unlink()
    with pytest.raises(RunError, match=r"rte-valid\.jsonl: missing or damaged"):
        gate.check(tmp_path / "b.json", old)


def test_two_models_are_compared_by_their_answers(template: Path, tmp_path: Path) -> None:
    one = make(template, tmp_path / "one", range(1, 6), 0.65)
    other = make(template, tmp_path / "other", range(1, 6), 0.85)
    found = comparison.compare(one, other)
    (task,) = found.tasks
    assert task.verdict == "better"
    assert task.means[1] - task.means[0] == pytest.approx(task.difference.value)
    assert len(task.gained) > len(task.lost)
    assert task.gained[0].second - task.gained[0].first >= task.gained[-1].second - task.gained[-1].first
    text = comparison.markdown(found)
    assert "| better |" in text
    assert f"gained `{task.gained[0].id}`" in text
    back = comparison.compare(other, one)
    assert back.tasks[0].verdict == "worse"
    assert comparison.compare(one, one).tasks[0].verdict in ("no evidence", "too noisy to tell")
    lonely = comparison.compare(one / "rte-1", other / "rte-1")
    assert "this is about these two runs (mcnemar), not the models" in comparison.markdown(lonely)


def test_other_recipes_and_other_data_are_refused(template: Path, tmp_path: Path) -> None:
    one, other = (make(template, tmp_path / name, [1, 2], 0.7) for name in ("one", "other"))
    for path in other.rglob("run.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "another"}))
    for path in other.rglob("config.json"):
        values = json.loads(path.read_text())
        values["optimizer"]["learning_rate"] = 1.0
        path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"different recipes, .*optimizer.learning_rate: .* and 1.0"):
        comparison.compare(one, other)
    forced = comparison.compare(one, other, force=True)
    assert forced.forced
    assert "FORCED: the recipes differ" in comparison.markdown(forced)
    for path in other.rglob("run.json"):
        lock = json.loads(path.read_text())
        path.write_text(json.dumps({**lock, "data": {**lock["data"], "valid": "x"}}))
    with pytest.raises(RunError, match="judged on different data"):
        comparison.compare(one, other, force=True)
    path = one / "rte-2/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": "third"}))
    with pytest.raises(RunError, match="is of another recipe than"):
        comparison.compare(one, one)


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
    done = call(gate_command, [str(old), "--baseline", base, *files], standalone_mode=False)
    assert done.return_value == 0
    done = call(compare_command, [str(old), str(bad), "--examples", "1"], standalone_mode=False)
    assert "| worse |" in done.output
    call(gate_command, [str(bad), "--baseline", base, "--update", "--reason", "accepted: smaller"])
    assert [each["reason"] for each in json.loads(Path(base).read_text())["history"]] == ["new", "accepted: smaller"]
