"""BaseConfigs of CLaF (naver/claf, commit 6f45b1e): filled, built and stepped as they are."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from claf2 import config
from claf2.errors import ConfigError, ModelError
from claf2.runs.train import train

CHECKOUT = "CLAF2_CLAF_CHECKOUT"
"""The environment variable that names a checkout of CLaF."""

ADDRESS = "https://s3.amazonaws.com/models.huggingface.co/bert"

# The layout of CLaF's files: task → head, metric_key, rows of a batch.
GLUE = {
    "cola": ("seq_cls", "matthews_corr", 32),
    "mnli": ("seq_cls", "accuracy", 32),
    "mrpc": ("seq_cls", "f1", 16),
    "qqp": ("seq_cls", "f1", 32),
    "stsb": ("reg", "pearson_spearman_corr", 32),
}


def token(encoder: str) -> dict[str, Any]:
    if encoder.startswith("roberta"):
        files = {"vocab_path": f"{ADDRESS}/{encoder}-vocab.json", "merges_path": f"{ADDRESS}/{encoder}-merges.txt"}
        specials = {"pad_token": "<pad>", "oov_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
        tokenizer: dict[str, Any] = {"bpe": {"name": "roberta", "roberta": files}}
    else:
        files, specials = {"vocab_path": f"{ADDRESS}/{encoder}-vocab.txt"}, {}
        tokenizer = {
            "subword": {"name": "wordpiece", "wordpiece": files},
            "word": {"name": "bert_basic", "bert_basic": {"do_lower_case": "uncased" in encoder}},
        }
    vocab = {"pretrained_path": files["vocab_path"], "pretrained_token": "all", **specials}
    feature = {"vocab": vocab, "indexer": {"do_tokenize": False}}
    return {"names": ["feature"], "types": ["feature"], "tokenizer": tokenizer, "feature": feature}


def layout(dataset: str, block: dict[str, Any], encoder: str, head: str, metric_key: str, rows: int) -> dict[str, Any]:
    model = f"{encoder.split('-')[0]}_for_{head}"
    return {
        "data_reader": {"dataset": dataset, "train_file_path": "t.tsv", "valid_file_path": "v.tsv", dataset: block},
        "iterator": {"batch_size": rows},
        "token": token(encoder),
        "model": {"name": model, model: {"pretrained_model_name": encoder}},
        "trainer": {
            "log_dir": "logs/claf", "num_epochs": 5, "early_stopping_threshold": 10, "metric_key": metric_key,
            "eval_and_save_step_count": 100,
        },
        "optimizer": {
            "learning_rate": 2e-5, "op_type": "adamw", "adamw": {"weight_decay": 0.01},
            "lr_scheduler_type": "warmup_linear", "warmup_linear": {"warmup_proportion": 0.1},
        },
        "seed_num": 42,
    }  # fmt: skip


def text_block(encoder: str, length: str = "sequence_max_length", size: int = 128) -> dict[str, Any]:
    roberta = {"cls_token": "<s>", "sep_token": "</s>", "input_type": "roberta"}
    return {length: size, **(roberta if encoder.startswith("roberta") else {})}


def several() -> dict[str, Any]:
    readers = [
        {"dataset": f"{task}_bert", "train_file_path": "t", "valid_file_path": "v", f"{task}_bert": text_block("bert")}
        for task in GLUE
    ]
    block = {"batch_sizes": [rows for _, _, rows in GLUE.values()], "readers": readers}
    values = layout("multitask_bert", block, "bert-base-uncased", "multi", "average", 1)
    values["model"]["bert_for_multi"]["dropouts"] = [0.05, 0.3, 0.1, 0.1, 0]
    return values


SPAN = {"lang_code": "en", "max_seq_length": 384, "context_stride": 128, "max_question_length": 64}

LAYOUTS: dict[str, dict[str, Any]] = {
    **{
        f"{task}_{encoder.split('-')[0]}": layout(f"{task}_bert", text_block(encoder), encoder, *rest)
        for encoder in ("bert-base-uncased", "roberta-base")
        for task, rest in GLUE.items()
    },
    "conll2003": layout(
        "conll2003_bert", {"sequence_max_length": 128, "ignore_tag_idx": -1}, "bert-large-cased", "tok_cls",
        "conlleval_f1", 32,
    ),
    "squad_bert": layout("squad_bert", SPAN, "bert-large-uncased", "qa", "f1", 12),
    "squad_roberta": layout(
        "squad_bert", {**SPAN, "cls_token": "<s>", "sep_token": "</s>"}, "roberta-large", "qa", "f1", 12
    ),
    "several": several(),
}  # fmt: skip

YAML = """
data_reader:
  dataset: "squad_bert"
  squad_bert: {lang_code: "ko", max_seq_length: 512}
