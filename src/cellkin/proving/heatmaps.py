"""The measures of `cellkin.evidence` put to one atlas and a sample of its held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cellkin.atlas import consult, decide
from cellkin.core.arrays import Bools, Bytes, Floats, Ints
from cellkin.core.contrast import coverage
from cellkin.core.progress import Progress
from cellkin.core.records import CLOSES, Dataset, Decision
from cellkin.core.units import Owners
from cellkin.decision import MinMaxScale
from cellkin.drawing.masks import CYTOPLASM, NUCLEUS, cell_masks
from cellkin.evidence.attention import attention
from cellkin.evidence.contrasting import Comparing
from cellkin.evidence.faithfulness import deletion
from cellkin.evidence.probing import Probe, Sides, method_maps, targets
from cellkin.evidence.randomisation import randomisation
from cellkin.evidence.stability import CHANGES, map_stability
from cellkin.imaging.outline import cell_mask
from cellkin.imaging.preprocess import Prepared
from cellkin.imaging.stain import nuclei, nuclei_mask
from cellkin.learning.untrained import untrained
from cellkin.measures.intervals import mean_of, share_of
from cellkin.proving.held_out import HeldOut
from cellkin.system import DecisionSupport
from cellkin.system.explainer import other_side

CHUNK = 8  # cells explained at once
SETTLING = 64  # reference cells that a random network is set up with
CELL = 1.5  # radius of a cell in radii of its nucleus, where no mask says it
COVERED = 0.25  # share of a position's pixels from which on it belongs to the cell


@dataclass(frozen=True)
class Trial:
    """A sample of held-out cells with their decisions, and the atlas that made them.

    Attributes:
        decisions: of all held-out cells. chosen: positions of the sample among them.
    """

    dss: DecisionSupport
    data: Dataset
    held: HeldOut
    decisions: list[Decision]
    chosen: list[int]
    seed: int

    @cached_property
    def images(self) -> Bytes:
        """(M, S, S, 3) of the sample."""
        return np.asarray(self.held.images[self.chosen])

    @cached_property
    def owners(self) -> Owners:
        return self.held.owners(self.dss.atlas.unit).part(self.chosen)

    @cached_property
    def kin_positions(self) -> list[int]:
        """Of each cell of the sample, its nearest reference cell."""
        place = self.dss.atlas.cells.positions
        return [place[self.decisions[i].neighbors[0].id] for i in self.chosen]

    @cached_property
    def probe(self) -> Probe:
        atlas = self.dss.atlas
        return Probe(
            [self.held.samples[i].id for i in self.chosen],
            self.images,
            np.stack([atlas.image(p) for p in self.kin_positions]),
            [self.decisions[i].label for i in self.chosen],
            Sides(np.stack([atlas.image(p) for p in self.compared]), *self._rows),
        )

    @cached_property
    def _sides(self) -> tuple[list[list[int]], list[list[int]]]:
        """Of each cell of the sample the kin that voted, and as many of the other side."""
        atlas = self.dss.atlas
        names = [self.held.samples[i].id for i in self.chosen]
        features = atlas.encoder.embed(self.images, names)
        asked = consult(atlas, features, owners=self.owners, classes=True)
        place = atlas.cells.positions
        kin = [[place[n.id] for n in self.decisions[i].neighbors] for i in self.chosen]
        others = [other_side(atlas, asked, row)[: atlas.k] for row in range(len(names))]
        return kin, [[place[n.id] for n in found] for found in others]

    @cached_property
    def compared(self) -> list[int]:
        """The reference cells of all contrasts, each once."""
        return sorted({p for side in self._sides for found in side for p in found})

    @property
    def _rows(self) -> tuple[list[list[int]], list[list[int]]]:
        """The sides as rows of `compared`."""
        row = {p: i for i, p in enumerate(self.compared)}
        kin, others = ([[row[p] for p in found] for found in side] for side in self._sides)
        return kin, others

    @cached_property
    def space(self) -> Comparing:
        atlas = self.dss.atlas
        return Comparing(atlas.encoder, atlas.scale, atlas.distance)

    @cached_property
    def maps(self) -> dict[str, Floats]:
        """Of the trained network."""
        return method_maps(self.space, self.probe)

    @cached_property
    def masks(self) -> list[Bytes | None]:
        samples = [self.held.samples[i] for i in self.chosen]
        return cell_masks(self.data, samples, self.images.shape[1])

    @cached_property
    def regions(self) -> Bools:
        """(M, S, S): the cell, by its mask, or as a disc about the nucleus that its stain tells;
        nothing where there is neither.
        """
        return np.stack(
            [
                _disc(image) if mask is None else mask > 0
                for image, mask in zip(self.images, self.masks, strict=True)
            ]
        )

    @cached_property
    def inside(self) -> Bools:
        """(M, h, w): the positions of the map that belong to the cell."""
        shape = next(iter(self.maps.values())).shape[1:]
        return coverage(self.regions, (shape[0], shape[1])) >= COVERED

    def told_by(self) -> dict[str, int]:
        """How many cells are known by what."""
        masked = sum(mask is not None for mask in self.masks)
        empty = int((~self.regions.any(axis=(1, 2))).sum())
        return {"mask": masked, "stain": len(self.masks) - masked, "without a cell": empty}


def _disc(image: Bytes) -> Bools:
    S = len(image)
    found = nuclei(image)
    if not found:
        return np.zeros((S, S), bool)
    middle = min(found, key=lambda n: float(np.hypot(n.x - S / 2, n.y - S / 2)))
    y, x = np.indices((S, S))
    return np.asarray(np.hypot(x - middle.x, y - middle.y) <= CELL * middle.radius)


def completeness(trial: Trial, tell: Progress) -> dict[str, Any]:
    """Errors of every map of the sample's evidence, made through `explain`."""
    errors: dict[str, list[float]] = {"contrast": [], "likeness": [], "difference": []}
    exact = True
    for start in range(0, len(trial.images), CHUNK):
        part = slice(start, start + CHUNK)
        pictures = [
            Prepared(*one) for one in zip(trial.probe.ids[part], trial.images[part], strict=True)
        ]
        own = trial.owners.part(range(start, start + len(pictures)))
        for found in trial.dss.explain(pictures, subject=own, gate=False):
            more = found.counter
            pairs = (*found.pairs, *(more.pairs if more else ()))
            differences = (*found.differences, *(more.differences if more else ()))
            if (why := found.contrast) is not None:
                maps = (why.on_query, *why.on_others, *why.pairs)
                errors["contrast"] += [one.completeness for one in maps]
            errors["likeness"] += [pair.completeness for pair in pairs]
            errors["difference"] += [d.completeness for d in differences]
            exact = exact and all(pair.exact for pair in pairs)
        tell("adding up the heatmaps", start + len(pictures), len(trial.images))
    return {
        "exact": exact,
        "limit": CLOSES,
        "methods": {
            name: {
                "maps": len(values),
                "largest": max(values),
                "median": float(np.median(values)),
                "refused": sum(not value <= CLOSES for value in values) if exact else 0,
            }
            for name, values in errors.items()
            if values
        },
    }


