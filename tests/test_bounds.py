"""Bounds: every number of the schema states its own, and nothing beyond them, infinite or not a number, passes."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from claf2 import config
from claf2.config.schema import SELECTORS, SHARED_SELECTORS, experiment_type, section_of, union_members
from claf2.errors import ConfigError
from claf2.registry import Component


@dataclass(frozen=True)
class Leaf:
    """A number of the schema: a field, or a number inside of its value."""

    path: str
    kind: type
    bounds: Mapping[str, float]
    """``ge``, ``gt``, ``le`` and ``lt``, as far as they are stated."""
    model: type[BaseModel]
    """A component whose field ``value`` takes the number."""

    def accepts(self, number: float) -> bool:
        try:
            self.model.model_validate_json(json.dumps({"value": number}), strict=True)
        except ValidationError:
            return False
        return True

    @property
    def lowest(self) -> float:
        return self._edge(self.bounds.get("ge"), self.bounds.get("gt"), 1)

    @property
    def highest(self) -> float:
        return self._edge(self.bounds.get("le"), self.bounds.get("lt"), -1)

    def _edge(self, closed: Any, opened: Any, inwards: int) -> float:
        """Return the outermost number that is allowed."""
        if closed is not None:
            return self.kind(closed)  # type: ignore[no-any-return]
        return int(opened) + inwards if self.kind is int else math.nextafter(opened, opened + inwards)


def leaves(kind: type[BaseModel], prefix: str = "") -> Iterator[Leaf]:
    for name, field in kind.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield from numbers(f"{prefix}{name}", field.annotation, field.metadata)


def numbers(path: str, annotation: Any, metadata: Any) -> Iterator[Leaf]:
    """Yield the numbers that a type holds: itself, the members of a union, the items of a list or mapping."""
    if typing.get_origin(annotation) is Annotated:
        annotation, *more = typing.get_args(annotation)
        inner = [item for extra in more for item in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        metadata = [*metadata, *inner]
    if annotation in (int, float):
        names = ("ge", "gt", "le", "lt")
        bounds = {name: getattr(item, name) for item in metadata for name in names if hasattr(item, name)}
        field: Any = (Annotated[(annotation, *metadata)], ...)
        yield Leaf(path, annotation, bounds, create_model("Leaf", __base__=Component, value=field))
    elif len(union_members(annotation)) > 1:
        for member in union_members(annotation):
            yield from numbers(path, member, metadata)
    elif typing.get_origin(annotation) is not Literal:
        for index, item in enumerate(typing.get_args(annotation)):
            if item not in (Any, ...):
                yield from numbers(f"{path}[{index}]", item, ())


LEAVES = {
    f"{leaf.path} {leaf.kind.__name__}": leaf
    for selectors in (SELECTORS, SHARED_SELECTORS)
    for leaf in leaves(experiment_type({selector.path: selector.registry.names() for selector in selectors}))
}


def test_the_numbers_are_found() -> None:
    paths = {leaf.path for leaf in LEAVES.values()}
    assert {
        "optimizer.learning_rate", "optimizer.adamw.betas[1]", "sampler.weighted.weights[1]", "seed_num",
        "trainer.num_epochs", "trainer.task_early_stopping_threshold", "runtime.workers",
        "token.tokenizer.subword.bpe.vocab_size", "data_reader.korquad.context_stride", "objectives.smart.noise",
        "model.bert_for_qa.answer_maxlen", "model.bert_for_qa.dropout",
    } <= paths  # fmt: skip
    assert sum(leaf.path == "trainer.eval_and_save_step_count" for leaf in LEAVES.values()) == 2


@pytest.mark.parametrize("name", LEAVES)
@settings(max_examples=25, deadline=None, database=None)
@given(data=st.data())
def test_every_number_states_its_bounds_and_keeps_them(name: str, data: st.DataObject) -> None:
    leaf = LEAVES[name]
    assert {"ge", "gt"} & leaf.bounds.keys(), f"{name} has no lower bound"
    assert {"le", "lt"} & leaf.bounds.keys(), f"{name} has no upper bound"
    low, high = leaf.lowest, leaf.highest
    assert leaf.accepts(low)
    assert leaf.accepts(high)
    numbers: Any = st.integers if leaf.kind is int else st.floats
    inside = data.draw(numbers(low, high))
    assert leaf.accepts(inside)
    if leaf.kind is int:
        below, beyond = data.draw(st.integers(max_value=int(low) - 1)), data.draw(st.integers(min_value=int(high) + 1))
    else:
        below = data.draw(st.floats(max_value=low, exclude_max=True))
        beyond = data.draw(st.floats(min_value=high, exclude_min=True))
    for outside in (below, beyond, math.inf, -math.inf, math.nan):
        assert not leaf.accepts(outside), outside


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "NaN", "1e999", "-1", "1e300", "9" * 400])
@pytest.mark.parametrize(
    "field", ["num_epochs", "num_steps", "learning_rate", "batch_size", "seed_num", "grad_max_norm", "weight_decay"]
)
def test_numbers_beyond_the_bounds_are_one_line(field: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^[a-z_.]*{field}: .*\(from command line --{field}\)") as caught:
        config.load("klue/korquad_bert", [f"--{field}", text])
    assert "\n" not in str(caught.value)
