"""Which way of halving a class is to be believed (section 3.2 of the paper).

Before the features are believed, simple explanations are tried: the size of the file, the size of
the image, the diameter of the nucleus in pixels. One that has two modes itself and agrees with the
halves of the features is preferred: it says what the halves are, and a stranger can repeat it. The
halves of features that nothing explains are refused where they are the subjects: a person is no
magnification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from cellkin.core.arrays import Array, Floats, Ints
from cellkin.core.errors import DataError, did_you_mean
from cellkin.core.numbers import percent
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef, Sample
from cellkin.datasets.csv_rows import raise_faults, read_rows
from cellkin.datasets.injecting.halving import Explained, Halving, HalvingEvidence, explained_by
from cellkin.datasets.listing import shown
from cellkin.imaging.decode import decode
from cellkin.imaging.stain import nuclei

AUTO = "auto"
FEATURES = "features"
FIELD_SIZE, RULER = "field-size", "ruler"
SIMPLE = ("file-size", FIELD_SIZE, "diameter")
"""What a cell's own picture tells; the ruler, red cells of its field, needs the field."""

SAME = 0.99
"""Share of cells on the same side from which on a simple value takes the place of the features."""

ALIKE = 0.9
"""Share from which on it explains what the halves are, though the features tell them better."""

MOSTLY_SUBJECTS = 0.25
"""Share of the halves' entropy, less chance, that subjects may explain."""

CHANCE = 0.01
LEAST_MEASURED = 0.95  # share of the cells in which a nucleus must be found


