"""Prediction sets that keep a promise: class-conditional conformal prediction by unit.

The score of a cell for a class is d_c · d_c / d_other, where d_c is its mean distance to the k
nearest references of that class and d_other that of the nearest other class: how far it is, times
how much farther than elsewhere. A cell can be near several classes ("lymphoblast or normal") or
near none ("unlike this atlas"). Held-out calibration cells say how large that score gets for cells
that truly are of the class.

Cells of one person are alike, so they are no independent evidence. Where subjects are known, the
unit is the subject (hierarchical conformal prediction; Lee, Barber, Willett, 2023): each of the n
calibration subjects of a class weighs the same, its cells sharing that weight, and

    p_c(x) = (1 + sum over subjects of the share of their cells with a score >= s_c(x)) / (n + 1).

A class stays in the set where p_c(x) > 1 - coverage. What is promised: pick a new person at random
who has cells of class c, then one of those cells at random; with probability of at least `coverage`
its set holds c. It is no promise about all cells of one person at once. With single cells as units
this is ordinary split conformal prediction, and the promise is about a new cell.

Beside the classes stands the whole atlas: `typical` compares the query's smallest score with the
calibration units of all classes together. With cells as units, at most the share 1 - coverage of
new cells like the calibration cells has a smaller one than that; it is how a cell that fits best
to a class that could not be judged can still be called unlike everything.

With n units, p_c is never below 1 / (n + 1): no more than n / (n + 1) can be promised. A class with
fewer units is not judged, whatever its cells would say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.core.errors import DecisionError, damaged
from cellkin.core.records import LabelSet, PredictionSet
from cellkin.core.units import plural

COVERAGE = 0.95
ALL = ""  # no class has an empty name
ROUNDING = 1e-12  # p-values are sums of fractions; at the limit a class stays in the set


def units_needed(coverage: float) -> int:
    """The smallest n with n / (n + 1) >= coverage: 19 for 0.95.

    Raises:
        DecisionError: the coverage is not between 0 and 1.
    """
    if not (math.isfinite(coverage) and 0 < coverage < 1):
        raise DecisionError(
            f"{coverage} is no coverage", where="coverage", mend="give a share such as 0.95"
        )
    exact = Fraction(str(float(coverage)))  # 0.95 means 19/20, not the double next to it
    return math.ceil(exact / (1 - exact))


@dataclass(frozen=True)
class Conformal:
    """Scores of held-out calibration cells, by class and unit.

    Attributes:
        unit: "subject", "slide/field", "slide", "field" or "cell".
        scores: class -> for each unit the scores of its cells of that class. Classes without
            calibration cells are absent.
        note: what limits the promise, or an empty string.

    Raises:
        DecisionError: a score that is negative, NaN or infinite, or a unit without cells.
    """

    unit: str
    scores: Mapping[str, tuple[tuple[float, ...], ...]]
    note: str = ""

    def __post_init__(self) -> None:
        kept = {str(c): tuple(_unit(u, c) for u in units) for c, units in self.scores.items()}
        kept = {c: units for c, units in kept.items() if units}
        object.__setattr__(self, "scores", MappingProxyType(kept))

    @classmethod
    def from_cells(
        cls,
        labels: Sequence[str],
        units: Sequence[str],
        scores: Sequence[float],
        *,
        unit: str,
        note: str = "",
    ) -> Conformal:
        """From calibration cells in one order: their true class, their unit, their score for it.

        Raises:
            DecisionError: the three differ in length, or a score is no distance.
        """
        if not len(labels) == len(units) == len(scores):
            raise DecisionError(
                "every calibration cell needs one label, one unit and one score",
                where=f"{len(labels)} labels, {len(units)} units, {len(scores)} scores",
                mend="give all in the same order",
            )
        groups: dict[str, dict[str, list[float]]] = {}
        for label, name, score in zip(labels, units, scores, strict=True):
            groups.setdefault(label, {}).setdefault(name, []).append(float(score))
        kept = {c: tuple(tuple(cells) for cells in found.values()) for c, found in groups.items()}
        return cls(unit, kept, note)

    def counts(self) -> dict[str, int]:
        """Number of calibration units by class."""
        return {label: len(units) for label, units in self.scores.items()}

    def p_value(self, label: str, score: float) -> float | None:
        """p_c of a score in (0, 1]; None where the class has no calibration unit."""
        known = self._weighted.get(label)
        if known is None:
            return None
        ascending, mass_from, n = known
        return float((1 + mass_from[np.searchsorted(ascending, score, side="left")]) / (n + 1))

    @cached_property
    def _weighted(self) -> dict[str, tuple[Floats, Floats, int]]:
        """Per class: all scores ascending, the weight from each of them on, the number of units."""
        everyone = tuple(unit for units in self.scores.values() for unit in units)
        found = {}
        for label, units in (*self.scores.items(), *([(ALL, everyone)] if everyone else [])):
            scores = np.concatenate([np.asarray(cells, np.float64) for cells in units])
            weights = np.concatenate([np.full(len(cells), 1 / len(cells)) for cells in units])
            order = np.argsort(scores, kind="stable")
            mass = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
            found[label] = (scores[order], mass, len(units))
        return found

    def predict(
        self, scores: Mapping[str, float], coverage: float, label_set: LabelSet
    ) -> tuple[PredictionSet | None, str]:
        """The prediction set of a query, or None and why there is none.

        Args:
            scores: class -> the query's score for it (`NearestByClass.nonconformity`); a class
                without a reference cell that this query may see is left out or infinite.

        Returns:
            None where no class has units enough, or, in an atlas that knows lymphoblasts, no class
            of one side has: a set of one side only would read as a verdict.
        """
        needed, counts = units_needed(coverage), self.counts()
        seen = [c for c in label_set.names if math.isfinite(scores.get(c, math.inf))]
        judged = [c for c in seen if counts.get(c, 0) >= needed]
        unjudged = {c: counts.get(c, 0) for c in label_set.names if c not in judged}
        if lacking := _lacking(judged, label_set):
            most = max((counts.get(c, 0) for c in lacking), default=0)
            return None, f"not available: needs {needed} {plural(self.unit)} per class, has {most}"
        p_values = {c: float(self.p_value(c, scores[c]) or 0.0) for c in judged}
        alpha = float(1 - Fraction(str(float(coverage))))
        labels = tuple(c for c, p in p_values.items() if p > alpha + ROUNDING)
        typical = float(self.p_value(ALL, min(scores[c] for c in seen)) or 0.0)
        made = PredictionSet(
            labels, coverage, self.unit, p_values, unjudged, needed, self.note, typical
        )
        return made, ""

    def to_json(self) -> dict[str, Any]:
        scores = {label: [list(cells) for cells in units] for label, units in self.scores.items()}
        return {"unit": self.unit, "note": self.note, "scores": scores}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conformal:
        """What `to_json` wrote.

        Raises:
            ArtifactError: this is no such data.
        """
        try:
            scores = {c: tuple(tuple(u) for u in units) for c, units in data["scores"].items()}
            return cls(str(data["unit"]), scores, str(data["note"]))
        except (KeyError, TypeError, AttributeError, ValueError, DecisionError) as error:
            raise damaged("the conformal scores", error, where="conformal") from error

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not travel between processes
        return (Conformal, (self.unit, dict(self.scores), self.note))


def abstention(found: PredictionSet | None, label: str, label_set: LabelSet) -> tuple[str, ...]:
    """Why a call should not be used: "unlike", "ambiguous", "set", or nothing (see `Decision`).

    Classes that mean the same verdict do not count as several: two kinds of lymphoblast, or, in an
    atlas that knows lymphoblasts, two kinds of other cells.
    """
    if found is None:
        return ()
    meanings = {label_set.side(name) for name in found.labels}
    if len(meanings) > 1:
        return ("ambiguous",)
    if not meanings:
        # where the vote's class could not be judged, all classes together must do
        limit = 1 - found.coverage + ROUNDING
        return () if label in found.unjudged and found.typical > limit else ("unlike",)
    return () if label_set.side(label) in meanings or label in found.unjudged else ("set",)


def _lacking(judged: Sequence[str], label_set: LabelSet) -> list[str]:
    """Classes of which one more would have to be judged; empty where enough are."""
    sides: dict[object, list[str]] = {}
    for name in label_set.names:
        key = label_set.positive is not None and label_set.is_positive(name)
        sides.setdefault(key, []).append(name)
    return [c for names in sides.values() if not set(names) & set(judged) for c in names]


def _unit(cells: Sequence[float], label: str) -> tuple[float, ...]:
    scores = tuple(float(score) for score in cells)
    if scores and all(math.isfinite(s) and s >= 0 for s in scores):
        return scores
    raise DecisionError(
        "a calibration unit has no cells, or a score that is no distance",
        where=f"class {label}: {list(scores)[:5]}",
        mend="give finite scores of 0 or more",
    )
