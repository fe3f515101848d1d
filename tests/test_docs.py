"""The commands of README and docs do what they say; links point somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from claf2.task import shipped_dir

ROOT = shipped_dir("tasks").parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

KORQUAD = "python train.py --base_config klue/korquad_bert --bert_for_qa.pretrained_model_name klue/bert-base"
RTE = "claf2 train --base_config glue/rte_bert --pretrained_model_name bert-base-cased --valid_fraction 0.1"
GLUE = "python train.py --base_config multi_task/glue_mtdnn --pretrained_model_name bert-base-cased --data_dir DATA"
SEVERAL = "python train.py --tasks glue/rte_bert,glue/mrpc_bert,squad/v1_bert --pretrained_model_name bert-base-cased "
ELSEWHERE = {
    GLUE: "test_several.py, with a local model and samples",
    f"{SEVERAL}--data_dir DATA": "test_several.py, with a local model and samples",
    KORQUAD: "test_cli.py, with a local model",
    "python evaluate.py logs/klue/korquad": "test_cli.py",
    RTE: "test_run.py, with a local model",
    "make demo": "by hand, and its command in test_run.py",
    "make test": "this is it",
}
"""Commands that need a model from the hub, or make an environment: who runs them instead."""

TESTED_ALONE = {
    "storage.md": "storage/test_page.py",
    "notifications.md": "notifications/test_notify.py",
    "board.md": "board/test_submission.py",
    "corpus.md": "corpus/test_commands.py",
    "serving.md": "serving/test_page.py",
    "vocabulary.md": "vocabulary/test_vocabulary_commands.py",
    "smaller.md": "export/test_smaller.py",
    "retrieval.md": "retrieval/test_page.py",
    "decoders.md": "heads/test_decoders_page.py",
    "embeddings.md": "heads/test_embeddings_page.py",
}
"""Pages whose commands another test runs, because they need files or more checks."""


def commands(path: Path) -> list[str]:
    """Return the commands of a page, in order: the lines of blocks without a language, continued lines as one."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    return [line for line in lines if line.startswith(("claf2 ", "python ", "make "))]


def named_files(path: Path) -> list[tuple[str, str]]:
    """Return the (name, content) of the files that a page shows: a block after its name and a colon."""
    text = path.read_text(encoding="utf-8")
    return re.findall(r"`(my_\w+\.(?:py|json|csv))`:\s+^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_handbook_is_what_the_tables_say() -> None:
    """After a change of a row: claf2 tasks handbook > docs/tasks.md"""
    code = "from claf2.cli.main import main; main(['tasks', 'handbook'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "docs/tasks.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in TESTED_ALONE], ids=lambda path: path.name)
def test_commands(path: Path, tmp_path: Path) -> None:
    for name, block in named_files(path):
        (tmp_path / name).write_text(block)
    run = "logs/klue/korquad"
    for command in commands(path):
        if command in ELSEWHERE or run in command:
            continue
        words = shlex.split(command)
        if words[0] == "python" and words[1].startswith("benchmarks/"):
            check_options(words)
            continue
        assert words[0] == "claf2", f"{command}: say in ELSEWHERE who runs it"
        code = "from claf2.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


def check_options(words: list[str]) -> None:
    """A benchmark takes up to an hour and is run by hand: check that it exists and has the options of the page."""
    own = words[2 : words.index("--")] if "--" in words else words[2:]
    done = subprocess.run([sys.executable, ROOT / words[1], "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[1]}: {done.stderr}"
    for option in own:
        assert not option.startswith("--") or option in done.stdout, f"{words[1]} has no option {option}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_placeholders(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (path.parent / link).exists(), link
    assert not re.findall(r"\b[A-Z]+_?(?:TRANSCRIPT|PARITY)\b|^PARITY$", text, re.MULTILINE)
