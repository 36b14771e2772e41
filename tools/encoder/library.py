"""What the packaged encoder learns from: white cells of three laboratories, with all their labels.

The folder is laid out as docs/encoder.md says: `pbc_large/CLASS/*.jpg` with `attributes.csv`,
`chula/cells/labels.csv`, `cnmc2019/{all,hem}/*.png`. A fifth of every set, chosen by the hash of
its pixels and the same for ever, is held out: nothing here reads it for training.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellkin.core.arrays import Bytes, Floats
from cellkin.datasets.parts.seen import MARK
from cellkin.imaging.decode import decode
from cellkin.imaging.fingerprints import pixels_sha256
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.multitask import UNKNOWN, Level
from cellkin.learning.pretraining import TaggedData

CLASSES = (
    "basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil",
    "platelet",
)  # fmt: skip
SUBTYPES = ("BNE", "MMY", "MY", "PMY", "SNE")
LINEAGE = ("all", "hem")
PLACES = {"pbc": 1.0, "chula": 0.25, "cnmc": 0.1}
"""The laboratories, and the share of an epoch that each is drawn for, PBC's being one."""
IMPORTANCE = {"class": 1.0, "subtype": 0.3, "lineage": 1.0, "attribute": 0.15}


@dataclass(frozen=True)
class Labelled:
    """A file, where it is from, and what is known of its cell: level -> code."""

    path: Path
    place: str
    label: str
    unit: str | None = None
    codes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """All cells, prepared, and which of them may be learned from.

    Attributes:
        cells: N of them. images: (N, S, S, 3) uint8, prepared. marks: hash of each file's pixels.
        held: (N,) bool, the fifth that is never learned from.
    """

    cells: tuple[Labelled, ...]
    images: Bytes
    marks: tuple[str, ...]
    held: np.ndarray


def read(folder: Path, preprocessor: Preprocessor) -> Library:
    """Every cell of the three laboratories."""
    cells = (
        *_pbc(folder / "pbc_large"),
        *_chula(folder / "chula/cells"),
        *_cnmc(folder / "cnmc2019"),
    )
    images = np.empty((len(cells), preprocessor.size, preprocessor.size, 3), np.uint8)
    marks = []
    for row, cell in enumerate(cells):
        pixels = decode(cell.path)
        marks.append(pixels_sha256(pixels)[:MARK])
        images[row] = preprocessor.prepare(pixels)
        if row % 200 == 0:
            print(f"\rreading cells {row}/{len(cells)}", end="", file=sys.stderr, flush=True)
    print(f"\rreading cells {len(cells)}/{len(cells)}", file=sys.stderr)
    return Library(cells, images, tuple(marks), np.array([int(m[:8], 16) % 5 == 0 for m in marks]))


def tagged(library: Library, places: tuple[str, ...]) -> TaggedData:
    """What an encoder learns from, of these laboratories; a fortieth is watched, not learned."""
    levels = _levels(library)
    targets = np.concatenate(
        [_targets(library, name, codes) for name, codes in levels.items()], axis=1
    )
    own = np.array([cell.place in places for cell in library.cells]) & ~library.held
    watched = np.array([int(m[8:16], 16) % 40 == 0 for m in library.marks])
    return TaggedData(
        images=library.images,
        ids=library.marks,
        targets=targets,
        levels=tuple(levels.values()),
        names=tuple(levels),
        train=np.flatnonzero(own & ~watched),
        val=np.flatnonzero(own & watched),
        kinds=tuple(
            Level(len(codes), single=True, importance=IMPORTANCE.get(name, IMPORTANCE["attribute"]))
            for name, codes in levels.items()
        ),
        chances=_chances(library, own & ~watched),
    )


def _levels(library: Library) -> dict[str, tuple[str, ...]]:
    fixed = {"class": CLASSES, "subtype": SUBTYPES, "lineage": LINEAGE}
    found: dict[str, set[str]] = {}
    for cell in library.cells:
        for name, code in cell.codes.items():
            found.setdefault(name, set()).add(code)
    more = {n: tuple(sorted(c)) for n, c in sorted(found.items()) if n not in fixed}
    return {**fixed, **more}


def _targets(library: Library, name: str, codes: tuple[str, ...]) -> Bytes:
    targets = np.full((len(library.cells), len(codes)), UNKNOWN, np.uint8)
    for row, cell in enumerate(library.cells):
        if (code := cell.codes.get(name)) is not None:
            targets[row] = np.array(codes) == code
    return targets


def _chances(library: Library, chosen: np.ndarray) -> Floats:
    """Every class of a place alike, every place by its share."""
    keys = [(cell.place, cell.label) for cell in library.cells]
    counts = Counter(key for key, one in zip(keys, chosen, strict=True) if one)
    classes = Counter(place for place, _ in counts)
    return np.array(
        [
            PLACES[place] / (classes[place] * counts[place, label]) if one else 0.0
            for (place, label), one in zip(keys, chosen, strict=True)
        ]
    )


def _pbc(folder: Path) -> Iterator[Labelled]:
    with (folder / "attributes.csv").open(newline="", encoding="utf-8") as file:
        rows = {row.pop("file").split("/")[-1]: row for row in csv.DictReader(file)}
    for label in CLASSES:
        for path in sorted((folder / label).iterdir()):
            subtype = path.name.split("_")[0]
            codes = {"class": label, **rows.get(path.name, {})}
            if subtype in SUBTYPES:
                codes["subtype"] = subtype
            yield Labelled(path, "pbc", label, None, codes)


def _chula(folder: Path) -> Iterator[Labelled]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            label = row["label"]
            yield Labelled(folder / row["file"], "chula", label, row["group"], {"class": label})


def _cnmc(folder: Path) -> Iterator[Labelled]:
    for label in LINEAGE:
        for path in sorted((folder / label).iterdir()):
            yield Labelled(path, "cnmc", label, path.name.split("_")[1], {"lineage": label})
