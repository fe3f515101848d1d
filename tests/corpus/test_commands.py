"""The commands ``corpus show`` and ``corpus build``."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.cli.main import main
from claf2.corpus.corpus import Corpus
from claf2.corpus.section import CorpusSection, MasksSection
from claf2.corpus.sources import TextSource
from claf2.task import shipped_dir
from claf2.tokenizers import Tokenizer


@pytest.fixture
def run(
    tokenizer: Tokenizer, corpus_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command on the generated corpus, and return its exit code and what it prints."""
    tokenizer.save(tmp_path / "tokenizer")

    def run_(command: str, *words: str, source: str = str(corpus_file)) -> tuple[int, str]:
        fixed = ["--tokenizer", str(tmp_path / "tokenizer"), "--cache_dir", str(tmp_path / "cache")]
        with pytest.raises(SystemExit) as end:
            main(["corpus", command, source, *fixed, "--set", "shard_bytes=8192", *words])
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out + output.err

    return run_


def test_show_counts_and_prints_masked_rows(run: Callable[..., tuple[int, str]]) -> None:
    words = "--phase 32:16:100 --phase 64:8:150 --set masks.name=eojeol --set instances.name=sentence_pair --step 120"
    code, output = run("show", "--all", *words.split())
    assert code == 0
    assert "shards, all counted" in output
    assert re.search(r"documents +500\n", output)
    assert re.search(r"100-150 +64 +8 ", output)
    assert "step 120: 15.0 % of the tokens are predicted" in output
    rows = [line for line in output.splitlines() if line.startswith("- ")]
    assert len(rows) == 3
    assert all(
        row.startswith(("- true next: [CLS] ", "- random next: [CLS] ")) and row.endswith("[SEP]") for row in rows
    )
    # An eojeol is hidden as a whole: its braces are followed by white space, a special token, or other tokens of it.
    assert re.search(r" \{[^{}>=]+\} ", "".join(rows))
    _, estimated = run("show", "--rows", "0", *words.split())
    assert "estimated from 4 of them" in estimated


def test_the_estimate_is_close_to_the_count(run: Callable[..., tuple[int, str]]) -> None:
    def tokens(output: str) -> int:
        return int(re.search(r"tokens +([\d,]+)", output)[1].replace(",", ""))  # type: ignore[index]

    counted, estimated = run("show", "--all")[1], run("show", "--shards", "12")[1]
    assert abs(tokens(estimated) / tokens(counted) - 1) < 0.1


