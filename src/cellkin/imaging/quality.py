"""The quality gate: is this a picture that an atlas can speak about at all?

Asked before any vote, of the prepared image, by numbers that need no network. What is usual is
learned from the atlas's own cells, so that a picture fails where it lies outside of what the atlas
was made of: empty, out of focus, too dark or too bright, without a cell in the middle, with several
cells, or of other colours and textures than its smears (a photograph, a tissue section).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from cellkin.core.arrays import Bools, Bytes, Floats
from cellkin.core.errors import DataError, damaged
from cellkin.core.plain import Plain
from cellkin.core.progress import Progress, silent
from cellkin.core.records import QUALITY
from cellkin.imaging.checks import BLACK, brightest
from cellkin.imaging.focus import focus_score
from cellkin.imaging.stain import nuclei

SELDOM = 0.005  # share of the atlas's own cells that may lie beyond a limit
MIDDLE = 0.25  # a nucleus is in the middle if its edge comes this near, in sides of the picture
SMALL = 0.6  # nuclei below this share of the usual radius are parts of cells, not cells
LEAST = 20  # cells that limits can be learned from


@dataclass(frozen=True)
class Measures:
    """What the gate looks at, of one prepared picture; shares in [0, 1].

    Attributes:
        contrast: standard deviation of the grey levels outside a black ground, in [0, 128].
        focus: see `cellkin.imaging.focus.focus_score`, in (0, 1].
        brightness: median grey level outside a black ground, in [0, 255].
        off_middle: distance from the middle of the picture to the edge of the nearest nucleus, in
            sides of the picture, 0 where a nucleus covers the middle; 1 without a nucleus.
        nucleus: radius of that nucleus, in sides of the picture; 0 without one.
        radii: radii of all nuclei, the largest first.
        look: (12,) colours (CIE Lab, 10th, 50th and 90th percentile of each channel), share of
            black, and the strength of fine and coarse texture (natural logarithm).
    """

    contrast: float
    focus: float
    brightness: float
    off_middle: float
    nucleus: float
    radii: tuple[float, ...]
    look: tuple[float, ...]


def measure(prepared: Bytes) -> Measures:
    """The measures of one prepared picture (S, S, 3) uint8 RGB.

    Raises:
        ImageError: the array is no RGB image of 16 pixels a side or more.
    """
    focus = focus_score(prepared)  # refuses what is no picture
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(prepared), cv2.COLOR_RGB2GRAY), np.uint8)
    black = brightest(prepared) <= BLACK
    seen = grey[~black] if not black.all() else grey.ravel()
    side = float(min(prepared.shape[:2]))
    found = nuclei(prepared)
    middle = np.array(prepared.shape[1::-1]) / 2
    away = [max(float(np.hypot(*(middle - (n.x, n.y)))) - n.radius, 0.0) for n in found]
    nearest = int(np.argmin(away)) if away else -1
    return Measures(
        contrast=float(seen.std()),
        focus=focus,
        brightness=float(np.median(seen)),
        off_middle=away[nearest] / side if away else 1.0,
        nucleus=found[nearest].radius / side if away else 0.0,
        radii=tuple(n.radius / side for n in found),
        look=_look(prepared, grey, black),
    )


def _look(prepared: Bytes, grey: Bytes, black: Bools) -> tuple[float, ...]:
    lab = cv2.cvtColor(np.ascontiguousarray(prepared), cv2.COLOR_RGB2LAB).reshape(-1, 3)
    colours = np.percentile(lab[::3], (10, 50, 90), axis=0).ravel()
    smooth = grey.astype(np.float32)
    texture = []
    for sigma in (1.0, 4.0):
        blurred = np.asarray(cv2.GaussianBlur(smooth, (0, 0), sigma), np.float32)
        texture.append(np.log1p(float(np.abs(smooth - blurred).mean())))
        smooth = blurred
    return tuple(float(value) for value in (*colours, black.mean(), *texture))


@dataclass(frozen=True)
class QualityGate(Plain):
    """Limits learned from an atlas's own cells.

    Attributes:
        least_contrast, least_focus, darkest, brightest: limits of the measures of these names.
        nucleus: usual radius of the nucleus in the middle, in sides of the picture; None where
            the atlas knows pictures without a cell: then neither its absence is judged nor number.
        most_nuclei: how many nuclei of the usual size a picture of the atlas holds at most.
        centre, spread: mean (12,) and inverse covariance (12, 12) of the looks.
        farthest: the largest usual distance (Mahalanobis) of a look from the centre.
        cells: how many cells it was learned from.
    """

    least_contrast: float
    least_focus: float
    darkest: float
    brightest: float
    nucleus: float | None
    most_nuclei: int
    centre: tuple[float, ...]
    spread: tuple[tuple[float, ...], ...]
    farthest: float
    cells: int

    @classmethod
    def fit(cls, prepared: Bytes, *, progress: Progress = silent) -> QualityGate:
        """Learn the limits.

        Args:
            prepared: (N, S, S, 3) uint8 RGB: the reference cells of an atlas, N at least 20.

        Raises:
            DataError: fewer cells.
        """
        if len(prepared) < LEAST:
            raise DataError(
                f"{len(prepared)} cells are too few to say what is usual",
                where="the quality gate",
                mend=f"give {LEAST} reference cells or more",
            )
        measured = []
        for i, image in enumerate(prepared):
            measured.append(measure(image))
            progress("measuring picture quality", i + 1, len(prepared))
        return cls.from_measures(measured)

    @classmethod
    def from_measures(cls, measured: Sequence[Measures]) -> QualityGate:
        """Limits beyond which at most `SELDOM` of these pictures lie, and a margin."""
        centred = [m for m in measured if m.off_middle <= MIDDLE]
        lacking = len(measured) - len(centred)
        usual = float(np.median([m.nucleus for m in centred])) if centred else 0.0
        looks = np.array([m.look for m in measured])
        centre, spread = looks.mean(axis=0), _inverse_covariance(looks)
        return cls(
            least_contrast=_low([m.contrast for m in measured]),
            least_focus=_low([m.focus for m in measured]),
            darkest=_low([m.brightness for m in measured]),
            brightest=-_low([-m.brightness for m in measured]),
            nucleus=usual if lacking <= 2 * SELDOM * len(measured) else None,
            most_nuclei=_most([_large(m, usual) for m in measured]),
            centre=tuple(centre.tolist()),
            spread=tuple(tuple(row) for row in spread.tolist()),
            farthest=-_low((-_left_out_distances(looks)).tolist()),
            cells=len(measured),
        )

    def moved(self, measured: Sequence[Measures]) -> QualityGate:
        """The limits of another place, from its own pictures: learned from them where they are
        enough, else these limits, widened so that none of these pictures lies beyond.
        """
        if len(measured) >= LEAST:
            return QualityGate.from_measures(measured)
        looks = np.array([m.look for m in measured])
        centre, spread = looks.mean(axis=0), np.array(self.spread)
        far = float(_distances(looks, centre, spread).max())
        usual = self.nucleus
        return replace(
            self,
            least_contrast=min(self.least_contrast, *(m.contrast for m in measured)),
            least_focus=min(self.least_focus, *(m.focus for m in measured)),
            darkest=min(self.darkest, *(m.brightness for m in measured)),
            brightest=max(self.brightest, *(m.brightness for m in measured)),
            nucleus=usual if max(m.off_middle for m in measured) <= MIDDLE else None,
            most_nuclei=max(self.most_nuclei, *(_large(m, usual or 0.0) for m in measured)),
            centre=tuple(centre.tolist()),
            farthest=max(self.farthest, far),
            cells=len(measured),
        )

    def reasons(self, measured: Measures) -> tuple[str, ...]:
        """What is wrong with a picture, keys of `QUALITY` in their order; empty: nothing."""
        wrong = {
            "empty": measured.contrast < self.least_contrast and not measured.radii,
            "out of focus": measured.focus < self.least_focus,
            "underexposed": measured.brightness < self.darkest,
            "overexposed": measured.brightness > self.brightest,
            "no cell in the middle": self.nucleus is not None and measured.off_middle > MIDDLE,
            "several cells": self.nucleus is not None
            and _large(measured, self.nucleus) > self.most_nuclei,
            "not like its smears": self.unlikeness(measured) > 1.0,
        }
        return tuple(name for name in QUALITY if wrong[name])

    def unlikeness(self, measured: Measures) -> float:
        """How far the look is from the atlas's, over the largest usual distance: above 1 fails."""
        look = np.array([measured.look])
        distance = _distances(look, np.array(self.centre), np.array(self.spread))[0]
        return float(distance / max(self.farthest, 1e-9))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QualityGate:
        """The gate that `to_json` wrote.

        Raises:
            ArtifactError: this is no such data.
        """
        try:
            plain = {**data, "centre": tuple(data["centre"])}
            plain["spread"] = tuple(tuple(row) for row in data["spread"])
            gate = cls(**plain)
            np.array(gate.spread, np.float64).reshape(len(gate.centre), len(gate.centre))
        except (KeyError, TypeError, ValueError) as error:
            raise damaged("the quality gate", error, where="quality") from error
        return gate


