"""`dataset.json`: what a folder says about itself.

The file is optional, lies in the data set's root, and is one JSON object. All keys are optional:

    {
      "name":     "drawn cells",        text: the data set's name
      "drawn":    true,                 true for synthetic cells; every page then says so
      "specimen": "peripheral blood",   text
      "stain":    "Wright",             text
      "citation": "...",                text
      "licence":  "CC0-1.0",            text
      "seed":     0,                    whole number: what drew the cells, for the record
      "version":  "0.1.0"               text: the cellkin that drew them, for the record
    }

What it says goes before what the reader of the layout would say.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cellkin.core.errors import LayoutError, did_you_mean
from cellkin.core.records import Dataset

FILE = "dataset.json"
FIELDS: dict[str, type] = {
    "name": str,
    "drawn": bool,
    "specimen": str,
    "stain": str,
    "citation": str,
    "licence": str,
    "seed": int,
    "version": str,
}
RECORD_ONLY = frozenset({"seed", "version"})


def described(dataset: Dataset) -> Dataset:
    """The data set with what its `dataset.json` says; as it is where there is none.

    Raises:
        LayoutError: see `read_description`.
    """
    return dataclasses.replace(dataset, **read_description(dataset.root))


def read_description(root: Path) -> dict[str, Any]:
    """What `dataset.json` says of the fields of `Dataset`; empty where there is none.

    Raises:
        LayoutError: the file is no JSON object, has an unknown key, or a value of another type.
    """
    path = root / FILE
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LayoutError(
            f"{FILE} cannot be read: {error}", where=path, mend="write it as one JSON object"
        ) from None
    if not isinstance(data, dict):
        raise LayoutError(
            f"{FILE} is no JSON object", where=path, mend='write it as {"name": "...", ...}'
        )
    for key, value in data.items():
        _check_field(path, key, value)
    return {key: value for key, value in data.items() if key not in RECORD_ONLY}


def _check_field(path: Path, key: str, value: object) -> None:
    if key not in FIELDS:
        raise LayoutError(
            f"{FILE} has an unknown key {key!r}",
            where=path,
            mend=did_you_mean(key, FIELDS) or f"known keys: {', '.join(FIELDS)}",
        )
    if type(value) is not FIELDS[key]:
        kind = {bool: "true or false", int: "a whole number", str: "text"}[FIELDS[key]]
        raise LayoutError(
            f"{key!r} in {FILE} is {value!r}", where=path, mend=f"write {kind} for {key!r}"
        )
