"""The decision: exact neighbours, the two-step vote, and how far is far.

Pure functions over vectors and labels.
"""

from __future__ import annotations

from cellkin.decision.alignment import Affine
from cellkin.decision.classes import ClassIndex, NearestByClass
from cellkin.decision.confidence import Calibration
from cellkin.decision.conformal import COVERAGE, Conformal, abstention, units_needed
from cellkin.decision.influence import Flips, flips, matching, shares_of_support
from cellkin.decision.neighbors import DISTANCES, Index, MinMaxScale, nearest, pair_distances
from cellkin.decision.novelty import Kinds, p_value
from cellkin.decision.vote import Vote, vote

__all__ = [
    "COVERAGE",
    "DISTANCES",
    "Affine",
    "Calibration",
    "ClassIndex",
    "Conformal",
    "Flips",
    "Index",
    "Kinds",
    "MinMaxScale",
    "NearestByClass",
    "Vote",
    "abstention",
    "flips",
    "matching",
    "nearest",
    "p_value",
    "pair_distances",
    "shares_of_support",
    "units_needed",
    "vote",
]
