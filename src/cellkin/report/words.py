"""What a decision says, in words and numbers that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cellkin.core.arrays import Array, Bools
from cellkin.core.contrast import FEW, Contrast, share_inside
from cellkin.core.numbers import number, percent
from cellkin.core.records import LYMPHOBLAST, NO_CELL, Decision, Evidence, LabelSet

NO_VERDICT = "This atlas knows no lymphoblasts and cannot exclude one."
TIE_RULE = "A tie goes to the smaller mean distance."
ROLES = {
    "next kin": "Next of its kin, in the place of a near copy",
    "typical": "Typical of its class here",
    "borderline": "Nearest at the border of its class",
}
"""What a cell beside the kin is, see `Beside`."""
# Only a title that ends like a noun takes an article and a plural; "normal" is quoted instead.
NOUN = re.compile(r"(blast|cell|cyte|let|neutrophil|phil|phage|precursor)$", re.IGNORECASE)


def shown_name(path: str) -> str:
    """The last part of an id or path: what a person calls the file."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def unbroken(words: str) -> str:
    """Words in which a sign of percent stays on the line of its number."""
    return words.replace(" %", "\N{NO-BREAK SPACE}%")


def _is_noun(title: str) -> bool:
    return NOUN.search(title) is not None


def _one(title: str) -> str:
    if not _is_noun(title):
        return f"“{title}”"
    return f"{'an' if title[0].lower() in 'aeiou' else 'a'} {title}"


def many(title: str) -> str:
    """The plural: "basophils"; a title that is no noun is quoted instead."""
    return f"{title}s" if _is_noun(title) else f"“{title}”"


def counted(count: int, title: str) -> str:
    """ "2 basophils", "1 “normal”"."""
    return (
        f"{count} {title if count == 1 else many(title)}"
        if _is_noun(title)
        else (f"{count} “{title}”")
    )


def _kin(count: int, k: int, title: str) -> str:
    """ "4 of its 5 closest kin are basophils", and its forms for one."""
    if k == 1:
        return f"its closest kin is {_one(title)}"
    be = f"is {_one(title)}" if count == 1 else f"are {many(title)}"
    return f"{count} of its {k} closest kin {be}"


def _sides(decision: Decision, labels: LabelSet) -> tuple[int, int]:
    """How many neighbours are lymphoblasts, and how many are not."""
    blasts = sum(labels.is_positive(n.label) for n in decision.neighbors)
    return blasts, len(decision.neighbors) - blasts


def verdict(decision: Decision, labels: LabelSet) -> tuple[str, ...]:
    """The call and its reason: a sentence to print large, and those that must follow it.

    Every variant says what the vote was: ties, kin of other classes, and, where the atlas has no
    clinical verdict, that it knows no lymphoblasts and cannot exclude one.
    """
    rest: list[str] = []
    if decision.clinical is None:
        head = _by_class(decision, labels)
    elif decision.clinical == LYMPHOBLAST:
        head = f"I call this cell a lymphoblast because {_blast_reason(decision, labels)}."
    else:
        head = _other_side(decision, labels)
    if decision.tie is not None:
        rest.append(f"{_tie(decision, labels)} {TIE_RULE}")
    rest.extend(filter(None, (dissent(decision, labels),)))
    if decision.clinical is None:
        rest.append(NO_VERDICT)
    return (head, *rest)


def _by_class(decision: Decision, labels: LabelSet) -> str:
    title, count = labels.title(decision.label), decision.votes[decision.label]
    reason = _kin(count, len(decision.neighbors), title)
    return f"I call this cell {_one(title)} because {reason}."


def _blast_reason(decision: Decision, labels: LabelSet) -> str:
    return _kin(_sides(decision, labels)[0], len(decision.neighbors), LYMPHOBLAST)


def _other_side(decision: Decision, labels: LabelSet) -> str:
    others, k = _sides(decision, labels)[1], len(decision.neighbors)
    count = decision.votes[decision.label]
    if decision.clinical == NO_CELL:
        return f"I see no white blood cell in this image because {_no_cell_reason(count, k)}."
    if count == others:
        return _by_class(decision, labels)
    title = labels.title(decision.label)
    what = f"is {_one(title)}" if count == 1 else f"are {many(title)}"
    return (
        f"I call this cell {_one(title)} because {others} of its {k} closest kin "
        f"are no lymphoblasts, and {count} of these {what}."
    )


