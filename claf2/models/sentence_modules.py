"""The files with which `sentence-transformers` opens a folder: how an encoder's tokens become the vector of a text.

They are written in the form of its version 2, which all later versions and other servers of vectors read, and read in
the form of version 6 as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claf2.errors import ModelError
from claf2.heads.pooling import Pooling
from claf2.runtime.files import write_json

__all__ = ["SentenceModules", "read_sentence_modules"]

MODULES = "modules.json"
POOLING = "1_Pooling"
SETTINGS = "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
FLAGS: dict[Pooling, str] = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
}
"""How version 2 names the kinds of pooling."""
KNOWN = ("Transformer", "Pooling", "Normalize")
"""The modules whose vectors claf2 computes, up to their length."""


@dataclass(frozen=True)
class SentenceModules:
    """How the vector of a text is made."""

    pooling: Pooling
    max_length: int | None = None
    """The longest text in tokens, special tokens included; what is longer is cut. ``None``: as the tokenizer says."""
    lower_case: bool = False
    """Whether texts become lower case before the tokenizer sees them."""
    prompt: str = ""
    """What the encoder expects before a text where nothing else is said: the default prompt."""

    def write(self, folder: Path, width: int) -> None:
        """Make the folder of an encoder one that ``SentenceTransformer`` opens.

        Args:
            folder: the folder, with a configuration, weights and tokenizer as `transformers` writes them.
            width: the length of the encoder's vectors.
        """
        names = {"Transformer": "", "Pooling": POOLING}
        write_json(folder / MODULES, [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
            for number, (name, path) in enumerate(names.items())
        ])  # fmt: skip
        (folder / POOLING).mkdir(exist_ok=True)
        flags = {flag: kind == self.pooling for kind, flag in FLAGS.items()}
        write_json(folder / POOLING / "config.json", {"word_embedding_dimension": width, **flags})
        write_json(folder / SETTINGS, {"max_seq_length": self.max_length, "do_lower_case": self.lower_case})
        named, default = ({"default": self.prompt}, "default") if self.prompt else ({}, None)
        prompts: dict[str, Any] = {"prompts": named, "default_prompt_name": default, "similarity_fn_name": "cosine"}
        write_json(folder / PROMPTS, {"__version__": {}, **prompts})


def read_sentence_modules(folder: Path) -> SentenceModules | None:
    """Return how the vector of a text is made; ``None`` if the folder does not say it.

    Raises:
        ModelError: if the vectors are made in a way that claf2 does not know.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _load(folder / MODULES)
    try:
        types = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (KeyError, TypeError) as error:
        raise ModelError(f"model {folder}: {MODULES} is damaged: {error}; store the model again") from error
    unknown = next((name for name in types if name not in KNOWN), None)
    if unknown is not None:
        raise ModelError(f"model {folder}: it has a module {unknown}, which claf2 cannot compute; give another encoder")
    if types.get("Transformer") != "":
        raise ModelError(f"model {folder}: {MODULES} names no encoder in the folder itself; store the model again")
    config = _load(folder / types["Pooling"] / "config.json") if "Pooling" in types else {"pooling_mode": "mean"}
    kinds, prompt = _read_kinds(config), _read_prompt(folder)
    if prompt and not config.get("include_prompt", True):
        problem = "its pooling leaves out its default prompt, which claf2 cannot compute"
        raise ModelError(
            f"model {folder}: {problem}; set default_prompt_name to null in {PROMPTS}, or give another one"
        )
    pooling = next((kind for kind in FLAGS if [kind] == kinds), None)
    if pooling is None:
        problem = f"its pooling is {' and '.join(kinds) or 'unknown'}, which claf2 cannot compute"
        raise ModelError(f"model {folder}: {problem}; give an encoder with {', '.join(FLAGS)}")
    settings = _load(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    longest = settings.get("max_seq_length")
    if longest is not None and (type(longest) is not int or longest < 1):
        raise ModelError(f"model {folder}: max_seq_length in {SETTINGS} is {longest!r}; write a whole number from 1 on")
    return SentenceModules(pooling, longest, bool(settings.get("do_lower_case")), prompt)


def _read_prompt(folder: Path) -> str:
    """Return the default prompt; empty if there is none."""
    config = _load(folder / PROMPTS) if (folder / PROMPTS).is_file() else {}
    name = config.get("default_prompt_name")
    if name is None:
        return ""
    prompts = config.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        problem = f"{PROMPTS} has no prompt {name!r}, which default_prompt_name names"
        raise ModelError(f"model {folder}: {problem}; add it to prompts")
    return prompt


def _load(path: Path) -> Any:
    """Read a file of JSON: a list of modules, or the fields of one of them."""
    expected = list if path.name == MODULES else dict
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, expected):
            raise ValueError(f"expected a {expected.__name__}")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: missing or damaged: {error}; store the model again") from error
    return value


def _read_kinds(config: dict[str, Any]) -> list[str]:
    """Return the kinds of pooling that a configuration of either form names."""
    given = config.get("pooling_mode")
    if given is not None:
        return [given] if isinstance(given, str) else [str(kind) for kind in given]
    names = {flag: kind for kind, flag in FLAGS.items()}
    return [
        names.get(flag, flag.removeprefix("pooling_mode_"))
        for flag, is_set in config.items()
        if flag.startswith("pooling_mode_") and is_set
    ]
