"""CLaF's BaseConfigs (naver/claf, commit 6f45b1e): its names → the names here, before anything else reads them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from claf2.errors import ConfigError
from claf2.heads import heads
from claf2.task import tasks

__all__ = ["adopt_published_tokenizer", "translate"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class ClafName:
    """A name in CLaF's BaseConfigs that differs here."""

    section: str
    """The dotted path of the object that has the name."""
    name: str
    here: str | None
    """The name here; ``None``: there is none, because it is not needed."""
    values: Mapping[Any, Any] = field(default_factory=dict)
    """CLaF's value → the value here, where they differ."""
    accepted: Collection[Any] = ()
    """The values of a name that is not needed. Others would change what is trained."""
    reason: str = ""
    """Why it is not needed."""


BLOCK = "data_reader.BLOCK"
"""The block of a task in section `data_reader`."""
VOCAB = "token.feature.vocab"
TOKENS = "the tokenizer has its own special tokens"
METRIC_KEYS = {"matthews_corr": "matthews", "pearson_spearman_corr": "pearson_spearman", "conlleval_f1": "f1"}

NAMES = (
    ClafName(BLOCK, "sequence_max_length", "max_seq_length"),
    ClafName(BLOCK, "cls_token", None, accepted=("[CLS]", "<s>"), reason=TOKENS),
    ClafName(BLOCK, "sep_token", None, accepted=("[SEP]", "</s>"), reason=TOKENS),
    ClafName(BLOCK, "input_type", None, accepted=("bert", "roberta"), reason="the tokenizer joins two texts"),
    ClafName(BLOCK, "ignore_tag_idx", None, accepted=(-1,), reason="padding has no tag"),
    ClafName(VOCAB, "pad_token", None, accepted=("[PAD]", "<pad>"), reason=TOKENS),
    ClafName(VOCAB, "oov_token", None, accepted=("[UNK]", "<unk>"), reason=TOKENS),
    ClafName(VOCAB, "cls_token", None, accepted=("[CLS]", "<s>"), reason=TOKENS),
    ClafName(VOCAB, "sep_token", None, accepted=("[SEP]", "</s>"), reason=TOKENS),
    ClafName("token.feature", 'indexer"', "indexer"),  # a slip in CLaF's only YAML file
    ClafName("trainer", "metric_key", "metric_key", values=METRIC_KEYS),
)
"""All of them, each with its one meaning."""

READER = "multitask_bert"
"""CLaF's name of the reader of several tasks."""

PUBLISHED = "https://s3.amazonaws.com/models.huggingface.co/bert/"
"""Where CLaF's BaseConfigs find the vocabularies of published models. The models' own tokenizers have the same."""


def translate(values: dict[str, Any], origins: dict[str, str]) -> list[dict[str, Any]]:
    """Translate CLaF's names in place, and log each of them once.

    Args:
        values: the values of a BaseConfig.
        origins: dotted path → where its value comes from; changed in place.

    Returns:
        The entries of section `tasks` that CLaF's form of several tasks means; none without it.

    Raises:
        ConfigError: where CLaF's value has no meaning here.
    """
    messages: dict[str, None] = {}  # a set in the order of insertion
    for readers in _readers(values):
        for row in NAMES:
            for path, section in _sections({**values, "data_reader": readers}, row.section):
                _translate_name(row, path, section, origins, messages)
    if _is_byte_level(values):
        values["token"] = None
        messages["token.tokenizer.bpe is CLaF's; the model's own tokenizer, which is the same, is used"] = None
    for message in messages:
        logger.info("%s", message)
    return _translate_readers(values)


def _readers(values: Mapping[str, Any]) -> list[Any]:
    """Return section `data_reader`, or those of CLaF's form of several tasks."""
    reader = values.get("data_reader")
    if not isinstance(reader, dict) or reader.get("dataset") != READER:
        return [reader]
    readers = _object(reader, READER).get("readers")
    if not isinstance(readers, list) or not all(isinstance(entry, dict) for entry in readers):
        raise ConfigError(f"data_reader.{READER}.readers", "is not a list of objects")
    return [reader, *readers]


