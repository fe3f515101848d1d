"""The commands of docs/decoders.md, on small models and generated samples."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from language_models import byte_tokenizer, save_language_model
from test_docs import ROOT, commands

PHASES = json.dumps([{"until": 20, "batch_size": 8, "max_seq_length": 64}])


@pytest.mark.slow
def test_every_command_of_the_page(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    masked = model_folder(auto_class="AutoModelForMaskedLM")
    local = {
        "google/mt5-small": str(save_language_model("t5", tmp_path / "t5")),
        "klue/bert-base": str(masked),
    }
    extra = {
        "scratch/pretrain_decoder": ["--trainer.pretrain.phases", PHASES],
        "scratch/instruct": ["--num_steps", "5"],
        "rank": ["--sample", "--num_steps", "3"],
        "rank_mask": ["--sample", "--num_steps", "3", "--label_words", '{"0": "나쁘다", "1": "좋다"}'],
    }
    byte_tokenizer().save(tmp_path / "my_tokenizer")
    for command in commands(ROOT / "docs/decoders.md"):
        words = [local.get(word, word) for word in shlex.split(command)]
        for name, more in extra.items():
            words += more if name in words else []
        if "extend" in words:  # the sample's vocabulary knows these bytes, but not these words
            words[words.index("my_tokenizer")] = str(tmp_path / "my_tokenizer")
        done = subprocess.run(
            [sys.executable, "-c", "from claf2.cli.main import main; main()", *words[1:]],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (tmp_path / "logs/in_context/nsmc/demonstrations.json").is_file()
    settings = json.loads((tmp_path / "models/larger/config.json").read_text())
    before = json.loads((tmp_path / "logs/scratch/pretrain_decoder/best/config.json").read_text())
    assert settings["vocab_size"] > before["vocab_size"]