def test_a_source_that_is_read_in_some_epochs_has_less_than_a_row_each(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("라바는 잎을 먹는다. 라바는 잔다. 라바는 곧 나비가 된다.\n")
    words = ["--phase", "64:4:100", "--rows", "0", "--set", "instances.name=sentence_pair"]
    code, output = run("show", *words, source=f"{tmp_path / 'one.txt'},weight=0.3")
    assert code == 0
    # 400 rows of a text of one row that 0.3 epochs read.
    assert re.search(r"0-100 +64 +4 +0\.3 +[1-9][\d.]+% +[\d,]+ +1333\.33\n", output)
    assert "warning: all sentences are from one document, so no second sentence is random" in output
    code, output = run("show", *words, source=f"{tmp_path / 'one.txt'},weight=0")
    assert code == 2
    assert output.startswith("error: corpus: contains no rows")


def test_build_makes_all_shards(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, output = run("build")
    assert code == 0
    shards = len(list((tmp_path / "cache").rglob("tokens.bin")))
    assert re.match(rf"{shards} shards: 500 documents, [\d,]+ tokens, [\d.]+ MB in ", output)
    assert run("build")[1] == output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--phase 128", "phase: '128' is not a length"),
        ("--phase 4:1:1", "--phase 4:1:1: max_seq_length: Input should be greater than or equal to 8"),
        ("--phase 64:8:100 --phase 128:8:50", "phases: must end one after another"),
        ("--phase 9999999:256:10", "max_seq_length: Input should be less than or equal to 1048576"),
        (f"--phase {'9' * 5000}:256:10", "max_seq_length: "),
        ("--set =3", "--set =3: is not FIELD=VALUE"),
        ("--set masks", "--set masks: is not FIELD=VALUE"),
        ("--set masks.name=words", "'words' is not registered; did you mean 'word'"),
        ("--set instances.name=pairs", "kind of instances 'pairs' is not registered"),
        ("--set window=0", "window: Input should be greater than or equal to 1"),
        ("--set windows=3", "windows: no such field; did you mean 'window'?"),
        ('--set masks.mixture={"parts":{"word":[[0,0.5]]}}', "masks.mixture: the shares of the parts must sum to 1"),
        ("--set masks.ngram.max_words=5", "masks.ngram: has no effect while masks.name is 'token'; add --set masks"),
        ("--set instances.sentence_pair={}", "sentence_pair: has no effect while instances.name is 'full_sen"),
        ("--sample", "--sample: needs --base_config"),
        ("--windows 3", "--windows: no such option"),
        ("--base_config scratch/nsmc", "--tokenizer: cannot be combined with --base_config"),
        ("--step 10000", "step: 10000 is after the last step"),
        ("--set sources.0.weight=0", "'sources' is not a section"),
    ],
)
def test_mistakes_are_one_line(run: Callable[..., tuple[int, str]], words: str, problem: str) -> None:
    code, output = run("show", *words.split())
    assert code == 2
    assert problem in output
    assert len(output.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_commands_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (shipped_dir("tasks").parent / "docs/corpus.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    text = next(block for _, block in blocks if "라바는 이른 봄에" in block)
    (tmp_path / "my_larva.txt").write_text(text, encoding="utf-8")
    for name, content in re.findall(r"`(my_\w+\.(?:py|csv))`:\s+^```\w+\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = [line for language, block in blocks if not language for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        assert not end.value.code, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "3 documents" in output
    assert "random next: [CLS]" in output
    # What the page shows is what the command prints.
    assert next(block for language, block in blocks if language == "text" and "too short" in block) in output
    # The section that the page shows is a valid one, and says what its text says.
    masks = next(json.loads(block)["masks"] for language, block in blocks if language == "json")
    mixture = MasksSection(**masks).chosen()
    assert [round(mixture.rate_at(step), 3) for step in (0, 99_999, 100_000, 1_000_000)] == [0.3, 0.3, 0.285, 0.15]


def test_show_says_what_the_token_frequencies_alone_predict(
    run: Callable[..., tuple[int, str]], corpus_file: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    held_out = ["--set", "valid_documents=40", "--phase", "64:16:100", "--rows", "0", "--all"]
    code, output = run("show", *held_out)
    assert code == 0
    found = re.search(r"held out +([\d,]+) masked tokens; .* at ([\d.]+) nats each, ([\d.]+) per byte", output)
    assert found is not None
    # The same from its definition: every token of the training text is counted, and the masked ones are priced.
    section = CorpusSection(sources=[TextSource(path=str(corpus_file))], valid_documents=40, shard_bytes=8192)
    corpus = Corpus(section, tokenizer, cache_dir=tmp_path / "own")
    counts = Counter(range(tokenizer.vocab_size))
    for number in range(len(corpus)):
        counts.update(corpus.shard(number).ids[corpus.held_out_tokens(number) :].tolist())
    rows = corpus.valid_rows(64).features
    masked = [label for row in rows for label in row["labels"] if label >= 0]
    nats = [-math.log(counts[label] / counts.total()) for label in masked]
    size = sum(tokenizer.byte_lengths(masked))
    assert int(found[1].replace(",", "")) == len(masked) > 100
    assert float(found[2]) == pytest.approx(sum(nats) / len(nats), abs=1e-3)
    assert float(found[3]) == pytest.approx(sum(nats) / size, abs=1e-3)
    assert "held out" not in run("show", "--rows", "0")[1]