token:
  names:
    - "feature"
  tokenizer: {subword: {name: wordpiece, wordpiece: {vocab_path: "v.txt"}}}
  feature:
    vocab:
      pretrained_path: "v.txt"
    indexer":
      do_tokenize: false
model: {name: "bert_for_qa", bert_for_qa: {answer_maxlen: 30}}
optimizer:
  learning_rate: 3e-5
  adamw: &adamw
    weight_decay: 0.01
"""


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logger = logging.getLogger("claf2")
    logger.propagate = True
    caplog.set_level(logging.INFO, logger="claf2")
    return caplog


def write(folder: Path, values: dict[str, Any]) -> str:
    path = folder / "claf.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)


def step(path: Path, folder: Path, model_folder: Callable[..., Path]) -> None:
    """Train a BaseConfig for two steps with a small model in the place of its own, on samples of its tasks."""
    architecture = "roberta" if "roberta" in path.name else "bert"
    words = ["--pretrained_model_name", str(model_folder(architecture)), "--data_reader.source", "sample"]
    words += ["--num_steps", "2", "--log_dir", str(folder / "log"), "--optimizer.warmup_linear.warmup_steps", "0"]
    if path.suffix == ".yaml":  # it lower-cases a cased vocabulary, so it is no published tokenizer
        words += ["--token", "null"]
    report = train(config.load(str(path), words))
    assert json.loads((folder / "log/metrics.json").read_text())["best_global_step"] in (1, 2)
    assert all(len(task.predictions) == 200 for task in report.tasks.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_clafs_layout_is_filled_and_says_each_translation_once(
    name: str, tmp_path: Path, logs: pytest.LogCaptureFixture
) -> None:
    experiment = config.load(write(tmp_path, LAYOUTS[name]))
    assert experiment.token is None  # the model's own
    task_configs = experiment.tasks.values()
    assert {task.featurizer.max_seq_length for task in task_configs} <= {128, 384}
    messages = [record.message for record in logs.records]
    assert len(messages) == len(set(messages))
    text = "\n".join(messages)
    assert ("sequence_max_length is CLaF's name of max_seq_length" in text) == (not name.startswith("squad"))
    assert ("cls_token is CLaF's; it is not needed" in text) == ("roberta" in name)
    written = LAYOUTS[name]["trainer"]["metric_key"]
    here = {"matthews_corr": "matthews", "pearson_spearman_corr": "pearson_spearman", "conlleval_f1": "f1"}
    assert experiment.trainer_config.metric_key == here.get(written, written)
    assert (f"metric_key {written!r} is CLaF's name" in text) == (written in here)
    again = write(tmp_path, experiment.values)
    logs.clear()
    assert config.fill(again).values == experiment.values
    assert not logs.records


def test_several_readers_are_tasks(tmp_path: Path) -> None:
    experiment = config.load(write(tmp_path, LAYOUTS["several"]))
    assert list(experiment.tasks) == list(GLUE)
    rows = [task.iterator.batch_size for task in experiment.tasks.values()]
    assert rows == [32, 32, 16, 32, 32]
    assert [task.dropout for task in experiment.tasks.values()] == [0.05, 0.3, 0.1, 0.1, 0.0]


@pytest.mark.parametrize("name", ["stsb_bert", "mrpc_roberta", "conll2003", "squad_roberta", "several"])
def test_clafs_layout_is_built_and_stepped(name: str, tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(LAYOUTS[name]))
    step(path, tmp_path, model_folder)


def test_yaml_is_a_format_like_json(tmp_path: Path) -> None:
    path = tmp_path / "korquad.yaml"
    path.write_text(YAML)
    experiment = config.load(str(path))
    assert experiment.optimizer_config.learning_rate == 3e-5
    assert experiment.only_task.task.language == "ko"
    assert experiment.origins["optimizer.learning_rate"] == str(path)
    assert "indexer" in experiment.values["token"]["feature"]
    assert experiment.values["trainer"]["log_dir"] == "logs/korquad"
    (tmp_path / "korquad.json").write_text(json.dumps(yaml.safe_load(YAML.replace("3e-5", "3.0e-5"))))
    assert config.load(str(tmp_path / "korquad.json")).values == experiment.values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"^base_config: not YAML: expected ',' or '\]'.*x.yaml:\d"),
        ("a: 1\nb: 2\na: 3", r"^a: is duplicated in one object \(from .*x.yaml\)"),
        ("a: &a [*a]", "^base_config: not YAML with values of JSON: Circular reference"),
        ("a: !!binary x", "^base_config: not YAML"),
        ("- 1", "^base_config: a BaseConfig must be a single JSON object"),
        ("a: " + "[" * 5000 + "]" * 5000, "^base_config: is nested too deeply"),
        ("seed_num: no\ndata_reader: {dataset: nsmc}", "^seed_num: 'no' should be a valid integer"),
    ],
)
def test_mistakes_in_yaml_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(str(path))
    assert "\n" not in str(caught.value)


def changed(path: str, value: Any, name: str = "cola_roberta") -> dict[str, Any]:
    values = json.loads(json.dumps(LAYOUTS[name]))
    *parents, last = path.split(".")
    section = values
    for key in parents:
        section = section[key]
    section[last] = value
    return dict(values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data_reader.cola_bert.cls_token", "<bos>", "data_reader.cola_bert.cls_token: '<bos>' has no meaning here"),
        ("data_reader.cola_bert.input_type", "elmo", "data_reader.cola_bert.input_type: 'elmo' has no meaning here"),
        ("data_reader.cola_bert.max_seq_length", 64, "sequence_max_length: is CLaF's name of max_seq_length, which"),
        ("token.feature.vocab.pad_token", "[MASK]", "token.feature.vocab.pad_token: '[MASK]' has no meaning here"),
        ("token.tokenizer.bpe.roberta.vocab_path", "mine.json", "token.tokenizer.bpe: CLaF's byte-level BPE cannot"),
        ("trainer.metric_key", "matthews_cor", "trainer.metric_key: 'matthews_cor' is not a score of this task"),
    ],
)
def test_what_has_no_meaning_here_is_refused(path: str, value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, changed(path, value)))
    assert message in str(caught.value)


def test_a_vocabulary_of_ones_own_is_kept(tmp_path: Path) -> None:
    """With another vocabulary, or with another treatment of case, section `token` stays."""
    path = "token.tokenizer.word.bert_basic.do_lower_case"
    assert config.load(write(tmp_path, changed(path, False, "cola_bert"))).token is not None
    words = ["--vocab_path", "v.txt", "--pretrained_path", "v.txt"]
    experiment = config.load(write(tmp_path, LAYOUTS["cola_bert"]), words)
    assert experiment.token is not None
    assert experiment.token[0].model_dump()["do_lower_case"] is True


def test_an_address_of_a_vocabulary_names_the_way_out(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    values = changed("token.tokenizer.word.bert_basic.do_lower_case", False, "cola_bert")
    words = ["--pretrained_model_name", str(model_folder()), "--source", "sample", "--log_dir", str(tmp_path / "log")]
    with pytest.raises(ModelError, match=r"is not downloaded; download it, .* or use the model's .*: --token null"):
        train(config.load(write(tmp_path, values), words))


def test_clafs_names_on_the_command_line(tmp_path: Path) -> None:
    experiment = config.load(write(tmp_path, LAYOUTS["cola_bert"]), ["--sequence_max_length", "64"])
    assert experiment.only_task.featurizer.max_seq_length == 64


def real_files() -> list[Path]:
    """Return the BaseConfigs for BERT and RoBERTa of the checkout of CLaF, where one is named."""
    others = ("bidaf", "docqa", "drqa", "qanet", "structured_self_attention", "sqlnet")
    root = Path(os.environ.get(CHECKOUT, "."), "base_config")
    names = ("cola", "conll2003", "glue", "korquad", "multi_task", "squad") if os.environ.get(CHECKOUT) else ()
    files = [path for name in names for path in sorted((root / name).iterdir())]
    return [path for path in files if not path.name.startswith(others)]


@pytest.mark.slow
@pytest.mark.parametrize("path", real_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_real_file_is_filled_built_and_stepped(
    path: Path, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    step(path, tmp_path, model_folder)


def test_the_checkout_has_all_files() -> None:
    if not os.environ.get(CHECKOUT):
        pytest.skip(f"{CHECKOUT} is not set: it names a checkout of naver/claf at commit 6f45b1e")
    assert len(real_files()) == 33
