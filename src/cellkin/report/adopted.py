"""What is said of the places that an atlas has adopted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellkin.core.numbers import percent
from cellkin.core.units import IMAGE, plural

Facts = Mapping[str, Any]

HOW = {
    "as they are": "their features are compared as they are",
    "references of the place alone": "the cells of this place alone vote, as they are",
    "centred": "their features are centred on the atlas's (mean and spread)",
    "CORAL": "their features have the covariance of the atlas's (CORAL)",
    "class means": "the means of their classes are moved onto the atlas's",
}


def adopted_rows(facts: Facts, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and words of every place that was adopted.

    Args:
        facts: of an atlas or its card. titles: class -> the words people read.
    """
    return [
        (f"Adopted place {place}", _words(told, titles))
        for place, told in (facts.get("adopted") or {}).items()
    ]


def _words(told: Facts, titles: Mapping[str, str]) -> str:
    classes = ", ".join(f"{n} {titles.get(c, c)}" for c, n in told["classes"].items() if n)
    units = "" if told["unit"] == IMAGE else f" from {told['units']} {plural(told['unit'])}"
    parts = [
        f"{told['cells']} cells of {told['dataset']}{units} ({classes})",
        HOW[told["alignment"]],
        judged_words(told),
        *told["notes"],
    ]
    if seen := told["trained_on"]:
        parts.append(f"the network was trained on {seen} of them, which flatters these numbers")
    return "; ".join((*parts, f"adopted into atlas {told['parent'][:8]} on {told['created'][:10]}"))


def judged_words(told: Facts) -> str:
    """How right the calls of the adopted cells were, each without its own slide or subject."""
    scores, unit = told["judged"], told["unit"]
    if scores is None:
        return "how right its calls are is not known: no class has two cells"
    without = "itself"
    if unit != IMAGE:
        without = f"its own {unit} (where that holds all of a class: without itself)"
    return f"{percent(scores['accuracy'])} of {scores['n']} called right, each without {without}"


def tried_lines(told: Facts) -> list[str]:
    """A line for every alignment that was tried: its share of right votes and of right calls."""
    lines = []
    for one in told["tried"]:
        mark = "*" if one["name"] == told["alignment"] else " "
        said = "not to be judged with so few cells"
        if one["judged"]:
            said = (
                f"{percent(one['votes'])} of the votes and {percent(one['accuracy'])} of the calls "
                f"are right, of {one['judged']} cells"
            )
        lines.append(f"{mark} {one['name']:<30} {said}")
    return lines


def adopted_limits(facts: Facts) -> list[str]:
    """What a card warns of."""
    places = list(facts.get("adopted") or ())
    if not places:
        return []
    return [
        f"On cells of {', '.join(places)} it decides by other references and limits than on its "
        "own: its test part says nothing of them, and the place must be named with every cell."
    ]
