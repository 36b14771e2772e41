"""From which field each cell was cut, and how the fields differ: their size, their red cells.

Cells of one class that were imaged in two ways come from two kinds of fields (section 3.2 of the
paper). Where the fields are known, their kind is a fact, and asked before any feature.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.core.errors import DataError
from cellkin.core.numbers import percent
from cellkin.core.records import Sample
from cellkin.datasets.csv_rows import raise_faults, read_rows
from cellkin.datasets.injecting.halving import LEAST_SHARE
from cellkin.datasets.injecting.imaging_groups import (
    FIELD_SIZE,
    LEAST_MEASURED,
    RULER,
    Trial,
    trial,
)
from cellkin.datasets.locating.located import COLUMNS
from cellkin.datasets.locating.locating import STATES, Located

SAME_SCALE = 0.1  # red cells whose diameters differ by less are of one magnification


@dataclass(frozen=True)
class Origins:
    """Where the N cells of a class come from.

    Attributes:
        fields: of each cell, None where it was not found.
        sizes: longer and shorter side of every field in pixels.
        red_cells: mean diameter of a field's red cells in pixels, where it was measured.
    """

    fields: tuple[str | None, ...]
    sizes: Mapping[str, tuple[int, int]]
    red_cells: Mapping[str, float]

    @classmethod
    def of(cls, located: Located, samples: Sequence[Sample]) -> Origins:
        """Those of cells that `locate` has found."""
        places = {p.crop: p.field for p in located.crops if p.state == "found"}
        crops = dict.fromkeys((p.crop for p in located.crops), "")
        found = _matched(samples, crops, where="the crops that were sought")
        sizes = {name: _sides(*size) for name, size in located.sizes.items()}
        return cls(tuple(places.get(crop) for crop in found), sizes, {})

    def with_red_cells(self, diameters: Mapping[str, float]) -> Origins:
        return replace(self, red_cells=diameters)

    @property
    def diameters(self) -> Floats:
        """(N,) mean diameter of the red cells around each cell in pixels, NaN where not known."""
        nothing = float("nan")
        return np.array([self.red_cells.get(field or "", nothing) for field in self.fields])


def read_places(path: Path, samples: Sequence[Sample]) -> Origins:
    """The origins that a table of `cellkin locate` holds.

    Raises:
        LabelError: the table is damaged. DataError: it does not name every one of the cells.
    """
    wanted = ("crop", "field", "state", "field_width", "field_height")
    table = read_rows(path, required=wanted, optional=COLUMNS)
    fields: dict[str, str | None] = {}
    sizes: dict[str, tuple[int, int]] = {}
    faults = []
    for line, row in table.rows:
        size = _said(row["field_width"], row["field_height"])
        if fault := _fault(row, size, fields, sizes):
            faults.append(f"line {line}: {fault}")
            continue
        known = row["state"] == "found"
        fields[row["crop"]] = row["field"] if known else None
        if known and size is not None:
            sizes[row["field"]] = size
    raise_faults(path, faults, mend="make the table anew: cellkin locate CROPS FIELDS --out CSV")
    found = _matched(samples, fields, where=path)
    return Origins(tuple(fields[crop] for crop in found), sizes, {})


def _said(width: str, height: str) -> tuple[int, int] | None:
    """The longer and the shorter side of a field; None where they are no whole numbers above zero
    that a picture can have.
    """
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", side) for side in (width, height)):
        return None
    return _sides(int(width), int(height))


def _fault(
    row: Mapping[str, str],
    size: tuple[int, int] | None,
    fields: Mapping[str, str | None],
    sizes: Mapping[str, tuple[int, int]],
) -> str:
    """What is wrong with a row, after those before it; an empty string where nothing is."""
    if row["crop"] in fields:
        return f"{row['crop']} stands here a second time"
    if row["state"] not in STATES:
        return f"{row['state']!r} is no state, but {', '.join(STATES)} are"
    if row["state"] != "found":
        return ""
    if not row["field"]:
        return "it is found, but in no field"
    if size is None:
        return "the size of the field is no whole number above zero"
    if sizes.get(row["field"], size) != size:
        return f"{row['field']} has another size in a line before"
    return ""


def is_places(path: Path) -> bool:
    """Whether a CSV is a table of `cellkin locate`, by its first line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return {"crop", "field"} <= {name.strip() for name in file.readline().split(",")}


