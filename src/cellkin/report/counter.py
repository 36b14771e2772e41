"""What speaks against the verdict, and how sure it is, for the first view of a page."""

from __future__ import annotations

from collections.abc import Sequence

from cellkin.core.numbers import MINUS, percent
from cellkin.core.records import (
    LYMPHOBLAST,
    QUALITY,
    Decision,
    Evidence,
    Influence,
    LabelSet,
    PredictionSet,
)
from cellkin.core.units import plural
from cellkin.report.words import counted, listed

__all__ = [
    "counter_title",
    "flip_words",
    "head_words",
    "left_out_words",
    "reason_words",
    "rest_words",
    "set_words",
    "share_words",
]

Words = tuple[str, str]
"""A short answer, and what must stand beside it."""

ABSTAIN = {
    "quality": "The picture failed the quality gate: do not use this call.",
    "unlike": "Unlike anything in this atlas: do not use this call.",
    "ambiguous": "The prediction set leaves several verdicts open: a person must decide.",
    "set": "The prediction set holds another class than the vote: a person must decide.",
}


def reason_words(decision: Decision) -> list[str]:
    """Why this call should not be used, one sentence each; empty where nothing is said."""
    told = [ABSTAIN[reason] for reason in decision.reasons]
    if not decision.quality:
        return told
    faults = listed([QUALITY[name] for name in decision.quality])
    return [f"{faults[0].upper()}{faults[1:]}.", *told]


def set_words(decision: Decision, labels: LabelSet) -> Words:
    """The prediction set in words, with what it promises and by what unit."""
    found = decision.prediction_set
    if found is None:
        return "not available", decision.set_absent.removeprefix("not available: ") or "no reason"
    promise = f"{percent(found.coverage, 0)} by {found.unit}"
    unjudged = _unjudged(found, labels)
    notes = "; ".join(filter(None, (promise, unjudged, found.note)))
    if not found.labels:
        return "neither: unlike anything in this atlas", notes
    return " or ".join(_merged(found.labels, labels)), notes


def _unjudged(found: PredictionSet, labels: LabelSet) -> str:
    if not found.unjudged:
        return ""
    few = [f"{labels.title(name)} ({n})" for name, n in found.unjudged.items()]
    return f"not judged, fewer than {found.needed} calibration {plural(found.unit)}: {listed(few)}"


def _merged(names: Sequence[str], labels: LabelSet) -> list[str]:
    """Titles; imaging groups of lymphoblasts are one class to a reader."""
    return list(dict.fromkeys(labels.group_title(name) for name in names))


def flip_words(influence: Influence | None) -> Words:
    """How far the verdict is from flipping."""
    if influence is None:
        return "not available", "not computed"
    if influence.removals == 0:
        return "tied already", "no reference cell need change"
    removals, labels = influence.removals, influence.relabellings
    short = "cannot flip" if removals is None else f"{removals} removed"
    if labels is not None:
        short += f" or {labels} relabelled"
    return short, _flip_sentence(removals, labels)


def _flip_sentence(removals: int | None, relabellings: int | None) -> str:
    parts = []
    if removals is None:
        parts.append("no removal of reference cells changes the call")
    else:
        verb = "supports" if removals == 1 else "support"
        parts.append(f"removing {_cells(removals)} that {verb} it would change or tie the call")
    if relabellings is not None:
        parts.append(f"so would another label on {_cells(relabellings)}")
    return "; ".join(parts)


def _cells(count: int) -> str:
    return counted(count, "reference cell")


def share_words(share: float) -> str:
    """A Shapley value as a share of the vote: "+19.4 %"."""
    if round(1000 * share) == 0:
        return "0 %"
    return f"{'+' if share > 0 else MINUS}{percent(abs(share))}"


def rest_words(influence: Influence | None) -> str:
    """How much of the agreement these neighbours hold, and how much others would step in for."""
    if influence is None:
        return ""
    own = sum(influence.shares)
    return (
        f"shares of support: {share_words(own)} these kin, "
        f"{share_words(influence.other_shares)} cells behind them that would step in"
    )


def counter_title(evidence: Evidence) -> str:
    """Whose nearest cells these are."""
    side = evidence.counter.side if evidence.counter else ""
    titles = {
        LYMPHOBLAST: "Nearest lymphoblasts",
        f"no {LYMPHOBLAST}": "Nearest cells that are no lymphoblasts",
    }
    return titles.get(side, "Nearest cells of another class")


def head_words(decision: Decision, labels: LabelSet) -> Words:
    """Whether the class head agrees with the vote."""
    if decision.head is None:
        return "not available", "the class head knows other classes"
    title, sure = labels.title(decision.head.label), percent(decision.head.probability, 0)
    same = labels.right(decision.head.label, decision.label)
    return "agrees" if same else "disagrees", f"the class head says {title} ({sure})"


def left_out_words(decision: Decision) -> str:
    """That cells of the query's own subject were left out, or that there are none of the subject
    that was named; an empty string where none was.
    """
    if not decision.left_out:
        named = decision.subject
        return "" if named is None else f"No reference cell of this atlas is of subject {named}."
    return (
        f"{counted(decision.left_out, 'reference cell')} of this cell’s own subject "
        f"{'was' if decision.left_out == 1 else 'were'} left out."
    )
