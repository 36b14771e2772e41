"""What a cell looks like among the cells of an atlas, in words: percentiles, never a cause and
never a diagnosis.
"""

from __future__ import annotations

from typing import Any

from cellkin.core.descriptions import KNOWN_TYPES, Trait, Traits
from cellkin.core.numbers import percent
from cellkin.core.records import LabelSet
from cellkin.report.words import many

LED = 2  # traits that are told in a sentence
TELLING = 0.3  # difference of shares from which on a trait is told in one
SENTENCES = {
    "nucleus_share": "the nucleus fills {} of the cell",
    "cell_area": "the cell covers {} of its picture",
    "cell_roundness": "the cell has a roundness of {}",
    "nucleus_roundness": "the nucleus has a roundness of {}",
    "lobes": "the nucleus lies in {}",
}
NAMES = {
    "nucleus_share": "nucleus, share of the cell",
    "cell_area": "cell, share of the picture",
    "cell_roundness": "roundness of the cell",
    "nucleus_roundness": "roundness of the nucleus",
    "lobes": "parts of the nucleus",
}


def morphology(traits: Traits | None, labels: LabelSet) -> dict[str, Any]:
    """The traits as plain data for a page: `sentences` first, then a table of all.

    Returns:
        `absent` where there are none; `sentences`; `rows` with `name`, `value`, `own`, `other` in
        words and `learned`; `own_title`, `other_title` with numbers of cells; `extrapolated`:
        whether the learned words are about a class that they were not learned from.
    """
    if traits is None or not traits.found:
        return {"absent": "not asked" if traits is None else traits.absent}
    own = labels.group_title(traits.label)
    other = None if traits.other is None else labels.group_title(traits.other)
    led = [t for t in traits.found if _gap(t) >= TELLING][:LED]
    return {
        "absent": "",
        "sentences": [sentence(t, own, other if traits.others else None) for t in led],
        "rows": [_row(t) for t in traits.found],
        "own_title": f"{traits.cells} {many(own)}",
        "other_title": f"{traits.others} {many(other)}" if other and traits.others else "",
        "extrapolated": traits.label.lower() not in KNOWN_TYPES,
    }


def sentence(trait: Trait, own: str, other: str | None) -> str:
    """ "The nucleus fills 84 % of the cell, as much or more in 90 % of the lymphoblasts of this
    atlas; among “normal” 12 %."
    """
    how = (
        "the same word for"
        if trait.learned
        else ("as much or more in" if trait.more else "as much or less in")
    )
    said = _said(trait)
    told = (
        f"{said[0].upper()}{said[1:]}, {how} {_share(trait.own)} of the {many(own)} of this atlas"
    )
    return told + (f"; among {many(other)} {_share(trait.other)}." if other else ".")


def _said(trait: Trait) -> str:
    if trait.learned:
        return f"{_name(trait)}: {trait.value}"
    return SENTENCES[trait.name].format(_value(trait))


def _row(trait: Trait) -> dict[str, Any]:
    way = "" if trait.learned else ("≥ " if trait.more else "≤ ")
    return {
        "name": _name(trait),
        "value": f"{way}{_value(trait)}",
        "own": _share(trait.own),
        "other": _share(trait.other),
        "learned": trait.learned,
    }


def _name(trait: Trait) -> str:
    return NAMES.get(trait.name, trait.name.replace("_", " "))


def _value(trait: Trait) -> str:
    if isinstance(trait.value, str):
        return trait.value
    if trait.name == "lobes":
        count = round(trait.value)
        return f"{count} part" if count == 1 else f"{count} parts"
    return (
        percent(trait.value, 0)
        if trait.name in ("nucleus_share", "cell_area")
        else f"{trait.value:.2f}"
    )


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share, 0)


def _gap(trait: Trait) -> float:
    return 0.0 if trait.own is None or trait.other is None else abs(trait.own - trait.other)