def by_field_size(origins: Origins, subjects: Sequence[str | None], *, seed: int) -> Trial:
    """Halve by the size of the cells' fields: open where there are exactly two."""
    sizes = [None if f is None else origins.sizes[f] for f in origins.fields]
    counts = Counter(size for size in sizes if size is not None)
    known = counts.total() / len(sizes)
    if known < LEAST_MEASURED:
        lost = len(sizes) - counts.total()
        return Trial(
            FIELD_SIZE, unavailable=f"the field of {lost} of {len(sizes)} cells is not known"
        )
    if len(counts) != 2:
        told = " and ".join(f"{w} x {h} ({n})" for (w, h), n in counts.most_common(5))
        return Trial(
            FIELD_SIZE, unavailable=f"the fields have {len(counts)} sizes, not two: {told}"
        )
    (larger, _), (smaller, least) = counts.most_common()
    if least < LEAST_SHARE * len(sizes):
        share = percent(least / len(sizes), 0)
        return Trial(FIELD_SIZE, unavailable=f"the smaller half holds {share} of the cells only")
    halves = np.array([size == smaller for size in sizes], np.int64)
    areas = (float(np.prod(larger)), float(np.prod(smaller)))
    return trial(FIELD_SIZE, None, halves, subjects, seed, medians=areas)


def reasons(found: Trial, origins: Origins) -> tuple[str, ...]:
    """What the fields say of these halves, one sentence each."""
    if found.halves is None:
        return ()
    told = [f"the cells come from fields of two kinds, by {found.by}: {_kinds(found, origins)}"]
    if lost := sum(field is None for field in origins.fields):
        told.append(f"{lost} cells whose field is not known stand with the larger half")
    if found.by != RULER:
        told.append(_by_red_cells(found, origins))
    return tuple(told)


def _kinds(found: Trial, origins: Origins) -> str:
    halves = found.halves
    assert halves is not None
    parts = []
    for half in (0, 1):
        own = [f for f, side in zip(origins.fields, halves.tolist(), strict=True) if side == half]
        size = Counter(origins.sizes[f] for f in own if f is not None).most_common(1)
        named = " x ".join(map(str, size[0][0])) if size else "unknown size"
        parts.append(f"{len(own)} from fields of {named}")
    return ", ".join(parts)


def _by_red_cells(found: Trial, origins: Origins) -> str:
    halves, diameters = found.halves, origins.diameters
    means = [diameters[(halves == half) & np.isfinite(diameters)] for half in (0, 1)]
    if not all(map(len, means)):
        return "too few red cells were measured to say whether the magnification differs"
    first, second = (float(part.mean()) for part in means)
    told = f"red cells measure {first:.0f} and {second:.0f} pixels in them"
    same = abs(np.log(second / first)) < SAME_SCALE
    return f"{told}: " + (
        "one magnification, two cameras or settings" if same else "two magnifications"
    )


def _sides(width: int, height: int) -> tuple[int, int]:
    return max(width, height), min(width, height)


def _matched(samples: Sequence[Sample], crops: Mapping[str, object], *, where: object) -> list[str]:
    """The crop of each sample: its file's path ends as the crop's does.

    Raises:
        DataError: cells that are none of the crops.
    """
    by_name: dict[str, list[str]] = {}
    for crop in crops:
        by_name.setdefault(Path(crop).name, []).append(crop)
    found, lacking = [], []
    for sample in samples:
        parts = sample.image.path.parts
        fits = [
            crop
            for crop in by_name.get(sample.image.path.name, ())
            if parts[-len(Path(crop).parts) :] == Path(crop).parts
        ]
        if len(fits) == 1:
            found.append(fits[0])
        else:
            lacking.append(sample.id)
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(samples)} cells are not among the crops, first: {lacking[0]}",
            where=where,
            mend="locate the folder that the data set lies in: cellkin locate CELLS FIELDS",
        )
    return found
