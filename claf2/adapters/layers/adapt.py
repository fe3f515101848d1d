"""Apply an adapter to a model: freeze weights, add weights, and keep fresh weights trainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claf2.adapters import Adapter, adapters
from claf2.adapters.layers.adapted import AppliedAdapter
from claf2.adapters.layers.added_rows import AddedRows, train_added_rows
from claf2.adapters.layers.parts import other_adapter
from claf2.adapters.layers.stored import is_adapted, load_adapted
from claf2.errors import ModelError
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime.seed import seeded

__all__ = ["adapt"]


def adapt(
    model: EncoderWithHeads, adapter: Adapter, spec: ModelSpec, source: Path | str, *, added_ids: range, seed: int
) -> None:
    """Freeze the encoder of a model, and apply an adapter. Fresh weights depend on ``seed`` alone.

    Args:
        model: the model; changed in place.
        adapter: the method.
        spec: the model block, which names the base.
        source: the folder or hub id of the weights.
        added_ids: the ids of the tokens that the tasks have added to the tokenizer; their embeddings are trained.
        seed: the run's seed.

    Raises:
        ModelError: when the method cannot serve the architecture, or nothing would be trained.
    """
    encoder: Any = model.encoder
    encoder.requires_grad_(False)
    for name in model.bound:  # the decoder of a language model is part of what was pre-trained
        model.head(name).requires_grad_(False)
    added_rows = [train_added_rows(encoder, added_ids)] if added_ids else []
    with seeded(seed, "init", "adapter"):
        changes = adapter.apply(encoder)
    for module in encoder.modules():
        if isinstance(module, AddedRows):  # peft freezes what is not its own
            module.added.requires_grad_(True)
    for name in model.fresh_weights:  # frozen, they would stay random
        encoder.get_parameter(name).requires_grad_(True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        method, kind = adapters.name_of(type(adapter)), encoder.config.model_type
        raise ModelError(f"{method!r} leaves nothing to train in this {kind}: {other_adapter(encoder)}")
    # A hub id can be loaded anywhere; anything else is a folder of this machine.
    place = str(source.resolve()) if isinstance(source, Path) else source
    model.adapted = AppliedAdapter(
        adapter,
        base={"base_model_name_or_path": place, "revision": spec.revision},
        replaced=[*changes.replaced, *added_rows],
        peft_config=changes.peft_config,
    )
    if is_adapted(source):
        assert isinstance(source, Path)
        for name in model.names:
            load_adapted(model.head(name), source)
