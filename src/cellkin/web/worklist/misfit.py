"""Does a case fit its atlas? Told once for the case, not cell by cell."""

from __future__ import annotations

import json

from cellkin.core.sureness import FAR
from cellkin.measures.intervals import clopper_pearson

LEAST = 10  # cells that are judged together
EXPECTED = 1.0 - FAR / 100.0
"""Share of cells that lie far where a case is as the atlas: by the meaning of the percentile."""

DISTANT = frozenset({"far", "no class fits"})
"""Reasons that say a cell is unlike the atlas."""

LIFTED = frozenset({"far", "distance not judged"})
"""Reasons that no longer hold a cell by itself once somebody decided on the case."""


def misfit(far: int, cells: int) -> bool:
    """Whether clearly more cells lie far than would in a case like the atlas: the lower end of the
    95 % Clopper-Pearson interval of their share is above twice the share that is expected.
    """
    if cells < LEAST:
        return False
    low = clopper_pearson(far, cells).low
    return low is not None and low > 2 * EXPECTED


RELEASED = tuple(json.dumps([reason]) for reason in sorted(LIFTED))
"""Reasons, as the store keeps them, that no longer hold a cell: one of these alone."""


def held(reasons: str, *, accepted: bool) -> bool:
    """Whether a cell must be opened singly.

    Args:
        reasons: as the store keeps them. accepted: somebody went on with its case.
    """
    return reasons != "[]" and not (accepted and reasons in RELEASED)
