"""What is said of a decision: the same words on its page, in the workstation, in the report of a
case and on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellkin.core.decisions import NEAR_COPY, SAME_IMAGE
from cellkin.core.numbers import MINUS, number, percent
from cellkin.core.records import (
    LYMPHOBLAST,
    Decision,
    Evidence,
    Influence,
    LabelSet,
    PredictionSet,
)
from cellkin.core.sureness import sureness
from cellkin.core.units import plural
from cellkin.report.first_line import FIRST, clauses, first_line
from cellkin.report.words import (
    agreement_words,
    counted,
    listed,
    percentile_words,
    state_words,
    verdict,
)

Words = tuple[str, str]
"""A short answer, and what must stand beside it."""


@dataclass(frozen=True)
class Telling:
    """A decision in words.

    Attributes:
        line: how sure the call is and why, in one line: the first that is read. sureness: "sure",
            "unsure" or "does not fit". because: all that the line rests on, one clause each.
        verdict: the call and its reason, and what must follow it. title: of the class.
        clinical: the clinical class, or that there is none.
        votes: name, title and number of neighbours of each class that has votes.
        rest: how the agreement is shared; empty where influence was not computed.
        mean_distance: of the kin; percentile: how far that is.
        state: of the vote. prediction_set, flip, head: a short answer, and what stands beside it.
        novelty: how usual it is in a space that was not trained on these classes.
        left_out: that cells of the same subject were left out, or an empty string.
    """

    line: str
    sureness: str
    because: tuple[str, ...]
    verdict: tuple[str, ...]
    title: str
    clinical: str
    votes: tuple[tuple[str, str, int], ...]
    agreement: str
    rest: str
    mean_distance: str
    percentile: str
    state: str
    prediction_set: Words
    flip: Words
    head: Words
    novelty: Words
    left_out: str


def tell(decision: Decision, labels: LabelSet, influence: Influence | None = None) -> Telling:
    """All that is said of a decision.

    Raises:
        LabelError: it names a class that is not among `labels`.
    """
    found = sureness(decision, labels)
    because = clauses(found, decision, labels)
    return Telling(
        line=first_line(found, because, labels.title(decision.label)),
        sureness=found.state,
        because=because,
        verdict=verdict(decision, labels),
        title=labels.title(decision.label),
        clinical=decision.clinical or "no clinical verdict",
        votes=tuple((name, labels.title(name), n) for name, n in decision.votes.items()),
        agreement=agreement_words(decision),
        rest=_rest(influence),
        mean_distance=number(decision.mean_distance),
        percentile=percentile_words(decision),
        state=state_words(decision),
        prediction_set=_set(decision, labels),
        flip=_flip(influence),
        head=_head(decision, labels),
        novelty=_novelty(decision, labels),
        left_out=left_out_words(decision),
    )


TWIN = {SAME_IMAGE: "this very image", NEAR_COPY: "a near copy of this image"}


def twin_words(twin: str) -> str:
    """What to say where a kin is the query itself (`Neighbor.twin`); empty where none is."""
    return f"{TWIN[twin]}: its own label voted" if twin else ""


def in_line(words: Words) -> str:
    """A short answer with what stands beside it, within a line."""
    return f"{words[0]} ({words[1]})"


def sentence(decision: Decision, labels: LabelSet) -> str:
    """One decision in a line, in the words of its page."""
    told = tell(decision, labels)
    votes = ", ".join(f"{n} {title}" for _, title, n in told.votes)
    parts = (
        f"{told.title} ({told.clinical})",
        f"kin: {votes} of {len(decision.neighbors)}",
        twin_words(decision.twin),
        f"mean distance {told.mean_distance}, {told.percentile}",
        f"vote {told.state}" if decision.tie else "",
        f"prediction set {in_line(told.prediction_set)}",
        in_line(told.novelty) if decision.novelty else "",
        *told.because[FIRST:],
    )
    return f"{decision.query}: {told.line} {'; '.join(filter(None, parts))}"


def _set(decision: Decision, labels: LabelSet) -> Words:
    """The prediction set in words, with what it promises and by what unit."""
    found = decision.prediction_set
    if found is None:
        return "not available", decision.set_absent.removeprefix("not available: ") or "no reason"
    promise = f"{percent(found.coverage, 0)} by {found.unit}"
    unjudged = _unjudged(found, labels)
    notes = "; ".join(filter(None, (promise, unjudged, found.note)))
    if not found.labels:
        return "none: unlike anything in this atlas", notes
    return " or ".join(_merged(found.labels, labels)), notes


def _unjudged(found: PredictionSet, labels: LabelSet) -> str:
    if not found.unjudged:
        return ""
    few = [f"{labels.title(name)} ({n})" for name, n in found.unjudged.items()]
    return f"not judged, fewer than {found.needed} calibration {plural(found.unit)}: {listed(few)}"


def _merged(names: Sequence[str], labels: LabelSet) -> list[str]:
    """Titles; imaging groups of lymphoblasts are one class to a reader."""
    return list(dict.fromkeys(labels.group_title(name) for name in names))


def _flip(influence: Influence | None) -> Words:
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


def _rest(influence: Influence | None) -> str:
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


def _head(decision: Decision, labels: LabelSet) -> Words:
    """Whether the class head agrees with the vote."""
    if decision.head is None:
        return "not available", "the class head knows other classes"
    title, sure = labels.title(decision.head.label), percent(decision.head.probability, 0)
    same = labels.right(decision.head.label, decision.label)
    return "agrees" if same else "disagrees", f"the class head says {title} ({sure})"


def _novelty(decision: Decision, labels: LabelSet) -> Words:
    """How many held-out cells are as odd, in the frozen space and in the atlas's own."""
    found = decision.novelty
    if found is None:
        return "not available", "this atlas was made without a frozen space"
    own = "" if found.own is None else f"; by the atlas’s own space {percent(found.own)}"
    if found.p is None:
        return "not judged", f"too few held-out cells{own}"
    near = f"nearest to {labels.title(found.near)} in the frozen space{own}"
    odd = f"{percent(found.p)} of known cells are as odd"
    return ("of no known kind" if found.unknown else "of a known kind"), f"{odd}, {near}"


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
