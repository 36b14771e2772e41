"""What a workstation asks of its reviewers, beside what every store asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Rules of a house.

    Attributes:
        routine_reasons: every change needs a reason; otherwise only those of held cells, and those
            to or from a lymphoblast.
        least_view: seconds that a person must have had the evidence of a held cell open before
            deciding on it; 0 asks for none.
    """

    routine_reasons: bool = True
    least_view: float = 0.0


PLAIN = Rules()
