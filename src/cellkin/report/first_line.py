"""The first line of an answer: sure, unsure because ..., does not fit this atlas because ...

The same line on a page, in the workstation, in the report of a case, on the command line and in
data. What it rests on is `cellkin.core.sureness`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellkin.core.numbers import percent
from cellkin.core.records import QUALITY, Decision, LabelSet
from cellkin.core.sureness import MISFIT, SURE, Sureness, sureness
from cellkin.report.words import listed

FIRST = 2  # clauses of a line; how many more there are is said
ALONE = {
    "unlike": "it is unlike every class of it",
    "unknown": "it is of no kind that it knows",
    "tied": "the vote was tied",
    "distance not judged": "no held-out cell of the class tells how far is far",
    "class not judged": "too few held-out cells of the class are there to judge one by",
    "itself": "it is itself a cell of this atlas, and its own label voted",
}
"""Clauses that are the same for every cell."""


def clauses(found: Sureness, decision: Decision, labels: LabelSet) -> tuple[str, ...]:
    """Why a call is not sure, one clause for each reason, in their order."""
    told: list[str] = []
    for name in found.because:
        told += [ALONE[name]] if name in ALONE else [_clause(name, decision, labels)]
    return tuple(told)


def _clause(name: str, decision: Decision, labels: LabelSet) -> str:
    if name == "quality":
        return listed([QUALITY[fault] for fault in decision.quality or ()] or ["of its picture"])
    if name == "no promise":
        why = decision.set_absent.removeprefix("not available: ") or "no prediction set"
        return f"this atlas can promise nothing for a new case ({why})"
    if name == "dissent":
        kin = len(decision.neighbors)
        return f"only {round(decision.agreement * kin)} of its {kin} kin stand with the call"
    if name in ("ambiguous", "set"):
        return _by_set(name, decision, labels)
    if name == "head":
        head = decision.head
        title, share = (labels.title(head.label), head.probability) if head else ("", 0.0)
        return f"the class head says {title} ({percent(share, 0)})"
    if name == "second space":
        near = _known(decision.novelty.near if decision.novelty else "", labels)
        return f"a network that was not trained on these classes sees it nearest to {near}"
    share = (decision.distance_percentile or 0.0) / 100
    return f"it lies farther from its kin than {percent(share, 0)} of held-out cells of the class"


def _by_set(name: str, decision: Decision, labels: LabelSet) -> str:
    found = decision.prediction_set
    titles = list(dict.fromkeys(labels.group_title(n) for n in (found.labels if found else ())))
    held = listed(titles) if titles else "no class"
    if name == "set":
        return f"held-out cells leave {held}, not the class of the vote"
    return f"held-out cells leave {held} open"


def _known(name: str, labels: LabelSet) -> str:
    return labels.title(name) if name in labels.names else name


def first_line(found: Sureness, because: Sequence[str], title: str) -> str:
    """How sure a call is and why, in one line."""
    if found.state == SURE:
        return f"Sure: {title}."
    shown, more = list(because[:FIRST]), len(because) - FIRST
    if more > 0:
        shown.append("one more reason" if more == 1 else f"{more} more reasons")
    why = listed(shown)
    if found.state == MISFIT:
        return f"Does not fit this atlas because {why}: do not use the call ({title})."
    alone = "; nothing else speaks against it" if found.because == ("no promise",) else ""
    return f"Unsure: {title}, because {why}{alone}."


def sureness_json(decision: Decision, labels: LabelSet) -> dict[str, Any]:
    """The first line as plain data: `sureness`, `because` (names, see `cellkin.core.sureness`) and
    `line`, in words.
    """
    found = sureness(decision, labels)
    line = first_line(found, clauses(found, decision, labels), labels.title(decision.label))
    return {"sureness": found.state, "because": list(found.because), "line": line}


def sure_words(measured: Mapping[str, Any] | None) -> str:
    """How often a sure call was wrong among the cells that an atlas was tested on; empty where it
    was not measured.
    """
    if not measured or not measured["sure"]:
        return ""
    wrong, sure, n = measured["wrong_sure"], measured["sure"], measured["cells"]
    return (
        f"Of {n} held-out cells of this atlas {sure} ({percent(sure / n, 0)}) were called sure; "
        f"{wrong} of these were wrong ({percent(wrong / sure)}), and "
        f"{measured['wrong']} of all ({percent(measured['wrong'] / n)})."
    )
