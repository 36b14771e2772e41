"""The triage curve: how much could be decided without a person, against what would be missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellkin.core.errors import DecisionError
from cellkin.core.plain import plain_fields
from cellkin.core.records import Decision, LabelSet

POINTS = 50


@dataclass(frozen=True)
class Triage:
    """Cells in the order of confidence; the first of them decided automatically.

    Attributes:
        automatic: ascending shares in [0, 1] of cells decided automatically.
        errors: share of wrong calls among these cells, in [0, 1].
        missed: share of all lymphoblasts that are among these cells and called otherwise; None
            where no tested cell is a lymphoblast.
        n: cells tested. blasts: lymphoblasts among them.
    """

    automatic: tuple[float, ...]
    errors: tuple[float, ...]
    missed: tuple[float, ...] | None
    n: int
    blasts: int

    def to_json(self) -> dict[str, Any]:
        order = "agreement, then how usual its distance is for its class"
        return {**plain_fields(self), "order": order}


def triage(decisions: Sequence[Decision], truth: Sequence[str], label_set: LabelSet) -> Triage:
    """The curve over tested cells, most confident first.

    Confidence is the agreement of the neighbours; among equals, the percentile of the distance
    (nearer is surer), or the distance itself where the class has no calibration cell. Cells that
    are equal in all of it are decided together, so the order of the cells does not matter.

    Raises:
        DecisionError: no cell, or a truth for each decision is missing.
    """
    if not decisions or len(decisions) != len(truth):
        raise DecisionError(
            "a triage curve needs tested cells, each with its true class",
            where=f"{len(decisions)} decisions and {len(truth)} true classes",
            mend="give one true class per decision, and at least one",
        )
    keys = [_doubt(decision) for decision in decisions]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    calls = [decisions[i].label for i in order]
    true = [truth[i] for i in order]
    wrong = np.cumsum([not label_set.right(c, t) for c, t in zip(calls, true, strict=True)])
    missed = np.cumsum(
        [
            label_set.is_positive(t) and not label_set.is_positive(c)
            for c, t in zip(calls, true, strict=True)
        ]
    )
    blasts = sum(label_set.is_positive(t) for t in true)
    ends = _group_ends([keys[i] for i in order])
    counts = ends + 1
    return Triage(
        automatic=tuple((counts / len(true)).tolist()),
        errors=tuple((wrong[ends] / counts).tolist()),
        missed=tuple((missed[ends] / blasts).tolist()) if blasts else None,
        n=len(true),
        blasts=blasts,
    )


def _doubt(decision: Decision) -> tuple[float, ...]:
    """Smaller is surer."""
    percentile = decision.distance_percentile
    known = percentile is not None
    return (
        -decision.agreement,
        float(decision.tie is not None),
        float(not known),
        percentile if percentile is not None else decision.mean_distance,
    )


def _group_ends(keys: Sequence[tuple[float, ...]]) -> Any:
    """Positions of the last cell of every group of equals, at most about `POINTS` of them."""
    last = [i for i, key in enumerate(keys) if i + 1 == len(keys) or keys[i + 1] != key]
    if len(last) <= POINTS:
        return np.array(last)
    chosen = np.unique(np.linspace(0, len(last) - 1, POINTS).round().astype(int))
    return np.array(last)[chosen]
