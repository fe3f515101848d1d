"""The action that other repositories use as a gate: its script in a repository that has only tasks of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_docs import named_files

from claf2.task import shipped_dir

ROOT = shipped_dir("tasks").parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def gate(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's script as GitHub does: in the user's repository, with the inputs as environment variables."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"SUITE": "mine", "MODEL": "scratch", "BASELINE": "mine.json", "OUT": "gate", "SEEDS": "1-2"}
    settings["OPTIONS"] = "--plugin my_suite.py --sample --num_steps 2 --cpus 1"
    return subprocess.run(
        ["bash", str(ROOT / "scripts/gate_action.sh")], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": commands, "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), **settings, **inputs},
    )  # fmt: skip


def test_the_inputs_reach_the_script() -> None:
    """An input that no step uses, or a variable that no input sets, is a mistake of spelling."""
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(ACTION["inputs"])
    (step,) = (step for step in ACTION["runs"]["steps"] if "gate_action.sh" in step.get("run", ""))
    script = (ROOT / "scripts/gate_action.sh").read_text(encoding="utf-8")
    assert set(step["env"]) == set(re.findall(r"\$\{?([A-Z_]+)", script)) - {"GITHUB_STEP_SUMMARY"}
    # A moving tag of somebody else's action could change what runs here.
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40}", step["uses"]) for step in ACTION["runs"]["steps"] if "uses" in step)


def test_no_baseline_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    done = gate(tmp_path)
    assert done.returncode == 2
    assert done.stdout.startswith("mine.json: no such file; run the workflow once with the input update")


@pytest.mark.slow
def test_a_suite_of_ones_own_is_gated(tmp_path: Path) -> None:
    """The plug-in of the documentation, in a repository with nothing else."""
    plugin = dict(named_files(ROOT / "docs/add-a-task.md"))["my_suite.py"]
    (tmp_path / "my_suite.py").write_text(plugin, encoding="utf-8")
    configs = tmp_path / "base_config/mine"
    configs.mkdir(parents=True)
    for name in ("my_films", "my_books"):
        config = {
            "plugins": ["../../my_suite.py"],
            "data_reader": {"dataset": name, name: {"max_seq_length": 16}},
            "model": {"name": "encoder", "encoder": {"pretrained_model_name": "scratch"}},
            "trainer": {"num_epochs": 1},
        }
        (configs / f"{name}_bert.json").write_text(json.dumps(config))
    recorded = gate(tmp_path, UPDATE="first baseline")
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout.splitlines()[-1] == "mine.json: my_books, my_films"
    passed = gate(tmp_path, GATE_OPTIONS="--tolerance 2")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "my_films" in (tmp_path / "summary.md").read_text()
    assert {path.name for path in (tmp_path / "gate").iterdir()} >= {"report.html", "gate.xml"}

    # Against a baseline with every answer right, the model of two steps is far worse.
    baseline = json.loads((tmp_path / "mine.json").read_text())
    for name, task in baseline["tasks"].items():
        predictions = next((tmp_path / "gate").rglob(f"{name}-valid.jsonl")).read_text().splitlines()
        for run in task["runs"]:
            run |= {"score": 100.0, "answers": json.dumps([json.loads(line)["gold"] for line in predictions])}
    (tmp_path / "mine.json").write_text(json.dumps(baseline))
    dropped = gate(tmp_path)
    assert dropped.returncode == 3, dropped.stdout + dropped.stderr
