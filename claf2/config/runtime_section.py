"""Section `runtime` of a BaseConfig."""

from __future__ import annotations

from typing import Annotated, Literal

from claf2.registry import LARGEST, Component, UserPath, not_in_recipe

__all__ = ["RuntimeSection"]


class RuntimeSection(Component):
    """Section `runtime`: what affects the speed. Except for `precision`, it changes scores at most as another seed
    does."""

    device: str = not_in_recipe("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    workers: int = not_in_recipe(1, ge=0, le=1024)
    """The number of threads that prepare batches in advance."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The number format of forward and backward passes; weights and optimizer state stay in fp32. It changes scores,
    so it is part of the recipe."""
    padding: Literal["auto", "pack", "split", "keep"] = not_in_recipe("auto")
    """How to treat padding: `pack` computes nothing for it, `split` divides a batch by length into micro-batches whose
    gradients add up, `keep` computes it; `auto`: `pack` where the architecture allows it and nothing is compiled, else
    `split`."""
    micro_batch_overhead: int | None = not_in_recipe(None, ge=0, le=LARGEST)
    """The fixed cost of a micro-batch, in tokens; `null`: 256 on a CPU, 8192 on a GPU."""
    max_tokens_per_micro_batch: int | None = not_in_recipe(None, ge=1, le=LARGEST)
    """The maximum number of tokens in a micro-batch, padding included; limits the memory that a batch needs."""
    embedding_rows: Literal["auto", "all"] = not_in_recipe("auto")
    """Which word embeddings the optimizer updates: with `auto` only those that occur in the training data, where these
    are few and the result is the same; the others only decay. `all`: all of them."""
    activation_checkpointing: bool = not_in_recipe(False)
    """Recompute activations in the backward pass instead of storing them."""
    compile: bool = not_in_recipe(False)
    """Compile the model with `torch.compile`; lengths are rounded up to multiples of 32."""
    engine: Literal["ddp", "fsdp"] = not_in_recipe("ddp")
    """How several processes share a model: with `ddp` each holds all of it; with `fsdp` each holds a shard of weights,
    gradients and optimizer state (FSDP2), for encoders that do not fit on one device."""
    cpu_offload: bool = not_in_recipe(False)
    """With `fsdp`: keep the shards in the host's memory."""
    deterministic: bool = not_in_recipe(True)
    """Use deterministic kernels only."""
    cache_dir: Annotated[str | None, UserPath] = not_in_recipe(None)
    """The folder of features, samples and downloaded models; `null`: `$CLAF2_CACHE`, else `~/.cache/claf2`."""
