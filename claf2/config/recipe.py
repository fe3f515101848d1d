"""The recipe of an experiment: what scores that are compared must have in common."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from claf2.config.schema import section_of

__all__ = ["recipe_values"]


def recipe_values(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Return the values without the fields that a comparison may vary, so that equal recipes have equal values. An
    optional section that is marked `if set` does not change the digests of recipes without it. Of the blocks that are
    written only if they are given, the one that `name` selects counts, with its defaults.

    Args:
        values: the values of a section. The objects in its lists may lack fields, which then have their defaults.
        kind: the schema of the section.
    """
    kept: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        mark, item, inner = _mark(field, "recipe"), _item_of(field.annotation), section_of(field.annotation)
        is_block = mark != "if set" and "name" in kind.model_fields and _mark(field, "written") is False
        if inner is not None and is_block:
            if values.get("name") == name:
                kept[name] = recipe_values(_complete(values.get(name) or {}, inner), inner)
            continue
        if name not in values or mark is False or (mark == "if set" and values[name] is None):
            continue
        value = values[name]
        if value is not None and item is not None:
            kept[name] = [recipe_values(_complete(entry, item), item) for entry in value]
        else:
            kept[name] = value if value is None or inner is None else recipe_values(value, inner)
    return kept


def _complete(values: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Return the values of an object with its defaults, each written in one way only: 1.0 for a weight of 1."""
    return kind.model_validate(values).model_dump(mode="json")


def _mark(field: FieldInfo, key: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None


def _item_of(annotation: Any) -> type[BaseModel] | None:
    """Return the kind of the sections that a list consists of."""
    return section_of(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is list else None
