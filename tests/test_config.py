"""Fill, validate: the grammar, the command line's overrides, and each mistake with its one line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claf2 import config
from claf2.config import Experiment, schema, source
from claf2.config.schema import iter_fields, section_of, union_members
from claf2.errors import Claf2Error, ConfigError
from claf2.metrics.span import SquadScore
from claf2.runs import locate

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
    assert experiment.only_task.task.name == "squad"
    assert experiment.only_task.task.language == "ko"
    assert experiment.only_task.task.metrics == (SquadScore(language="ko"),)
    assert experiment.only_task.featurizer.model_dump() == {
        "lang_code": "ko",
        "max_seq_length": 512,
        "context_stride": 128,
        "max_question_length": 64,
    }
    assert experiment.optimizer.weight_decay == 0.01
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
        return config.load(str(claf), words).optimizer_config.learning_rate

    assert rate("--optimizer.learning_rate", "1e-4") == 1e-4
    assert rate("--learning_rate", "1e-4") == 1e-4
    assert rate("--learning_rate=1e-4") == 1e-4
    assert rate("optimizer.learning_rate=1e-4") == 1e-4
    for text in (".0001", "+1e-4", "1.e-4", "01e-4", "+.1e-3", "1E-4"):
        assert rate("--learning_rate", text) == rate(f"learning_rate={text}") == 1e-4
    experiment = config.load(str(claf), ["--num_train_epochs", "2", "--model_name_or_path", "m", "--eval_steps", "0.5"])
    assert experiment.trainer_config.num_epochs == 2
    assert experiment.model.pretrained_model_name == "m"
    assert experiment.trainer_config.eval_and_save_step_count == 0.5
    experiment = config.load(
        str(claf), ["--betas", "[.9, +0.98]", "--grad_max_norm", "null", "--deterministic", "false"]
    )
    assert experiment.optimizer.model_dump()["betas"] == (0.9, 0.98)
    assert experiment.trainer_config.grad_max_norm is None
    assert experiment.runtime.deterministic is False


def test_a_selector_changes_the_block_and_says_what_is_left(claf: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("claf2").propagate = True
    experiment = config.load(
        str(claf), ["--op_type", "adamax", "--adamax.weight_decay", "0.2", "--do_lower_case", "true"]
    )
    assert type(experiment.optimizer).__name__ == "Adamax"
    assert experiment.optimizer.weight_decay == 0.2
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
    (["--name", "x"], r"^name: is ambiguous .*model.name or .*trainer.name"),
    (
        ["--num_epochs", "many"],
        r"^trainer.num_epochs: 'many' should be a valid number \(from command line --num_epochs\)$",
    ),
    (["--batch_size", "3.5"], r"^iterator.batch_size: 3.5 should be a valid integer"),
    (["--batch_size", "0"], r"^iterator.batch_size: 0 should be greater than or equal to 1"),
    (["--eval_and_save_step_count", "often"], r"^trainer.eval_and_save_step_count: 'often' should"),
    (["--dataset", "korqad"], r"^data_reader.dataset: task 'korqad' is not registered; did you mean 'korquad'"),
    (
        ["--model.name", "bert_for_reg"],
        r"^model.name: 'bert_for_reg' has head 'regress', but task 'squad' needs 'span'",
    ),
    (
        ["--vocab_path", "other.txt"],
        r"^token.feature.vocab.pretrained_path: 'kor_32k_v1_vocab.txt' differs from",
    ),
    (["--names", '["word"]'], r"^token.names: 'word' should be 'feature'"),
    (["--warmup_proportion", "1"], r"^optimizer.warmup_linear.warmup_proportion: 1 should be less than 1"),
    (["stray"], r"^stray: is not an option \(from command line\); write --stray VALUE or stray=VALUE$"),
    (["--eval_and_save_step_count", "1.5"], r"^trainer.eval_and_save_step_count: 1.5 should"),
    (["--eval_and_save_step_count", "0"], r"^trainer.eval_and_save_step_count: 0 should"),
    (["--device", "gpu"], r"^runtime.device: 'gpu' .*should match pattern"),
    (["--num_epochs", "Infinity"], r"^trainer.num_epochs: inf should be a finite number"),
    (["--learning_rate", "NaN"], r"^optimizer.learning_rate: nan should be a finite number"),
    (["--learning_rate", "1e999"], r"^optimizer.learning_rate: inf should be a finite number"),
    (["--betas", "[0.9, 1.5]"], r"^optimizer.adamw.betas: 1.5 should be less than 1"),
    (["--seed_num", "9" * 5000], r"^seed_num: '9999"),
    (["--betas", "[" * 5000], r"^optimizer.adamw.betas: '\[\["),
    (
        ["--metric_key", "f2"],
        r"^trainer.metric_key: 'f2' is not a score of this task \(from command line --metric_key\);",
    ),
    (["--metric_key", "squad/f1"], r"^trainer.metric_key: 'squad/f1' is not a score of this task"),
    (["-x"], r"^-x: is not an option \(from command line\); write --x VALUE or x=VALUE$"),
    (["-x", "3"], r"^-x: is not an option .*; write --x VALUE or x=VALUE$"),
    (["a b"], r"^a b: is not an option .*; write --FIELD VALUE or FIELD=VALUE, and quotation marks around"),
    (["glue/rte_bert"], r"^glue/rte_bert: is not an option .*; a BaseConfig is named by --base_config glue/rte_bert"),
    (["my.yaml"], r"^my.yaml: is not an option .*; a BaseConfig is named by --base_config my.yaml, and several by"),
    (
        ["--trainer", '{"num_epochs": 1}'],
        r"^trainer: cannot be set as a whole \(from .*; set its fields .* with --trainer.early\w+ VALUE$",
    ),
    (["--warmup_linear", "x"], r"^warmup_linear: cannot be set as a whole .* with --optimizer.warmup_linear.\w+ "),
    (["--task", "rte"], r"^task: no such field \(from command line\); did you mean the option 'tasks'\?$"),
    *[
        (words, r"^model.peft: cannot be set as a whole \(from .*; set its fields .* with --model.peft.name lora$")
        for words in (["--model.peft", "lora"], ["--peft", "lora"], ["--model.peft", '{"name": "lora"}'])
    ],
    (
        ["--token", '{"tokenizer": {"subword": {"name": "bpe"}}}'],
        r"^token: cannot be set as a whole .*; set its fields .* as with --token.tokenizer.subword.name bpe$",
    ),
    (
        ["--trainer.name", "in_context"],
        r"^trainer.name: 'in_context' takes no step, and the head of task 'squad' would",
    ),
    (["--lora.r", "4"], r"^lora.r: no such field \(from command line\); add --model.peft.name lora$"),
    (
        ["--model.peft.name", "lora", "--lora.alfa", "4"],
        r"^lora.alfa: no such field \(from command line\); did you mean model.peft.lora.alpha\?$",
    ),
    (["--tasks", "glue/rte_bert"], r"^tasks: .*claf.json already describes a task \(from command line\); leave out"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_on_the_command_line_are_one_line(words: list[str], message: str, claf: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(str(claf), words)
    assert "\n" not in str(caught.value)


CONTRADICTIONS: list[tuple[str, list[str], str]] = [
    (
        "glue/sst_bert", ["--padding", "pack", "--compile", "true"],
        r"^runtime.padding: a packed encoder cannot be compiled \(from command line --padding\); use split$",
    ),
    (
        "glue/sst_bert", ["--engine", "fsdp", "--compile", "true"],
        r"^runtime.engine: a compiled model cannot be sharded \(from command line --engine\); use --compile false$",
    ),
    (
        "glue/sst_bert", ["--engine", "fsdp", "--model.peft.name", "lora", "--lora.quantize", "int8"],
        r"^runtime.engine: quantized weights cannot be sharded \(from command line --engine\); use --engine ddp$",
    ),
    (
        "scratch/tsdae", ["--engine", "fsdp"],
        r"^runtime.engine: this head cannot be sharded \(from command line --engine\); use --engine ddp$",
    ),
    (
        "glue/sst_bert", ["--cpu_offload", "true"],
        r"^runtime.cpu_offload: ddp has no shards to offload \(from command line --cpu_offload\); use --engine fsdp$",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "message"), CONTRADICTIONS)
def test_settings_of_the_runtime_that_contradict_others_are_refused(name: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(name, words)


def test_contradictions_are_those_of_the_whole_run() -> None:
    words = ["--tasks", "glue/rte_bert,glue/sst_bert", "--engine", "fsdp", "--compile", "true"]
    with pytest.raises(ConfigError, match=r"^runtime.engine: .* \(from command line --engine\)"):
        config.load("multi_task/mtdnn", words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            '"learning_rat": 1,',
            r"^optimizer.learning_rat: no such field \(from .*claf.json\); did you mean 'optimizer",
        ),
        ('"num_epochs": 1,', r"^optimizer.num_epochs: no such field .*did you mean trainer.num_epochs\?"),
        ('"learning_rate": "3e-5", "x": 1,', r"^learning_rate: is duplicated in one object"),
        ('"seed": ,', r"^base_config: not JSON: .*claf.json:\d+"),
    ],
)
def test_mistakes_in_the_file_name_the_line(change: str, message: str, claf: Path) -> None:
    claf.write_text(claf.read_text().replace('"optimizer": {', '"optimizer": {' + change))
    with pytest.raises(ConfigError, match=message):
        config.load(str(claf))


def test_an_adapter_that_is_no_object_is_refused(claf: Path) -> None:
    claf.write_text(claf.read_text().replace('"name": "bert_for_qa",', '"name": "bert_for_qa", "peft": "lora",'))
    with pytest.raises(ConfigError, match=r"^model.peft: 'lora' is not an object$"):
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
        "iterator.batch_size": "base.libsonnet",
        "iterator.eval_batch_size": "x.jsonnet",
        "seed_num": "x.jsonnet",
    }
    assert filled.origins["optimizer.learning_rate"] == "command line --learning_rate"
    assert filled.origins["trainer.num_epochs"] == "default"


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("local x = 1; { seed_num: x }", 1),
        ("{ seed_num: 1 + 1 }", 2),
        ("{ seed_num: std.length('ab') }", 2),
        ("{ seed_num: if true then 1 else 2 }", 1),
        ("{ hidden:: 3, seed_num: $.hidden }", 3),
        ("{ seed_num: 1 } { seed_num: 2 }", 2),
    ],
)
def test_jsonnet_may_compute_values(text: str, seed: int, tmp_path: Path) -> None:
    path = jsonnet(tmp_path, text)
    assert source.read_config(path) == ({"seed_num": seed}, {"seed_num": str(path)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ seed_num: }", "base_config: Jsonnet: "),
        ("{ f(x): x }", "base_config: Jsonnet: RUNTIME ERROR: couldn't manifest function"),
        ("{ seed_num: $.x }", "base_config: Jsonnet: RUNTIME ERROR: field does not exist: x"),
        ("[1]", "base_config: a BaseConfig must be a single JSON object"),
        ("{ a: import 'none.libsonnet' }", "base_config: imports none.libsonnet, which does not exist"),
        ("{ a: import 'x.jsonnet' }", "base_config: x.jsonnet imports itself"),
        ("(import './x.jsonnet') + { seed_num: 1 }", "base_config: ./x.jsonnet imports itself"),
        ("{ a: self }", "a value or a function refers to itself without end"),
        ("{ a: self.b, b: self.a }", "a value or a function refers to itself without end"),
    ],
)
def test_mistakes_in_jsonnet_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = jsonnet(tmp_path, text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        source.read_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_jsonnet_files_that_import_each_other_are_one_line(tmp_path: Path) -> None:
    jsonnet(tmp_path, "{ a: import 'y.jsonnet' }")
    (tmp_path / "y.jsonnet").write_text("{ b: (import 'x.jsonnet').a }")
    (tmp_path / "link.jsonnet").symlink_to(tmp_path / "x.jsonnet")
    for name in ("x", "y", "link"):
        with pytest.raises(ConfigError, match=r"^base_config: [xy].jsonnet imports itself \(from .*jsonnet\)$"):
            source.read_config(tmp_path / f"{name}.jsonnet")


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("b + { n+: 2 }", {"n": 5}),
        ("b + { name+: '-x' }", {"name": "a-x"}),
        ("b + { list+: [{ s: 2 }] }", {"list": [{"s": 1}, {"s": 2}]}),
        ("b + { n: if b.n == 3 then 1 else 0 }", {"n": 1}),
        ("b + { n: std.length(b.list) }", {"n": 1}),
        ("b + { n: (import 'lib.libsonnet').double(b.n) }", {"n": 6}),
    ],
)
def test_imported_values_may_be_computed_with(text: str, change: dict[str, Any], tmp_path: Path) -> None:
    values = {"n": 3, "name": "a", "list": [{"s": 1}]}
    (tmp_path / "base.json").write_text(json.dumps(values))
    (tmp_path / "lib.libsonnet").write_text("{ double(x):: 2 * x }")
    path = jsonnet(tmp_path, f"local b = import 'base.json';\n{text} // a comment")
    found, origins = source.read_config(path)
    assert found == values | change
    assert {key: origins[key] for key in change} == dict.fromkeys(change, str(path))


def test_only_computed_values_lose_their_origin(tmp_path: Path) -> None:
    (tmp_path / "base.libsonnet").write_text("{ n: 3, m: self.n + 1, k: 1 }")
    (tmp_path / "middle.libsonnet").write_text("(import 'base.libsonnet') + { l: 1 }")
    path = jsonnet(tmp_path, "(import 'middle.libsonnet') + { n: 5 }")
    found, origins = source.read_config(path)
    assert found == {"k": 1, "l": 1, "m": 6, "n": 5}
    assert {key: Path(origin).name for key, origin in origins.items()} == {
        "k": "base.libsonnet", "l": "middle.libsonnet", "m": "x.jsonnet", "n": "x.jsonnet",
    }  # fmt: skip


def test_yaml_merges_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: {b: &b {<<: &c {x: 1, y: 2}, y: 3}}\nd: {<<: [*b, *c], z: 4}\ne: {<<: *b, <<: *c}\n")
    values, _ = source.read_config(path)
    assert values == {"a": {"b": {"x": 1, "y": 3}}, "d": {"x": 1, "y": 3, "z": 4}, "e": {"x": 1, "y": 2}}
    path.write_text("a: &a {x: 1}\nd: {<<: *a, y: 1, y: 2}\n")
    with pytest.raises(ConfigError, match=r"^y: is duplicated in one object"):
        source.read_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", r"^base_config: is nested too deeply \(from .*x.json\)$"),
        (b'{"a": "\xff"}', r"^base_config: not in UTF-8: invalid start byte \(from .*x.json\)$"),
        (b'{"seed_num": ' + b"9" * 5000 + b"}", r"^base_config: not JSON: Exceeds the limit"),
        (b'{"data_reader": {"dataset": "nsmc"}, "seed_num": NaN}', r"^seed_num: nan should be a .*x.json"),
    ],
)
def test_damaged_json_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        config.load(str(tmp_path / "x.json"))


def test_plain_json_needs_no_jsonnet(claf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "_jsonnet", None)
    assert config.load(str(claf)).seed == 42
    with pytest.raises(ConfigError, match=r"reading \.jsonnet files needs the package jsonnet"):
        source.read_config(jsonnet(tmp_path, "{}"))


def test_a_base_for_others_can_be_named_and_is_not_listed() -> None:
    assert "multi_task/mtdnn" not in source.list_configs()
    with pytest.raises(ConfigError, match=r"^tasks: names no task"):
        config.load("multi_task/mtdnn")
    assert list(config.load("multi_task/mtdnn", ["--tasks", "glue/rte_bert"]).tasks) == ["rte"]


@pytest.mark.parametrize("text", ["-- x", "--- x ---", "--=x", "-1", "- a", "—"])
def test_a_text_with_dashes_is_a_value(text: str) -> None:
    overrides = source.parse_overrides(["--text", text, "--other", "1"])
    assert [(override.key, override.text) for override in overrides] == [("text", text), ("other", "1")]
    assert source.parse_overrides([word for override in overrides for word in override.words()]) == overrides


def test_a_tilde_is_the_home_folder(claf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLAF2_DATA_DIR", "~/data")
    monkeypatch.setenv("CLAF2_CACHE", "~/cache")
    words = [f"--{name}=~/{name}" for name in ("log_dir", "data_dir", "cache_dir", "pretrained_model_name")]
    experiment = config.load("~/claf.json", [*words, "--vocab_path=~/v.txt", "--pretrained_path=~/v.txt"])
    task = experiment.only_task
    assert experiment.trainer_config.log_dir == str(tmp_path / "log_dir")
    assert experiment.runtime.cache_dir == str(tmp_path / "cache_dir")
    assert experiment.model.pretrained_model_name == str(tmp_path / "pretrained_model_name")
    assert experiment.token is not None
    assert experiment.token[1].vocab_path == str(tmp_path / "v.txt")
    assert locate.data_dir(task.data) == tmp_path / "data_dir"
    assert locate.data_dir(config.load(str(claf)).only_task.data) == tmp_path / "data"
    assert locate.cache_dir(config.load(str(claf))) == tmp_path / "cache"


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ConfigError, match="no BaseConfig 'klue/korqad_bert'; did you mean 'klue/korquad_bert'"):
        config.load("klue/korqad_bert")


def changed(value: Any, annotation: Any) -> str:
    """Return the text of another value that a field of this type and present value takes."""
    kinds = [union_member for union_member in union_members(annotation) if union_member is not type(None)]
    if isinstance(value, bool):
        return str(not value).lower()
    if value == 1 and float in kinds:  # a share, which cannot be larger
        return "0.5"
    if isinstance(value, int | float):
        return (
            repr(value / 2)
            if isinstance(value, float) and value
            else repr(value + 1 if value or float not in kinds else 0.5)
        )
    if isinstance(value, list):
        return json.dumps([0.5, 0.75] if len(value) == 2 else value[:-1] if value else [3])
    if isinstance(value, dict):
        return json.dumps({**value, "model_type": "electra"})
    if value is None:
        return {int: "3", float: "0.25", str: "some", bool: "true"}[kinds[0]]
    if get_origin(kinds[0]) is Literal:
        return str(next(other for other in get_args(kinds[0]) if other != value))
    return "7" if value == "epoch" else f"{value}-x"


FIXED = {
    "name", "dataset", "op_type", "lr_scheduler_type", "names", "types", "pretrained_token", "do_tokenize", "source",
    "device", "plugins", "pretrained_path", "lang_code", "precision", "padding", "engine", "metric_key",
    "embedding_rows", "layout", "quantize", "targets", "use_dora", "cpu_offload",
}  # fmt: skip
"""Selectors, and fields with few legal values: tested by name above, and those of adapters in `tests/adapters`."""


PRETRAINING_FIXED = {
    "sources",
    "phases",
    "num_steps",
    "gradient_accumulation_steps",
    "rate",
    "parts",
    "blocks",
    "decay_shape",
    "decay_steps",
    "batch_size",
    "num_epochs",
    "valid_fraction",
    "unit",
    "pooling",
}
"""Fields that a pre-training refuses, or that cannot be empty or must fit others: tested in `tests/pretraining`."""


def first_of_each_kind(names: Iterable[str]) -> list[Any]:
    """Return the names, such as `klue/nli_bert`; those of a folder and an ending that came before are slow."""
    seen: set[tuple[str, str]] = set()
    marked = []
    for name in names:
        kind = name.split("/")[0], name.rsplit("_", 1)[-1]
        marked.append(pytest.param(name, marks=pytest.mark.slow if kind in seen else ()))
        seen.add(kind)
    return marked


SHIPPED = [name for name in source.list_configs() if not name.startswith("multi_task/")]


@pytest.mark.parametrize("name", first_of_each_kind(SHIPPED))
def test_every_leaf_of_every_shipped_config_can_be_set(name: str, tmp_path: Path) -> None:
    """On the filled config, which is the same experiment and quicker to read than Jsonnet."""
    filled = config.fill(name)
    stored = tmp_path / "filled.json"
    stored.write_text(json.dumps(filled.values))
    kind = schema.experiment_type(filled.selected)
    present = dict(source.iter_leaves(filled.values))
    seen = 0
    for path, annotation in iter_fields(kind):
        fixed = FIXED | (PRETRAINING_FIXED if filled.selected["trainer.name"] == "pretrain" else set())
        if path.rsplit(".", 1)[-1] in fixed or section_of(annotation) or path not in present:
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


@pytest.mark.parametrize("name", source.list_configs())
def test_every_listed_config_names_its_source_and_is_valid(name: str) -> None:
    experiment = config.load(name)
    path = source.find_config(name)
    assert path.suffix == ".json" or path.read_text().startswith("// ")
    assert experiment.trainer_config.log_dir
    assert len(experiment.recipe_digest()) == 64


@settings(deadline=None)  # reads a file of Jsonnet each time
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
    assert "korquad" in schema["$defs"]["DataReaderSection"]["properties"]
    assert schema["$defs"]["DataReaderSection"]["properties"]["data_dir"]["description"]
