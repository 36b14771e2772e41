"""The white cell differential of a case or of fields: counts, with an interval for each class.

Counted are leukocytes (lymphoblasts and immature granulocytes among them). Left out are pictures of
nothing, smudge cells, artefacts, what nobody could identify, and platelets; erythroblasts are given
per 100 white cells. No class's share is compared with a limit: the table says nothing about a
diagnosis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cellkin.core.counts import ClassCount, Differential
from cellkin.core.kinds import ERYTHROBLAST, NOTHING, PLATELET
from cellkin.measures.intervals import LEVEL, clopper_pearson

ENOUGH = 100
PREFERRED = 200
SELECTED = (
    "Selected cells: not a differential. The cells were not declared to be consecutive, so "
    "their shares say nothing about the blood."
)


@dataclass(frozen=True)
class Counted:
    """An object as decided: the words of its class, its kind, and its disposition."""

    title: str
    kind: str
    disposition: str


def differential(objects: Iterable[Counted], *, consecutive: bool) -> Differential:
    """Count objects as decided; see the top of this file for what counts."""
    white: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    red = 0
    for item in objects:
        if item.disposition != "cell":
            excluded[item.disposition] += 1
        elif item.kind in (NOTHING, PLATELET):
            excluded[item.kind] += 1
        elif item.kind == ERYTHROBLAST:
            red += 1
        else:
            white[item.title] += 1
    n = white.total()
    largest = sorted(white.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [
        ClassCount(title, count, count / n, *clopper_pearson(count, n).ends)
        for title, count in largest
    ]
    return Differential(
        n=n,
        rows=tuple(rows),
        level=LEVEL,
        erythroblasts=red,
        per_100=100 * red / n if n else None,
        excluded=dict(sorted(excluded.items())),
        consecutive=consecutive,
        warnings=_warnings(n, consecutive),
    )


def _warnings(n: int, consecutive: bool) -> tuple[str, ...]:
    found = [] if consecutive else [SELECTED]
    if n < ENOUGH:
        found.append(
            f"Only {n} white {'cell was' if n == 1 else 'cells were'} counted: fewer than "
            f"{ENOUGH} are too few for a differential, {PREFERRED} are preferred."
        )
    elif n < PREFERRED:
        found.append(f"{n} white cells were counted; {PREFERRED} are preferred.")
    return tuple(found)
