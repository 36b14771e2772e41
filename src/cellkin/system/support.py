"""`DecisionSupport`: open an atlas, look, decide, explain (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.atlas import Atlas, decide
from cellkin.core.errors import DecisionError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, Evidence, Features, Heatmap, ImageRef, PairMap
from cellkin.evidence.pairs import pair_maps
from cellkin.evidence.saliency import grad_cam
from cellkin.imaging.loading import load_prepared
from cellkin.learning.encoder import Views, choose_device

__all__ = ["DecisionSupport", "Look"]

KNOWN_SHOWN = 12  # classes of a head that a message names
Image = str | Path | NDArray[np.uint8]

SHARPENED = "adaptive unsharpening: every image, by its own measured blur"


@dataclass(frozen=True, eq=False)
class Look:
    """One image and what the network made of it in one forward pass.

    Attributes:
        query: its name. image: (S, S, 3) uint8, what the network saw before the z-score.
        feature_map: (C, h, w) float32; tokens for a transformer. features: one vector.
        logits: (K,) of the class head.
    """

    query: str
    image: NDArray[np.uint8]
    feature_map: NDArray[np.float32]
    features: Features
    logits: NDArray[np.float32]


class DecisionSupport:
    """Look at cells, decide on them, and say why (section 4 of the paper).

    >>> dss = DecisionSupport.open("atlas/")                            # doctest: +SKIP
    >>> dss.decide("cell.png").label                                    # doctest: +SKIP
    """

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas

    @classmethod
    def open(cls, folder: str | Path, *, device: str = "auto") -> DecisionSupport:
        """Open an atlas folder.

        Raises:
            ArtifactError: it is no atlas, or damaged.
        """
        return cls(Atlas.open(folder, device=choose_device(device)))

    # looking ----------------------------------------------------------------------------------

    def look(self, image: Image) -> Look:
        """One forward pass over an image file, or an RGB array (H, W, 3) uint8.

        Raises:
            ImageError: the image cannot be read without guessing.
        """
        return self.look_many([image])[0]

    def look_many(self, images: Sequence[Image], *, progress: Progress = silent) -> list[Look]:
        """Looks at many images; each is the same as when looked at alone."""
        names = [_name(image, i) for i, image in enumerate(images)]
        arrays = self._prepared(images, progress)
        space = self.atlas.space
        views = self.atlas.encoder.view(arrays)
        return [
            Look(
                name,
                arrays[i],
                views.maps[i],
                Features((name,), views.features[i : i + 1], space),
                views.logits[i],
            )
            for i, name in enumerate(names)
        ]

    def _prepared(self, images: Sequence[Image], progress: Progress = silent) -> NDArray[np.uint8]:
        preprocessor = self.atlas.encoder.preprocessor
        files = [ImageRef(Path(image)) for image in images if isinstance(image, str | Path)]
        loaded = iter(load_prepared(files, preprocessor, progress=progress))
        rows = [
            next(loaded) if isinstance(image, str | Path) else preprocessor.prepare(image)
            for image in images
        ]
        side = preprocessor.size
        return np.stack(rows) if rows else np.zeros((0, side, side, 3), np.uint8)

    # deciding ---------------------------------------------------------------------------------

    def decide(self, image: Look | Image, *, subject: str | None = None) -> Decision:
        """The neighbours' verdict on one image.

        Args:
            subject: the person, where known: reference cells of the same person do not vote.
        """
        if isinstance(image, Look):
            return decide(self.atlas, image.features, subjects=[subject])[0]
        return self.decide_many([image], subjects=[subject])[0]

    def decide_many(
        self,
        images: Sequence[Image],
        *,
        subjects: Sequence[str | None] | None = None,
        progress: Progress = silent,
    ) -> list[Decision]:
        """Decisions on many images, in their order; no result depends on the others."""
        if not len(images):
            raise DecisionError("no image was given", where="images", mend="give at least one")
        names = [_name(image, i) for i, image in enumerate(images)]
        arrays = self._prepared(images, progress)
        features = self.atlas.encoder.embed(arrays, names, progress=progress)
        return decide(self.atlas, features, subjects=subjects)

    # explaining -------------------------------------------------------------------------------

    def explain(self, image: Look | Image, *, subject: str | None = None) -> Evidence:
        """A decision with its reasons: heatmaps, pair maps, and the place on the map."""
        look = image if isinstance(image, Look) else self.look(image)
        decision = self.decide(look, subject=subject)
        positions = [self._position[n.id] for n in decision.neighbors]
        images = np.stack([self.atlas.image(p) for p in positions])
        views = self.atlas.encoder.view(images)
        heatmaps, absent = self._heatmaps(look, decision, views)
        exact = self.atlas.encoder.pooling == "average"
        return Evidence(
            decision=decision,
            labels=self.atlas.labels,
            query_image=look.image,
            reference_images=tuple(images),
            heatmap=heatmaps[0] if heatmaps else None,
            heatmap_absent=absent,
            reference_heatmaps=tuple(heatmaps[1:]),
            pairs=self._pairs(look, decision, views) if exact else (),
            pairs_absent="" if exact else "not available: a class token has no exact form",
            atlas_ids=self.atlas.cells.ids,
            atlas_labels=self.atlas.cells.labels,
            atlas_xy=self.atlas.xy,
            query_xy=self.atlas.place(look.features)[0],
            held_out_xy=self.atlas.held_out_xy,
            held_out_labels=tuple(x for cells in self.atlas.held_out for x in cells.labels),
            provenance=self.atlas.provenance,
            atlas_facts=self.facts(),
        )

    @cached_property
    def _position(self) -> dict[str, int]:
        return {id_: i for i, id_ in enumerate(self.atlas.cells.ids)}

    def _heatmaps(self, look: Look, decision: Decision, views: Views) -> tuple[list[Heatmap], str]:
        encoder = self.atlas.encoder
        if encoder.pooling != "average":
            return [], "not available: a class token has no closed form"
        if decision.label not in encoder.classes:
            more = len(encoder.classes) - KNOWN_SHOWN
            known = ", ".join(encoder.classes[:KNOWN_SHOWN]) + (f" and {more} more" * (more > 0))
            return [], f"not available: the class head knows {known}, not {decision.label}"
        weights = encoder.head_weights()[encoder.classes.index(decision.label)]
        values = grad_cam(np.concatenate([look.feature_map[None], views.maps]), weights)
        names = [look.query, *(n.id for n in decision.neighbors)]
        layer = encoder.network.layer
        return [
            Heatmap(v, "grad-cam", layer, decision.label, name)
            for v, name in zip(values, names, strict=True)
        ], ""

    def _pairs(self, look: Look, decision: Decision, views: Views) -> tuple[PairMap, ...]:
        scale = self.atlas.scale
        return pair_maps(
            (look.query, look.feature_map),
            ([n.id for n in decision.neighbors], views.maps),
            scale.scale,
            scale.offset,
            distance=self.atlas.distance,
        )

    # telling ----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What this atlas is and how good it is, as plain data (`cellkin inspect --json`)."""
        atlas, labels = self.atlas, self.atlas.labels
        stored = {key: value for key, value in atlas.facts.items() if key != "provenance"}
        counts = {name: atlas.cells.labels.count(name) for name in labels.names}
        return {
            **stored,
            "cells": len(atlas.cells),
            "classes": counts,
            "clinical": dict(labels.clinical) if labels.positive else None,
            "titles": {name: labels.title(name) for name in labels.names},
            "backbone": atlas.encoder.backbone,
            **({"sharpening": SHARPENED} if atlas.encoder.preprocessor.unsharpen else {}),
            "space": atlas.space,
            "k": atlas.k,
            "distance": atlas.distance,
            "calibration": atlas.calibration.counts(),
            "provenance": atlas.provenance.to_json(),
        }


def _name(image: Image, position: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {position + 1}"
