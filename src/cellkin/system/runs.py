"""What every kind of training shares: options, the folder of a run, images and their marks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas.building import MAPS
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import alone
from cellkin.core.errors import (
    ArtifactError,
    ImageError,
    OutputError,
    RecipeError,
    SplitError,
    WeightsError,
)
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.ranks import process_rank
from cellkin.core.records import Dataset, Split
from cellkin.datasets.parts.seen import marked, seen_to_training
from cellkin.imaging.fingerprints import fingerprints
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.outline import is_empty
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.encoder import Encoder, choose_device
from cellkin.learning.opening import encoder_in
from cellkin.learning.packaged import FOLDERS, HAEMATOLOGY, PACKAGED
from cellkin.learning.recipes import Recipe
from cellkin.learning.weights import PACKAGED_BACKBONE, initialize, pixels_seen_by
from cellkin.system.cards import CARD, CARD_DATA, network_facts

UNFOUND = 0.2  # share of pictures without a cell from which on they are none of single cells
LITE0_SIDE = 224  # that the ImageNet weights were made for
NOVELTY = ("frozen", "off")
"""Where unknown kinds are told."""


@dataclass(frozen=True, kw_only=True)
class AdoptOptions(Options):
    """Where an atlas is made.

    Attributes:
        device: "auto", "cpu", "cuda", ... overwrite: replace what is at `out`.
    """

    device: str = "auto"
    overwrite: bool = False
    progress: Progress = silent


@dataclass(frozen=True, kw_only=True)
class IndexOptions(AdoptOptions):
    """How an atlas is made.

    Attributes:
        maps: "none", or "fp16": keep the references' feature maps, so that evidence is faster.
        novelty: one of `NOVELTY`: with "frozen" unknown kinds are told in a space that nobody
            trained, see `cellkin.atlas.novelty`; deciding then takes a second look.

    Raises:
        RecipeError: an unknown kind of maps or of novelty.
    """

    maps: str = "none"
    novelty: str = "frozen"

    def __post_init__(self) -> None:
        for name, known in (("maps", MAPS), ("novelty", NOVELTY)):
            if (given := getattr(self, name)) not in known:
                raise RecipeError(
                    f"{name} = {given!r} is not possible",
                    where=f"--{name}",
                    mend=f"use one of {', '.join(known)}",
                )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(IndexOptions):
    """How a training is run.

    Attributes:
        devices: on each machine. nodes: machines that train together.
        tensorboard: folder to write to, or None.
        resume: go on with an unfinished training; with folds, finished ones are kept as they are.
    """

    devices: int = 1
    nodes: int = 1
    tensorboard: Path | None = None
    resume: bool = False


def run_folder(out: Path) -> Path:
    """Where an unfinished training keeps its checkpoints: beside what it will become."""
    return out.parent / f"{out.name}.training"


@contextmanager
def open_run(run: Path, *, resume: bool) -> Iterator[Path]:
    """The folder of a run, made if missing, held until the block ends. That of a run that failed
    before its first checkpoint is removed: nothing is lost in it.

    Raises:
        OutputError: nothing is there to resume, something is and `resume` is off, or another
            process is at work in it.
    """
    if process_rank() > 0:  # the first process has opened it
        yield run
        return
    if resume and not run.is_dir():
        raise OutputError(
            "there is no unfinished training to go on with",
            where=run,
            mend="leave --resume away to start one",
        )
    if not resume and run.is_dir():
        raise OutputError(
            "there is an unfinished training here already",
            where=run,
            mend="add --resume to go on with it, or remove that folder to start again",
        )
    with alone(run):
        try:
            yield run
        except BaseException:
            if not any((run / "checkpoints").glob("step-*")):
                shutil.rmtree(run, ignore_errors=True)
            raise


def load_images(
    data: Dataset, preprocessor: Preprocessor, progress: Progress, *, cache: Path | None = None
) -> Bytes:
    """(N, S, S, 3) uint8, prepared; `cache` as in `load_prepared`; empty ground where a cell is to
    be shown alone and none is found, see `with_cells`.
    """
    sources = [s.image for s in data.samples]
    return load_prepared(sources, preprocessor, progress=progress, cache=cache, unfound=True)


def with_cells(split: Split, data: Dataset, images: Bytes, preprocessor: Preprocessor) -> Split:
    """A split without the cells that are to be shown alone and were not found; its note says how
    many these are.

    Raises:
        ImageError: they are more than `UNFOUND` of the cells.
    """
    if not preprocessor.alone:
        return split
    rows = zip(split.ids, data.rows(split.ids).tolist(), strict=True)
    unfound = [i for i, row in rows if is_empty(np.asarray(images[row]))]
    if len(unfound) > UNFOUND * len(split.ids):
        raise ImageError(
            unfound_note(len(unfound), split),
            where=", ".join(unfound[:5]),
            mend="give pictures of single stained cells, or set alone = false in the recipe",
        )
    return split.without(unfound, unfound_note(len(unfound), split)) if unfound else split


def unfound_note(count: int, split: Split) -> str:
    """What is said of so many cells of a split that were not found to be shown alone."""
    return f"in {count} of {len(split.ids)} pictures no cell is found: they are left out"


def unseen_parts(
    data: Dataset, parts: Sequence[Split], recipe: Recipe, progress: Progress
) -> tuple[Dataset, tuple[Split, ...]]:
    """The parts as the first weights of a recipe allow them: what these have learned from trains.

    Returns:
        the data set, with the marks of its pixels where they were needed, and the parts.

    Raises:
        SplitError: nothing is left to validate or to test on.
    """
    marks = pixels_seen_by(recipe.init, recipe.backbone)
    if not marks:
        return data, tuple(parts)
    data = marked(data, progress=progress)
    return data, seen_to_training(parts, data, marks, init=recipe.init)


def learned_from(
    data: Dataset, images: Bytes, encoder: Encoder, *, progress: Progress = silent
) -> set[str]:
    """Ids of the cells that an encoder has learned from.

    Args:
        images: of all cells, prepared (N, S, S, 3) uint8.
    """
    known, pixels = set(encoder.trained_on), set(encoder.seen_pixels)
    samples = marked(data, progress=progress).samples if pixels else data.samples
    return {
        sample.id
        for sample, mark in zip(samples, fingerprints(images), strict=True)
        if mark in known or sample.pixels in pixels
    }


def refuse_seen(images: Bytes, seen: Sequence[str], *, init: str) -> None:
    """Refuse to measure on images that the first weights were trained on, where that is known.

    Args:
        images: the test and calibration images. seen: fingerprints that the first weights carry.

    Raises:
        SplitError: some of them were.
    """
    known = set(seen)
    if count := sum(mark in known for mark in fingerprints(images)) if known else 0:
        raise SplitError(
            f"{count} of {len(images)} images to test and calibrate on were trained on before",
            where=f"--init {init}",
            mend="start from weights that do not know them, or take the split (seed and unit) that "
            "those weights were made with",
        )


def packaged_encoder(size: int, device: str) -> Encoder:
    """EfficientNet-Lite0 with its ImageNet weights, not trained any further.

    Raises:
        WeightsError: the data package with the weights is missing.
    """
    return starting_encoder("packaged", PACKAGED_BACKBONE, size, device)


def starting_encoder(init: str, backbone: str, size: int, device: str) -> Encoder:
    """An encoder that is its first weights, not trained any further.

    Args:
        init, backbone, size: as in `cellkin.learning.weights.initialize`.

    Raises:
        WeightsError: they do not fit, cannot be had, come without a z-score, or are an encoder,
            which has a view of its own.
    """
    if init == HAEMATOLOGY or Path(init).expanduser().is_dir():
        raise WeightsError(
            "this is an encoder already, with a backbone, a size and a view of its own",
            where=init,
            mend="leave --backbone away",
        )
    network, preprocessor = initialize(backbone, 1, init, size=size, seed=0)
    if preprocessor is None:
        raise WeightsError(
            "these weights do not say with which z-score they were made",
            where=init,
            mend="train with them: cellkin train --init, where the z-score is fitted",
        )
    recipe = {"name": f"{Path(init).name}, frozen", "backbone": backbone, "init": init}
    place = choose_device(device)
    return Encoder(network, preprocessor, ("cell",), recipe=recipe, device=place)


def open_encoder(folder: Path, device: str) -> Encoder:
    """The encoder in its own folder, or in an atlas; or a packaged one by its name.

    Raises:
        ArtifactError: neither is there, or it is damaged.
    """
    if str(folder) in FOLDERS.values():
        return Encoder.open(PACKAGED / str(folder), device=device)
    if str(folder) == "imagenet":
        return packaged_encoder(LITE0_SIDE, device)
    for candidate in (folder / "encoder", folder):
        if (candidate / "encoder.json").is_file():
            return encoder_in(candidate, device)
    raise ArtifactError(
        "this is neither an atlas nor an encoder",
        where=folder,
        mend="give a folder that cellkin train or cellkin pretrain wrote, a packaged encoder "
        f"({', '.join((*FOLDERS.values(), 'imagenet'))}), or weights of others with their "
        "backbone: cellkin index FILE CELLS --backbone NAME",
    )


def encoder_facts(folder: str | Path) -> dict[str, Any]:
    """What an encoder folder is, as plain data (`cellkin inspect ENCODER --json`).

    Raises:
        ArtifactError: it is no encoder, or damaged.
    """
    folder = Path(folder).expanduser()
    encoder = open_encoder(folder, "cpu")
    card = json.loads(encoder.documents.get(CARD_DATA, "{}"))
    return {
        "kind": "encoder",
        "classes": list(encoder.classes),
        "heads": [list(codes) for codes in encoder.heads],
        "network": network_facts(encoder),
        "recipe": encoder.recipe,
        "card": card,
        "model_card": str(folder / CARD) if CARD in encoder.documents else None,
    }
