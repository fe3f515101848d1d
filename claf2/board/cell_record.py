"""What the board stores of a cell: its description, scores, provenance, learning curve and predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StrictInt,
    StringConstraints,
    TypeAdapter,
    model_serializer,
    with_config,
)
from typing_extensions import TypedDict  # that of Python 3.11 cannot have a configuration of Pydantic

from claf2.benchmarking.cells import SCORE_INPUTS, Cell, CellResult, row_key
from claf2.errors import RunError
from claf2.evaluation.predictions import predictions_path
from claf2.registry import digest

__all__ = ["RECORD_VERSION", "CellFields", "CellRecord", "PredictionRecord", "StoredForm", "record_cell"]

RECORD_VERSION = 2
"""The version of the records' format. Version 1 had no learning curve."""

MAX_NAME = 16_384
"""The most characters of a name."""
MAX_TEXT = 262_144
"""The most characters of an answer, an id or a message."""
MAX_INT = 2**53
"""The largest integer that JSON and every database hold exactly."""
LEARNING_CURVE = "metrics.jsonl"
NEW_FIELDS: Mapping[str, object] = {"variant": "", "export": None}
"""The fields of a cell that records of earlier versions lack, and what they are there."""


def _check_characters(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL is not allowed")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME), AfterValidator(_check_characters)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_check_characters)]
ExampleId = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
"""The same check of characters without a call of Python, since a cell has thousands of examples."""
Count = Annotated[StrictInt, Field(ge=0, le=MAX_INT)]
Score = Annotated[float, Field(ge=-1e308, le=1e308)]
ScoreFields = Annotated[dict[Name, Score | None], Field(max_length=1000)]


class _Record(BaseModel):
    """Strict: a value of another type is refused, not converted."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True,
        protected_namespaces=(),
    )  # fmt: skip


class CellFields(_Record):
    """Which cell it is: the fields of ``claf2.benchmarking.cells.Cell``."""

    suite: Name
    model: Name
    """The name of the model."""
    weights: Name
    """A hub id, folder, archive or URL."""
    task: Name
    seed: Count
    recipe: Name
    base_config: Name
    overrides: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    step: Count | None = None
    """The pre-training step of a checkpoint."""
    plugins: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    variant: Annotated[str, StringConstraints(max_length=MAX_NAME), AfterValidator(_check_characters)] = ""
    """The name of the variant; empty: the recipe itself."""
    export: Annotated[tuple[Text, ...], Field(max_length=1000)] | None = None
    """The arguments of the export that was measured; ``null``: the run was."""

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The digests of cells without a variant, and what an earlier board accepts, stay as they were.
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name not in NEW_FIELDS or value != NEW_FIELDS[name]}

    def to_cell(self) -> Cell:
        """Return the cell."""
        return Cell(**dict(self))


@dataclass(frozen=True)
class StoredForm:
    """A record as the board stores it."""

    fields: Mapping[str, Any]
    """The record, in which predictions are given by their SHA-256 and number."""
    predictions: Mapping[str, bytes]
    """Split → predictions as a JSON array."""

    @property
    def content(self) -> str:
        """The digest of the record with its predictions."""
        return digest(self.fields)


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class PredictionRecord(TypedDict):
    """The prediction for one example: the fields of ``claf2.metrics.Prediction``. It is a dictionary, since a cell has
    thousands of them."""

    id: ExampleId
    gold: JsonValue
    prediction: JsonValue
    score: NotRequired[float | None]
    details: NotRequired[dict[str, JsonValue] | None]


class LearningPoint(_Record):
    """The scores of one evaluation during training."""

    step: Count
    epoch: Score
    scores: ScoreFields


class CellRecord(_Record):
    """A cell with what its folder holds: what is sent to the board and stored there."""

    version: Annotated[Literal[2], BeforeValidator(lambda version: RECORD_VERSION if version == 1 else version)]
    """The version of this format. A record of version 1 is read as one without a learning curve."""
    cell: CellFields
    scores: ScoreFields
    """The scores of the best evaluation by key (``valid/accuracy``); empty if the run is not finished."""
    failure: Text = ""
    """Why there are no scores."""
    provenance: dict[str, JsonValue] | None = None
    """The content of ``run.json``, with the filled config; ``None`` if the run is not finished."""
    learning_curve: Annotated[tuple[LearningPoint, ...], Field(max_length=100_000)] = ()
    predictions: Annotated[dict[Name, tuple[PredictionRecord, ...]], Field(max_length=100)] = {}
    """Split → predictions."""

    @property
    def digest(self) -> str:
        """The digest of which cell it is, and of everything that determines its scores. It identifies the record."""
        inputs = [self.provenance and self.provenance.get(name) for name in SCORE_INPUTS]
        return digest([self.cell.model_dump(mode="json"), inputs])

    @property
    def place(self) -> str:
        """The digest of the cell's place in a table: of its row, task and seed. A board holds one record for it."""
        *fields, options = row_key(self.cell.to_cell())
        assert isinstance(options, frozenset)
        key = [*fields, sorted(map(list, options)), self.cell.suite, self.cell.task, self.cell.seed]
        return digest(key)

    def to_stored_form(self) -> StoredForm:
        """Return the record as the board stores it."""
        files = {split: _PREDICTIONS.dump_json(lines) for split, lines in self.predictions.items()}
        fields = self.model_dump(mode="json", exclude={"predictions"})
        fields["predictions"] = {
            split: {"sha256": hashlib.sha256(file).hexdigest(), "examples": len(self.predictions[split])}
            for split, file in files.items()
        }
        return StoredForm(fields, files)


_PREDICTIONS = TypeAdapter(tuple[PredictionRecord, ...])


def record_cell(result: CellResult) -> CellRecord:
    """Return the record of a cell from its folder.

    Raises:
        RunError: if predictions are missing, or a file is damaged.
        ValueError: if the folder holds what no record may, such as a name with the character NUL.
    """
    splits = {key.partition("/")[0] for key in result.scores}
    files = {split: predictions_path(result.folder, result.cell.task, split) for split in sorted(splits)}
    predictions = {
        split: [asdict(prediction) for prediction in result.predictions(split)]
        for split, path in files.items()
        if split == "valid" or path.is_file()
    }
    content = {
        "version": RECORD_VERSION,
        "cell": asdict(result.cell),
        "scores": dict(result.scores),
        "failure": result.failure,
        "provenance": result.provenance,
        "learning_curve": _read_learning_curve(result.folder / LEARNING_CURVE) if result.scores else [],
        "predictions": predictions,
    }
    # By way of JSON, as a request is read: the same folder and the same request give the same record.
    return CellRecord.model_validate_json(json.dumps(content, ensure_ascii=False))


def _read_learning_curve(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    points = []
    try:
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            scores: Mapping[str, Any] = json.loads(line, parse_constant=lambda _: None)
            points.append({
                "step": scores["step"], "epoch": scores["epoch"],
                "scores": {key: value for key, value in scores.items() if key not in ("step", "epoch")},
            })  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged: {error!r}") from error
    return points
