"""The cells of a fold: prepared images that all workers share, and class injection.

Images are prepared once for each data set and size into a memory-mapped file; a fold is a list of
its rows, never a copy. A class is split in two by a rule that is fitted on the training cells of
the fold alone (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes, Ints, Singles
from cellkin.core.artifacts import read_arrays, replacing, write_arrays
from cellkin.core.errors import RecipeError
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset
from cellkin.datasets.injecting.halving import LEAST_CELLS, Halving
from cellkin.datasets.injecting.injection import halved
from cellkin.imaging import mapped
from cellkin.imaging.loading import load_prepared
from cellkin.learning.encoder import Encoder, choose_device
from cellkin.learning.recipes import Recipe
from cellkin.learning.threads import threads
from cellkin.study.plan import Work
from cellkin.system.runs import packaged_encoder

CHUNK = 256  # images embedded at once


@dataclass(frozen=True)
class Place:
    """Where works are done.

    Attributes:
        out: the results' folder, which all workers see. device: "cpu", "cuda", ...
        threads: of each work; another number may round otherwise.
        keep_atlases: whether the atlas of each training is kept, under `atlases/KEY`.
        evidence: whether pages of evidence are kept, under `evidence/KEY`, see
            `cellkin.study.drilldown`.
    """

    out: Path
    device: str = "cpu"
    threads: int = 1
    keep_atlases: bool = False
    evidence: bool = True


@dataclass(frozen=True, kw_only=True)
class WorkOptions(Options):
    """How an experiment is worked on.

    Attributes:
        data: name of a data set of the experiment -> its folder. inits: backbone -> its weights.
        device: "auto", "cpu", "cuda", ... threads: of each work, 1 or more.
        resume: go on with the results that are there.

    Raises:
        RecipeError: less than one thread.
    """

    data: Mapping[str, Path] = field(default_factory=dict)
    inits: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1
    resume: bool = False
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise RecipeError(f"{self.threads} threads", where="--threads", mend="give 1 or more")

    def place(self, out: Path) -> Place:
        """Where its works are done."""
        return Place(out, str(choose_device(self.device)), self.threads)


@dataclass(frozen=True)
class FoldCells:
    """Described cells and their prepared images: row i is sample i. `data` has the classes of the
    fold; a cell of another class takes no part in it.
    """

    name: str
    data: Dataset
    images: Bytes

    def rows(self, ids: Sequence[str]) -> Ints:
        """The rows of these cells."""
        return self.data.rows(ids)


def run_folder(out: Path, work: Work) -> Path:
    """Where an unfinished training of a study keeps its checkpoints."""
    return out / "work" / work.key[:24]


def prepare(works: Sequence[Work], place: Place, progress: Progress = silent) -> None:
    """Prepare what the works share: images of every data set and size, and ImageNet features.

    Raises:
        ImageError: some images cannot be read. OutputError: no room on the disk.
    """
    seen = set()
    for work in works:
        names = {work.data} | {row.external.test for row in work.rows if row.external}
        for name in sorted(names):
            features = work.kind == "frozen" or (name == work.data and bool(work.halves))
            key = (_cache(place.out, name, work.recipe), features)
            if key in seen:
                continue
            seen.add(key)
            cells = described_cells(place.out, name, work.recipe, progress)
            if features:
                _imagenet(cells, work.recipe, place, progress)


# cells and their images ------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _described(path: Path, changed: int) -> Dataset:
    """A description, read once for each state of its file."""
    return datasets.open(path)


def described_cells(out: Path, name: str, recipe: Recipe, progress: Progress) -> FoldCells:
    """All cells of a data set with their images, as a recipe prepares them; one that is to be shown
    alone and is not found stays, as empty ground: every method answers for the same cells.
    """
    path = out / "data" / f"{name}.json"
    data = _described(path, path.stat().st_mtime_ns)
    images = load_prepared(
        [s.image for s in data.samples],
        recipe.geometry,
        progress=progress,
        cache=_cache(out, name, recipe),
        keep=True,
        unfound=True,
    )
    return FoldCells(name, data, images)


def _cache(out: Path, name: str, recipe: Recipe) -> Path:
    sharpened = "-unsharpened" if recipe.unsharpen else ""
    window = f"-{recipe.window:g}um" if recipe.window else ""
    view = "" if recipe.view == "raw" else f"-{recipe.view}"
    alone = "-alone" if recipe.alone else ""
    return out / "prepared" / f"{name}-{recipe.size}{sharpened}{window}{view}{alone}"


def _imagenet(cells: FoldCells, recipe: Recipe, place: Place, progress: Progress) -> Singles:
    """Frozen ImageNet features of all described cells, (N, C): computed once, then read."""
    folder = _cache(place.out, cells.name, recipe)
    key = mapped.key([s.image for s in cells.data.samples], recipe.geometry.identity())
    path = folder / f"imagenet-{key[:16]}.safetensors"
    if path.is_file():
        return read_arrays(path)["vectors"]
    with threads(place.threads):
        encoder = packaged_encoder(recipe.size, place.device)
        vectors = embedded(encoder, cells, np.arange(len(cells.images)), progress)
    with replacing(path) as part:
        write_arrays(part, {"vectors": vectors})
    return vectors


def embedded(encoder: Encoder, cells: FoldCells, rows: Ints, progress: Progress) -> Singles:
    """Features of some rows (N, C), chunk by chunk; no other image is copied."""
    parts = [np.zeros((0, encoder.width), np.float32)]
    for start in range(0, len(rows), CHUNK):
        parts.append(encoder.vectors(np.asarray(cells.images[rows[start : start + CHUNK]])))
        progress("looking at the cells", min(start + CHUNK, len(rows)), len(rows))
    return np.concatenate(parts)


# injection inside the fold ---------------------------------------------------------------------


def cells_in_fold(
    work: Work, place: Place, progress: Progress
) -> tuple[FoldCells, list[dict[str, Any]]]:
    """The cells with the classes of this fold, and what was found about classes in two.

    The rule between two halves is fitted on the training cells of the class alone; all other cells
    are then assigned by it.
    """
    cells = described_cells(place.out, work.data, work.recipe, progress)
    data, told = cells.data, []
    if work.classes:
        data = replace(data, labels=data.labels.only(work.classes))
    for name in work.halves:
        vectors = _imagenet(cells, work.recipe, place, progress)
        train = set(work.split.train)
        own = [i for i, s in enumerate(data.samples) if s.label == name]
        fit_on = [i for i in own if data.samples[i].id in train]
        if len(fit_on) < LEAST_CELLS:
            why = f"{len(fit_on)} training cells, {LEAST_CELLS} are needed to look for two modes"
            told.append({"class": name, "two_modes": False, "faults": [why]})
            continue
        fitted = Halving.fit(vectors[fit_on], seed=work.seed)
        told.append({"class": name, **fitted.evidence.to_json()})
        if fitted.evidence.two_modes:
            sides = fitted.assign(vectors[own]).tolist()
            second = {data.samples[i].id: side for i, side in zip(own, sides, strict=True)}
            data = halved(data, name, second)
    return replace(cells, data=data), told
