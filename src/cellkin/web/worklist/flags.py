"""The flags of a case: what a reviewer should know of it before opening it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cellkin.core.sureness import most_misfit
from cellkin.web.worklist.misfit import DISTANT, misfit

MISFIT = "does not fit its atlas"
FLAGS = (
    "lymphoblast proposed",
    "held cells",
    "poor quality",
    MISFIT,
    "far",
    "other specimen",
    "drawn atlas",
    "duplicates",
    "fewer than 100 cells",
)
"""In the order they are shown."""

FEW = 100


@dataclass(frozen=True)
class CaseFacts:
    """What flags rest on.

    Attributes:
        reasons: all reasons for which a cell of the case is held.
        to_confirm: held cells that nobody decided yet.
        cells, duplicates: how many. misfits: cells that do not fit the atlas.
        specimen: of the case. atlas_specimens: of the atlases that decided; None where unknown.
        distant: cells that are unlike the atlas. drawn: an atlas that decided is of drawn cells.
    """

    reasons: frozenset[str]
    to_confirm: int
    cells: int
    duplicates: int
    specimen: str | None
    atlas_specimens: tuple[str | None, ...] = ()
    misfits: int = 0
    distant: int = 0
    drawn: bool = False


def case_flags(facts: CaseFacts) -> tuple[str, ...]:
    """The flags of a case, in the order of `FLAGS`."""
    strange = misfit(facts.distant, facts.cells) or most_misfit(facts.misfits, facts.cells)
    raised = {
        "lymphoblast proposed": "lymphoblast proposed" in facts.reasons,
        "held cells": facts.to_confirm > 0,
        "poor quality": "failed quality" in facts.reasons,
        MISFIT: strange,
        "far": not strange and bool(facts.reasons & DISTANT),
        "other specimen": other_specimen(facts.specimen, facts.atlas_specimens),
        "drawn atlas": facts.drawn,
        "duplicates": facts.duplicates > 0,
        "fewer than 100 cells": facts.cells < FEW,
    }
    return tuple(flag for flag in FLAGS if raised[flag])


def other_specimen(specimen: str | None, atlases: Iterable[str | None]) -> bool:
    """Whether a case's specimen is known to be another than that of an atlas that decided."""
    if not specimen:
        return False
    own = specimen.strip().casefold()
    return any(name is not None and name.strip().casefold() != own for name in atlases)
