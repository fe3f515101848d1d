"""The Python API: the index is lazy and typed, and its functions do what the command line does."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import claf2
from claf2 import api, config
from claf2.cli.main import main
from claf2.config.source import Override
from claf2.errors import Claf2Error, ConfigError, RunError
from claf2.runtime.process import log_file
from claf2.task import Task
from claf2.training.callbacks.console import ProgressBar, progress_display

SOURCE = Path(claf2.__file__)
TINY: dict[str, Any] = {"num_steps": 3, "eval_and_save_step_count": 3, "max_seq_length": 32}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small classifier, trained from Python."""
    folder = tmp_path_factory.mktemp("api") / "run"
    claf2.train("scratch/nsmc", sample=True, log_dir=folder, **TINY)
    return folder


def output_of(code: str, cwd: Path | None = None) -> str:
    """Return what a fresh interpreter prints."""
    process = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_importing_claf2_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import claf2; print(sorted(set(sys.modules) - before))"
    assert output_of(code) == "['claf2']\n"


def test_names_are_imported_when_they_are_used() -> None:
    code = "import sys, claf2; claf2.Task, claf2.register_head, claf2.load; print('torch' in sys.modules)"
    assert output_of(code) == "False\n"
    assert claf2.Task is Task
    with pytest.raises(AttributeError, match="module 'claf2' has no attribute 'trian'"):
        _ = claf2.trian
    assert set(claf2.__all__) <= set(dir(claf2))
    assert all(getattr(claf2, name) is not None for name in claf2.__all__)


def test_type_checkers_see_the_names_that_exist() -> None:
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert typed == claf2._MODULE_OF
    assert {*typed, "__version__"} == set(claf2.__all__)


