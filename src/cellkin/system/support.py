"""`DecisionSupport`: open an atlas, look, decide, explain (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.atlas import Atlas, decide
from cellkin.core.errors import DecisionError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, Evidence, Features, ImageRef
from cellkin.decision import COVERAGE
from cellkin.imaging.loading import load_prepared, prepared_blocks
from cellkin.imaging.quality import measure
from cellkin.learning.encoder import choose_device
from cellkin.system.explainer import Explainer, Look

__all__ = ["DecisionSupport", "Look"]

Image = str | Path | NDArray[np.uint8]

SHARPENED = "adaptive unsharpening: every image, by its own measured blur"


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

    def look_many(
        self,
        images: Sequence[Image],
        *,
        names: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> list[Look]:
        """Looks at many images; each is the same as when looked at alone.

        Args:
            names: what to call them; by default their paths, or "image 1", ...
        """
        names = names or [_name(image, i) for i, image in enumerate(images)]
        return self.look_prepared(self._prepared(images, progress), names)

    def look_prepared(self, arrays: NDArray[np.uint8], names: Sequence[str]) -> list[Look]:
        """Looks at pictures that the atlas's preprocessor has made already.

        Args:
            arrays: (N, S, S, 3) uint8; they are not prepared again (sharpening is never repeated).
            names: what to call them, N of them.
        """
        if not len(arrays):
            return []
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

    def decide(
        self,
        image: Look | Image,
        *,
        subject: str | None = None,
        coverage: float = COVERAGE,
        gate: bool = False,
    ) -> Decision:
        """The neighbours' verdict on one image.

        Args:
            subject: the person, where known: reference cells of the same person do not vote.
            coverage: what the prediction set promises, in (0, 1).
            gate: also ask the quality gate, see `decide_many`.
        """
        look = image if isinstance(image, Look) else self.look(image)
        made = decide(self.atlas, look.features, subjects=[subject], coverage=coverage)[0]
        return made.gated(self.quality(look.image)) if gate else made

    def decide_many(
        self,
        images: Sequence[Image],
        *,
        subjects: Sequence[str | None] | None = None,
        coverage: float = COVERAGE,
        gate: bool = False,
        progress: Progress = silent,
    ) -> list[Decision]:
        """Decisions on many images, in their order; no result depends on the others.

        Files are decoded in threads while the network looks at those before them.

        Args:
            gate: also ask the quality gate (see `cellkin.imaging.quality`), some milliseconds an
                image; a picture that fails gets a decision that abstains.
        """
        if not len(images):
            raise DecisionError("no image was given", where="images", mend="give at least one")
        names = [_name(image, i) for i, image in enumerate(images)]
        blocks = prepared_blocks(
            [ImageRef(Path(x)) if isinstance(x, str | Path) else x for x in images],
            self.atlas.encoder.preprocessor,
            progress=progress,
        )
        return self._decisions(blocks, names, subjects, coverage, gate)

    def decide_prepared(
        self,
        arrays: NDArray[np.uint8],
        names: Sequence[str],
        *,
        subjects: Sequence[str | None] | None = None,
        coverage: float = COVERAGE,
        gate: bool = False,
    ) -> list[Decision]:
        """`decide_many` on pictures (N, S, S, 3) uint8 that were prepared already, see
        `look_prepared`; no result depends on the others.
        """
        if not len(arrays):
            raise DecisionError("no image was given", where="images", mend="give at least one")
        return self._decisions([arrays], names, subjects, coverage, gate)

    def _decisions(
        self,
        blocks: Iterable[NDArray[np.uint8]],
        names: Sequence[str],
        subjects: Sequence[str | None] | None,
        coverage: float,
        gate: bool,
    ) -> list[Decision]:
        vectors, quality = [], []
        for block in blocks:
            vectors.append(self.atlas.encoder.vectors(block))
            quality += [self.quality(image) if gate else None for image in block]
        features = Features(tuple(names), np.concatenate(vectors), self.atlas.space)
        decisions = decide(self.atlas, features, subjects=subjects, coverage=coverage)
        return [d.gated(found) for d, found in zip(decisions, quality, strict=True)]

    def quality(self, prepared: NDArray[np.uint8]) -> tuple[str, ...] | None:
        """What is wrong with a prepared picture (S, S, 3) uint8, keys of `QUALITY`; None where
        this atlas has no quality gate.
        """
        gate = self.atlas.quality
        return None if gate is None else gate.reasons(measure(prepared))

    # explaining -------------------------------------------------------------------------------

    def explain(
        self,
        image: Look | Image,
        *,
        subject: str | None = None,
        coverage: float = COVERAGE,
        gate: bool = False,
    ) -> Evidence:
        """A decision with its reasons, and with what speaks against it (section 4.2).

        Args:
            subject: the person, where known: reference cells of the same person are no kin.
            coverage: what the prediction set promises, in (0, 1).
            gate: also ask the quality gate, see `decide_many`.
        """
        evidence = self.explain_many([image], subjects=[subject], coverage=coverage)[0]
        if not gate:
            return evidence
        found = self.quality(evidence.query_image)
        return replace(evidence, decision=evidence.decision.gated(found))

    def explain_many(
        self,
        images: Sequence[Look | Image],
        *,
        subjects: Sequence[str | None] | None = None,
        coverage: float = COVERAGE,
        progress: Progress = silent,
    ) -> list[Evidence]:
        """The evidence of many images, in their order; none depends on the others."""
        if not len(images):
            raise DecisionError("no image was given", where="images", mend="give at least one")
        looks = self._looks(images, progress)
        return self._explainer.explain(looks, subjects, coverage)

    def _looks(self, images: Sequence[Look | Image], progress: Progress) -> list[Look]:
        unseen = [image for image in images if not isinstance(image, Look)]
        names = [_name(im, i) for i, im in enumerate(images) if not isinstance(im, Look)]
        fresh = iter(self.look_many(unseen, names=names, progress=progress))
        return [image if isinstance(image, Look) else next(fresh) for image in images]

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.atlas, self.facts())

    # telling ----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What this atlas is and how good it is, as plain data (`cellkin inspect --json`)."""
        return dict(self._facts)

    @cached_property
    def _facts(self) -> dict[str, Any]:
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
            "conformal": None
            if atlas.conformal is None
            else {
                "unit": atlas.conformal.unit,
                "units": atlas.conformal.counts(),
                "note": atlas.conformal.note,
            },
            **({"verified": _verified(atlas)} if atlas.verification else {}),
            "provenance": atlas.provenance.to_json(),
        }


def _verified(atlas: Atlas) -> str:
    """When and on what an atlas was verified, and what was found wrong with its heatmaps."""
    found = atlas.verification or {}
    wrong = ", ".join(atlas.warnings) or "none"
    return (
        f"{found['created']} on {found['held_out']} held-out cells of {found['dataset']}; "
        f"heatmaps not to be trusted: {wrong}"
    )


def _name(image: Image, position: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {position + 1}"
