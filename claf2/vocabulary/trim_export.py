"""A smaller vocabulary, as a change of a model before its export."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from claf2.corpus.sources import TextSource
from claf2.export.build import ExportSource, ModelChange
from claf2.models.stored_weights import align_weights
from claf2.tokenizers.build import load_tokenizer
from claf2.vocabulary.trim import trim_model

__all__ = ["trim_export"]


def trim_export(sources: Sequence[TextSource]) -> ModelChange:
    """Return a change that removes the entries that texts do not use; see ``claf2.vocabulary.trim.trim_model``.

    Args:
        sources: the texts.
    """

    def change(source: ExportSource) -> ExportSource:
        markers = source.run.experiment.only_task.task.markers
        with tempfile.TemporaryDirectory() as temporary:
            original, trimmed = Path(temporary) / "model", Path(temporary) / "trimmed"
            source.model.save_pretrained(original)
            source.run.tokenizer.save(original)
            result = trim_model(str(original), sources, trimmed, markers=markers)
            kind: Any = type(source.model)
            model = kind.from_pretrained(trimmed, dtype=torch.float32).eval()
            align_weights(model)
            run = dataclasses.replace(source.run, tokenizer=load_tokenizer(trimmed, markers=markers))
        note = f"{result.entries} of {result.entries_before} entries of the vocabulary"
        return dataclasses.replace(source, run=run, model=model, changes=(*source.changes, note))

    return change
