"""What a person said of the cells of a count."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cellkin.core.counts import CountedCell
from cellkin.core.errors import DataError, did_you_mean
from cellkin.core.names import plain
from cellkin.core.records import LabelSet

SET_ASIDE = ("smudge cell", "artefact", "unidentifiable")
"""What a person can call a cell that is not to be counted."""

UNSEEN = re.compile(r"[\s\x00-\x1f\x7f]+")
STRANGE = "are no white cells of these fields"
SAME = "review the cells.csv that was written for the same fields and --mpp"


def classes_of(given: Mapping[str, str], labels: LabelSet) -> dict[str, str]:
    """Cell id -> class name, or one of `SET_ASIDE`. The title of several imaging groups together
    is the first of them: they are one class to a reader, and counted as one.

    Args:
        given: cell id -> what a person wrote.

    Raises:
        DataError: a verdict that is no class of this atlas.
    """
    told = [(labels.group_title(n), n) for n in reversed(labels.names)]
    told += [(labels.title(n), n) for n in reversed(labels.names)]
    told += [(n, n) for n in (*SET_ASIDE, *labels.names)]
    words = {plain(word).casefold(): name for word, name in told}
    found = {}
    for name, verdict in given.items():
        word = plain(verdict).casefold()
        if word not in words:
            classes = dict.fromkeys(w for w in words if words[w] not in SET_ASIDE)
            mend = f"write one of {', '.join(classes)}; or, for what is not to be counted, one of "
            mend = f"{did_you_mean(word, words)} {mend}{', '.join(SET_ASIDE)}".lstrip()
            raise DataError(f"{verdict!r} is no class of this atlas", where=name, mend=mend)
        found[name] = words[word]
    return found


def require_fields(verdicts: Mapping[str, str], fields: Iterable[str]) -> None:
    """Refuse verdicts on other fields than these (their names), before they are searched.

    Raises:
        DataError: there are some.
    """
    known = {_known_as(f"{field}@") for field in fields}
    _refuse(
        [name for name in verdicts if _known_as(f"{name.rpartition('@')[0]}@") not in known],
        STRANGE,
        SAME,
    )


def of_cells(verdicts: Mapping[str, str], cells: Sequence[CountedCell]) -> dict[str, str]:
    """The verdicts by the very ids of cells. An id that was written by a spreadsheet or typed is
    known in another Unicode form, and without what nobody sees.

    Raises:
        DataError: a cell that is not there, is no whole white cell, or could be one of two.
    """
    known, given = defaultdict[str, list[CountedCell]](list), defaultdict[str, list[str]](list)
    for cell in cells:
        known[_known_as(cell.id)].append(cell)
    for name in verdicts:
        given[_known_as(name)].append(name)
    _refuse(
        [n for names in given.values() if len(names) > 1 for n in names],
        "name one cell twice",
        "leave one of them",
    )
    _refuse(
        [c.id for key in given if len(known[key]) > 1 for c in known[key]],
        "cannot be told apart",
        "rename one of their fields, and count them again",
    )
    _refuse([name for key, (name,) in given.items() if not known[key]], STRANGE, SAME)
    _refuse(
        [name for key, (name,) in given.items() if known[key][0].kind != "white cell"],
        "are cut off by the edge, or smudges",
        "only whole white cells can be reviewed: leave these rows empty",
    )
    return {known[key][0].id: verdicts[name] for key, (name,) in given.items()}


def judged(cell: CountedCell, verdicts: Mapping[str, str]) -> CountedCell:
    """The cell as a person sees it, where one did."""
    verdict = verdicts.get(cell.id)
    if verdict is None:
        return cell
    return replace(cell, reviewed=verdict, left_out="set aside" if verdict in SET_ASIDE else "")


def _known_as(name: str) -> str:
    """An id without what a spreadsheet or a table may change in it: the apostrophes before it too
    (one keeps spreadsheets from reading a formula).
    """
    return plain(UNSEEN.sub(" ", plain(name)).lstrip("' "))


def _refuse(names: Sequence[str], what: str, mend: str) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5]))
        raise DataError(f"{len(names)} reviewed cells {what}", where=shown, mend=mend)