def _no_cell_reason(count: int, k: int) -> str:
    if k == 1:
        return "its closest kin shows none"
    return f"{count} of its {k} closest kin {'shows' if count == 1 else 'show'} none"


def _tie(decision: Decision, labels: LabelSet) -> str:
    if decision.tie == "clinical":
        blasts, others = _sides(decision, labels)
        be = "is a lymphoblast" if blasts == 1 else "are lymphoblasts"
        return f"The vote was tied: {blasts} of the kin {be}, {others} not."
    count = decision.votes[decision.label]
    rivals = [
        f"“{labels.title(name)}”"
        for name, votes in decision.votes.items()
        if votes == count and labels.right_side(name, decision.label)
    ]
    return f"The vote between {listed(rivals)} was tied, {count} each."


def dissent(decision: Decision, labels: LabelSet) -> str:
    """The kin that do not stand with the call, or an empty string."""
    against = {
        name: votes
        for name, votes in decision.votes.items()
        if name != decision.label
        and not (decision.clinical == LYMPHOBLAST and labels.is_positive(name))
    }
    if not against:
        return ""
    named = _merge_groups(against, labels)
    return f"Against it: {listed([counted(count, title) for title, count in named.items()])}."


def _merge_groups(votes: Mapping[str, int], labels: LabelSet) -> dict[str, int]:
    """Votes by the words people read; imaging groups of lymphoblasts are one class to them."""
    merged: dict[str, int] = {}
    for name, count in votes.items():
        title = labels.group_title(name)
        merged[title] = merged.get(title, 0) + count
    return merged


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def agreement_words(decision: Decision) -> str:
    """ "4 of 5 (80 %)"."""
    k = len(decision.neighbors)
    return f"{round(decision.agreement * k)} of {k} ({percent(decision.agreement, 0)})"


def percentile_words(decision: Decision) -> str:
    """How far the cell is from its kin, against held-out cells of the same class."""
    if decision.distance_percentile is None:
        return "no percentile: no calibration cell of this class"
    cells = decision.calibration_cells
    return (
        f"farther from its kin than {percent(decision.distance_percentile / 100, 0)} "
        f"of {cells} held-out {'cell' if cells == 1 else 'cells'} of this class"
    )


def state_words(decision: Decision) -> str:
    """ "decided", which vote was tied, or that the call is not to be used."""
    ties = {"clinical": "tied on lymphoblast or not", "label": "tied between classes"}
    if decision.state == "abstained":
        return "not to be used"
    return ties.get(decision.tie or "", decision.state)


def trust_words(measured: Mapping[str, float] | None) -> str:
    """How far neighbours on the map are neighbours in the space."""
    if not measured:
        return "How far neighbours on this map are neighbours in the space was not measured."
    return (
        f"Trustworthiness {measured['trustworthiness']:.3f} of 1: how far the "
        f"{measured['neighbors']} nearest on the map are the nearest in the space, "
        f"measured on {measured['cells']} reference cells."
    )


def inside_words(values: Array, outline: Bools | None) -> str:
    """How much of what speaks for something in a map is inside the cell, and whether that is too
    little to point at it; empty where nothing speaks for it.
    """
    if outline is None:
        return "no outline of the cell was found"
    share = share_inside(values, outline)
    if share is None:
        return ""
    if share < FEW:
        return f"only {percent(share, 0)} inside the cell: it points elsewhere"
    return f"{percent(share, 0)} inside the cell"


def looks_words(contrast: Contrast) -> str:
    """What a finer map of the query is the mean of; empty where it comes from the one look."""
    if contrast.margins is None:
        return ""
    low, high = (number(margin) for margin in contrast.margins)
    return (
        f"The map of the query is the mean of {contrast.looks} looks at its picture, shifted by "
        f"parts of a position; each adds up to its own margin, from {low} to {high}."
    )


def copies_words(name: str, evidence: Evidence) -> str:
    """Which other kin are nearly the same picture as this one; empty where none is."""
    named = zip(evidence.decision.neighbors, evidence.copies, strict=False)
    ranks = [str(kin.rank) for kin, first in named if first == name]
    if not ranks:
        return ""
    be = "is a near copy" if len(ranks) == 1 else "are near copies"
    return f"kin {listed(ranks)} {be} of it and voted as well"
