"""The files of an adapted model: the trained weights in `best/adapter/`, and models that only claf2 can open."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from claf2.adapters import adapters
from claf2.errors import ModelError
from claf2.runtime import distributed
from claf2.runtime.files import write_json

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import AppliedAdapter
    from claf2.models.encoder import EncoderWithHeads

__all__ = ["ADAPTED", "ADAPTER_DIR", "adapter_bytes", "frozen_digest", "is_adapted", "load_adapted",
           "save_adapted", "write_adapter"]  # fmt: skip

ADAPTED = "adapted.safetensors"
"""The file with the weights of an adapted model. `transformers` does not find it, so it reports missing weights instead
of loading an encoder without its adapter."""

ADAPTER_DIR = "adapter"
"""The folder inside `best/` that holds only the trained weights."""

PEFT_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
"""The end of the name of a head's class → what `peft` calls its task; it has no name for others."""


def is_adapted(source: Path | str) -> bool:
    """Say whether a folder holds a model that needs the adapter that it was trained with."""
    return isinstance(source, Path) and (source / ADAPTED).is_file()


def save_adapted(head: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a head whose encoder cannot be merged, so that ``load_adapted`` loads it."""
    config = copy.deepcopy(head.config)
    config.architectures = [type(head).__name__]
    config.save_pretrained(folder)
    separate = {name: tensor.clone().contiguous() for name, tensor in weights.items()}  # tied ones would be refused
    save_file(separate, folder / ADAPTED, metadata={"format": "pt"})


def load_adapted(model: nn.Module, folder: Path) -> None:
    """Load the weights of a head with an adapted encoder.

    Raises:
        ModelError: when they are those of another model.
    """
    try:
        model.load_state_dict(load_file(folder / ADAPTED))
    except RuntimeError as error:
        problem = "the weights are those of another model or adapter; train again with --overwrite"
        raise ModelError(f"{folder / ADAPTED}: {problem}") from error


def write_adapter(
    head: Any, adapted: AppliedAdapter, weights: dict[str, torch.Tensor], folder: Path, base_digest: str | None
) -> None:
    """Write the trained weights: in the format of `peft`, if `peft` has the method.

    Args:
        head: the module of a task, encoder included.
        adapted: the adapter of its encoder.
        weights: the trained weights, by their names in ``head``.
        folder: is made.
        base_digest: the digest of the weights that the training began with.
    """
    folder.mkdir()
    tensors = {f"base_model.model.{_peft_name(name)}": tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    if adapted.peft_config is not None and not any(name.endswith(".added") for name in weights):
        values = adapted.peft_config.to_dict()
        prefix = f"{head.base_model_prefix}."
        trained_whole = {name.split(".")[0] for name in weights if not name.startswith(prefix)}
        trained_whole |= {name.split(".")[1] for name in weights if name.startswith(prefix) and _is_whole(name)}
        task = next((task for auto, task in PEFT_TASKS.items() if type(head).__name__.endswith(auto)), None)
        values |= {**adapted.base, "inference_mode": True, "task_type": task, "modules_to_save": sorted(trained_whole)}
        values["target_modules"] = sorted(values["target_modules"])
        if values.get("feedforward_modules"):
            values["feedforward_modules"] = sorted(values["feedforward_modules"])
        write_json(folder / "adapter_config.json", values)
    else:
        adapter = adapted.adapter
        description = {"name": adapters.name_of(type(adapter)), **adapter.model_dump(mode="json")}
        write_json(folder / "adapter_config.json", {**adapted.base, "peft_type": None, "claf2": description})
    write_json(folder / "base.json", {**adapted.base, "sha256": base_digest})


def _peft_name(name: str) -> str:
    """Return what `peft` calls a weight in its files, which leave out the name of the adapter."""
    name = name.removesuffix(".weight") if ".lora_magnitude_vector." in name else name
    return name.replace(".default.", ".").removesuffix(".default")


def _is_whole(name: str) -> bool:
    return ".lora_" not in name and ".ia3_" not in name


def adapter_bytes(best: Path) -> dict[str, int]:
    """Return the size of the trained weights of all tasks of a best checkpoint, ``{"adapter_bytes": N}``; an empty
    mapping if there is no adapter."""
    sizes = [path.stat().st_size for path in best.rglob(f"{ADAPTER_DIR}/adapter_model.safetensors")]
    return {"adapter_bytes": sum(sizes)} if sizes else {}


def frozen_digest(model: EncoderWithHeads) -> str:
    """Return the digest of the weights that are not trained; all processes call this together."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            whole = distributed.full_tensor(parameter.detach()).cpu().contiguous()
            digest.update(f"{name} {tuple(whole.shape)} {whole.dtype}\n".encode())
            digest.update(whole.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
