"""The decision: exact neighbours, the two-step vote, how far is far, and counting what was right.

Pure functions over vectors and labels.
"""

from __future__ import annotations

from cellkin.decision.classes import ClassIndex, NearestByClass
from cellkin.decision.confidence import Calibration
from cellkin.decision.conformal import COVERAGE, Conformal, abstention, units_needed
from cellkin.decision.influence import Flips, flips, matching, shares_of_support
from cellkin.decision.neighbors import DISTANCES, Index, MinMaxScale, nearest, pair_distances
from cellkin.decision.scoring import (
    FEWEST_SUBJECTS,
    LEVEL,
    RESAMPLES,
    ClassScore,
    Interval,
    Scores,
    score,
    wilson,
)
from cellkin.decision.triage import Triage, triage
from cellkin.decision.vote import Vote, vote

__all__ = [
    "COVERAGE",
    "DISTANCES",
    "FEWEST_SUBJECTS",
    "LEVEL",
    "RESAMPLES",
    "Calibration",
    "ClassIndex",
    "ClassScore",
    "Conformal",
    "Flips",
    "Index",
    "Interval",
    "MinMaxScale",
    "NearestByClass",
    "Scores",
    "Triage",
    "Vote",
    "abstention",
    "flips",
    "matching",
    "nearest",
    "pair_distances",
    "score",
    "shares_of_support",
    "triage",
    "units_needed",
    "vote",
    "wilson",
]
