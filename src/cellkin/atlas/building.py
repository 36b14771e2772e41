"""Building an atlas: references embedded clean, the map fitted, held-out cells measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.atlas.atlas import Atlas
from cellkin.atlas.calls import calls_of
from cellkin.atlas.cells import Cells
from cellkin.atlas.map import fit_map, place, trust
from cellkin.atlas.robustness import robustness_of
from cellkin.core.arrays import Bytes, Floats, Singles
from cellkin.core.errors import RecipeError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Features, LabelSet
from cellkin.core.units import GROUP, SUBJECT, Owners
from cellkin.decision import Calibration, Conformal, Index, MinMaxScale
from cellkin.imaging.quality import LEAST, QualityGate
from cellkin.learning.encoder import Encoder

MAPS = ("none", "fp16")
"""What of the references' feature maps an atlas can keep."""

CHUNK = 64  # images whose maps are in memory at once


@dataclass(frozen=True)
class Settings:
    """How an atlas decides, and what it keeps.

    Attributes:
        k: neighbours that vote. distance: see `cellkin.decision.Index`. seed: of the map.
        maps: one of `MAPS`: with "fp16" the references' feature maps are kept, so that evidence
            need not look again.
        facts: what it says about itself, as in `facts.json`.
    """

    k: int
    distance: str
    seed: int
    maps: str = "none"
    facts: Mapping[str, Any] = field(default_factory=dict)


def build(
    encoder: Encoder,
    references: tuple[Cells, Bytes],
    held_out: Sequence[tuple[Cells, Features]],
    *,
    labels: LabelSet,
    settings: Settings,
    progress: Progress = silent,
) -> Atlas:
    """An atlas in memory.

    Args:
        references: the reference cells and their prepared clean images (N, S, S, 3) uint8.
        held_out: other cells with their features, by part; the part "calibration" (or, without
            one, "val") calibrates, a cell's own references left out: those of its subject, slide or
            field, whichever is the unit of the split in `facts`.

    Raises:
        DecisionError: fewer references than k.
        RecipeError: the network has no feature map to keep.
    """
    cells, images = references
    features, maps = embedded(encoder, cells, images, settings.maps, progress)
    scale = MinMaxScale.fit(features.vectors)
    scaled = scale.apply(features.vectors)
    index = Index(scaled, cells.ids, settings.distance)
    progress("drawing the map", 0, 1)
    xy = fit_map(scaled, index, seed=settings.seed)
    vectors = [scale.apply(f.vectors) for _, f in held_out]
    everyone = np.concatenate(vectors) if vectors else np.zeros((0, scaled.shape[1]))
    held_out_xy = place(everyone, index, xy)
    progress("drawing the map", 1, 1)
    atlas = Atlas(
        encoder=encoder,
        labels=labels,
        cells=cells,
        vectors=features.vectors,
        scale=scale,
        xy=xy,
        held_out=tuple(part for part, _ in held_out),
        held_out_xy=held_out_xy,
        calibration=Calibration.from_cells([], []),
        k=settings.k,
        distance=settings.distance,
        facts={
            **settings.facts,
            "map": trust(scaled, xy, settings.distance, seed=settings.seed),
            "maps": None if maps is None else {"precision": "fp16", "bytes": maps.nbytes},
        },
        space=features.space,
        images=images,
        maps=maps,
        quality=QualityGate.fit(images, progress=progress) if len(images) >= LEAST else None,
    )
    return replace(
        calibrated(atlas, held_out),
        calls=calls_of(atlas, held_out, images),
        facts={**atlas.facts, **_robustness(atlas, settings.seed)},
    )


def _robustness(atlas: Atlas, seed: int) -> dict[str, Any]:
    found = robustness_of(atlas, seed=seed)
    return {} if found is None else {"robustness": found.to_json()}


