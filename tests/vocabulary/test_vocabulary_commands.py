"""The commands of docs/vocabulary.md, run as they are on generated text."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import pytest
from generated import make_sentences, write_documents

from claf2.cli.main import main
from claf2.task import shipped_dir

PAGE = shipped_dir("tasks").parent / "docs/vocabulary.md"


@pytest.mark.slow
def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import BertConfig, BertModel

    from claf2.corpus.sources import TextSource
    from claf2.vocabulary.build import VocabularySpec, build_vocabulary

    monkeypatch.chdir(tmp_path)
    Path("news").mkdir()
    write_documents(Path("news/a.jsonl"), make_sentences(500))
    Path("news/a.jsonl.gz").write_bytes(gzip.compress(Path("news/a.jsonl").read_bytes()))
    Path("talks.txt").write_text("\n\n".join(make_sentences(100, seed=1)), encoding="utf-8")
    spec = VocabularySpec(sources=[TextSource(path="news/a.jsonl")], size=600)
    built = build_vocabulary(spec, Path("models/large"))
    config = BertConfig(
        vocab_size=built.tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    BertModel(config).save_pretrained("models/large")
    block, *_ = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = block.splitlines()
    assert {shlex.split(command)[2] for command in commands} == {"build", "bench", "study", "trim"}
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            main(shlex.split(command)[1:])
        assert caught.value.code == 0, f"{command}: {capsys.readouterr().err}"
    assert Path("vocab/ko/vocab.txt").read_bytes() == Path("vocab/again/vocab.txt").read_bytes()
    assert Path("sizes.svg").is_file()
    assert Path("models/small/model.safetensors").is_file()
