"""Records as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from cellkin.core.plain import Plain, plain_fields


@dataclass(frozen=True)
class Leaf:
    """Without a telling of its own."""

    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True)
class Own:
    """With a telling of its own."""

    def to_json(self) -> dict[str, Any]:
        return {"own": True}


@dataclass(frozen=True, eq=False)
class Tree(Plain):
    """Everything that a record may hold."""

    numbers: Any = field(default_factory=lambda: np.arange(4).reshape(2, 2))
    leaves: tuple[Leaf, ...] = (Leaf(), Leaf(()))
    by_name: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({"x": (Own(), None), "y": {"z": (1, 2.5)}})
    )
    nothing: str | None = None


TOLD = {
    "numbers": [[0, 1], [2, 3]],
    "leaves": [{"names": ["a", "b"]}, {"names": []}],
    "by_name": {"x": [{"own": True}, None], "y": {"z": [1, 2.5]}},
    "nothing": None,
}


def test_a_record_is_told_by_its_fields_whatever_they_hold() -> None:
    assert Tree().to_json() == TOLD
    assert json.loads(json.dumps(Tree().to_json())) == TOLD


def test_fields_can_be_left_out() -> None:
    assert plain_fields(Tree(), without=("numbers", "leaves", "by_name")) == {"nothing": None}
