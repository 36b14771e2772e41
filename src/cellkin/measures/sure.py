"""How often a call that is said to be sure is wrong, beside the vote alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellkin.core.errors import DecisionError
from cellkin.core.plain import Plain
from cellkin.core.records import Decision, LabelSet
from cellkin.core.sureness import MISFIT, SURE, sureness


@dataclass(frozen=True)
class SureCalls(Plain):
    """Counts over tested cells.

    Attributes:
        cells: all of them; wrong: how many the vote calls wrongly.
        sure: called so; wrong_sure: of these, called wrongly. misfit: of cells that do not fit;
            wrong_misfit: of these, called wrongly.
    """

    cells: int
    wrong: int
    sure: int
    wrong_sure: int
    misfit: int
    wrong_misfit: int


def sure_calls(decisions: Sequence[Decision], truth: Sequence[str], labels: LabelSet) -> SureCalls:
    """Count sure and wrong calls (see `cellkin.core.sureness`).

    Raises:
        DecisionError: not one true class for each decision.
    """
    if len(decisions) != len(truth):
        raise DecisionError(
            "every decision needs its true class",
            where=f"{len(decisions)} decisions and {len(truth)} true classes",
            mend="give both in the same order",
        )
    wrong = [not labels.right(d.label, t) for d, t in zip(decisions, truth, strict=True)]
    states = [sureness(decision, labels).state for decision in decisions]
    sure = [w for w, state in zip(wrong, states, strict=True) if state == SURE]
    misfit = [w for w, state in zip(wrong, states, strict=True) if state == MISFIT]
    return SureCalls(len(wrong), sum(wrong), len(sure), sum(sure), len(misfit), sum(misfit))
