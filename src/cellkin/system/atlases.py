"""Making an atlas: train an encoder on labelled cells, or index cells with one that is there."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin import report
from cellkin.atlas import Atlas, Cells, Settings, build, decide, novel, portrayed, with_novelty
from cellkin.atlas.building import refuse_maps
from cellkin.atlas.cells import REFERENCE
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import refuse_existing
from cellkin.core.errors import RecipeError
from cellkin.core.progress import Progress
from cellkin.core.ranks import process_rank
from cellkin.core.records import Dataset, Features, Split
from cellkin.datasets.parts import splits
from cellkin.imaging.fingerprints import fingerprints
from cellkin.learning.encoder import Encoder, choose_device
from cellkin.learning.networks import Network, body_settings
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.learning.selection import start_accuracy
from cellkin.learning.training import Place, Trained, TrainingData, train_encoder
from cellkin.learning.weights import pixels_seen_by, seen_by
from cellkin.measures.scores import score_samples
from cellkin.measures.sure import sure_calls
from cellkin.measures.triage import triage
from cellkin.system.cards import atlas_card, data_facts, documents, made_now
from cellkin.system.runs import (
    IndexOptions,
    TrainOptions,
    learned_from,
    load_images,
    open_encoder,
    open_run,
    refuse_seen,
    run_folder,
    unseen_parts,
    with_cells,
)
from cellkin.system.surroundings import surroundings_facts
from cellkin.system.windows import measured_facts

KNOWN = ("subject", "group", "place")
"""What of a test cell is kept beside its decision."""


@dataclass(frozen=True)
class PartedCells:
    """Cells in parts, with their prepared images: what an atlas is made of.

    Attributes:
        seen: fingerprints that the first weights carried, see `cellkin.learning.weights.seen_by`.
        novelty: see `IndexOptions`.
    """

    data: Dataset
    split: Split
    images: Bytes
    seed: int
    progress: Progress
    maps: str = "none"
    seen: tuple[str, ...] = ()
    novelty: str = "off"

    def pictures(self, ids: Sequence[str]) -> Bytes:
        """The prepared images (N, S, S, 3) of these cells."""
        return self.images[self.data.rows(ids)]

    def cells(self, part: str, ids: Sequence[str]) -> Cells:
        samples = self.data.select(ids)
        return Cells(
            part,
            tuple(ids),
            tuple(s.label for s in samples),
            tuple(s.subject for s in samples),
            tuple(s.group for s in samples),
            tuple(s.place for s in samples),
        )

    def training_data(self) -> TrainingData:
        """What a training sees; a cell of no class that is asked for, in no part, counts as 0."""
        samples, labels = self.data.samples, self.data.labels
        known = {name: labels.index(name) for name in labels.names}
        return TrainingData(
            images=self.images,
            ids=tuple(s.id for s in samples),
            targets=np.array([known.get(s.label, 0) for s in samples], np.int64),
            train=self.data.rows(self.split.train),
            val=self.data.rows(self.split.val),
            labels=labels,
        )


def train(
    data: Dataset,
    recipe: str | Recipe = "quick",
    *,
    seed: int = 0,
    out: str | Path = "atlas",
    split: Split | None = None,
    options: TrainOptions = TrainOptions(),
) -> Path:
    """Train an encoder, build its atlas and measure it on the untouched test part.

    Args:
        data: labelled cells. recipe: a shipped recipe's name, a TOML file, or a `Recipe`.
        seed: of the split, the weights, the order and the augmentation.
        out: the atlas folder to write; it appears when everything is done.
        split: parts made beforehand; by default one part of five is tested, by subject where
            every cell names one.

    Returns:
        the atlas folder. Where several processes train, the first alone makes it; in the others
        this returns when training is over.

    Raises:
        CellkinError: of many kinds; see `cellkin.core.errors`.
    """
    out = Path(out).expanduser()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe.require_task("fine-tuning", verb="pretrain")
    data.require_cells()
    device = choose_device(options.device)
    if not options.overwrite and process_rank() == 0:
        refuse_existing(out)
    parts = (split or splits.single(data, seed=seed),)
    data, (split,) = unseen_parts(data, parts, recipe, options.progress)
    refuse_early(data, split, recipe, options.maps)
    place = Place(device, options.devices, options.nodes, options.tensorboard)
    with open_run(run_folder(out), resume=options.resume) as run:
        images = load_images(data, recipe.geometry, options.progress, cache=run / "prepared")
        split = with_cells(split, data, images, recipe.geometry)
        refuse_early(data, split, recipe, options.maps)
        seen = seen_by(recipe.init)
        job = PartedCells(
            data, split, images, seed, options.progress, options.maps, seen, options.novelty
        )
        refuse_seen(job.pictures((*split.calibration, *split.test)), seen, init=recipe.init)
        cells = job.training_data()
        trained = train_encoder(
            cells, recipe, seed=seed, run=run, place=place, progress=job.progress
        )
        if not trained.first:
            return out
        start = start_accuracy(cells, recipe, seed=seed, device=device)
        trained = replace(trained, best={**trained.best, "start_accuracy": start})
        save_trained(job, trained, out=out, run=run, overwrite=options.overwrite)
        shutil.rmtree(run, ignore_errors=True)
    return out


def save_trained(
    job: PartedCells, trained: Trained, *, out: Path, run: Path, overwrite: bool = False
) -> None:
    """The atlas of a training that is over: built, measured on the test part, and written.

    Args:
        run: folder of the training, whose log and curve are copied along.

    Raises:
        CellkinError: of many kinds; see `cellkin.core.errors`.
    """
    report.training_curve(trained.history, run / "training.png")
    recipe = Recipe(**trained.encoder.recipe)
    used = job.pictures((*job.split.train, *job.split.val))
    trained.encoder.trained_on = tuple(dict.fromkeys((*job.seen, *fingerprints(used))))
    trained.encoder.seen_pixels = pixels_seen_by(recipe.init, recipe.backbone)
    atlas, predictions = _atlas(job, trained.encoder, *_settings(trained, job))
    trained.encoder.documents = documents(atlas_card(atlas, "encoder"))
    texts = {"split.json": job.split.to_json(), "predictions.json": predictions}
    atlas.save(
        out,
        extra=[run / "log.jsonl", run / "training.png"],
        texts=texts | documents(atlas_card(atlas, "atlas")),
        overwrite=overwrite,
    )


def index(
    source: str | Path | Encoder,
    data: Dataset,
    *,
    out: str | Path,
    seed: int = 0,
    k: int = 5,
    distance: str = "euclidean",
    options: IndexOptions = IndexOptions(),
) -> Path:
    """A new atlas over other cells, with an encoder, or that of an atlas or an encoder folder.

    One part of five is held out to measure it, and part of another to calibrate it. Cells that the
    encoder was trained on become references and never held-out cells: their distances would
    flatter.

    Raises:
        CellkinError: of many kinds; see `cellkin.core.errors`.
    """
    data.require_cells()
    out = Path(out).expanduser()
    if not options.overwrite:
        refuse_existing(out)
    if k < 1:
        raise RecipeError(f"k = {k} is not possible", where="--k", mend="give 1 or more")
    if isinstance(source, Encoder):
        encoder = source
    else:
        encoder = open_encoder(Path(source).expanduser(), options.device)
    images = load_images(data, encoder.preprocessor, options.progress)
    found = with_cells(splits.single(data, seed=seed), data, images, encoder.preprocessor)
    seen = learned_from(data, images, encoder, progress=options.progress)
    split = _with_seen_cells_as_references(found, seen)
    job = PartedCells(
        data, split, images, seed, options.progress, options.maps, novelty=options.novelty
    )
    recipe = f"index with {encoder.recipe.get('name', 'an encoder')}"
    settings = Settings(k, distance, seed, options.maps)
    atlas, predictions = _atlas(job, encoder, settings, recipe)
    texts = {"split.json": split.to_json(), "predictions.json": predictions}
    texts |= documents(atlas_card(atlas, "atlas"))
    atlas.save(out, texts=texts, overwrite=options.overwrite)
    return out


# parts of the work -----------------------------------------------------------------------------


def refuse_early(data: Dataset, split: Split, recipe: Recipe, maps: str = "none") -> None:
    """Refuse before a training what could only fail after it: parts that do not fit the data set,
    test cells that cannot be scored by the unit of the split, too few references for a vote, a
    backbone that is not there, and maps that it does not have.

    Raises:
        SplitError, DecisionError, LabelError, RecipeError, WeightsError: one of these.
    """
    splits.verify_split(split, data)
    body_settings(recipe.backbone, recipe.size)
    nothing = [n for n in data.labels.names if data.labels.clinical[n] == "no cell"]
    if recipe.alone and nothing:
        raise RecipeError(
            "pictures without a cell show none alone",
            where=f"recipe field alone; class {', '.join(nothing)}",
            mend="leave that class out of the data set, or set alone = false",
        )
    if tested := data.select(split.test):
        score_samples(tested, [s.label for s in tested], data.labels, unit=split.unit)
    if recipe.k > len(split.train):
        raise RecipeError(
            f"{recipe.k} neighbours cannot vote among {len(split.train)} training cells",
            where=f"k = {recipe.k}",
            mend=f"choose k from 1 to {len(split.train)}, or add cells",
        )
    if maps != "none":
        refuse_maps(Network(recipe.backbone, 1, size=recipe.size).pooling)


def _settings(trained: Trained, job: PartedCells) -> tuple[Settings, str]:
    recipe = Recipe(**trained.encoder.recipe)
    best = trained.best
    training = {
        "epochs": len(trained.history),
        "selected_epoch": trained.selected_epoch,
        "validation_accuracy": best["val_accuracy"],
        "precision": recipe.precision,
        **{k: v for k in ("start_accuracy",) if (v := best.get(k)) is not None},
        **trained.memory,
    }
    known = {"training": training}
    return Settings(recipe.k, recipe.distance, job.seed, job.maps, known), recipe.id


def _atlas(
    job: PartedCells, encoder: Encoder, settings: Settings, recipe: str
) -> tuple[Atlas, list[dict[str, Any]]]:
    """The atlas over the training cells, measured on the test cells; and every test decision."""
    held_out = []
    for part in ("val", "calibration", "test"):
        ids = job.split.parts()[part]
        if ids:
            features = encoder.embed(job.pictures(ids), ids, progress=job.progress)
            held_out.append((job.cells(part, ids), features))
    references = job.cells(REFERENCE, job.split.train)
    made = {"provenance": made_now(job.data, encoder, recipe, job.seed)}
    pictures = job.pictures(job.split.train)
    window = measured_facts(encoder, pictures, job.progress)
    around = surroundings_facts(
        references, pictures, job.split.unit, seed=job.seed, progress=job.progress
    )
    facts = {**data_facts(job.data, job.split), **settings.facts, **made, **window, **around}
    atlas = build(
        encoder,
        (references, pictures),
        held_out,
        labels=job.data.labels,
        settings=replace(settings, facts=facts),
        progress=job.progress,
    )
    atlas = _with_novelty(atlas, held_out, job)
    atlas = replace(atlas, portrait=portrayed(atlas, pictures, progress=job.progress))
    tested = [pair for pair in held_out if pair[0].part == "test"]
    measured, predictions = measure_test(atlas, *tested[0], job) if tested else ({"test": None}, [])
    return replace(atlas, facts={**atlas.facts, **measured}), predictions


def _with_novelty(
    atlas: Atlas, held_out: Sequence[tuple[Cells, Features]], job: PartedCells
) -> Atlas:
    """The atlas with a frozen side, calibrated on the cells that its own side is calibrated on;
    as it is where that is off, no cell is held out, or one class is all.
    """
    parts = {cells.part: cells for cells, _ in held_out}
    chosen = parts.get("calibration") or parts.get("val")
    if job.novelty == "off" or chosen is None or len(set(atlas.cells.labels)) < 2:
        return atlas
    calibration = (chosen, job.pictures(chosen.ids))
    return with_novelty(atlas, job.pictures(atlas.cells.ids), calibration, progress=job.progress)


def measure_test(
    atlas: Atlas, cells: Cells, features: Features, job: PartedCells
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores and triage of the test cells, as the facts of an atlas keep them, and every decision.

    Raises:
        CellkinError: as `decide`.
    """
    decisions = decide(atlas, features, owners=cells.owners(job.split.unit))
    decisions = novel(atlas, decisions, job.pictures(cells.ids))
    samples, called = job.data.select(cells.ids), [d.label for d in decisions]
    scores = score_samples(samples, called, atlas.labels, unit=job.split.unit, seed=job.seed)
    predictions = [
        {**d.to_json(), "truth": s.label, **{name: getattr(s, name) for name in KNOWN}}
        for d, s in zip(decisions, samples, strict=True)
    ]
    curve = triage(decisions, cells.labels, atlas.labels).to_json() if decisions else None
    sure = sure_calls(decisions, cells.labels, atlas.labels).to_json()
    return {"test": scores.to_json(), "triage": curve, "sure": sure}, predictions


def _with_seen_cells_as_references(split: Split, seen: Collection[str]) -> Split:
    """Move the validation cells, and every held-out cell the encoder has learned from, to the
    references: without training there is nothing to select.
    """
    moved = [i for part in (split.calibration, split.test) for i in part if i in seen]
    calibration = split.calibration or split.val
    val = split.val if split.calibration else ()
    notes = [split.note] if split.note and split.calibration else []
    if moved:
        notes.append(f"{len(moved)} held-out cells were trained on: they serve as references")
    return replace(
        split,
        train=(*split.train, *val, *moved),
        val=(),
        calibration=tuple(i for i in calibration if i not in seen),
        test=tuple(i for i in split.test if i not in seen),
        note="; ".join(notes),
    )