def embedded(
    encoder: Encoder, cells: Cells, images: Bytes, kept: str, progress: Progress
) -> tuple[Features, NDArray[np.float16] | None]:
    """The references' features, and their maps where these are to be kept."""
    if kept == "none":
        return encoder.embed(images, cells.ids, progress=progress), None
    refuse_maps(encoder.pooling)
    vectors, maps = [], []
    for start in range(0, len(images), CHUNK):
        views = encoder.view(images[start : start + CHUNK])
        vectors.append(views.features)
        maps.append(_half(views.maps))
        progress("looking at the cells", min(start + CHUNK, len(images)), len(images))
    return Features(cells.ids, np.concatenate(vectors), encoder.space), np.concatenate(maps)


def refuse_maps(pooling: str) -> None:
    """Refuse to keep the maps of a network that does not pool them (see `Network.pooling`).

    Raises:
        RecipeError: it is a transformer.
    """
    if pooling != "average":
        raise RecipeError(
            "the maps of a transformer are not what its evidence is made of",
            where="--maps fp16",
            mend="leave --maps away for this backbone",
        )


def _half(maps: Singles) -> NDArray[np.float16]:
    """float16, refused where it would overflow."""
    if maps.size and np.abs(maps).max() > np.finfo(np.float16).max:
        raise RecipeError(
            "a feature map holds values too large for fp16",
            where="--maps fp16",
            mend="leave --maps away: the maps are then computed when they are needed",
        )
    return maps.astype(np.float16)


def calibrated(atlas: Atlas, held_out: Sequence[tuple[Cells, Features]]) -> Atlas:
    """The atlas with percentiles and prediction sets from held-out cells: of the part
    "calibration", without one of "val", without both the atlas as it is.
    """
    parts = {cells.part: (cells, features) for cells, features in held_out if len(cells)}
    chosen = parts.get("calibration") or parts.get("val")
    if chosen is None:
        return atlas
    cells, features = chosen
    exclude = atlas.own(cells.owners(atlas.unit))
    scaled = atlas.scale.apply(features.vectors)
    _, distances = atlas.index.nearest(scaled, atlas.k, exclude=exclude)
    calibration = Calibration.from_cells(cells.labels, [float(d) for d in distances.mean(axis=1)])
    return replace(
        atlas, calibration=calibration, conformal=_conformal(atlas, cells, scaled, exclude)
    )


def _conformal(atlas: Atlas, cells: Cells, scaled: Floats, exclude: list[set[int]]) -> Conformal:
    """Scores of the calibration cells for their own class, by the unit of the split.

    A cell whose class has no reference but its own (see `Atlas.own`) has no score and is left out.
    """
    near = atlas.class_index.nearest(scaled, atlas.k, exclude)
    odd, place_of = near.nonconformity(), {c: i for i, c in enumerate(near.classes)}
    scores = [
        float(row[place_of[label]]) if label in place_of else np.inf
        for row, label in zip(odd, cells.labels, strict=True)
    ]
    units = exchangeable(atlas, cells)
    kept = [i for i, score in enumerate(scores) if np.isfinite(score)]
    return Conformal.from_cells(
        [cells.labels[i] for i in kept],
        [str(units.names[i]) for i in kept],
        [scores[i] for i in kept],
        unit=units.unit,
        note=_limits(atlas, cells),
    )


def exchangeable(atlas: Atlas, cells: Cells) -> Owners:
    """What is exchangeable: the unit of the split where every calibration cell names one, else
    single cells.
    """
    owners = cells.owners(atlas.unit)
    return owners if owners.several else Owners("cell", cells.ids)


def _limits(atlas: Atlas, cells: Cells) -> str:
    notes = ["calibrated on the selection set"] if cells.part == "val" else []
    for unit, same in ((SUBJECT, "people"), (GROUP, "slides or fields")):
        shared = {*atlas.cells.owners(unit).names} & {*cells.owners(unit).names} - {None}
        if shared:
            notes.append(
                f"calibration cells and references come from the same {same}: "
                f"it holds for these {same}"
            )
            break
    return "; ".join(notes)
