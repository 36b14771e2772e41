"""Do the surroundings of its cells alone tell an atlas the class? The shortcut meter of the audit,
on the pictures as the network sees them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cellkin.atlas import Cells
from cellkin.core.arrays import Bytes
from cellkin.core.progress import Progress, silent
from cellkin.core.units import IMAGE
from cellkin.datasets.auditing.shortcuts import measure
from cellkin.datasets.auditing.views import surroundings

LEAST = 100  # cells: with fewer only chance is measured, and tiny trainings stay quick
MOST = 1000  # cells: more cost time, and tell little more


def surroundings_facts(
    cells: Cells, pictures: Bytes, unit: str, *, seed: int, progress: Progress = silent
) -> dict[str, Any]:
    """What an atlas keeps of it; nothing where there are fewer than 100 cells or one class.

    Args:
        pictures: (N, S, S, 3) uint8, as prepared. unit: of the split: a cell's own is left out.
    """
    if len(cells) < LEAST or len(set(cells.labels)) < 2:
        return {}
    rows = np.random.default_rng(seed).permutation(len(cells))[:MOST]
    looked = [surroundings(np.asarray(pictures[row])) for row in rows]
    owners = cells.owners(unit)
    unit, names = (unit, owners.names) if owners.several else (IMAGE, cells.ids)
    cues = [
        measure(
            name,
            np.asarray([look[name] for look in looked], np.float32),
            [cells.labels[row] for row in rows],
            [str(names[row]) for row in rows],
            about=("class", unit, seed),
            progress=progress,
        )
        for name in looked[0]
    ]
    return {"surroundings": [cue.to_json() for cue in cues if cue is not None]}
