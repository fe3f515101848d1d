"""Registries: what cannot be imported is named with its cause, however often one asks."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claf2 import registry
from claf2.cli.main import main
from claf2.errors import RegistryError
from claf2.metrics import metrics
from claf2.registry import ENTRY_POINTS, Registry, load_plugin
from claf2.task import tasks


def test_a_family_that_cannot_be_imported_says_so_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "family_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from claf2.registry import Registry\nmembers = Registry('x', home=__name__)\n"
    )
    (package / "good.py").write_text("from family_of_a_test import members\nmembers.add('good', 1, origin='here')\n")
    (package / "needy.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    members: Registry[Any] = Registry("x", home="family_of_a_test")
    for _ in range(2):
        with pytest.raises(ImportError, match="a_library_that_is_not_installed"):
            members.get("good")
    (package / "needy.py").write_text("")
    for name in [name for name in sys.modules if name.startswith("family_of_a_test")]:
        monkeypatch.delitem(sys.modules, name)
    members.discover()  # tried again, and complete


def test_an_entry_point_that_cannot_be_imported_says_so_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("needy", "a_plug_in_that_is_not_there", ENTRY_POINTS)
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    monkeypatch.setattr(registry, "_loaded_plugins", set())
    members: Registry[int] = Registry("x")
    members.add("good", 1, origin="here")
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"plug-in 'needy' .* cannot be imported: No module named"):
            members.get("good")


METRIC = "from claf2 import Metric, register_metric\n\n@register_metric('of_a_test')\nclass Mine(Metric):\n"
TASK = "from claf2 import Task, register_task\n\nregister_task(Task(name='of_a_test', language='en', head='classify', "
COMPUTE = "    def compute(self, predictions, labels):\n        return {'mine': 1.0}\n"

MISTAKES = {
    "mistyped field": (
        TASK + "labelz=('a',), reader='tsv'))",
        "line 3 of mine.py: Task has no field 'labelz'; did you mean 'labels'?",
    ),
    "missing field": (TASK + "labels=('a',)))", "line 3 of mine.py: Task.reader: is missing"),
    "wrong type": (TASK + "labels=3, reader='delimited'))", "line 3 of mine.py: Task."),
    "no selects": (METRIC + COMPUTE, "metric 'of_a_test': class Mine lacks the class attribute selects; define it"),
    "no compute": (
        METRIC + "    selects = 'mine'\n",
        "metric 'of_a_test': class Mine lacks the method compute; define",
    ),
    "neither": (
        METRIC + "    pass\n",
        "class Mine lacks the method compute and the class attribute selects; define it",
    ),
    "undefined type": (METRIC + "    selects = 'mine'\n    size: 'Sise' = 1\n" + COMPUTE, "name 'Sise' is not defined"),
    "a bug": ("x = 1\ny = x / 0\n", "line 2 of mine.py: ZeroDivisionError: division by zero"),
    "a bug in a function": ("def f():\n    return {}['x']\n\nf()\n", "line 4 of mine.py: KeyError: 'x'"),
    "no Python": ("x = = 1", "invalid syntax"),
    "a library": ("import a_library_that_is_not_there", "line 1 of mine.py: No module named 'a_library_that_is_not"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_plug_in_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = MISTAKES[name]
    plugin = tmp_path / "mine.py"
    plugin.write_text(content)
    for members in (metrics, tasks):  # what was registered before the mistake is forgotten after the test
        members.discover()
        monkeypatch.setattr(members, "_members", dict(members._members))
        monkeypatch.setattr(members, "_origins", dict(members._origins))
    with pytest.raises(SystemExit) as caught:
        main(["config", "show", "scratch/nsmc", "--plugin", str(plugin)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: plug-in {str(plugin)!r} cannot be imported: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_module_that_is_a_plug_in_is_named_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plug_in_of_a_test.py").write_text("import claf2\n\nclaf2.metrics.accuracy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RegistryError, match=r"'plug_in_of_a_test' cannot be imported: line 3 of plug_in_of_a_test.py"):
        load_plugin("plug_in_of_a_test")


def test_a_plug_in_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("import sys\nsys.modules['loaded_by_a_test'] = sys\n")
    monkeypatch.setitem(sys.modules, "loaded_by_a_test", None)
    load_plugin("~/mine.py")
    assert sys.modules["loaded_by_a_test"] is sys


def test_columns_of_no_field_are_named_when_a_plug_in_is_loaded(tmp_path: Path) -> None:
    plugin = tmp_path / "columns.py"
    plugin.write_text('from claf2.readers import Delimited\nDelimited(columns={"text": "review"})\n')
    with pytest.raises(
        RegistryError, match=r"line 2 of columns.py: Delimited.columns: .*'text' is not a field of an ex"
    ):
        load_plugin(str(plugin))


def test_a_second_thread_waits_for_the_whole_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "slow_family"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "member.py").write_text(
        "import time, slow_registry\ntime.sleep(0.3)\n"
        "assert slow_registry.SLOW.names() == []\n"  # its own look-ups do not wait
        "slow_registry.SLOW.add('member', 1, origin='here')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[int] = Registry("member", home="slow_family")
    monkeypatch.setitem(sys.modules, "slow_registry", SimpleNamespace(SLOW=registry))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: registry.get("member"), range(2))) == [1, 1]


def test_a_second_thread_waits_for_the_task_tables() -> None:
    script = (
        "import sys; sys.setswitchinterval(1e-5)\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from claf2.task import tasks\n"
        "with ThreadPoolExecutor(4) as pool: print({task.name for task in pool.map(tasks.get, ['nsmc'] * 4)})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "{'nsmc'}\n", done.stderr
