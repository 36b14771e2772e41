"""What is said of places: how many cells of each, how robust an atlas is to them, and whether the
surroundings of its cells alone tell the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellkin.core.findings import SILENT
from cellkin.core.numbers import number, percent
from cellkin.report.adopted import adopted_limits, adopted_rows

LOW = 0.8  # of the robustness index: below it, too much of what is near is near for its place

Facts = Mapping[str, Any]


def place_rows(facts: Facts, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and words: the cells of every place, the robustness index, the shortcut meter, and the
    places that were adopted.

    Args:
        facts: of an atlas or its card. titles: class -> the words people read.
    """
    cells = (facts.get("places") or {}).get("cells") or {}
    rows = [
        (f"Cells of place {place}", ", ".join(f"{titles.get(n, n)} {c}" for n, c in row.items()))
        for place, row in cells.items()
    ]
    if robustness := facts.get("robustness"):
        rows.append(("Robustness to the place", robustness_words(robustness)))
    if cues := facts.get("surroundings"):
        rows.append(("Shortcut meter", "; ".join(map(_cue_words, cues))))
    return rows + adopted_rows(facts, titles)


def place_limits(facts: Facts) -> list[str]:
    """What must be warned of, in sentences; empty where nothing is known to be wrong."""
    places = facts.get("places") or {}
    limits = [f"{told[:1].upper()}{told[1:]}." for told in places.get("warnings") or ()]
    limits += adopted_limits(facts)
    if len(known := list(places.get("cells") or ())) == 1 and not facts.get("adopted"):
        limits.append(f"All its cells come from place {known[0]}: no other laboratory was tested.")
    robustness = facts.get("robustness") or {}
    if robustness.get("index") is not None and robustness["index"] < LOW:
        limits.append(
            f"Its robustness index is low ({number(robustness['index'], 2)}): cells of one "
            "laboratory are near each other whatever their class, and a cell from another one may "
            "be called by its stain and camera."
        )
    limits += [
        f"{_cue_words(cue)}: what it calls may be the surroundings, not the cell."
        for cue in facts.get("surroundings") or ()
        if cue["state"] != SILENT
    ]
    return limits


def robustness_words(robustness: Facts) -> str:
    """ "0.62 (0.55 to 0.70, ...; 1 is perfect, neighbours at random give 0.41)"."""
    if robustness["index"] is None:
        return "not defined: no neighbour shares the class alone, and none the place alone"
    interval = robustness["interval"]
    ends = (
        str(interval["note"])
        if interval["low"] is None
        else f"{number(interval['low'], 2)} to {number(interval['high'], 2)}, {interval['method']}"
    )
    return (
        f"{number(robustness['index'], 2)} ({ends}): of {robustness['same_class']} neighbours of "
        f"the same class from another place and {robustness['same_place']} of another class from "
        f"the same place; 1 is perfect, chance gives {number(robustness['chance'], 2)}"
    )


def _cue_words(cue: Facts) -> str:
    reached, chance = percent(cue["balanced_accuracy"]), percent(cue["chance"])
    return f"{cue['verdict']} ({reached} balanced accuracy, {chance} would be chance)"
