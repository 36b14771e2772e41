"""The decision: exact neighbours, the two-step vote, how far is far, and counting what was right.

Pure functions over vectors and labels.
"""

from __future__ import annotations

from cellkin.decision.confidence import Calibration
from cellkin.decision.neighbors import DISTANCES, Index, MinMaxScale, nearest, pair_distances
from cellkin.decision.scoring import ClassScore, Interval, Scores, score, wilson
from cellkin.decision.vote import Vote, vote

__all__ = [
    "DISTANCES",
    "Calibration",
    "ClassScore",
    "Index",
    "Interval",
    "MinMaxScale",
    "Scores",
    "Vote",
    "nearest",
    "pair_distances",
    "score",
    "vote",
    "wilson",
]