def _large(measured: Measures, usual: float) -> int:
    """How many nuclei are large enough to be cells of their own."""
    return sum(radius >= SMALL * usual for radius in measured.radii)


def _most(counts: Sequence[int]) -> int:
    """The largest number that more than `SELDOM` of the pictures reach, 1 at least."""
    ordered = sorted(counts)
    return max(1, ordered[int(np.ceil((1 - SELDOM) * len(ordered))) - 1])


def _low(values: Sequence[float]) -> float:
    """A limit below which few of the values lie: their lowest quantile less a margin, a quarter of
    the way from there to the median; a few hundred cells do not show how far the tail goes.
    """
    low, middle = np.quantile(values, (SELDOM, 0.5))
    return float(low - 0.25 * (middle - low))


def _inverse_covariance(looks: Floats) -> Floats:
    """Of the looks, with each variance raised by a hundredth, and by rounding of 8-bit colour."""
    covariance = np.cov(looks.T)
    ridge = 0.01 * np.diag(covariance) + 0.25 * np.array([1.0] * 9 + [1e-4, 1e-2, 1e-2])
    return np.asarray(np.linalg.inv(covariance + np.diag(ridge)))


def _left_out_distances(looks: Floats) -> Floats:
    """Distances of up to 400 looks from the others: of few cells, those that took part in the mean
    and covariance lie nearer than any new one.
    """
    chosen = np.unique(np.linspace(0, len(looks) - 1, min(len(looks), 400)).astype(int))
    found = []
    for i in chosen:
        others = np.delete(looks, i, axis=0)
        centre, spread = others.mean(axis=0), _inverse_covariance(others)
        found.append(_distances(looks[i : i + 1], centre, spread)[0])
    return np.array(found)


def _distances(looks: Floats, centre: Floats, spread: Floats) -> Floats:
    away = looks - centre
    return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", away, spread, away), 0)))
