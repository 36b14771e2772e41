"""The shortcut meter: how well the class can be told without the cell.

The classifier is the simplest that needs no assumption: each image is called by the 15 images that
are most alike in the cue, none of them of its own subject (or field), each class weighted by its
size. Its neighbours do not depend on the labels, so the same classifier can be run on 999 random
deals of the labels: what it reaches there is chance, whatever the classes' sizes and however many
cells a subject has. Labels are dealt to whole subjects (each gets the labels of another one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cellkin.core.arrays import Ints, Singles
from cellkin.core.findings import ALARM, FAINT, SILENT, Cue
from cellkin.core.progress import Progress, silent
from cellkin.measures.intervals import middle
from cellkin.measures.matrices import balanced_accuracy

NEIGHBORS = 15
DEALS = 999
ALARM_P = 0.002  # 1 % for the five cues together
FAINT_SKILL = 0.1  # of the way from chance to certainty: less is no alarm, however sure
BLOCK = 512

WORDS = {
    "corners": "the four corners",
    "border": "the border strip",
    "size and format": "image size and file format",
    "mean colour": "the mean colour",
    "focus": "the focus score",
    "place": "the place",
}


def measure(
    name: str,
    values: Singles,
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    about: tuple[str, str, int] = ("class", "image", 0),
    progress: Progress = silent,
) -> Cue | None:
    """How well the labels can be told from one cue, and what chance would give.

    Args:
        name: of the cue. values: (N, d) float32. labels, groups: N of each.
        about: what the labels are ("class", "subject" or "place"), what the groups are, the seed.

    Returns:
        None where there are fewer than two labels or groups.
    """
    target, unit, seed = about
    names, truth = np.unique(np.asarray(labels), return_inverse=True)
    units, owner = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2 or len(units) < 3:
        return None
    call = _caller(_scaled(values), owner, len(names))
    found = call(truth)
    real = _balanced(found, truth, len(names))
    deals = np.random.default_rng([seed, len(names), len(units)])
    null = np.empty(DEALS)
    for turn, dealt in enumerate(_dealt(truth, owner, deals)):
        null[turn] = _balanced(call(dealt), dealt, len(names))
        progress(f"measuring {name}", turn + 1, DEALS)
    p_value = float((1 + (null >= real).sum()) / (1 + DEALS))
    counts = np.bincount(truth, minlength=len(names))
    state = _state(real, 1 / len(names), p_value)
    return Cue(
        name=name,
        target=target,
        balanced_accuracy=real,
        accuracy=float((found == truth).mean()),
        chance=1 / len(names),
        majority=float(counts.max() / counts.sum()),
        null=middle(null),
        p_value=p_value,
        state=state,
        verdict=_verdict(name, target, state, real, 1 / len(names)),
        unit=unit,
        units=len(units),
        told={str(n): float((found == k)[truth == k].mean()) for k, n in enumerate(names)},
    )


def _scaled(values: Singles) -> Singles:
    """Each column by its standard deviation; a constant column says nothing."""
    spread = values.std(0, dtype=np.float64)
    useful = spread > 1e-3
    centred = values[:, useful] - values[:, useful].mean(0, dtype=np.float64)
    scaled: Singles = (centred / spread[useful]).astype(np.float32)
    return scaled


def _neighbors(values: Singles, owner: Ints) -> Ints:
    """(N, 15) numbers of the nearest images of other groups, -1 where there are not so many."""
    n = len(values)
    squares = (values * values).sum(1)
    k = min(NEIGHBORS, n - 1)
    near = np.full((n, k), -1, np.int64)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        part = values[rows]
        distance = squares[None] - 2 * part @ values.T
        distance[owner[rows][:, None] == owner[None]] = np.inf
        best = np.argpartition(distance, k - 1, axis=1)[:, :k]
        reached = np.isfinite(np.take_along_axis(distance, best, 1))
        near[rows] = np.where(reached, best, -1)
    return near


def _caller(values: Singles, owner: Ints, classes: int) -> Callable[[Ints], Ints]:
    """The classifier: labels (N,) to the class that each image is called (N,), -1 for none.

    A cue with few values (sizes and formats) is voted on by every image of the same value.
    """
    kinds, code = np.unique(values, axis=0, return_inverse=True)
    code = code.ravel()
    votes_of = _same_value(code, owner, classes)
    if NEIGHBORS * len(kinds) > len(values):
        votes_of = _nearest(_neighbors(values, owner), classes)

    def called(labels: Ints) -> Ints:
        """The most votes for the class's size, both without the image's own group."""
        own = np.zeros((int(owner.max()) + 1, classes), np.int64)
        np.add.at(own, (owner, labels), 1)
        shares = votes_of(labels) / np.maximum(own.sum(0) - own, 1)[owner]
        return np.where(shares.max(1) > 0, shares.argmax(1), -1)

    return called


def _same_value(code: Ints, owner: Ints, classes: int) -> Callable[[Ints], Singles]:
    pairs, pair = np.unique(np.stack([code, owner], 1), axis=0, return_inverse=True)
    pair = pair.ravel()

    def votes(labels: Ints) -> Singles:
        every = np.zeros((int(code.max()) + 1, classes), np.float32)
        np.add.at(every, (code, labels), 1)
        own = np.zeros((len(pairs), classes), np.float32)
        np.add.at(own, (pair, labels), 1)
        return every[code] - own[pair]

    return votes


def _nearest(near: Ints, classes: int) -> Callable[[Ints], Singles]:
    def votes(labels: Ints) -> Singles:
        voted = np.append(labels, classes)[near]  # number -1 is nobody
        found = np.stack([(voted == k).sum(1) for k in range(classes)], 1)
        return found.astype(np.float32)

    return votes


def _balanced(found: Ints, truth: Ints, classes: int) -> float:
    """Of calls (N,), -1 for none, which get a column of their own."""
    width = classes + 1
    counts = np.bincount(truth * width + found % width, minlength=classes * width)
    return balanced_accuracy(counts.reshape(classes, width)) or 0.0


def _dealt(truth: Ints, owner: Ints, rng: np.random.Generator) -> Iterator[Ints]:
    """The labels of whole groups dealt to other groups, repeated or cut to their size."""
    members = [np.flatnonzero(owner == u) for u in range(int(owner.max()) + 1)]
    single = len(members) == len(truth)
    for _ in range(DEALS):
        if single:
            yield rng.permutation(truth)
            continue
        dealt = np.empty_like(truth)
        for mine, other in zip(members, rng.permutation(len(members)), strict=True):
            dealt[mine] = np.resize(rng.permutation(truth[members[other]]), len(mine))
        yield dealt


def _state(real: float, chance: float, p_value: float) -> str:
    if p_value > ALARM_P:
        return SILENT
    return ALARM if (real - chance) / (1 - chance) >= FAINT_SKILL else FAINT


def _verdict(name: str, target: str, state: str, real: float, chance: float) -> str:
    what = WORDS.get(name, name)
    several = name in ("corners", "size and format")
    if state == SILENT:
        be = "do not tell" if several else "does not tell"
        return f"{what[:1].upper()}{what[1:]} {be} the {target}"
    be = "tell" if several else "tells"
    skill = (real - chance) / (1 - chance)
    how = " almost surely" if skill >= 0.8 else "" if skill >= 0.4 else " in part"
    how = " a little better than chance" if state == FAINT else how
    return f"{what[:1].upper()}{what[1:]} alone {be} the {target}{how}"
