"""Splits on disk, as tables, and refused where they leak.

    {"kind": "split", "schema": 1, "dataset": "...", "splits": [{"train": [ids], ...}]}

One split, or the folds of a cross-validation, by ids: a file belongs to the data set it was cut
from, wherever that lies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import read_json, write_json
from cellkin.core.errors import ArtifactError, SplitError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Split
from cellkin.datasets.listing import shown
from cellkin.datasets.parts.leakage import hashed, leaks
from cellkin.datasets.parts.split_units import required_unit, verify_split

KIND = "split"
SCHEMA = 1
AGAIN = "cut it again: cellkin split DATA --out FILE"


def save_splits(splits: Sequence[Split], dataset: Dataset, path: str | Path) -> Path:
    """Write one split or several folds, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path).expanduser()
    data = {
        "kind": KIND,
        "schema": SCHEMA,
        "dataset": dataset.name,
        "layout": dataset.layout,
        "images": len(dataset),
        "splits": [split.to_json() for split in splits],
    }
    write_json(path, data)
    return path


def open_splits(
    path: str | Path, dataset: Dataset, *, leaky: bool = False, progress: Progress = silent
) -> tuple[Split, ...]:
    """Read splits of this data set, and refuse those in which something is on two sides.

    Every file is hashed, to see equal images in two parts.

    Args:
        leaky: take a split in which equal images or documented duplicates are parted; its note then
            says LEAK.

    Raises:
        SplitError: no such file, no splits in it, splits of another data set, an image, subject,
            slide or field on two sides, or equal images or documented duplicates on two sides.
    """
    path = Path(path).expanduser()
    try:
        data = read_json(path)
    except ArtifactError as error:
        raise SplitError(error.what, where=path, mend="give a file of cellkin split") from None
    splits = _splits(data, path)
    known = hashed(dataset, progress=progress)
    told = []
    for split in splits:
        verify_split(split, known)
        found = leaks(split, known)
        if found and not leaky:
            raise SplitError(
                f"{len(found)} sets of equal images lie on two sides of this split: "
                + shown(found, 3),
                where=path,
                mend="cut it anew with cellkin split, which keeps them together when images are "
                "dealt; or take copies away; or add --allow-leaks and know that the result is "
                "too good",
            )
        told.append(_with_leaks(split, found))
    return tuple(told)


def _with_leaks(split: Split, found: Sequence[str]) -> Split:
    new = [f"LEAK, {sentence}" for sentence in found if sentence not in split.note]
    return split.noted(*new)


def _splits(data: Any, path: Path) -> list[Split]:
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise SplitError("this file holds no splits", where=path, mend=AGAIN)
    if data.get("schema") != SCHEMA:
        raise SplitError(
            f"these splits have schema {data.get('schema')}, this cellkin reads {SCHEMA}",
            where=path,
            mend=AGAIN,
        )
    try:
        splits = [Split.from_json(row) for row in data["splits"]]
    except (KeyError, TypeError) as error:
        raise SplitError(
            f"these splits are damaged ({type(error).__name__}: {error})", where=path, mend=AGAIN
        ) from error
    if not splits or not all(split.train and split.val and split.test for split in splits):
        raise SplitError("a part of these splits is empty", where=path, mend=AGAIN)
    return splits


def part_table(split: Split, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Images per class, their sum and the number of units, for every part.

    Returns:
        part -> {"classes": {class: images}, "images": sum, "units": subjects, fields or images}.
    """
    by_id = {sample.id: sample for sample in dataset}
    rows = {}
    for part, ids in split.parts().items():
        found = Counter(by_id[i].label for i in ids)
        rows[part] = {
            "classes": {name: found.get(name, 0) for name in dataset.labels.names},
            "images": len(ids),
            "units": len({required_unit(by_id[i], split.unit) for i in ids}),
        }
    return rows
