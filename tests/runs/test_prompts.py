"""The prompts of `claf2 generate`: read as the files of conversations are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from claf2.cli.main import claf2 as command
from claf2.errors import Claf2Error
from claf2.readers import Turn
from claf2.runs.generation import parse_prompts


def test_prompts_are_read_as_files_of_conversations_are() -> None:
    lines = [
        "Name the colour.",
        "",
        '{"instruction": "Name it.", "input": null}',
        '{"messages": [{"role": "human", "content": "H"}, {"from": "gpt", "value": "A"},'
        ' {"from": "user", "value": ""}]}',
        '{"conversations": [{"from": "human", "value": "Hi"}]}',
    ]
    assert list(parse_prompts(lines)) == [
        (Turn("user", "Name the colour."),),
        (Turn("user", "Name it."),),
        (Turn("user", "H"), Turn("assistant", "A"), Turn("user", "")),
        (Turn("user", "Hi"),),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"instruction": null}', "line 1: not a conversation: instruction is null, not a string"),
        ('{"messages": [{"role": "user", "content": 3}]}', "line 1: not a conversation: content is 3, not a string"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "line 1: not a conversation: 'robot' is not one of"),
        ('{"messages": ["x"]}', "line 1: not a conversation: "),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
            "line 1: the turns are those of user, user, not of user and assistant in alternation",
        ),
    ],
)
def test_what_is_no_prompt_is_named(line: str, message: str) -> None:
    with pytest.raises(Claf2Error, match=message):
        list(parse_prompts([line]))


def test_files_of_prompts_are_in_utf_8_and_end_lines_in_line_feeds(tmp_path: Path) -> None:
    def run(content: bytes) -> str:
        (tmp_path / "prompts.txt").write_bytes(content)
        # The run is opened after the prompts are read.
        result = CliRunner().invoke(command, ["generate", str(tmp_path), "--input", str(tmp_path / "prompts.txt")])
        return f"{result.stderr}{result.exception}"

    assert "prompts.txt: damaged, or not in UTF-8" in run("누구?".encode("cp949"))
    assert "not a conversation" not in run('{"instruction": "One\u2028line"}\n'.encode())
    assert "line 2: not a conversation" in run('{"instruction": "One\u2028line"}\n{\n'.encode())
