"""The cells of an experiment: drawn, found, or named on the command line; written down once.

Each data set becomes a description `data/NAME.json` in the results' folder (images stay where
they are), so that every worker, and every later look at the results, reads the same cells.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cellkin import datasets
from cellkin.core.artifacts import digest
from cellkin.core.errors import DataError, LabelError, RecipeError, did_you_mean
from cellkin.core.progress import Progress
from cellkin.core.records import Dataset, LabelSet, Sample
from cellkin.datasets.injecting.centroids import read_others
from cellkin.datasets.injecting.injection import NOTHING, add_class, find_windows, open_fields
from cellkin.datasets.injecting.patches import cut_patches
from cellkin.drawing.drawn import Order, draw_layout, layout_named
from cellkin.study.experiment_file import Drawn, Experiment, Source
from cellkin.study.places import PLACES, joined

REAL_DATA = "CELLKIN_REAL_DATA"
NOTHING_CUT: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Gathered:
    """A data set of an experiment.

    Attributes:
        dataset: with the cell-free windows, where the experiment asks for them.
        path: of its description. identity: hash of cells, labels, subjects and file sizes.
        facts: plain data about it, for the results.
        nothing: its class of cell-free windows, empty where there is none.
    """

    name: str
    dataset: Dataset
    path: Path
    identity: str
    facts: Mapping[str, Any]
    nothing: str = ""


def gather(
    experiment: Experiment, given: Mapping[str, Path], out: Path, progress: Progress
) -> dict[str, Gathered]:
    """All data sets that are trained or tested on, by name; drawn where they are not there yet.
    Across places they are one, `PLACES`.

    Args:
        given: name -> folder, which goes before what the experiment says; across places any name.
        out: the results' folder.

    Raises:
        RecipeError: a name in `given` that the experiment does not have.
        DataError: a data set that has to be named, or is not where it should be.
    """
    if experiment.across_places:
        return {PLACES: _places(experiment, given, out, progress)}
    names = [source.name for source in experiment.data]
    for name in given:
        if name not in names:
            raise RecipeError(
                f"the experiment {experiment.name!r} has no data {name!r}",
                where=f"--data {name}={given[name]}",
                mend=did_you_mean(name, names) or f"it has: {', '.join(names)}",
            )
    fields = {source.fields for source in experiment.data}
    folders = {s.name: _folder(s, given, experiment, out, progress) for s in experiment.data}
    windows = bool(set(experiment.injections) & {"nothing", "both"})
    return {
        source.name: _gathered(source, folders, windows, out, progress)
        for source in experiment.data
        if source.name not in fields
    }


def _places(
    experiment: Experiment, given: Mapping[str, Path], out: Path, progress: Progress
) -> Gathered:
    known = [source.name for source in experiment.data]
    sources = (*experiment.data, *(Source(name) for name in given if name not in known))
    if not sources:
        raise DataError(
            f"the experiment {experiment.name!r} needs cells of two places or more",
            where="--data",
            mend="--data HERE=FOLDER --data THERE=FOLDER, or --data cells=FOLDER with a labels.csv "
            "that has a column place",
        )
    found = {}
    for source in sources:
        folder = _folder(source, given, experiment, out, progress)
        found[source.name] = _dataset(source, folder, progress)
    return _kept(joined(found), out)


# where it lies ---------------------------------------------------------------------------------


def _folder(
    source: Source, given: Mapping[str, Path], experiment: Experiment, out: Path, progress: Progress
) -> Path:
    if source.name in given:
        return _there(given[source.name].expanduser(), f"--data {source.name}")
    if source.drawn is not None:
        return _drawn(source.drawn, out / "data" / source.name, progress)
    if source.path:
        return _there(Path(source.path).expanduser(), f"[data.{source.name}] path")
    root = os.environ.get(REAL_DATA)
    if source.real and root:
        return _there(Path(root).expanduser() / source.real, f"{REAL_DATA}={root}")
    also = f", or set {REAL_DATA} to the folder that holds {source.real}/" if source.real else ""
    raise DataError(
        f"the experiment {experiment.name!r} needs the cells of {source.name!r}",
        where=f"[data.{source.name}]",
        mend=f"say where they are: --data {source.name}=FOLDER{also}",
    )


def _there(folder: Path, said: str) -> Path:
    if not folder.exists():
        raise DataError("there is no such folder", where=f"{folder} ({said})", mend="correct it")
    return folder


def _drawn(drawn: Drawn, folder: Path, progress: Progress) -> Path:
    """Drawn cells, as they were drawn before where the order is the same."""
    size = drawn.size or layout_named(drawn.layout).size
    order = Order(drawn.cells, drawn.subjects, size, drawn.seed)
    place = folder / f"{drawn.layout}-{digest([drawn.layout, asdict(order)])[:12]}"
    if not place.is_dir():
        draw_layout(drawn.layout, place, order, lambda done, n: progress("drawing cells", done, n))
    return place


# what is done to it ----------------------------------------------------------------------------


def _gathered(
    source: Source, folders: Mapping[str, Path], windows: bool, out: Path, progress: Progress
) -> Gathered:
    dataset = _dataset(source, folders[source.name], progress)
    facts: dict[str, Any] = {}
    nothing = source.nothing
    if nothing:
        dataset.labels.index(nothing)
    elif windows and source.fields:
        dataset, facts = _with_windows(dataset, source, folders[source.fields], progress)
        nothing = NOTHING
    return _kept(replace(dataset, name=source.name), out, nothing, facts)


def _dataset(source: Source, folder: Path, progress: Progress) -> Dataset:
    """The cells of a source, with its classes merged, and no more than are to be taken."""
    dataset = datasets.open(folder, clinical=dict(source.clinical) or None)
    if asked := source.patches:
        others = read_others(folder / asked.others)
        dataset = cut_patches(
            dataset, others, window=asked.window, overlap=asked.overlap, progress=progress
        )
    dataset.require_cells()
    return _taken(_merged(dataset, source), source)


def _kept(
    dataset: Dataset, out: Path, nothing: str = "", windows: Mapping[str, Any] = NOTHING_CUT
) -> Gathered:
    """A data set, described under its name in the folder of the results."""
    path = datasets.save(dataset, out / "data" / f"{dataset.name}.json", made_by=windows)
    identity = digest([_known_of(s) for s in dataset.samples])
    told = ("layout", "citation", "licence", "specimen", "stain", "drawn")
    facts = {
        **{key: getattr(dataset, key) for key in told},
        "cells": len(dataset),
        "counts": dataset.counts(),
        "subjects": len(dataset.subjects()),
        "identity": identity,
        "description": f"data/{path.name}",
        "nothing": nothing,
        "notes": list(dataset.notes),
        "windows": dict(windows),
    }
    return Gathered(dataset.name, dataset, path, identity, facts, nothing)


def _merged(dataset: Dataset, source: Source) -> Dataset:
    """Several classes under one name; they share one clinical meaning."""
    become = {old: new for new, olds in source.merge.items() for old in olds}
    if not become:
        return dataset
    for old in become:
        dataset.labels.index(old)
    names = tuple(dict.fromkeys(become.get(name, name) for name in dataset.labels.names))
    clinical: dict[str, str] = {}
    for name in dataset.labels.names:
        new, meaning = become.get(name, name), dataset.labels.clinical[name]
        if clinical.setdefault(new, meaning) != meaning:
            raise LabelError(
                f"{new!r} would mean {clinical[new]} and {meaning}",
                where=f"[data.{source.name}] merge",
                mend="merge classes of one clinical meaning",
            )
    titles = {n: t for n, t in dataset.labels.titles.items() if n in names}
    samples = tuple(replace(s, labels=((become.get(s.label, s.label),),)) for s in dataset.samples)
    return replace(dataset, samples=samples, labels=LabelSet(names, clinical, titles))


def _taken(dataset: Dataset, source: Source) -> Dataset:
    """At most so many cells of each class, drawn by the seed, in their order."""
    if source.take <= 0:
        return dataset
    kept: set[str] = set()
    for number, name in enumerate(dataset.labels.names):
        own = [s.id for s in dataset.samples if s.label == name]
        order = np.random.default_rng([source.take_seed, number]).permutation(len(own))
        kept |= {own[i] for i in order[: source.take].tolist()}
    return replace(dataset, samples=tuple(s for s in dataset.samples if s.id in kept))


def _with_windows(
    dataset: Dataset, source: Source, folder: Path, progress: Progress
) -> tuple[Dataset, dict[str, Any]]:
    found = find_windows(
        dataset,
        open_fields(folder),
        seed=source.take_seed,
        count=source.windows.count or None,
        side=source.windows.side or None,
        progress=progress,
    )
    return add_class(dataset, found), dict(found.facts)


def _known_of(sample: Sample) -> list[Any]:
    image = sample.image
    size = image.path.stat().st_size if image.path.is_file() else 0
    lies = [image.member, image.row, list(image.box or ())]
    return [sample.id, sample.label, sample.subject, sample.group, sample.place, lies, size]
