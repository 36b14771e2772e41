"""The error tree: every mistake a user can make, said with what, where and how to mend it.

CellkinError
├── DataError                the data set or a file in it
│   ├── ImageError           one image cannot be read, or not without guessing
│   │   └── NoCellError      no cell is found in it to be shown alone
│   ├── LayoutError          a folder is no data set that cellkin knows
│   ├── LabelError           a class or label that nobody declared, or a missing one
│   └── SplitError           the parts that were asked for cannot be cut
├── RecipeError              a recipe or a setting with an unknown key or an impossible value
├── WeightsError             weights that are missing, do not fit, or cannot be fetched
├── TrainingError            nothing to resume, NaN loss, a class without cells
├── ArtifactError            an atlas or encoder on disk is damaged, or of another version
├── SpaceMismatch            vectors of two feature spaces were about to be compared
├── DecisionError            a question that this atlas cannot answer (k too large, ...)
└── OutputError              the result cannot be written (exists, disk full, no permission)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CellkinError(Exception):
    """A mistake that a user can mend.

    Args:
        what: what was wrong, one sentence.
        where: the file, folder, field or value concerned.
        mend: what to do about it.
    """

    def __init__(self, what: str, *, where: object = "", mend: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.mend = mend
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.mend:
            lines.append(f"  mend:  {self.mend}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.mend))


def _rebuild(kind: type[CellkinError], what: str, where: str, mend: str) -> CellkinError:
    return kind(what, where=where, mend=mend)


class DataError(CellkinError):
    """The data set, or a file in it, cannot be used as it is."""


class ImageError(DataError):
    """One image cannot be read, or cannot be read without guessing."""


class NoCellError(ImageError):
    """No cell is found in a picture whose cell is to be shown alone."""


class LayoutError(DataError):
    """A folder holds no data set that cellkin recognises."""


class LabelError(DataError):
    """A class that nobody declared, or a label that is missing."""


class SplitError(DataError):
    """The parts that were asked for cannot be cut from this data set."""


class RecipeError(CellkinError):
    """A recipe or setting has an unknown key or an impossible value."""


class WeightsError(CellkinError):
    """Weights are missing, do not fit the network, or cannot be fetched."""


class TrainingError(CellkinError):
    """Training cannot start or go on."""


class ArtifactError(CellkinError):
    """An atlas or encoder on disk is damaged, foreign, or written by a newer version."""


def damaged(what: str, error: Exception, *, where: object) -> ArtifactError:
    """The error for something on disk that cannot be read."""
    return ArtifactError(
        f"{what} cannot be read: {error}",
        where=where,
        mend="restore the folder from a copy, or make it again",
    )


class SpaceMismatch(CellkinError):
    """Vectors of two different feature spaces were about to be compared."""


class DecisionError(CellkinError):
    """The atlas cannot answer this question."""


class OutputError(CellkinError):
    """The result cannot be written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"did you mean 'epochs'?"`, or an empty string where nothing known is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""