def randomised(networks: int, trial: Trial, tell: Progress) -> dict[str, Any]:
    """Every method against the maps of random networks."""
    atlas = trial.dss.atlas
    rows = np.linspace(0, len(atlas.cells) - 1, min(SETTLING, len(atlas.cells))).astype(int)
    settling = np.stack([atlas.image(int(i)) for i in rows])
    found: dict[str, list[Floats]] = {}
    for n in range(networks):
        encoder = untrained(atlas.encoder, settling, seed=1 + n + 1000 * trial.seed)
        scale = MinMaxScale.fit(encoder.vectors(settling))
        maps = method_maps(Comparing(encoder, scale, atlas.distance), trial.probe)
        for name in trial.maps:
            found.setdefault(name, []).append(maps[name])
        tell("drawing heatmaps of random networks", n + 1, networks)
    return {
        "cells": trial.told_by(),
        "methods": {
            name: randomisation(
                trial.maps[name], np.stack(others), trial.inside, seed=trial.seed
            ).to_json()
            for name, others in found.items()
        },
    }


def deleted(trial: Trial, tell: Progress) -> dict[str, Any]:
    """Every method by deletion and insertion."""
    vectors = np.asarray(trial.dss.atlas.vectors)
    kin = vectors[trial.kin_positions]
    compared = vectors[trial.compared] if "contrast" in trial.maps else None

    def measure(images: Bytes, cells: Ints) -> dict[str, Floats]:
        shown = trial.probe.part(cells).with_images(images)
        return targets(trial.space, shown, kin[cells], compared)

    tested = deletion(
        trial.images, trial.maps, measure, owners=trial.owners, seed=trial.seed, progress=tell
    )
    return {name: found.to_json() for name, found in tested.items()}


