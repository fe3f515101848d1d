"""A run is repeated from its run.json alone, to the byte, and whatever moved since is named."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from claf2 import config
from claf2.data.batch import BatchStream
from claf2.errors import Claf2Error, ConfigError, DataError, Interrupted, ModelError, RunError
from claf2.runs import provenance
from claf2.runs.changes import CHANGE_KINDS, diff_provenance
from claf2.runs.provenance import collect_provenance
from claf2.runs.repeat import repeat
from claf2.runs.resolve import resolve
from claf2.runs.train import train
from claf2.task import shipped_dir

TRAIN = shipped_dir("tasks").parent / "train.py"
SHORT = ["--num_steps", "4", "--eval_and_save_step_count", "2", "--batch_size", "8", "--eval_batch_size", "64"]


def rows(path: Path, count: int) -> None:
    """Write a file of NSMC's form."""
    lines = [f"{n}\tthe film {n} was {'good' if n % 2 else 'bad'}\t{n % 2}\n" for n in range(count)]
    path.write_text("id\tdocument\tlabel\n" + "".join(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A folder with data, a model, and a finished run of both in `run/`."""
    folder = tmp_path_factory.mktemp("place")
    for name, count in (("train.txt", 64), ("valid.txt", 24)):
        rows(folder / name, count)
    shutil.copytree(model_folder(), folder / "model")
    train(load(folder, "run"))
    return folder


def load(folder: Path, name: str, *words: str) -> config.Experiment:
    given = ["--pretrained_model_name", str(folder / "model"), "--token", "null", "--data_dir", str(folder)]
    given += ["--train_file_path", "train.txt", "--valid_file_path", "valid.txt", *SHORT]
    return config.load("scratch/nsmc", [*given, "--log_dir", str(folder / name), *words])


@pytest.fixture
def lock(place: Path, tmp_path: Path) -> Path:
    """The run.json of the finished run, and nothing else of it."""
    (tmp_path / "alone").mkdir()
    shutil.copy(place / "run/run.json", tmp_path / "alone")
    return tmp_path / "alone/run.json"


def edit(path: Path, **values: Any) -> Path:
    """Set entries of a run.json; ``...`` takes one out."""
    changed = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not ...}))
    return path


def said(path: Path) -> dict[str, Any]:
    """Return what a new run.json says of the run that it repeats."""
    record: dict[str, Any] = json.loads((path / "run.json").read_text())["from_run"]
    return record


def results(folder: Path) -> dict[str, bytes]:
    """Return the bytes of scores, predictions and best weights, of all stages."""
    names = ("metrics.json", "metrics.jsonl", "predictions/*", "best/**/model.safetensors")
    paths = [path for name in names for path in [*folder.glob(name), *folder.glob(f"stages/*/*/{name}")]]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_lock_alone_gives_the_same_bytes(place: Path, lock: Path) -> None:
    """In `<folder>-again`, and from the folder as from the file."""
    report = repeat(lock)
    again = lock.parent.with_name("alone-again")
    assert results(again) == results(place / "run")
    assert len(results(again)) == 4
    assert said(again) == {"folder": str(lock.parent), "changed": {}, "runtime": {}}
    old, new = (json.loads(path.read_text()) for path in (lock, again / "run.json"))
    assert {name for name in old if old[name] != new[name]} <= {
        "id", "config", "overrides", "wall_seconds", "train_seconds", "rows_per_second", "peak_memory_mib"
    }  # fmt: skip
    assert new["base_config"] == "scratch/nsmc"
    with pytest.raises(RunError, match="holds a finished run: add --resume"):
        repeat(lock.parent)
    assert repeat(lock.parent, resume=True).logs().items() <= report.logs().items()


def test_folder_and_runtime_may_be_others(place: Path, lock: Path, tmp_path: Path) -> None:
    repeat(lock, ["--log_dir", str(tmp_path / "new"), "--workers", "0"])
    assert results(tmp_path / "new") == results(place / "run")
    assert said(tmp_path / "new")["runtime"] == {"runtime.workers": [1, 0]}
    shutil.copy(place / "train.txt", tmp_path / "moved.txt")
    repeat(lock, ["--log_dir", str(tmp_path / "moved"), "--train_file_path", str(tmp_path / "moved.txt")])
    assert results(tmp_path / "moved") == results(place / "run")
    with pytest.raises(RunError, match=r"data train \(.*; to accept"):
        repeat(lock, ["--log_dir", str(tmp_path / "other"), "--train_file_path", str(place / "valid.txt")])
    for words, path in (
        (["--learning_rate", "1"], "optimizer.learning_rate"),
        (["--seed_num", "7"], "seed_num"),
        (["--precision", "bf16"], "runtime.precision"),
    ):
        with pytest.raises(ConfigError, match=f"^{path}: changes scores, but --from_run repeats a run unchanged"):
            repeat(lock, words)
    with pytest.raises(ConfigError, match="learning_rat: no such field"):
        repeat(lock, ["--learning_rat", "1"])
    for inside in (lock.parent, lock.parent / "in", lock.parent.parent):
        with pytest.raises(RunError, match="is the run to repeat: give another folder"):
            repeat(lock, ["--log_dir", str(inside)], overwrite=True)
    assert lock.is_file()


def other_rows(place: Path) -> None:
    rows(place / "train.txt", 65)


def other_valid(place: Path) -> None:
    rows(place / "valid.txt", 25)


def other_weights(place: Path) -> None:
    model = AutoModel.from_pretrained(place / "model")
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1.0
    model.save_pretrained(place / "model")


def other_vocabulary(place: Path) -> None:
    path = place / "model/tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"film9"'))


@pytest.fixture
def moved(place: Path, lock: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the place that a test may change, and a run.json of it."""
    copy = tmp_path / "place"
    shutil.copytree(place, copy)
    lock.write_text(lock.read_text().replace(str(place), str(copy)))
    return copy, lock


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        (other_rows, "data", "data train"),
        (other_valid, "data", "data valid"),
        (other_weights, "weights", "weights"),
        (other_vocabulary, "tokenizer", "tokenizer"),
    ],
)
def test_changed_files_are_named(
    change: Callable[[Path], None], kind: str, name: str, moved: tuple[Path, Path], tmp_path: Path
) -> None:
    place, lock = moved
    # The path of the data is of the config, and so of its digest: that copy is of other code, as it were.
    change(place)
    with pytest.raises(RunError, match=rf"{name} \(\w{{8}}… → \w{{8}}…\).*--changed code,{kind}$"):
        repeat(lock, changed=["code"])
    assert not (tmp_path / "alone-again/run.json").exists()


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        ("code", {"code": "0"}, "code"),
        ("code", {"recipe": "0"}, "recipe"),
        ("code", {"plugins": {"gone.py": "0"}}, r"plugins gone\.py"),
        ("versions", {"versions": {"torch": "0.1", "python": "2"}}, "versions torch"),
        ("versions", {"versions": {"transformers": "0.1"}}, "versions transformers"),
        ("device", {"device": "cuda:1"}, "device"),
        ("device", {"hardware": "abacus"}, "hardware"),
        ("threads", {"threads": 99}, "threads"),
        ("processes", {"processes": 8}, "processes"),
        ("weights", {"commit": "0"}, "commit"),
        ("weights", {"teachers": {"nsmc": "0"}}, "teachers nsmc"),
        ("versions", {"resumed": [{"step": 3, "changed": {"versions numpy": ["1", "2"]}}]},
         "versions numpy when it was resumed at step 3"),
    ],
)  # fmt: skip
def test_changed_surroundings_are_named(kind: str, values: dict[str, Any], name: str, lock: Path) -> None:
    old = json.loads(lock.read_text())
    changed_values = {key: {**old[key], **value} if key == "versions" else value for key, value in values.items()}
    edit(lock, **changed_values)
    with pytest.raises(RunError, match=rf"changed since the run was made: {name} \(.*; to accept .*--changed {kind}$"):
        repeat(lock)


