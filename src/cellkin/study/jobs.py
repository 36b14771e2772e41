"""One work: train (or only look), and decide on the test cells of its fold.

As everywhere, a cell's own unit does not vote (`Atlas.own`), and the unit is that of the split: by
image, other cells of the query's subject do vote, as in the paper; that is part of what its number
is worth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas import Atlas, decide
from cellkin.atlas.cells import REFERENCE
from cellkin.atlas.map import fit_map
from cellkin.core.arrays import Floats, Ints
from cellkin.core.errors import CellkinError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Features, LabelSet, Sample
from cellkin.core.units import Owners
from cellkin.decision import Calibration, Index, MinMaxScale
from cellkin.learning.encoder import Encoder, choose_device
from cellkin.learning.threads import threads
from cellkin.learning.training import Place as TrainingPlace
from cellkin.learning.training import Trained, train_encoder
from cellkin.learning.weights import first_network, seen_by
from cellkin.study.alignment import aligned
from cellkin.study.baselines import by_head, by_histogram, by_neighbors, colour_histogram
from cellkin.study.drilldown import chosen, explaining, save_pages
from cellkin.study.external import mapped_classes
from cellkin.study.fold_cells import (
    CHUNK,
    FoldCells,
    Place,
    cells_in_fold,
    described_cells,
    embedded,
    run_folder,
)
from cellkin.study.plan import Row, Work
from cellkin.study.predictions import Job, Prediction
from cellkin.system import DecisionSupport
from cellkin.system.atlases import PartedCells, refuse_early, save_trained
from cellkin.system.cards import data_facts
from cellkin.system.runs import packaged_encoder, refuse_seen

_Found = tuple[list[Prediction], dict[str, Any]]
"""The predictions of one row, and what is to be kept of this row alone."""


@dataclass(frozen=True)
class Outcome:
    """What one row of a work found; `labels` are the classes of its fold."""

    job: Job
    predictions: tuple[Prediction, ...]
    seconds: float
    extra: Mapping[str, Any]
    labels: LabelSet


def run_work(work: Work, place: Place, progress: Progress = silent) -> list[Outcome]:
    """Do one work; the training goes on from its newest checkpoint where there is one.

    Raises:
        CellkinError: of many kinds; see `cellkin.core.errors`.
    """
    started, extra = time.perf_counter(), dict[str, Any]()
    with threads(place.threads):
        cells, halves = cells_in_fold(work, place, progress)
        if work.kind == "histogram":
            found = _by_colour(work, cells)
        else:
            found, extra = _by_network(work, cells, place, progress)
    seconds = time.perf_counter() - started
    labels = cells.data.labels
    told = {
        "train_cells": len(work.split.train),
        "split": {**work.split.counts(), "note": work.split.note},
        "halves": halves,
        "recipe": work.recipe.to_json() if work.kind == "trained" else None,
        "rows_of_this_training": len(work.rows),
        "classes": labels.to_json(),
        **extra,
    }
    return [
        Outcome(row.job, tuple(predictions), seconds, {**told, **own}, labels)
        for row, (predictions, own) in zip(work.rows, found, strict=True)
    ]


# deciding --------------------------------------------------------------------------------------


def _by_colour(work: Work, cells: FoldCells) -> list[_Found]:
    parts = []
    for ids in (work.split.train, work.split.test):
        rows = cells.rows(ids)
        chunks = [
            colour_histogram(np.asarray(cells.images[rows[i : i + CHUNK]]))
            for i in range(0, len(rows), CHUNK)
        ]
        parts.append((np.concatenate(chunks), cells.data.select(ids)))
    labels, k = cells.data.labels, work.recipe.k
    own = places_of(parts[1][1])
    return [(by_histogram(parts[0], parts[1], labels, k), own) for _ in work.rows]


def _by_network(
    work: Work, cells: FoldCells, place: Place, progress: Progress
) -> tuple[list[_Found], dict[str, Any]]:
    trained: Trained | None = None
    recipe = work.recipe  # what it has seen is read before a training that may take hours
    seen = () if work.kind == "frozen" else seen_by(recipe.init)
    if work.kind == "trained":
        trained = trained_on(work, cells, place, seen, progress)
        encoder = trained.encoder
    elif work.kind == "start":
        encoder = _start(work, cells, place, seen)
    else:
        encoder = packaged_encoder(recipe.size, place.device)
    atlas = atlas_of(work, cells, encoder, progress)
    pages = _Pages(work, cells, atlas, place, progress)
    found: list[_Found] = []
    for row in work.rows:
        look = _look(work, row, cells, atlas, (place, progress))
        predictions = _predicted(recipe.select_by, atlas, look, row.aligned)
        own = places_of(look.samples) | pages.of(look, predictions, row.job)
        found.append((predictions, own))
    extra: dict[str, Any] = {"space": atlas.space, "weights": encoder.weights_sha256}
    if trained is not None:
        best = trained.best
        extra["training"] = {
            "epochs": len(trained.history),
            "selected_epoch": trained.selected_epoch,
            "validation_accuracy": best["val_accuracy"],
            "seconds_per_epoch": [row["seconds"] for row in trained.history],
        }
        if place.keep_atlases:
            _keep(work, cells, trained, place, seen)
    return found, extra


def trained_on(
    work: Work, cells: FoldCells, place: Place, seen: tuple[str, ...], progress: Progress
) -> Trained:
    """The training of a work, gone on from its newest checkpoint.

    Args:
        seen: fingerprints that the first weights carry, see `cellkin.learning.weights.seen_by`.

    Raises:
        CellkinError: what could only fail after the training, see `refuse_early`.
        SplitError: its first weights have seen cells of the test part.
        TrainingError: see `cellkin.learning.training`.
    """
    refuse_early(cells.data, work.split, work.recipe)
    _refuse_seen(work, cells, seen)
    return train_encoder(
        _parted(work, cells, progress).training_data(),
        work.recipe,
        seed=work.seed,
        run=run_folder(place.out, work),
        place=TrainingPlace(choose_device(place.device)),
        progress=progress,
    )


def _refuse_seen(work: Work, cells: FoldCells, seen: tuple[str, ...]) -> None:
    if seen:
        test = cells.images[cells.rows((*work.split.calibration, *work.split.test))]
        refuse_seen(test, seen, init=work.recipe.init)


def _start(work: Work, cells: FoldCells, place: Place, seen: tuple[str, ...]) -> Encoder:
    """The network that a training would begin with, as it is.

    Raises:
        SplitError: it has seen cells of the test part.
        WeightsError, ArtifactError: its weights do not fit or cannot be had.
    """
    _refuse_seen(work, cells, seen)
    names, rows = cells.data.labels.names, cells.rows(work.split.train)
    network, preprocessor = first_network(
        work.recipe, len(names), cells.images, rows, seed=work.seed
    )
    return Encoder(network, preprocessor, names, device=choose_device(place.device))


def atlas_of(work: Work, cells: FoldCells, encoder: Encoder, progress: Progress) -> Atlas:
    """The atlas over the training cells, in memory, with no more than a decision needs."""
    ids = work.split.train
    vectors = embedded(encoder, cells, cells.rows(ids), progress)
    scale = MinMaxScale.fit(vectors)
    xy = np.zeros((len(ids), 2))
    if work.maps:
        scaled = scale.apply(vectors)
        xy = fit_map(scaled, Index(scaled, ids, work.recipe.distance), seed=work.seed)
    return Atlas(
        encoder=encoder,
        labels=cells.data.labels,
        cells=_parted(work, cells, progress).cells(REFERENCE, ids),
        vectors=vectors,
        scale=scale,
        xy=xy,
        held_out=(),
        held_out_xy=np.zeros((0, 2)),
        calibration=Calibration.from_cells([], []),
        k=work.recipe.k,
        distance=work.recipe.distance,
        facts=data_facts(cells.data, work.split),
        space=encoder.space,
    )


@dataclass(frozen=True)
class _Look:
    """Test cells as the network of a work sees them: sample i has the image `rows[i]` of `cells`;
    `places` (N, 2) on the map of its atlas; `owners` None where they are of another data set.
    """

    cells: FoldCells
    rows: Ints
    samples: tuple[Sample, ...]
    features: Features
    places: Floats | None
    owners: Owners | None


def _look(
    work: Work, row: Row, cells: FoldCells, atlas: Atlas, where: tuple[Place, Progress]
) -> _Look:
    place, progress = where
    target, ids = cells, work.split.test
    if row.external is not None:  # another data set, under the classes that it should be called
        target = described_cells(place.out, row.external.test, work.recipe, progress)
        data = mapped_classes(target.data, row.external, cells.data.labels)
        ids = tuple(s.id for s in data.samples)
        samples = data.samples
    else:
        samples = cells.data.select(ids)
    rows = target.rows(ids)
    features = Features(ids, embedded(atlas.encoder, target, rows, progress), atlas.space)
    places = atlas.place(features) if work.maps else None
    owners = Owners.of(samples, atlas.unit) if row.external is None else None
    return _Look(target, rows, samples, features, places, owners)


def places_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """What is kept with a job: cell -> its place; nothing where none is known."""
    known = {s.id: s.place for s in samples if s.place is not None}
    return {"places": known} if known else {}


def _predicted(how: str, atlas: Atlas, look: _Look, alignment: str = "") -> list[Prediction]:
    told = look.samples, atlas.labels, look.places
    if how == "head":
        return by_head(atlas, look.features, *told)
    features = aligned(alignment, look.features, atlas) if alignment else look.features
    return by_neighbors(decide(atlas, features, owners=look.owners), *told)


class _Pages:
    """Writes the evidence pages of a training; what they need is made once, for the first."""

    def __init__(
        self, work: Work, cells: FoldCells, atlas: Atlas, place: Place, progress: Progress
    ) -> None:
        self.work, self.cells, self.atlas = work, cells, atlas
        self.place, self.progress = place, progress

    @cached_property
    def _dss(self) -> DecisionSupport:
        work, cells, atlas = self.work, self.cells, self.atlas
        parted, parts = _parted(work, cells, self.progress), work.split.parts()
        part = "calibration" if parts["calibration"] else "val"
        vectors = embedded(atlas.encoder, cells, cells.rows(parts[part]), self.progress)
        features = Features(parts[part], vectors, atlas.space)
        return explaining(atlas, parted, (parted.cells(part, parts[part]), features), work.recipe)

    def of(self, look: _Look, predictions: Sequence[Prediction], job: Job) -> dict[str, Any]:
        """What is kept with a job: cell -> its page, relative to the folder of the results. No
        page is worth a training: where one fails, the reason is kept in place of them.
        """
        if not (job.proposed and self.work.maps and self.place.evidence):
            return {}
        positions = chosen(predictions)
        images = np.asarray(look.cells.images[look.rows[positions]])
        asked = [predictions[i] for i in positions]
        told = f"{job.title}."
        folder = Path("evidence", job.key[:24])
        try:
            made = save_pages(
                self._dss,
                images,
                asked,
                self.place.out / folder,
                told=told,
                progress=self.progress,
            )
        except CellkinError as error:
            return {"no_evidence": str(error)}
        return {"evidence": {name: (folder / page).as_posix() for name, page in made.items()}}


def _parted(
    work: Work, cells: FoldCells, progress: Progress, seen: tuple[str, ...] = ()
) -> PartedCells:
    return PartedCells(cells.data, work.split, cells.images, work.seed, progress, seen=seen)


def _keep(
    work: Work, cells: FoldCells, trained: Trained, place: Place, seen: tuple[str, ...]
) -> None:
    """The whole atlas of a training, as `cellkin train` would have written it."""
    parted = _parted(work, cells, silent, seen)
    out = place.out / "atlases" / work.key[:24]
    save_trained(parted, trained, out=out, run=run_folder(place.out, work), overwrite=True)
