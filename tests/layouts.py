"""Data sets in the layouts of their publishers, from tiny images, for tests."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cellkin.datasets.readers import pbc

PBC_NAMES = {
    "basophil": "BA",
    "eosinophil": "EO",
    "erythroblast": "ERB",
    "ig": "IG",
    "lymphocyte": "LY",
    "monocyte": "MO",
    "neutrophil": "SNE",
    "platelet": "PLATELET",
}


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 20)) -> Path:
    """Write an image of noise, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def pictures(root: Path, names: Iterable[str], *, size: tuple[int, int] = (20, 20)) -> Path:
    """Write a different image under every name."""
    for seed, name in enumerate(names):
        picture(root / name, seed, size)
    return root


def linked(root: Path, names: Iterable[str]) -> Path:
    """Thousands of names for one tiny image per ending: hard links cost no time and no space."""
    sources: dict[str, Path] = {}
    made: set[Path] = set()
    for name in names:
        path = root / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        if path.suffix not in sources:
            sources[path.suffix] = picture(root.parent / f".source{path.suffix}")
        os.link(sources[path.suffix], path)
    return root


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def allidb2_names(numbers: Mapping[int, int]) -> list[str]:
    """`img/ImXXX_Y.tif` for number -> Y."""
    return [f"img/Im{number:03d}_{mark}.tif" for number, mark in numbers.items()]


def allidb1_names(numbers: Mapping[int, int]) -> list[str]:
    return [f"im/Im{number:03d}_{mark}.jpg" for number, mark in numbers.items()]


def points(root: Path, name: str, centroids: Sequence[tuple[float, float]]) -> None:
    """`xyc/<name>.xyc` with one `x<TAB>y` per line."""
    path = root / "xyc" / f"{name}.xyc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{x:g}\t{y:g}\n" for x, y in centroids))


def cnmc_names(
    counts: Mapping[str, int], subjects: Mapping[str, int], folds: int = 3, first: int = 1
) -> list[str]:
    """Cells dealt to subjects in turn, subjects to folds in turn; `folds` 0: no fold folders."""
    names = []
    for label, count in counts.items():
        for i in range(count):
            subject = i % subjects[label]
            mark = "H" if label == "hem" else ""
            place = f"fold_{subject % folds}/{label}/" if folds else f"{label}/"
            names.append(f"{place}UID_{mark}{first + subject}_{i}_1_{label}.bmp")
    return names


def pbc_names(counts: Mapping[str, int]) -> list[str]:
    return [
        f"{label}/{PBC_NAMES[label]}_{i:06d}.jpg"
        for label, count in counts.items()
        for i in range(count)
    ]


def bloodmnist(
    path: Path, counts: Mapping[str, int], *, size: int = 28, compress: bool = True
) -> Path:
    """Images of noise; part -> images, labels in turn."""
    rng = np.random.default_rng(5)
    arrays = {}
    for part, n in counts.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % len(pbc.CLASSES)).astype(np.uint8)[:, None]
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


def adp_codes(sizes: tuple[int, int, int] = (9, 26, 38)) -> list[str]:
    """Codes whose levels have these sizes, each level with the codes above it."""
    first = list("ECHSAMNGT")[: sizes[0]]
    letters = "MTPDLEKY"
    second = [f"{top}.{sub}" for sub in letters for top in first][: sizes[1] - sizes[0]]
    third = [f"{code}.{sub}" for sub in "SU" for code in second][: sizes[2] - sizes[1]]
    return [*first, *second, *third]


def adp(
    root: Path, patches: Sequence[str], codes: Sequence[str], ones: Mapping[str, Sequence[str]]
) -> Path:
    """The csv of ADP; `ones`: patch -> codes it carries."""
    rows: list[list[object]] = [["Patch Names", *codes]]
    for name in patches:
        rows.append([name, *(int(code in ones.get(name, ())) for code in codes)])
    return write_csv(root / "ADP_EncodedLabels_Release1_Flat.csv", rows)