def test_what_moves_no_score_is_no_change(place: Path, lock: Path, tmp_path: Path) -> None:
    """Python, pyarrow and claf2's own number; which of several GPUs; and an accepted change is noted."""
    old = json.loads(lock.read_text())
    versions = {**old["versions"], "python": "2", "pyarrow": "0", "claf2": "0", "torch": "0.1"}
    edit(lock, versions=versions, device="cpu:0", code="0")
    with pytest.raises(RunError, match=r"code \(0 → \w{8}…\), versions torch \(0.1 → [^()]*\); to accept"):
        repeat(lock, overwrite=True)
    repeat(lock, changed=["versions", "code"])
    again = tmp_path / "alone-again"
    assert {name: was for name, (was, _) in said(again)["changed"].items()} == {"versions torch": "0.1", "code": "0"}
    assert results(again) == results(place / "run")
    with pytest.raises(RunError, match=r"--changed version: not a kind of change; did you mean 'versions'"):
        repeat(lock, changed=["version"])


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"config": ...},
        "written by an older claf2, which did not store the config: train with --base_config .*config.json",
    ),
    ({"config": 3}, "damaged: config is missing or not of type dict"),
    ({"config": {"data_reader": 3}}, "data_reader"),
    ({"config": {}}, "dataset: is missing"),
    ({"versions": ...}, "damaged: versions is missing or not of type dict"),
    ({"wall_seconds": ...}, "the run is not finished: finish it with --resume"),
    ({"resumed": 3}, "damaged: resumed"),
    ({"resumed": [3]}, "damaged: resumed"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES)