def test_every_registry_is_open_to_plug_ins() -> None:
    """Whatever a module calls ``register_…`` is exported, but for that of generated samples."""
    assigned = {
        node.targets[0].id
        for path in SOURCE.parent.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    registers = {name for name in assigned if name.startswith("register_")}
    assert len(registers) > 8
    assert registers - set(claf2.__all__) == {"register_sample"}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed: pip install -e '.[dev]'")
def test_mypy_knows_the_types(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(
        "import claf2\n"
        "reveal_type(claf2.load('x'))\n"
        "reveal_type(claf2.train('x'))\n"
        "reveal_type(claf2.compare('a', 'b').tasks)\n"
        "claf2.evaluate(3)\n"
    )
    words = ["-m", "mypy", "--strict", "--follow-imports", "silent", "use.py"]
    # mypy does not follow the import hooks by which an editable installation may be found.
    environment = {**os.environ, "MYPYPATH": str(SOURCE.parent.parent)}
    process = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    for kind in ("experiment.Experiment", "report.Report", "comparison.TaskComparison"):
        assert kind in process.stdout
    assert 'use.py:5: error: Argument 1 to "evaluate" has incompatible type "int"' in process.stdout


def test_bench_is_a_function_whatever_was_imported() -> None:
    assert output_of("import claf2.benchmarking.matrix; print(callable(claf2.bench))") == "True\n"


SETTINGS: list[tuple[dict[str, Any], list[str]]] = [
    ({"learning_rate": 3e-5}, ["--learning_rate", "3e-05"]),
    ({"optimizer.learning_rate": 0.5}, ["--optimizer.learning_rate", "0.5"]),
    ({"token": None}, ["--token", "null"]),
    ({"deterministic": False}, ["--deterministic", "false"]),
    ({"op_type": "sgd", "momentum": 0.5}, ["--op_type", "sgd", "--momentum", "0.5"]),
    ({"log_dir": Path("logs/x")}, ["--log_dir", "logs/x"]),
    ({"architecture": {"model_type": "bert"}}, ["--architecture", '{"model_type": "bert"}']),
    ({"output_dir": "logs/y", "seed": 7}, ["--output_dir", "logs/y", "--seed", "7"]),
    ({"plugins": ()}, ["--plugins", "[]"]),
]


@pytest.mark.parametrize(("values", "words"), SETTINGS, ids=[str(list(values)) for values, _ in SETTINGS])
def test_values_of_python_are_what_the_command_line_would_give(values: dict[str, Any], words: list[str]) -> None:
    expected = config.load("scratch/nsmc", words)
    loaded = config.load("scratch/nsmc", [Override.of_value(key, value) for key, value in values.items()])
    assert loaded.values == expected.values
    assert loaded.digest() == expected.digest()
    assert list(loaded.overrides) == words
    assert claf2.load("scratch/nsmc", argv=words).values == expected.values
    assert claf2.load("scratch/nsmc", **values).values == expected.values


def test_text_stays_text_and_origins_name_the_argument() -> None:
    experiment = claf2.load("scratch/nsmc", **{"data_reader.train_file_path": "null", "learning_rate": 1e-3})
    assert experiment.values["data_reader"]["train_file_path"] == "null"
    assert experiment.origins["optimizer.learning_rate"] == "argument learning_rate"
    with pytest.raises(ConfigError, match=r"'3e-5' should be a valid number \(from argument learning_rate\)"):
        claf2.load("scratch/nsmc", learning_rate="3e-5")
    with pytest.raises(ConfigError, match=r"learning_rate: .* cannot be written to a BaseConfig"):
        claf2.load("scratch/nsmc", learning_rate=np.float32(1))
    assert Override.of_value("a", "--b").words() == ["--a=--b"]
    assert config.fill("scratch/nsmc", ["--log_dir=--b"]).overrides == ("--log_dir=--b",)


@pytest.mark.parametrize("key", ["learning_rat", "batch_siz", "nothing", "name"])
def test_wrong_names_have_the_errors_of_the_command_line(key: str) -> None:
    with pytest.raises(ConfigError) as from_words:
        config.load("scratch/nsmc", [f"--{key}", "1"])
    with pytest.raises(ConfigError) as from_python:
        config.load("scratch/nsmc", [Override.of_value(key, 1)])
    assert str(from_python.value) == str(from_words.value).replace("command line", "argument")


def test_several_tasks_and_samples() -> None:
    names = ["glue/rte_bert", "glue/mrpc_bert"]
    experiment = claf2.load(tasks=names, sample=True, **{"rte.batch_size": 8, "pretrained_model_name": "scratch"})
    assert list(experiment.tasks) == ["rte", "mrpc"]
    assert experiment.tasks["rte"].iterator.batch_size == 8
    assert all(task.data.source == "sample" for task in experiment.tasks.values())
    with pytest.raises(ConfigError, match="base_config: is missing; name one; `claf2 config list` prints all names"):
        claf2.load()
    with pytest.raises(ConfigError, match=r"can only be set for the whole run \(from argument\)"):
        claf2.load(tasks=names, **{"rte.seed_num": 3})


def test_training_from_python_is_training_from_the_command_line(run: Path, tmp_path: Path) -> None:
    words = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    code = f"from claf2.cli.main import main; main({['train', '--base_config', 'scratch/nsmc', '--sample', *words]!r})"
    output_of(code, cwd=tmp_path)
    folder = tmp_path / "logs/scratch/nsmc"
    for name in ("metrics.json", "metrics.jsonl", "predictions/nsmc-valid.jsonl", "best/model.safetensors"):
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name
    recipes = {json.loads((path / "run.json").read_text())["recipe"] for path in (run, folder)}
    assert len(recipes) == 1


def test_a_run_is_evaluated_resumed_and_compared(run: Path, tmp_path: Path) -> None:
    report = claf2.evaluate(run)
    assert report.value("accuracy") == json.loads((run / "metrics.json").read_text())["best"]["valid/accuracy"]
    assert claf2.evaluate(str(run), task="nsmc").logs() == report.logs()
    with pytest.raises(Claf2Error, match="holds a finished run: add --resume to continue it"):
        claf2.train("scratch/nsmc", sample=True, log_dir=run, **TINY)
    assert claf2.train("scratch/nsmc", sample=True, log_dir=run, resume=True, **TINY).logs() == report.logs()
    other = tmp_path / "other"
    claf2.train(claf2.load("scratch/nsmc", sample=True, seed=7, log_dir=other, **TINY))
    (task,) = claf2.compare(run, other).tasks
    assert (task.task, task.score) == ("nsmc", "accuracy")


def test_a_run_on_data_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{n}\t{word} film\t{n % 2}\n" for n, word in enumerate(["good", "bad"] * 20))
    (tmp_path / "rows.txt").write_text("id\tdocument\tlabel\n" + rows)
    files = {"train_file_path": "rows.txt", "valid_file_path": "rows.txt"}
    first = claf2.train("scratch/nsmc", log_dir="first", **files, **TINY)
    again = claf2.train(from_run="first", log_dir="again")
    assert again.logs() == first.logs()
    weights = [(tmp_path / name / "best/model.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] == weights[1]
    with pytest.raises(ConfigError, match="--from_run repeats a run unchanged"):
        claf2.train(from_run="first", learning_rate=1.0)


def test_what_cannot_be_combined_is_refused(run: Path) -> None:
    experiment = claf2.load("scratch/nsmc", sample=True)
    with pytest.raises(ConfigError, match=r"num_steps: cannot be set: the experiment is already.*set it in claf2.load"):
        claf2.train(experiment, num_steps=3)
    with pytest.raises(
        ConfigError, match=r"from_run: cannot be combined with another experiment: .*; leave out the experiment"
    ):
        claf2.train(experiment, from_run=run)
    other: dict[str, Any]
    for other in ({"sample": True}, {"tasks": ["glue/rte_bert"]}, {"plugins": ["mine.py"]}):
        with pytest.raises(ConfigError, match=f"it repeats a run unchanged; leave out {next(iter(other))}$"):
            claf2.train(from_run=run, **other)
    with pytest.raises(RunError, match="was trained on a generated sample and cannot be repeated"):
        claf2.train(from_run=run, sample=False)
    for changed in ("version", "versions,version", ["versions", "version"]):
        with pytest.raises(RunError, match="--changed version: not a kind of change; did you mean 'versions'"):
            claf2.train(from_run=run, changed=changed)
    with pytest.raises(ConfigError, match="changed: can only be used with from_run"):
        claf2.train(experiment, changed=["versions"])


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        (["영화"], r"^request 1: expected its fields, got '영화'; write predictor\.predict\(\[\{\"text\": "),
        ([{"text": "영화"}, None], r"^request 2: expected its fields, got None; write predictor\.predict"),
        ("영화", r"^expected a list of requests, got '영화'; write .*, or of one request predictor\(text="),
        ({"text": "영화"}, r"^expected a list of requests, got \{'text': '영화'\}; write"),
        (3, "^expected a list of requests, got 3; write"),
    ],
)
def test_what_is_no_list_of_requests_is_named(requests: Any, message: str, run: Path) -> None:
    with pytest.raises(RunError, match=message):
        claf2.Predictor(run).predict(requests)


def test_a_request_whose_id_is_nothing_gets_that_of_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = claf2.Predictor(run)
    rows = [{"id": None, "text": "가"}, {"text": "나"}, {"id": 7, "text": "다"}]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["predict", str(run), "--input", str(tmp_path / "rows.jsonl")])
    printed = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [prediction.id for prediction in predictor.predict(rows)] == ["1", "2", "7"]
    assert predictor(id=None, text="가").id == predictor(text="가").id == "0"


def test_explain_trains_nothing(tmp_path: Path) -> None:
    explanation = claf2.explain("scratch/nsmc", sample=True, steps=0, log_dir=tmp_path / "x", **TINY)
    assert explanation["steps"]["all"] == 3
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps: -1 steps cannot be measured; give 0 or more"):
        claf2.explain("scratch/nsmc", sample=True, steps=-1)
    with pytest.raises(ConfigError, match=r"hardware: .* for a pre-training, and this is a fine-tuning; leave it out"):
        claf2.explain("scratch/nsmc", sample=True, hardware="16xV100")
    for name in ("price", "utilization"):
        with pytest.raises(ConfigError, match=f"{name}: can only be used with hardware; add hardware"):
            claf2.explain("scratch/nsmc", sample=True, **{name: 0.5})


def test_a_bench_returns_its_summary(tmp_path: Path) -> None:
    results: list[Any] = []
    summary = api.bench(
        "jglue", "scratch", tasks=["jcola"], seeds=[1, 2], sample=True, out=tmp_path, on_result=results.append,
        num_steps=2,
    )  # fmt: skip
    assert [(row.model, row.seeds) for row in summary.rows] == [("scratch", (1, 2))]
    words = ("--num_steps", "2", "--data_reader.source", "sample")
    assert [result.cell.overrides for result in results] == [words, words]
    assert summary.failures == ()
    with pytest.raises(Claf2Error, match="nothing to measure"):
        api.bench("jglue")


COMMANDS = {
    "load": ["config", "validate", "scratch/nsmc"],
    "train": ["train", "--base_config", "scratch/nsmc"],
    "explain": ["explain", "--base_config", "scratch/nsmc"],
    "evaluate": ["evaluate", "logs"],
    "bench": ["bench", "run", "--suite", "glue", "--models", "x"],
    "compare": ["compare", "a", "b"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_has_no_second_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def record(*_: Any, **__: Any) -> None:
        calls.append(name)
        raise Claf2Error("stop here")

    logger = logging.getLogger("claf2")
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    monkeypatch.setattr(api, name, record)
    with pytest.raises(SystemExit):
        main(COMMANDS[name])
    assert calls == [name]


def test_logging_and_global_settings_are_left_alone(tmp_path: Path) -> None:
    code = f"""
import logging, sys, torch, transformers
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(levelname)s")
import claf2
def state():
    logger, logs = logging.getLogger("claf2"), transformers.utils.logging
    return (logger.level, logger.propagate, logger.handlers, logging.getLogger().handlers[:],
            torch.are_deterministic_algorithms_enabled(), logs.get_verbosity(), logs.is_progress_bar_enabled())
before = state()
claf2.train("scratch/nsmc", sample=True, log_dir="run", **{TINY!r})
claf2.Predictor("run")(text="x")
claf2.evaluate("run")
print(state() == before, "ipywidgets" in sys.modules, "IPython" in sys.modules)
"""
    *messages, last = output_of(code, cwd=tmp_path).splitlines()
    assert last == "True False False"
    assert set(messages) <= {"WARNING"}
    log = (tmp_path / "run/train.log").read_text()
    assert "INFO Metric Logs" in log
    assert "INFO # Epoch" in log


def test_the_log_file_receives_what_other_handlers_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("claf2")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    caplog.set_level(logging.NOTSET, "claf2")  # the level of the root logger counts, which is WARNING
    with log_file(tmp_path / "x.log"):
        logger.info("quiet")
        logger.warning("loud")
    logger.info("after")
    assert caplog.messages == ["loud"]
    with caplog.at_level(logging.INFO, "claf2"), log_file(tmp_path / "y.log"):
        logger.info("wanted")
    assert caplog.messages == ["loud", "wanted"]
    assert [line.split()[-1] for line in (tmp_path / "x.log").read_text().splitlines()] == ["quiet", "loud"]


def test_where_a_progress_bar_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell:
        kernel: object = None

    class IPython:
        get_ipython = Shell

    class Terminal:
        isatty = staticmethod(lambda: True)

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert progress_display() is None
    monkeypatch.setitem(sys.modules, "IPython", IPython)  # type: ignore[arg-type]
    assert progress_display() is None  # IPython with its output in a pipe
    monkeypatch.setattr(Shell, "kernel", object())
    assert progress_display() == "notebook"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal)
        assert progress_display() == "terminal"
    ProgressBar(10, 0, 1, "terminal").close()
    assert "ipywidgets" not in sys.modules


def test_a_line_of_the_log_takes_the_place_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is filtered as without a bar."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    logger, handler = logging.getLogger("claf2"), logging.StreamHandler(screen)
    handler.setLevel(logging.WARNING)
    monkeypatch.setattr(logger, "handlers", [handler])
    bar = ProgressBar(10, 0, 1, "terminal")
    logger.warning("loud")
    logger.info("quiet")
    bar.close()
    logger.warning("after")
    before, _, after = screen.getvalue().partition("loud\n")
    assert "0/10" in before
    *_, cleared, start = before.split("\r")
    assert (cleared.strip(), start) == ("", "")
    assert "quiet" not in after
    assert after.endswith("after\n")
    assert handler.filters == []


def every_command(group: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return the words and the object of every command that does something."""
    return [
        entry
        for name, command in group.commands.items()
        for entry in (every_command(command, (*words, name)) if hasattr(command, "commands") else [])
        or [((*words, name), command)]
    ]


def test_every_command_shows_an_example() -> None:
    from claf2.cli.main import claf2 as root

    commands = every_command(root)
    assert len(commands) > 15
    for words, command in commands:
        assert f"  claf2 {' '.join(words)}" in (command.epilog or ""), f"{' '.join(words)} has no example"
        assert all(option.help for option in command.params if isinstance(option, click.Option)), words


def test_python_m_claf2_is_the_command_line() -> None:
    process = subprocess.run([sys.executable, "-m", "claf2", "suite", "list"], capture_output=True, check=True)
    assert b"larva_klue" in process.stdout


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from claf2.cli.main import main
try:
    main(["--help"])
except SystemExit:
    heavy = ("torch", "transformers", "numpy", "pydantic", "pyarrow", "tokenizers", "scipy", "jinja2", "filelock")
    print([name for name in heavy if name in sys.modules])
"""
    assert output_of(code).splitlines()[-1] == "[]"