@dataclass(frozen=True)
class Trial:
    """One way of halving the class, and what came of it.

    Attributes:
        by: "features", one of `SIMPLE`, or the name of a list.
        halves: (N,) of 0 and 1, None where the way is not open. unavailable: then why.
        evidence: None for a list, which needs none. subjects: how far subjects explain the halves.
        medians: of the value in both halves. like_features: share of cells on the features' side.
        halving: the rule, where there is one.
    """

    by: str
    halves: Ints | None = None
    evidence: HalvingEvidence | None = None
    subjects: Explained | None = None
    medians: tuple[float, float] | None = None
    like_features: float | None = None
    unavailable: str = ""
    halving: Halving | None = field(default=None, repr=False)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why its halves are not two modes of the class; empty where they are."""
        if self.halves is None:
            return (self.unavailable,)
        return () if self.evidence is None else self.evidence.faults

    def to_json(self) -> dict[str, Any]:
        known = self.subjects
        return {
            "by": self.by,
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "subjects": None if known is None else asdict(known),
            "medians": None if self.medians is None else list(self.medians),
            "like_features": self.like_features,
            "unavailable": self.unavailable,
        }


@dataclass(frozen=True)
class Verdict:
    """What to do with the class.

    Attributes:
        trial: the way of halving that is believed, or the one that was asked for and refused.
        halve: whether the class should be halved. why: the reasons, one sentence each.
    """

    trial: Trial
    halve: bool
    why: tuple[str, ...]


def measured(samples: Sequence[Sample], by: str, *, progress: Progress = silent) -> Floats:
    """The simple value of each sample: (N,) float64, NaN where it cannot be measured.

    Args:
        by: "file-size" in bytes, "field-size" in pixels (area of the image file, before a box is
            cut from it), or "diameter" of the largest nucleus in pixels.
    """
    of = {"file-size": _file_size, "field-size": _field_size, "diameter": _diameter}[by]
    values = np.empty(len(samples))
    for i, sample in enumerate(samples):
        values[i] = of(sample.image)
        if by == "diameter":
            progress("measuring nuclei", i + 1, len(samples))
    return values


def tried(
    by: str,
    vectors: Array,
    subjects: Sequence[str | None],
    *,
    seed: int,
    progress: Progress = silent,
) -> Trial:
    """Halve by vectors (N, C), or by a simple value (N,), on a logarithmic scale.

    Raises:
        DataError: fewer than 20 cells.
    """
    if vectors.ndim > 1:
        halving = Halving.fit(vectors, seed=seed, progress=progress)
        halves = halving.assign(vectors)
        return trial(by, halving, halves, subjects, seed)
    values = np.asarray(vectors, np.float64)
    known = np.isfinite(values)
    if known.mean() < LEAST_MEASURED:
        missing = f"it cannot be measured in {np.count_nonzero(~known)} of {len(values)} cells"
        return Trial(by, unavailable=missing)
    filled = np.where(known, values, np.median(values[known]))
    logs = np.log(np.maximum(filled, 1e-9))[:, None]
    halving = Halving.fit(logs, seed=seed, progress=progress)
    halves = halving.assign(logs)
    parts = [filled[halves == half] for half in (0, 1)]
    medians = None if not all(map(len, parts)) else tuple(float(np.median(p)) for p in parts)
    return trial(by, halving, halves, subjects, seed, medians=medians)


def trial(
    by: str,
    halving: Halving | None,
    halves: Ints,
    subjects: Sequence[str | None],
    seed: int,
    **more: Any,
) -> Trial:
    """A trial of these halves, with how far subjects explain them."""
    known = all(s is not None for s in subjects) and len(set(subjects)) > 1
    explained = None
    if known and 0 < halves.sum() < len(halves):
        explained = explained_by(halves, np.array(subjects), seed=seed)
    evidence = None if halving is None else halving.evidence
    return Trial(by, halves, evidence, explained, halving=halving, **more)


def listed(path: Path, samples: Sequence[Sample], *, seed: int) -> Trial:
    """The halves that a CSV names: columns `file,half`, half 1 or 2, every cell of the class.

    A file is named by its id, or by its name where no other cell has that name.

    Raises:
        LabelError: the file is damaged, or holds another half than 1 and 2, or a cell twice.
        DataError: cells of the class that it does not name, or only one half.
    """
    table = read_rows(path, required=("file", "half"), optional=())
    halves: dict[str, int] = {}
    faults = []
    for line, row in table.rows:
        if row["half"] not in ("1", "2"):
            faults.append(f"line {line}: {row['half']!r} is neither 1 nor 2")
        elif row["file"] in halves:
            faults.append(f"line {line}: {row['file']!r} is there twice")
        else:
            halves[row["file"]] = int(row["half"]) - 1
    raise_faults(path, faults, mend="write one line per cell: its file, and 1 or 2")
    names = [s.image.path.name for s in samples]
    keys = [
        s.id if s.id in halves or names.count(name) > 1 else name
        for s, name in zip(samples, names, strict=True)
    ]
    if lacking := [s.id for s, key in zip(samples, keys, strict=True) if key not in halves]:
        raise DataError(
            f"{len(lacking)} of {len(samples)} cells of the class are not in this list: "
            f"{shown(lacking)}",
            where=path,
            mend=did_you_mean(lacking[0], halves) or "name every cell of the class once",
        )
    found = np.array([halves[key] for key in keys], np.int64)
    if not 0 < found.sum() < len(found):
        raise DataError("all cells are in one half", where=path, mend="name cells of both halves")
    return trial(path.name, None, found, [s.subject for s in samples], seed)


def judge(
    trials: Mapping[str, Trial],
    by: str = AUTO,
    known: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Verdict:
    """Which halving to believe, and why.

    With `auto`, what is known of the cells' fields goes first (`known`: way -> what it says), the
    first way that is open. Without, the features must have two modes; a simple value that agrees
    with them (nearly all cells) is preferred; where none explains them, the halves must not be the
    subjects. With "features" nothing is preferred. A simple value that is asked for by name is
    judged by its own evidence alone; a list is taken as it is.
    """
    open_ways = [name for name in known if not trials[name].faults]
    if by == AUTO and open_ways:
        return Verdict(trials[open_ways[0]], True, known[open_ways[0]])
    if by not in (AUTO, FEATURES):
        asked = trials[by]
        reason = f"halved as {by} lists it" if asked.evidence is None else f"two modes of {by}"
        return Verdict(asked, not asked.faults, asked.faults or (reason,))
    features = trials[FEATURES]
    if features.faults:
        return Verdict(features, False, (*features.faults, *_other_ways(trials)))
    simple = _simple_explanation(trials)
    same = 0.0 if simple is None else simple.like_features or 0.0
    if simple is not None and by == AUTO and same >= SAME:
        return Verdict(
            simple, True, (f"{simple.by} explains the halves: {percent(same, 0)} agree",)
        )
    if simple is not None:
        return Verdict(
            features,
            True,
            (
                f"two modes of the features, which {simple.by} explains: {percent(same, 0)} "
                "of the cells lie on the same side by both",
            ),
        )
    if reason := _subjects_explain(features):
        return Verdict(features, False, (reason, *_other_ways(trials)))
    return Verdict(features, True, ("two modes of the features, explained by nothing simpler",))


def _simple_explanation(trials: Mapping[str, Trial]) -> Trial | None:
    """The simple value with two modes of its own that is most like the features."""
    ways = [trials[name] for name in SIMPLE if name in trials and not trials[name].faults]
    alike = [trial for trial in ways if (trial.like_features or 0.0) >= ALIKE]
    return max(alike, key=lambda trial: trial.like_features or 0.0, default=None)


def _subjects_explain(trial: Trial) -> str:
    known = trial.subjects
    if known is None or known.p_value > CHANCE or known.share < MOSTLY_SUBJECTS:
        return ""
    return (
        "the halves are the subjects, not the magnification: subjects explain "
        f"{percent(known.share, 0)} of the halves (mutual information, chance taken off; "
        f"p = {known.p_value:.2g})"
    )


def _other_ways(trials: Mapping[str, Trial]) -> tuple[str, ...]:
    """Simple values with two modes of their own, although the features do not follow them."""
    return tuple(
        f"{name} has two modes by itself: --by {name} would halve by it"
        for name in SIMPLE
        if name in trials and not trials[name].faults
    )


def _file_size(image: ImageRef) -> float:
    return float(image.path.stat().st_size)


def _field_size(image: ImageRef) -> float:
    if image.member is not None or image.row is not None:
        return float("nan")
    try:
        with Image.open(image.path) as header:
            return float(header.width * header.height)
    except (UnidentifiedImageError, OSError):
        return float("nan")


def _diameter(image: ImageRef) -> float:
    found = nuclei(decode(image))
    return 2 * found[0].radius if found else float("nan")
