"""The weights that a checkpoint brings: whether they are complete and finite, and where they lie in memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from claf2.errors import ModelError
from claf2.heads import Head

__all__ = ["align_weights", "check_encoder", "check_finite", "check_loaded", "has_weights", "weight_files"]

logger = logging.getLogger("claf2")


def align_weights(model: nn.Module) -> None:
    """Copy every weight into memory of its own.

    Loaded tensors are views into the file at addresses that safetensors does not align (safetensors issue 607), and
    MKL's matrix-vector products round differently by alignment. Copies are aligned like the weights of a model in
    training, so a model that was stored and loaded again gives the same bits.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def check_encoder(model: PreTrainedModel, info: Mapping[str, Any], source: Path | str) -> tuple[list[str], list[str]]:
    """Refuse an encoder of which a part other than the pooler would silently stay random. Layers that the configuration
    leaves out only give a warning.

    Args:
        model: the encoder, or a head with the encoder inside.
        info: what `transformers` says about loading it.
        source: where it was loaded from.

    Returns:
        The missing weights: those of the pooler, and those outside the encoder.

    Raises:
        ModelError: when other weights of the encoder are missing.
    """
    prefix = f"{model.base_model_prefix}."
    headless = type(model) is type(model.base_model)
    missing = {str(key) for key in info["missing_keys"]} | {str(key[0]) for key in info["mismatched_keys"]}
    inside = sorted(key for key in missing if headless or key.startswith(prefix))
    pooler = [key for key in inside if "pooler" in key]
    if len(inside) > len(pooler):
        lost = [key for key in inside if key not in pooler]
        raise ModelError(f"{source}: {len(lost)} encoder weights are missing, e.g. {lost[0]}: use a full checkpoint")
    left_out = [key for key in sorted(map(str, info["unexpected_keys"])) if re.search(r"layers?\.\d+\.", key)]
    if left_out:
        logger.warning(
            "%s: %d weights of layers are not used, %s among them: its config.json has fewer layers",
            source, len(left_out), left_out[0],
        )  # fmt: skip
    return pooler, sorted(missing.difference(inside))


def check_loaded(
    model: PreTrainedModel, info: Mapping[str, Any], source: Path | str, head: Head[Any, Any]
) -> list[str]:
    """Check the encoder of a task's module, as ``check_encoder`` does, and the decoder of tokens. A missing pooler and
    a missing decoder of masked tokens only give a warning.

    Returns:
        The weights of the encoder that stay random, by their names in it.

    Raises:
        ModelError: when the encoder, or a decoder that is not trained as one of masked tokens, lacks weights.
    """
    pooler, outside = check_encoder(model, info, source)
    if pooler:
        logger.warning("%s has no pooler; a newly initialized one is used", source)
    decoder = outside if head.reads_vocabulary else []
    if decoder and not head.predicts_tokens:
        raise ModelError(
            f"{source}: {len(decoder)} weights of its decoder are missing, e.g. {decoder[0]}: use a checkpoint of a "
            "language model with its decoder"
        )
    if decoder:
        logger.warning(
            "%s: %d weights of the decoder of masked tokens are missing, %s among them; new ones are used",
            source, len(decoder), decoder[0],
        )  # fmt: skip
    return [key.removeprefix(f"{model.base_model_prefix}.") for key in pooler]


def check_finite(model: PreTrainedModel, source: Path | str) -> None:
    """Refuse weights with which every output would be undefined.

    Raises:
        ModelError: naming the weight.
    """
    for name, tensor in model.named_parameters():
        if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise ModelError(
                f"{source}: its weight {name} holds NaN or infinity: the checkpoint is damaged or diverged"
            )


def weight_files(source: Path | str) -> Sequence[str]:
    """Return globs of the files that the weights in a folder are read from: safetensors first, as `transformers`."""
    kinds = (("model*.safetensors", "model*.safetensors.index.json"), ("pytorch_model*.bin", "pytorch_model*.json"))
    folder = source if isinstance(source, Path) else None
    return next((kind for kind in kinds if folder and any(any(folder.glob(pattern)) for pattern in kind)), ())


def has_weights(folder: Path) -> bool:
    """Say whether a folder holds weights in any format, or only a configuration and a tokenizer."""
    patterns = ("*.safetensors*", "*.bin*", "*.h5", "*.msgpack", "*.ckpt*", "*.pt")
    return any(any(folder.glob(pattern)) for pattern in patterns)