def test_a_lock_that_cannot_be_used(values: dict[str, Any], message: str, lock: Path) -> None:
    with pytest.raises(Claf2Error, match=message):
        repeat(edit(lock, **values))


def test_what_is_gone_or_was_a_sample(moved: tuple[Path, Path], tmp_path: Path) -> None:
    place, lock = moved
    with pytest.raises(RunError, match=r"no/run\.json: no such file; is .*no the folder of a run\?"):
        repeat(tmp_path / "no")
    config_of = json.loads(lock.read_text())["config"]
    edit(lock, config={**config_of, "data_reader": {**config_of["data_reader"], "source": "sample"}})
    with pytest.raises(RunError, match="was trained on a generated sample and cannot be repeated"):
        repeat(lock)
    edit(lock, config=config_of)
    (place / "valid.txt").unlink()
    with pytest.raises(DataError, match=f"^{place}/valid.txt: no such file"):
        repeat(lock)
    shutil.rmtree(place / "model")
    with pytest.raises(ModelError, match=f"^model {place}/model: no such file or folder; restore it"):
        repeat(lock)
    lock.write_text(lock.read_text()[:-9])
    with pytest.raises(RunError, match=r"run\.json: not JSON"):
        repeat(lock)


def test_the_command(place: Path, lock: Path, tmp_path: Path) -> None:
    """What it prints is what the run printed; a mistake is one line and exit code 2."""

    def call(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TRAIN), "--from_run", str(lock), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done

    done = call("--log_dir", "new", "--changed", "code,threads")
    assert results(tmp_path / "new") == results(place / "run")
    assert done.stdout.startswith("valid/accuracy: ")
    assert f"was made in {Path.cwd()}; its relative paths are resolved in {tmp_path}" in done.stderr
    refused = call("--base_config", "scratch/nsmc", "--changed", "code", code=2).stderr
    assert refused == (
        "error: from_run: cannot be combined with another experiment: it repeats a run unchanged; "
        "leave out --base_config, --tasks, --plugin and --sample\n"
    )


