"""Masked tokens beside other tasks, and what a fine-tuning has to do with them: nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertPreTrainedModel

from claf2 import config
from claf2.errors import ConfigError, ModelError
from claf2.heads import heads
from claf2.heads.mlm import MaskedTextFeaturizer
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.readers import TextExample
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve
from claf2.tokenizers.build import load_tokenizer

Words = Callable[..., list[str]]


def test_special_and_unknown_tokens_of_a_text_are_not_masked(model_folder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(model_folder())
    text = f"the king 뷁 and {tokenizer.separator} the queen 뷁 ran"
    (feature,) = MaskedTextFeaturizer(max_seq_length=64, mask_rate=0.99).features(
        [TextExample(id="1", text_a=text)], tokenizer, [], Counter()
    )
    targets = np.array(feature["labels"])
    ids = np.array(feature["input_ids"])
    assert tokenizer.unknown_id in ids
    assert (ids == tokenizer.separator_id).sum() == 2
    assert not set(targets[targets != -100].tolist()) & tokenizer.special_ids


def test_only_decoders_of_tokens_are_tied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tied: list[str] = []
    tie_weights = BertPreTrainedModel.tie_weights

    def recorded(self: Any, *args: Any, **options: Any) -> None:
        if sys._getframe(1).f_code.co_name == "_next_module":
            tied.append(type(self).__name__)
        tie_weights(self, *args, **options)

    monkeypatch.setattr(BertPreTrainedModel, "tie_weights", recorded)
    spec = ModelSpec(pretrained_model_name="scratch", architecture={"model_type": "bert", "hidden_size": 24})
    kinds = {"first": "classify", "second": "classify", "third": "mlm"}
    tasks = {task: TaskHead(heads.get(kind)(), ["0", "1"] if kind != "mlm" else []) for task, kind in kinds.items()}
    build_model(spec, "scratch", tasks, vocab_size=60, pad_id=0, seed=1)
    assert tied == ["BertForMaskedLM"]


def build(folder: Path, kind: str, *, may_be_new: bool = False) -> EncoderWithHeads:
    labels = [] if kind == "mlm" else ["0", "1"]
    part = TaskHead(heads.get(kind)(), labels, may_be_new=may_be_new)
    return build_model(ModelSpec(), folder, {"t": part}, vocab_size=100, pad_id=0, seed=1)


def test_only_a_task_on_a_corpus_starts_without_weights(
    model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(model_folder() / "config.json", tmp_path)
    with pytest.raises(ModelError):
        build(tmp_path, "mlm")
    assert not caplog.records
    build(tmp_path, "mlm", may_be_new=True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "has no weights, so pre-training starts with new ones" in record.getMessage()


def test_a_missing_decoder_of_tokens_is_reported(
    model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(model_folder(), "classify")
    assert not caplog.records
    model: Any = build(model_folder(), "mlm").head("t")
    assert "weights of the decoder of masked tokens are missing, cls.predictions." in caplog.text
    caplog.clear()
    model.save_pretrained(tmp_path)
    build(tmp_path, "mlm")
    assert not caplog.records


def test_fine_tuning_loads_only_what_the_schema_needs() -> None:
    code = (
        "import sys\n"
        "from claf2 import config\n"
        "from claf2.runs import explain, train\n"
        "config.load('glue/rte_bert')\n"
        "others = ('claf2.models.target_tokens', 'claf2.training.stable_adamw', 'zstandard')\n"
        "print(*sorted(name for name in sys.modules if name.startswith('claf2.corpus.') or name in others))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The sections of a BaseConfig, and the blocks that they name.
    sections = {"section", "sources", "rows", "encoding"}
    names = {name.removeprefix("claf2.corpus.") for name in done.stdout.split()}
    assert {name for name in names if not name.startswith(("instances", "masks"))} == sections


def test_growing_batches_must_be_divisible_too(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = '{"batch_size": 5, "increment": 11, "rows": 10}'
    run, data = resolve(config.load("scratch/pretrain", words("--trainer.pretrain.batch_ramp", ramp)))
    monkeypatch.setattr("claf2.runs.prepare.distributed.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="a batch of 5 rows cannot be divided among 2 processes"):
        prepare(run, data)
