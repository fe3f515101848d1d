"""Fill, validate: the grammar, the command line's overrides, and each mistake with its one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claf2 import config, overrides
from claf2.config import Experiment
from claf2.errors import Claf2Error, ConfigError
from claf2.metrics.span import SquadScore
from claf2.schema import fields, options, section_of

# The BaseConfig of the design document, as CLaF's users write one.
CLAF: dict[str, Any] = {
    "data_reader": {
        "dataset": "squad_bert",
        "train_file_path": "korquad/train.json",
        "valid_file_path": "korquad/dev.json",
        "squad_bert": {"lang_code": "ko", "max_seq_length": 512, "context_stride": 128, "max_question_length": 64},
    },
    "iterator": {"batch_size": 12},
    "token": {
        "names": ["feature"],
        "types": ["feature"],
        "tokenizer": {
            "subword": {"name": "wordpiece", "wordpiece": {"vocab_path": "kor_32k_v1_vocab.txt"}},
            "word": {"name": "bert_basic", "bert_basic": {"do_lower_case": False}},
        },
        "feature": {
            "vocab": {"pretrained_path": "kor_32k_v1_vocab.txt", "pretrained_token": "all"},
            "indexer": {"do_tokenize": False},
        },
    },
    "model": {
        "name": "bert_for_qa",
        "bert_for_qa": {"pretrained_model_name": "larva-kor-small-cased", "answer_maxlen": 30},
    },
    "trainer": {
        "log_dir": "logs/klue/korquad",
        "num_epochs": 5,
        "early_stopping_threshold": 10,
        "metric_key": "f1",
        "verbose_step_count": 100,
        "eval_and_save_step_count": 1000,
    },
    "optimizer": {
        "learning_rate": 3e-5,
        "op_type": "adamw",
        "adamw": {"weight_decay": 0.01},
        "lr_scheduler_type": "warmup_linear",
        "warmup_linear": {"warmup_proportion": 0.1},
    },
    "seed_num": 42,
}


@pytest.fixture
def claf(tmp_path: Path) -> Path:
    path = tmp_path / "claf.json"
    path.write_text(json.dumps(CLAF, indent=2))
    return path


def test_a_claf_config_means_what_it_says(claf: Path) -> None:
    experiment = config.load(str(claf))
    assert experiment.task.name == "squad"
    assert experiment.task.language == "ko"
    assert experiment.task.metrics == (SquadScore(language="ko"),)
    assert experiment.featurizer.model_dump() == {
        "lang_code": "ko",
        "max_seq_length": 512,
        "context_stride": 128,
        "max_question_length": 64,
    }
    assert experiment.update.weight_decay == 0.01
    assert experiment.schedule.warmup_proportion == 0.1
    assert experiment.seed == 42


def test_a_filled_config_is_a_valid_one_and_fills_to_itself(claf: Path, tmp_path: Path) -> None:
    filled = config.fill(str(claf))
    again = tmp_path / "again.json"
    again.write_text(json.dumps(filled.values))
    assert config.fill(str(again)).values == filled.values
    assert config.load(str(again)).recipe_digest() == config.validate(filled).recipe_digest()


def test_the_recipe_digest_sees_the_recipe_alone(claf: Path) -> None:
    def digest(*words: str) -> str:
        return config.load(str(claf), words).recipe_digest()

    free = [
        "--pretrained_model_name",
        "x",
        "--seed_num",
        "1",
        "--log_dir",
        "y",
        "--train_file_path",
        "z",
        "--workers",
        "0",
    ]
    assert digest() == digest(*free)
    for words in (["--learning_rate", "1e-5"], ["--batch_size", "13"], ["--answer_maxlen", "9"], ["--lang_code", "en"]):
        assert digest() != digest(*words)


def test_every_way_to_write_an_override(claf: Path) -> None:
    def rate(*words: str) -> float:
        return config.load(str(claf), words).optimizer.learning_rate

    assert rate("--optimizer.learning_rate", "1e-4") == 1e-4
    assert rate("--learning_rate", "1e-4") == 1e-4
    assert rate("--learning_rate=1e-4") == 1e-4
    assert rate("optimizer.learning_rate=1e-4") == 1e-4
    experiment = config.load(str(claf), ["--num_train_epochs", "2", "--model_name_or_path", "m", "--eval_steps", "0.5"])
    assert experiment.trainer.num_epochs == 2
    assert experiment.model.pretrained_model_name == "m"
    assert experiment.trainer.eval_and_save_step_count == 0.5
    experiment = config.load(
        str(claf), ["--betas", "[0.9, 0.98]", "--grad_max_norm", "null", "--deterministic", "false"]
    )
    assert experiment.update.model_dump()["betas"] == (0.9, 0.98)
    assert experiment.trainer.grad_max_norm is None
    assert experiment.runtime.deterministic is False


def test_a_selector_changes_the_block_and_says_what_is_left(claf: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("claf2").propagate = True
    experiment = config.load(
        str(claf), ["--op_type", "adamax", "--adamax.weight_decay", "0.2", "--do_lower_case", "true"]
    )
    assert type(experiment.update).__name__ == "Adamax"
    assert experiment.update.weight_decay == 0.2
    assert "optimizer.adamw is not used: optimizer.op_type is 'adamax'" in caplog.text


MISTAKES: list[tuple[list[str], str]] = [
    (
        ["--learning_rat", "1"],
        r"^learning_rat: no such field \(from command line\); did you mean 'optimizer.learning_rate'\?$",
    ),
    (
        ["--trainer.learning_rate", "1"],
        r"^trainer.learning_rate: no such field .*did you mean optimizer.learning_rate\?$",
    ),
    (["--name", "x"], r"^name: fits more than one field .*model.name or .*trainer.name"),
    (
        ["--num_epochs", "many"],
        r"^trainer.num_epochs: 'many' should be a valid number \(from command line --num_epochs\)$",
    ),
    (["--batch_size", "3.5"], r"^iterator.batch_size: 3.5 should be a valid integer"),
    (["--batch_size", "0"], r"^iterator.batch_size: 0 should be greater than or equal to 1"),
    (["--eval_and_save_step_count", "often"], r"^trainer.eval_and_save_step_count: 'often' should"),
    (["--dataset", "korqad"], r"^data_reader.dataset: task 'korqad' is not registered; did you mean 'korquad'"),
    (["--model.name", "bert_for_reg"], r"^model.name: 'bert_for_reg' answers 'regress', but task 'squad' needs 'span'"),
    (["--vocab_path", "other.txt"], r"^token.feature.vocab.pretrained_path: 'kor_32k_v1_vocab.txt' is not the subword"),
    (["--names", '["word"]'], r"^token.names: 'word' should be 'feature'"),
    (["--warmup_proportion", "1"], r"^optimizer.warmup_linear.warmup_proportion: 1 should be less than 1"),
    (["stray"], r"^stray: is no option \(from command line\); write --stray VALUE or stray=VALUE$"),
    (["--eval_and_save_step_count", "1.5"], r"^trainer.eval_and_save_step_count: 1.5 should"),
    (["--eval_and_save_step_count", "0"], r"^trainer.eval_and_save_step_count: 0 should"),
    (["--device", "gpu"], r"^runtime.device: 'gpu' .*should match pattern"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_on_the_command_line_are_one_line(words: list[str], message: str, claf: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(str(claf), words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            '"learning_rat": 1,',
            r"^optimizer.learning_rat: no such field \(from .*claf.json:\d+\); did you mean 'optimizer",
        ),
        ('"num_epochs": 1,', r"^optimizer.num_epochs: no such field .*did you mean trainer.num_epochs\?"),
        ('"learning_rate": "3e-5", "x": 1,', r"^learning_rate: stands twice in one object"),
        ('"seed": ,', r"^base_config: not JSON|has no place here"),
    ],
)
def test_mistakes_in_the_file_name_the_line(change: str, message: str, claf: Path) -> None:
    claf.write_text(claf.read_text().replace('"optimizer": {', '"optimizer": {' + change))
    with pytest.raises(ConfigError, match=message):
        config.load(str(claf))


def jsonnet(folder: Path, text: str) -> Path:
    path = folder / "x.jsonnet"
    path.write_text(text)
    return path


def test_jsonnet_imports_and_the_origin_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "base.libsonnet").write_text("{\n  iterator: { batch_size: 7 },\n  seed_num: 1,\n}\n")
    path = jsonnet(
        tmp_path,
        "// a comment\n(import 'base.libsonnet') + {\n  data_reader: { dataset: 'nsmc' },\n"
        "  iterator+: { eval_batch_size: 9 },\n  seed_num: 2,\n}\n",
    )
    filled = config.fill(str(path), ["--learning_rate", "1e-3"])
    assert filled.values["iterator"] == {"batch_size": 7, "eval_batch_size": 9}
    assert filled.values["seed_num"] == 2
    ends = {
        key: filled.origins[key].rsplit("/", 1)[-1]
        for key in ("iterator.batch_size", "iterator.eval_batch_size", "seed_num")
    }
    assert ends == {
        "iterator.batch_size": "base.libsonnet:2",
        "iterator.eval_batch_size": "x.jsonnet:4",
        "seed_num": "x.jsonnet:5",
    }
    assert filled.origins["optimizer.learning_rate"] == "command line --learning_rate"
    assert filled.origins["trainer.num_epochs"] == "default"


@pytest.mark.parametrize(
    "text",
    [
        "local x = 1; { seed_num: x }",
        "{ seed_num: 1 + 1, data_reader: { dataset: self.seed_num } }",
        "{ seed_num: std.length('ab') }",
        "{ seed_num: if true then 1 else 2 }",
        "{ [x]: 1 for x in ['a'] }",
        "{ f(x): x }",
        "{ seed_num:: 1 }",
        "{ seed_num: 1 } { seed_num: 2 }",
        "{ seed_num: $.x }",
        "{ seed_num: importstr 'x' }",
        "{ seed_num: 2 * 3 }",
        "{ assert true }",
    ],
)
def test_jsonnet_is_restricted_to_import_and_plus(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no place here \(from .*x\.jsonnet:1\); a BaseConfig is made of"):
        overrides.read(jsonnet(tmp_path, text))


def test_plain_json_needs_no_jsonnet(claf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "_jsonnet", None)
    assert config.load(str(claf)).seed == 42
    with pytest.raises(ConfigError, match=r"reading \.jsonnet needs the package jsonnet"):
        overrides.read(jsonnet(tmp_path, "{}"))


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ConfigError, match="no BaseConfig 'klue/korqad_bert'; did you mean 'klue/korquad_bert'"):
        config.load("klue/korqad_bert")


def changed(value: Any, annotation: Any) -> str:
    """Return the text of another value that a field of this type and present value takes."""
    kinds = [each for each in options(annotation) if each is not type(None)]
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int | float):
        return repr(value / 2) if isinstance(value, float) and value else repr(value + 1 if value else 0.5)
    if isinstance(value, list):
        return json.dumps([0.5, 0.75] if len(value) == 2 else value[:-1])
    if isinstance(value, dict):
        return json.dumps({**value, "model_type": "electra"})
    if value is None:
        return {int: "3", float: "0.25", str: "some", bool: "true"}[kinds[0]]
    return "7" if value == "epoch" else f"{value}-x"


FIXED = {
    "name", "dataset", "op_type", "lr_scheduler_type", "names", "types", "pretrained_token", "do_tokenize", "source",
    "device", "plugins", "pretrained_path", "lang_code", "precision", "padding", "engine",
}  # fmt: skip
"""Selectors, and fields with one or two legal values: tested by name above."""


SHIPPED = [name for name in overrides.names() if not name.startswith("multi_task/")]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_leaf_of_every_shipped_config_can_be_set(name: str, tmp_path: Path) -> None:
    """On the filled config, which is the same experiment and quicker to read than Jsonnet."""
    filled = config.fill(name)
    stored = tmp_path / "filled.json"
    stored.write_text(json.dumps(filled.values))
    kind = config.experiment_type(filled.selected)
    present = dict(overrides.leaves(filled.values))
    seen = 0
    for path, annotation in fields(kind):
        if path.rsplit(".", 1)[-1] in FIXED or section_of(annotation) or path not in present:
            continue
        text = changed(present[path], annotation)
        try:
            experiment: Experiment = config.load(str(stored), [f"--{path}", text])
        except Claf2Error as error:
            raise AssertionError(f"--{path} {text}: {error}") from error
        now = experiment.values
        for key in path.split("."):
            now = now[key]
        assert json.dumps(now) != json.dumps(present[path]) or present[path] == [], path
        assert experiment.origins[path] == f"command line --{path}"
        seen += 1
    assert seen > 25


SHIPPED = [name for name in overrides.names() if not name.startswith("multi_task/")]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_names_its_source_and_is_valid(name: str) -> None:
    experiment = config.load(name)
    path = overrides.find(name)
    assert path.suffix == ".json" or path.read_text().startswith("// ")
    assert experiment.trainer.log_dir
    assert len(experiment.recipe_digest()) == 64


@given(st.text(min_size=1))
def test_any_text_is_either_an_override_or_one_line(text: str) -> None:
    try:
        config.fill("klue/korquad_bert", [f"--{text}", "1"])
    except Claf2Error as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_the_schema_lets_editors_complete() -> None:
    schema = config.json_schema()
    assert {"data_reader", "model", "trainer", "optimizer", "token", "runtime"} <= schema["properties"].keys()
    blocks = schema["$defs"]["OptimizerSection"]["properties"]
    assert {"adamw", "adamax", "warmup_linear", "warmup_cosine"} <= blocks.keys()
    assert "korquad" in schema["$defs"]["DataReader"]["properties"]
    assert schema["$defs"]["DataReader"]["properties"]["data_dir"]["description"]