def test_a_run_that_was_resumed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the same bytes where all was as before, and says what was not."""
    epoch = BatchStream.epoch

    def interrupting(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
        for index, batch in enumerate(epoch(self, number, start, paused), start=1):
            if index == 3:
                signal.raise_signal(signal.SIGINT)
            yield batch

    experiment = load(place, "cut", "--log_dir", str(tmp_path / "cut"))
    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "epoch", interrupting)
        with pytest.raises(Interrupted):
            train(experiment)
    with pytest.raises(RunError, match="the run is not finished"):
        repeat(tmp_path / "cut")
    shutil.copytree(tmp_path / "cut", tmp_path / "upgraded")
    train(experiment, resume=True)
    assert json.loads((tmp_path / "cut/run.json").read_text())["resumed"] == [{"step": 3, "changed": {}}]
    repeat(tmp_path / "cut")
    assert results(tmp_path / "cut-again") == results(place / "run")

    shutil.copytree(tmp_path / "upgraded", tmp_path / "padded")
    train(load(place, "cut", "--padding", "keep", "--log_dir", str(tmp_path / "padded")), resume=True)
    with pytest.raises(RunError, match=r"runtime padding when it was resumed at step 3 \(auto → keep\); .* runtime$"):
        repeat(tmp_path / "padded")

    versions = provenance._versions()
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_versions", lambda: {**versions, "numpy": "99"})
        train(load(place, "cut", "--log_dir", str(tmp_path / "upgraded")), resume=True)
        with pytest.raises(
            RunError, match=rf"versions numpy when it was resumed at step 3 \({versions['numpy']} → 99\)"
        ):
            repeat(tmp_path / "upgraded")


def test_several_tasks_with_all_stages(place: Path, tmp_path: Path) -> None:
    data = {"nsmc": str(place / "train.txt"), "valid": str(place / "valid.txt")}
    parts = {
        name: {"base_config": "scratch/nsmc", "model": {"name": "bert_for_seq_cls", "bert_for_seq_cls": {}}}
        for name in ("one", "two")
    }
    (tmp_path / "two.json").write_text(
        json.dumps({"tasks": parts, "model": {"name": "bert_for_multi", "bert_for_multi": {}}})
    )
    words = [
        "--pretrained_model_name",
        str(place / "model"),
        "--trainer.name",
        "mtdnn",
        "--mtdnn.alone",
        '["one"]',
    ]
    words += ["--num_steps", "3", "--tasks.num_steps", "2", "--train_file_path", data["nsmc"], "--batch_size", "8"]
    words += ["--valid_file_path", data["valid"], "--log_dir", str(tmp_path / "several")]
    train(config.load(str(tmp_path / "two.json"), words))
    repeat(tmp_path / "several")
    assert results(tmp_path / "several-again") == results(tmp_path / "several")
    assert len(results(tmp_path / "several")) == 14
    rows(tmp_path / "other.txt", 9)
    lock = tmp_path / "several/run.json"
    edit(lock, data={**json.loads(lock.read_text())["data"], "two/valid": "0"})
    with pytest.raises(RunError, match="data two/valid"):
        repeat(tmp_path / "several", ["--log_dir", str(tmp_path / "third")])


def test_teachers_plug_ins_and_surroundings_are_of_the_lock(place: Path, tmp_path: Path) -> None:
    """Each is digested, so another one is seen; which it is, the comparison above says."""
    plugin, package = tmp_path / "plug.py", tmp_path / "plug_in"
    plugin.write_text("one = 1\n")
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copytree(place / "run", tmp_path / "teacher")
    words = ["--distil.teachers", json.dumps({"nsmc": str(tmp_path / "teacher")})]
    experiment = load(place, "student", *words)

    def locked() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            experiment.values["plugins"] = [str(plugin), "plug_in"]
            return collect_provenance(*resolve(experiment))

    before = locked()
    assert locked() == before
    assert (before["threads"], before["processes"]) == (torch.get_num_threads(), 1)
    plugin.write_text("one = 2\n")
    (package / "more.py").write_text("")
    weights = tmp_path / "teacher/best/model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert set(diff_provenance(before, locked(), ["teachers", "plugins", *CHANGE_KINDS])) == {
        "teachers nsmc", f"plugins {plugin}", "plugins plug_in"
    }  # fmt: skip


@pytest.mark.slow
def test_a_commit_of_the_hub_is_of_the_lock(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a revision the hub may give other weights tomorrow."""
    cache, commit = tmp_path / "hub/models--me--tiny", "b" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text(commit)
    shutil.copytree(place / "model", cache / "snapshots" / commit)
    (tmp_path / "c.json").write_text(json.dumps(load(place, "run", "--pretrained_model_name", "me/tiny").values))
    code = "from claf2 import config; from claf2.runs.resolve import resolve\n"
    code += "from claf2.runs.provenance import collect_provenance\n"
    code += "lock = collect_provenance(*resolve(config.load('c.json')))\nprint(lock['commit'], lock['weights'])"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PYTHONPATH", str(TRAIN.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == [commit, "me/tiny"], done.stderr