def pointed(trial: Trial) -> dict[str, Any] | None:
    """Nucleus share, nucleus-and-cytoplasm share and pointing game, by exact masks; where no cell
    has one, by outlines and stain. None where these are not found either.
    """
    found, by = trial.masks, "masks"
    if not any(mask is not None for mask in found):
        found, by = [_outlined(image) for image in trial.images], "outlines"
    kept = [i for i, mask in enumerate(found) if mask is not None and (mask == NUCLEUS).any()]
    if not kept:
        return None
    masks = np.stack([mask for i in kept if (mask := found[i]) is not None])
    owners = trial.owners.part(kept)
    maps = {name: values[kept] for name, values in trial.maps.items()}
    maps["uniform"] = np.ones_like(next(iter(maps.values())))
    regions = {"nucleus": masks == NUCLEUS, "nucleus and cytoplasm": masks >= CYTOPLASM}

    def row(values: Floats, pixels: Bools) -> dict[str, Any] | None:
        found = attention(values, pixels, owners, seed=trial.seed)
        return None if found is None else found.to_json()

    tables = {
        region: {name: row(values, pixels) for name, values in maps.items()}
        for region, pixels in regions.items()
    }
    return {"cells": len(kept), "by": by, "regions": tables}


def _outlined(image: Bytes) -> Bytes | None:
    """A mask of the cell in the middle by its outline, of its nucleus by stain; None without."""
    cell = cell_mask(image)
    if cell is None:
        return None
    told = np.where(cell, CYTOPLASM, 0)
    return np.where(cell & nuclei_mask(image), NUCLEUS, told).astype(np.uint8)


def stable(trial: Trial, tell: Progress) -> dict[str, Any]:
    """Maps, calls and neighbours after changes that change nothing about the cell."""
    rng = np.random.default_rng(trial.seed)
    rows = {}
    for i, (name, change) in enumerate(CHANGES.items()):
        images = change.apply(trial.images, rng)
        after = method_maps(trial.space, trial.probe.with_images(images))
        rows[name] = {
            "title": change.title,
            "maps": {
                method: None if (found := map_stability(
                    trial.maps[method], change.undo(values), trial.inside, seed=trial.seed
                )) is None else found.to_json()
                for method, values in after.items()
            },
            **_answers_after(trial, images),
        }  # fmt: skip
        tell("changing what should not matter", i + 1, len(CHANGES))
    return rows


def _answers_after(trial: Trial, images: Bytes) -> dict[str, Any]:
    atlas = trial.dss.atlas
    features = atlas.encoder.embed(images, trial.probe.ids)
    after = decide(atlas, features, owners=trial.owners)
    before = [trial.decisions[i] for i in trial.chosen]
    kept = [
        len({n.id for n in a.neighbors} & {n.id for n in b.neighbors}) / len(b.neighbors)
        for a, b in zip(after, before, strict=True)
    ]
    same = [a.label == b.label for a, b in zip(after, before, strict=True)]
    return {
        "label": share_of(same).to_json(),
        "neighbors": mean_of(kept, seed=trial.seed).to_json(),
    }
