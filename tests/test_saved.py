"""Data sets described by one JSON file over images that stay where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellkin import datasets
from cellkin.core.errors import DataError, LayoutError
from cellkin.core.records import Dataset, ImageRef


def boxed(smears: Dataset) -> Dataset:
    first, *rest = smears.samples
    cut = replace(first, id="cut", image=ImageRef(first.image.path, box=(0, 0, 32, 32)))
    return replace(smears, samples=(cut, *rest))


def test_round_trip(smears: Dataset, tmp_path: Path) -> None:
    data = boxed(smears)
    again = datasets.open(datasets.save(data, tmp_path / "cells.json", made_by={"seed": 1}))
    for left, right in zip(data.samples, again.samples, strict=True):
        assert replace(left, image=ImageRef(left.image.path.resolve(), box=left.image.box)) == right
    assert again.labels == data.labels
    assert again.drawn == data.drawn
    assert json.loads((tmp_path / "cells.json").read_text())["made_by"] == {"seed": 1}


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another kind": (lambda d: d.update(kind="atlas"), "describes no data set"),
    "newer schema": (lambda d: d.update(schema=9), "schema 9"),
    "no samples": (lambda d: d.pop("samples"), "missing: samples"),
    "images gone": (lambda d: d.update(root="/nowhere"), "no folder /nowhere"),
    "one image gone": (lambda d: d["samples"][3].update(path="x.png"), "1 of 120 images are gone"),
    "id twice": (lambda d: d["samples"].append(d["samples"][0]), "ids occur twice"),
    "unknown label": (lambda d: d["samples"][0].update(labels=[["x"]]), "no class of it"),
    "broken box": (lambda d: d["samples"][0].update(box=[1, 2]), "damaged"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_descriptions_are_refused(name: str, smears: Dataset, tmp_path: Path) -> None:
    path = datasets.save(boxed(smears), tmp_path / "cells.json")
    spoil, message = BREAKS[name]
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message) as caught:
        datasets.open(path)
    assert caught.value.mend


def test_missing_and_misnamed_descriptions(smears: Dataset, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="missing"):
        datasets.open(tmp_path / "none.json")
    with pytest.raises(LayoutError, match=r"is a \.json file"):
        datasets.save(smears, tmp_path / "cells.txt")