def _object(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _sections(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the object of a section where it is given."""
    section: Mapping[str, Any] = values
    keys = []
    for key in path.split("."):
        keys.append(str(section.get("dataset", "")) if key == "BLOCK" else key)
        section = _object(section, keys[-1])
    if isinstance(section, dict) and section:
        yield ".".join(keys), section


def _translate_name(
    row: ClafName, path: str, section: dict[str, Any], origins: dict[str, str], messages: dict[str, None]
) -> None:
    if row.name not in section or (row.section == BLOCK and row.name in _own_fields(path)):
        return
    value, path = section[row.name], f"{path}.{row.name}"
    if row.here is None:
        if value not in row.accepted:
            hint = f"leave it out, since {row.reason}"
            raise ConfigError(path, f"{value!r} has no meaning here", origin=origins.get(path), hint=hint)
        del section[row.name]
        messages[f"{row.name} is CLaF's; it is not needed, since {row.reason}"] = None
        return
    new = row.values.get(value, value) if isinstance(value, str) else value
    if (row.here, new) == (row.name, value):
        return
    if row.here != row.name and row.here in section:
        problem = f"is CLaF's name of {row.here}, which is set as well"
        raise ConfigError(path, problem, origin=origins.get(path), hint="leave one of them out")
    del section[row.name]
    section[row.here] = new
    if path in origins:
        origins[f"{path.removesuffix(row.name)}{row.here}"] = origins.pop(path)
    names = (row.name, row.here) if row.here != row.name else (f"{row.name} {value!r}", repr(new))
    messages[f"{names[0]} is CLaF's name of {names[1]}"] = None


def _own_fields(path: str) -> Collection[str]:
    """Return the fields of a block of section `data_reader`; none where its task is unknown."""
    dataset = path.rsplit(".", 1)[-1]
    return heads.get(tasks.get(dataset).head).featurizer.model_fields if dataset in tasks.names() else ()


def _is_byte_level(values: Mapping[str, Any]) -> bool:
    """Say whether section `token` is CLaF's tokenizer of RoBERTa.

    Raises:
        ConfigError: where its vocabulary is not a published one.
    """
    block = _object(_object(_object(values, "token"), "tokenizer"), "bpe")
    if not block:
        return False
    vocabulary = _object(block, str(block.get("name"))).get("vocab_path")
    if not str(vocabulary).startswith(PUBLISHED):
        problem = f"CLaF's byte-level BPE cannot be made of {vocabulary!r}"
        hint = "leave out section token: the tokenizer in the folder of the model is used"
        raise ConfigError("token.tokenizer.bpe", problem, hint=hint)
    return True


def adopt_published_tokenizer(values: dict[str, Any]) -> None:
    """Leave out section `token`, in place, where it describes the tokenizer of a published BERT, which is the model's
    own, by CLaF's address of its vocabulary."""
    tokenizer = _object(_object(values, "token"), "tokenizer")
    word, subword = (_object(tokenizer, part) for part in ("word", "subword"))
    vocabulary = str(_object(subword, "wordpiece").get("vocab_path"))
    if subword.get("name") != "wordpiece" or not vocabulary.startswith(PUBLISHED):
        return
    if word.get("name") == "bert_basic" and _object(word, "bert_basic").get("do_lower_case") is (
        "uncased" in vocabulary
    ):
        values["token"] = None
        logger.info("token.tokenizer is that of a published model; the model's own tokenizer, the same, is used")


def _translate_readers(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Take CLaF's form of several tasks (a reader with `readers` and `batch_sizes`, a model with `dropouts`) out of the
    values, and return the entries of section `tasks` that it means."""
    reader = values.get("data_reader")
    if not isinstance(reader, dict) or reader.get("dataset") != READER:
        return []
    block = _object(reader, READER)
    del values["data_reader"]
    values.pop("iterator", None)  # always 1 there: the readers have batch sizes of their own
    model = _object(_object(values, "model"), "bert_for_multi")
    sizes, dropouts = block.get("batch_sizes") or [], model.pop("dropouts", None) or []
    entries = block["readers"]
    for name, numbers in (("batch_sizes", sizes), ("dropouts", dropouts)):
        if not isinstance(numbers, list):
            raise ConfigError(name, f"{numbers!r} is not a list")
        if numbers and len(numbers) != len(entries):
            raise ConfigError(name, f"expected one value per reader, got {len(numbers)} for {len(entries)} readers")
    translated = []
    for index, entry in enumerate(entries):
        task_values: dict[str, Any] = {"data_reader": {**entry, "dataset": str(entry.get("dataset", ""))}}
        if sizes:
            task_values["iterator"] = {"batch_size": sizes[index]}
        if dropouts:
            task_values["model"] = {"encoder": {"dropout": dropouts[index]}}
        translated.append(task_values)
    return translated
