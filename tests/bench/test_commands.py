"""The commands of the bench: their examples, their options, and what they import."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import claf2
from claf2.cli.bench import bench_report, bench_run, compare_command, gate_command, parse_seeds
from claf2.errors import RunError

COMMANDS = {
    "claf2 bench run": bench_run, "claf2 bench report": bench_report, "claf2 compare": compare_command,
    "claf2 gate": gate_command,
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_the_help_are_valid(name: str) -> None:
    command = COMMANDS[name]
    shown = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    examples = [line.strip() for line in shown.splitlines() if line.strip().startswith("claf2 ")]
    assert examples, shown
    for example in examples:
        assert example.startswith(f"{name} ")
        context = command.make_context(name, shlex.split(example.removeprefix(name)))
        # An option that a command does not know would be taken as an override of the BaseConfigs.
        unknown = [word for word in context.params.get("overrides", ()) if word.startswith("--")]
        assert set(unknown) <= {"--data_dir", "--learning_rate"}


def test_every_option_is_documented() -> None:
    for command in COMMANDS.values():
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{command.name}: {option.name}"


def test_seeds_are_lists_and_ranges() -> None:
    assert parse_seeds("3,1-2,2") == [3, 1, 2]
    for wrong in ("", "x", "2-1", "1-", "-1", "1,,2", "1" * 30):
        with pytest.raises(RunError, match="write 1,2,3 or 1-3"):
            parse_seeds(wrong)
    assert len(parse_seeds("1-1000")) == 1000
    for many in ("1-1001", "1-99999999999999999", "0-998,5000-5001", f"1-{'9' * 18}"):
        with pytest.raises(RunError, match="more than 1000 seeds; name fewer"):
            parse_seeds(many)


@pytest.mark.parametrize(("given", "shown"), [([], "seeds: 1, 2, 3\n"), (["--seeds", "3"], "seeds: 3\n")])
def test_the_seeds_of_a_bench_are_printed(given: list[str], shown: str) -> None:
    done = CliRunner().invoke(bench_run, ["--suite", "glue", *given])  # stops, since there is no model
    assert shown in done.output
    assert "3 is seed 3 alone" in CliRunner().invoke(bench_run, ["--help"], terminal_width=200).output


def imported_by(module: str) -> set[str]:
    """Return the names of all modules after an import of one, in a new process."""
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_heavy_libraries_are_imported_only_where_they_are_needed() -> None:
    assert not {"filelock", "jinja2", "numpy", "scipy", "torch"} & imported_by("claf2.cli.bench")
    assert not {"jinja2", "torch", "transformers"} & imported_by("claf2.benchmarking.aggregation"), (
        "tables need no model"
    )
    assert not {"jinja2", "torch", "transformers"} & imported_by("claf2.board.pages")


def test_locks_and_pages_are_made_in_one_module_each() -> None:
    package = Path(claf2.__file__).parent
    importers: dict[str, set[str]] = {"filelock": set(), "jinja2": set()}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in importers:
                importers[node.module].add(path.relative_to(package).as_posix())
    # The others need the type of an environment, and the errors of chat templates.
    jinja2 = {"runtime/templates.py", "board/pages/__init__.py", "tokenizers/wrapped.py"}
    assert importers == {"filelock": {"runtime/files.py"}, "jinja2": jinja2}
