"""The folder of a run: one process uses it at a time, nothing foreign is touched, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import claf2
from claf2 import config
from claf2.data.batch import BatchStream
from claf2.errors import ChangedError, Claf2Error, ConfigError, Interrupted, RunError, RunInUseError
from claf2.evaluation.report import Report
from claf2.models.encoder import EncoderWithHeads
from claf2.runs import train as training
from claf2.runs.resolve import open_run
from claf2.runs.train import train
from claf2.runtime.files import LOCK_FILES, create_dir_atomic, default_cache_dir, lock_dir
from claf2.runtime.process import interruptible, log_file
from claf2.training import checkpoint
from claf2.training.callbacks.jsonl import JsonlLogger
from claf2.training.shards import save_shards

SHORT = ["--num_steps", "4", "--eval_and_save_step_count", "2", "--batch_size", "8", "--eval_batch_size", "200"]


def load(folder: Path | str, model: Path, *words: str) -> config.Experiment:
    """Return a short run of a small model on a generated sample."""
    given = ["--pretrained_model_name", str(model), "--token", "null", "--data_reader.source", "sample"]
    return config.load("scratch/nsmc", [*given, *SHORT, "--log_dir", str(folder), *words])


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder but those of its lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in LOCK_FILES]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@contextmanager
def at_step(step: int, action: Callable[[], object]) -> Iterator[None]:
    """Do something during a step of the trainings in the block."""
    epoch = BatchStream.epoch

    def acting(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
        for index, batch in enumerate(epoch(self, number, start, paused), start=start + 1):
            if index == step:
                action()
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchStream, "epoch", acting)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(load(folder, model_folder()))
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> Path:
    """A run that was interrupted after step 3."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    with at_step(3, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(Interrupted):
        train(load(folder, model_folder()))
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def unfinished(cut: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run."""
    return Path(shutil.copytree(cut, tmp_path / "run"))


def test_a_live_run_is_left_alone(trained: Path, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """From the first step on, before there is any checkpoint; a reader may read."""
    folder, refused = tmp_path / "run", []

    def use() -> None:
        other = load(folder, model_folder(), "--seed_num", "7")
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(RunInUseError, match=rf"in use by process {os.getpid()} on .* since 20") as caught:
                train(other, **how)
            refused.append(caught.value)

    def read() -> None:
        use()
        with pytest.raises(RunInUseError):
            claf2.evaluate(folder)
        assert open_run(folder).source == folder / "best"

    with at_step(1, use), at_step(3, read):
        train(load(folder, model_folder()))
    assert len(refused) == 6
    assert not (folder / LOCK_FILES[1]).exists()
    kept = ("metrics", "best/", "predictions/", "last/")
    assert {name: content for name, content in contents(folder).items() if name.startswith(kept)} == {
        name: content for name, content in contents(trained).items() if name.startswith(kept)
    }


def test_a_lock_is_free_again_at_the_end(tmp_path: Path) -> None:
    for _ in range(2):
        with lock_dir(tmp_path), pytest.raises(RunInUseError), lock_dir(tmp_path):
            pass


@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "best/model.safetensors", "stages/a", "predictions/x.txt"]
)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_a_foreign_folder_is_refused(
    name: str, how: dict[str, bool], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mine" / name).parent.mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(RunError, match=rf"mine is not the folder of a run: it holds {name.split('/')[0]}, but no run"):
        train(load(tmp_path / "mine", model_folder()), **how)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_no_name_the_working_directory_and_the_model(
    finished: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent)
    before = contents(finished.parent)
    for name in ("", " "):
        with pytest.raises(ConfigError, match=r"^trainer\.log_dir: is empty"):
            train(load(name, model_folder()))
    with pytest.raises(RunError, match=r"^\. is not the folder of a run: it holds run"):
        train(load(".", model_folder()), overwrite=True)
    for model in (finished / "best", finished):
        with pytest.raises(RunError, match=r"holds the model .*, which the run reads: give another folder"):
            train(load(finished, model), overwrite=True)
    teachers = ["--distil.teachers", json.dumps({"nsmc": str(finished)})]
    with pytest.raises(RunError, match="holds the teacher"):
        train(load(finished, model_folder(), *teachers), overwrite=True)
    assert contents(finished.parent) == before


def test_what_a_failed_start_leaves_is_no_obstacle(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    for name in (".lock", "train.log", "cell.json", "slurm-1.out", "events.out.tfevents.1", ".run.json.x.new"):
        (tmp_path / name).write_text("")
    wrong = load(tmp_path, model_folder(), "--source", "local", "--data_dir", str(tmp_path / "no"))
    for _ in range(2):
        with pytest.raises(Claf2Error, match="no such file"):
            train(wrong)
    assert (tmp_path / "train.log").read_text().count("no such file") == 2
    assert train(load(tmp_path, model_folder())).tasks
    assert {"slurm-1.out", "cell.json", "events.out.tfevents.1"} <= {path.name for path in tmp_path.iterdir()}


MISTAKES = {
    "data": ["--source", "local", "--data_dir", "nowhere"],
    "model": ["--pretrained_model_name", "./nowhere"],
    "metric": ["--metric_key", "f7"],
    "warm-up": ["--warmup_linear.warmup_steps", "99"],
    "device": ["--device", "cuda:77"],
}


@pytest.mark.parametrize("words", MISTAKES.values(), ids=MISTAKES)
def test_a_refused_command_overwrites_nothing(
    words: list[str], finished: Path, model_folder: Callable[..., Path]
) -> None:
    before = contents(finished)
    with pytest.raises(Claf2Error):
        train(load(finished, model_folder(), *words), overwrite=True)
    assert contents(finished) == before


def test_overwriting_deletes_what_a_run_wrote(finished: Path, model_folder: Callable[..., Path]) -> None:
    """All of it, with the runs that followed it, and nothing else."""
    stage = Path(shutil.copytree(finished, finished.parent / "copy")).rename(finished.parent / "stage")
    shutil.move(stage, finished / "stages/single/nsmc")
    for name in ("notes.txt", "predictions/notes.txt", "stages/mine/notes.txt"):
        (finished / name).parent.mkdir(exist_ok=True)
        (finished / name).write_text("mine")
    events = {path.name for path in finished.glob("events.*")}
    train(load(finished, model_folder(), "--num_steps", "2"), overwrite=True)
    (new_events,) = finished.glob("events.*")
    assert new_events.name not in events
    assert sorted(path.name for path in (finished / "stages").rglob("*")) == ["mine", "notes.txt"]
    assert (finished / "notes.txt").exists()
    assert (finished / "predictions/notes.txt").exists()
    log = (finished / "train.log").read_text()
    assert "Step: 2" in log
    assert "Step: 4" not in log
    assert json.loads((finished / "metrics.json").read_text())["best_global_step"] == 2


def damage(folder: Path, name: str, content: str | None) -> None:
    """Replace a file or folder of a run, or take it away."""
    path = folder / name
    if content is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("best", None, r"best/sha256\.json: no such file.*; train again with --overwrite"),
        ("best/model.safetensors", "", r"best/model\.safetensors: changed since it was saved; .* --overwrite"),
        ("best/tokenizer.json", None, r"best/tokenizer\.json: missing; .* --overwrite"),
        ("run.json", None, r"run is not the folder of a run: last/ cannot be resumed without the run\.json"),
        ("run.json", '{"seed": 1}', r"run is not the folder of a run: last/ cannot be resumed without the run\.json"),
        ("run.json", '{"seed": 1, "recipe": "x", "config": {}}', r"run\.json: damaged: base_config is missing"),
        ("last/state.json", "{}", r"state\.json: changed since it was saved; last/ is damaged"),
    ],
)
def test_a_resume_checks_what_it_finds(
    name: str, content: str | None, message: str, unfinished: Path, model_folder: Callable[..., Path]
) -> None:
    damage(unfinished, name, content)
    with pytest.raises(RunError, match=message):
        train(load(unfinished, model_folder()), resume=True)
    assert not (unfinished / "metrics.json").exists()


@pytest.mark.parametrize(("name", "content"), [("best", None), ("best/model.safetensors", "")])
def test_a_finished_run_without_its_model(
    name: str, content: str | None, finished: Path, model_folder: Callable[..., Path]
) -> None:
    damage(finished, name, content)
    with pytest.raises(RunError, match="train again with --overwrite"):
        train(load(finished, model_folder()), resume=True)
    assert train(load(finished, model_folder()), resume=True, needs_best=False).tasks


def test_a_run_without_a_last_checkpoint_resumes_from_an_earlier_one(
    trained: Path, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """It ends between the last step and the file that says so, and takes the steps since the checkpoint again."""
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_write_model_cards", lambda *_: raise_error(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            train(load(folder, model_folder()), needs_last=False)
    assert not json.loads((folder / "last/state.json").read_text())["finished"]
    train(load(folder, model_folder()), resume=True, needs_last=False)
    assert (folder / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()
    weights = "best/model.safetensors"
    assert (folder / weights).read_bytes() == (trained / weights).read_bytes()


def raise_error(error: Exception) -> None:
    raise error


def test_the_end_of_a_run_checks_its_best_checkpoint(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Someone tidies up during the training; the first score is the best one here."""
    folder = tmp_path / "run"
    scores = iter([90.0, 10.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "value", lambda self, key: next(scores, 0.0) if (folder / "run.json").exists() else 0.0)
        with at_step(3, lambda: shutil.rmtree(folder / "best")), pytest.raises(RunError, match="train again with"):
            train(load(folder, model_folder()))
    assert not (folder / "metrics.json").exists()


def test_a_changed_setting_is_named(unfinished: Path, model_folder: Callable[..., Path]) -> None:
    words = ["--learning_rate", "0.5", "--seed_num", "7", "--workers", "0", "--verbose_step_count", "9"]
    with pytest.raises(ChangedError) as caught:
        train(load(unfinished, model_folder(), *words), resume=True)
    before = json.loads((unfinished / "config.json").read_text())
    shown = str(caught.value).partition(" (")[2].partition(")")[0].split(", ")
    assert sorted(shown) == [
        f"optimizer.learning_rate {before['optimizer']['learning_rate']} → 0.5", f"seed_num {before['seed_num']} → 7"
    ]  # fmt: skip


def test_lines_that_a_kill_has_torn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = [b'{"step": 2, "loss": 1.0}', b'{"step": 4, "loss": 0.5}']
    damaged = [b"", b"\0\0\0", b'{"loss": 1}', b"[3]", b'{"step": "2"}', b"\xff\xfe", b'{"step":']
    path.write_bytes(b"\n".join([whole[0], *damaged, whole[1], b'{"step": 6}', b'{"step": 4, "lo']))
    JsonlLogger(path, 4).close()
    assert path.read_bytes().splitlines() == whole
    assert "metrics.jsonl: dropped 7 lines that cannot be read" in caplog.text


def test_a_replacement_that_was_interrupted(finished: Path) -> None:
    """Who only reads restores nothing; an evaluation does so under the lock."""
    (finished / "best").rename(finished / ".best.old")
    (finished / ".best.new").mkdir()
    with pytest.raises(RunError, match=r"was ended while it replaced best/; restore it with `claf2 evaluate"):
        open_run(finished)
    assert (finished / ".best.new").is_dir()
    assert claf2.evaluate(finished).tasks
    assert not (finished / ".best.new").exists()
    assert open_run(finished).source == finished / "best"


def test_changed_validation_data_do_not_replace_the_predictions(
    tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    valid = tmp_path / "valid.tsv"
    valid.write_text("id\tdocument\tlabel\n" + "".join(f"{row}\tgood {row}\t{row % 2}\n" for row in range(8)))
    words = ["--pretrained_model_name", str(model_folder()), "--train_file_path", str(valid), "--valid_file_path"]
    words += [str(valid), "--num_steps", "1", "--log_dir", str(tmp_path / "r")]
    experiment = claf2.load("klue/nsmc_bert", argv=words)
    claf2.train(experiment)
    predictions = (tmp_path / "r/predictions/nsmc-valid.jsonl").read_bytes()
    valid.write_text(valid.read_text().replace("good", "bad"))
    with pytest.raises(RunError, match=r"the valid data of nsmc have changed since the training; restore them, or"):
        claf2.evaluate(tmp_path / "r")
    assert (tmp_path / "r/predictions/nsmc-valid.jsonl").read_bytes() == predictions
    assert claf2.evaluate(tmp_path / "r", valid).tasks
    valid.write_text(valid.read_text().replace("bad", "good"))
    assert claf2.evaluate(tmp_path / "r").tasks


def test_evaluating_what_is_no_run_writes_nothing(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    model = Path(shutil.copytree(model_folder(), tmp_path / "model"))
    before = sorted(model.iterdir())
    with pytest.raises(RunError, match="has no best/ checkpoint"):
        claf2.evaluate(model)
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_save_the_run(name: str, cut: Path, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """As Ctrl-C does, and as often as they come."""
    folder, number = tmp_path / "run", getattr(signal, name)

    def send() -> None:
        for _ in range(2):
            signal.raise_signal(number)

    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under `nohup`
    try:
        with at_step(3, send), pytest.raises(Interrupted, match="stopped after step 3 and saved"):
            train(load(folder, model_folder()))
    finally:
        signal.signal(number, before)
    left, expected = contents(folder / "last"), contents(cut / "last")
    assert left == expected
    log = (folder / "train.log").read_text()
    assert f"WARNING {name}: stopping after this step" in log
    assert log.splitlines()[-1].endswith(f"ERROR stopped after step 3 and saved {folder}; add --resume to continue")


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted()
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # as `torchrun` forwards it
            assert interrupted()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(
    trained: Path, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, save = tmp_path / "run", checkpoint.save_shards
    saves: list[Path] = []

    def full(target: Path, *arguments: Any) -> None:
        saves.append(target)
        if len(saves) == 2:
            (target / "part").write_text("")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(target, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save_shards", full)
        with pytest.raises(RunError, match=r"run/last: cannot be saved: No space left on device; the earlier"):
            train(load(folder, model_folder()))
    assert not list(folder.glob(".*.new"))
    assert (folder / "train.log").read_text().splitlines()[-1].endswith("make room and add --resume")
    train(load(folder, model_folder()), resume=True)
    assert (folder / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()


def test_errors_of_the_writers_are_those_of_the_disk(tmp_path: Path) -> None:
    """A file that may not grow: each library says it in its own way."""
    import resource

    model = EncoderWithHeads({"t": torch.nn.Linear(300, 300)}, takes_segments=False, extra_inputs={"t": ()})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writers: list[Callable[[Path], None]] = [
        lambda target: save_shards(target, model, optimizer),
        lambda target: torch.save({"x": torch.zeros(99999)}, target / "training.pt"),
    ]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        for write in writers:
            with pytest.raises(RunError, match="cannot be saved: "), checkpoint._translated_errors(tmp_path):
                write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    model = EncoderWithHeads({"t": torch.nn.Linear(4, 4)}, takes_segments=False, extra_inputs={"t": ()})
    files = set()
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        save_shards(tmp_path / str(number), model, torch.optim.SGD(model.parameters(), 0.1))
        (path,) = (tmp_path / str(number)).iterdir()
        files.add(path.read_bytes())
    assert len(files) == 1


def test_permissions_follow_the_umask(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    before = os.umask(0o027)
    try:
        train(load(tmp_path / "run", model_folder(), "--cache_dir", str(tmp_path / "cache")))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {oct(mode) for path, mode in modes.items() if path.is_dir()} == {"0o750"}
    assert {oct(mode) for path, mode in modes.items() if path.is_file()} == {"0o640"}


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file: cannot be written: .*; set CLAF2_CACHE"):
        create_dir_atomic(tmp_path / "file/folder", lambda folder: None)
    monkeypatch.delenv("CLAF2_CACHE")

    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without $HOME and an entry of the user
    with pytest.raises(RunError, match=r"no folder for the cache: .*; set CLAF2_CACHE"):
        default_cache_dir()


def test_the_log_says_why_a_run_has_ended(tmp_path: Path) -> None:
    for error in (RunError("a mistake"), KeyboardInterrupt("stopped by SIGTERM"), ValueError("a bug")):
        with pytest.raises(type(error)), log_file(tmp_path / "train.log"):
            raise error
    text = (tmp_path / "train.log").read_text()
    assert [line.partition(" ERROR ")[2] for line in text.splitlines() if " ERROR " in line] == [
        "a mistake", "stopped by SIGTERM", "a bug"
    ]  # fmt: skip
    assert text.count("Traceback") == 1
