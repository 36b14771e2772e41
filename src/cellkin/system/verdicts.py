"""What a person said of the cells of a count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cellkin.core.counts import CountedCell
from cellkin.core.errors import DataError, did_you_mean
from cellkin.core.records import LabelSet

SET_ASIDE = ("smudge cell", "artefact", "unidentifiable")
"""What a person can call a cell that is not to be counted."""


def classes_of(given: Mapping[str, str], labels: LabelSet) -> dict[str, str]:
    """Cell id -> class name, or one of `SET_ASIDE`.

    Args:
        given: cell id -> what a person wrote.

    Raises:
        DataError: a verdict that is no class of this atlas.
    """
    words = {labels.title(name).casefold(): name for name in reversed(labels.names)}
    words |= {name.casefold(): name for name in (*SET_ASIDE, *labels.names)}
    found = {}
    for name, verdict in given.items():
        if verdict.strip().casefold() not in words:
            raise DataError(
                f"{verdict!r} is no class of this atlas",
                where=name,
                mend=did_you_mean(verdict, words) or f"give one of {', '.join(words)}",
            )
        found[name] = words[verdict.strip().casefold()]
    return found


def require_reviewed(verdicts: Mapping[str, str], cells: Sequence[CountedCell]) -> None:
    known = {cell.id for cell in cells if cell.kind == "white cell"}
    if strange := [name for name in verdicts if name not in known]:
        raise DataError(
            f"{len(strange)} reviewed cells are no white cells of these fields",
            where=", ".join(strange[:5]),
            mend="review the cells.csv that was written for the same fields and --mpp",
        )


def judged(cell: CountedCell, verdicts: Mapping[str, str]) -> CountedCell:
    """The cell as a person sees it, where one did."""
    verdict = verdicts.get(cell.id)
    if verdict is None:
        return cell
    return replace(cell, reviewed=verdict, left_out="set aside" if verdict in SET_ASIDE else "")
