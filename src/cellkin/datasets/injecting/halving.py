"""Halve a class whose features are bimodal (section 3.2 of the paper): the evidence.

Cells of one class that were imaged in two ways (two magnifications) form two clouds in the feature
space. `Halving.fit` finds two clouds in any vectors and says what speaks for them; it knows no
network and no file. In a study it is fitted inside each fold, on training cells only, and the other
cells are assigned.

Two Gaussians of one shared covariance are fitted on the leading principal components: with a shared
covariance the rule between them is linear, and a mode is a place, not a spread. Any real class
departs from one Gaussian a little, and with enough cells every departure is significant. So the
bootstrap is necessary and not sufficient: the two clouds must also be farther apart, on cells that
took no part in the fit, than the halves of any slope are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellkin.core.arrays import Array, Floats, Ints
from cellkin.core.errors import DataError
from cellkin.core.numbers import percent
from cellkin.core.plain import plain_fields
from cellkin.core.progress import Progress, silent

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

COMPONENTS = 5
"""Leading principal components on which the two clouds are sought and tested."""

REFINED = 15
"""Components to which the rule between the clouds is then refined, at most n / 6 of them."""

LEAST_CELLS = 20
LEVEL = 0.01
"""Largest p-value of the bootstrap that counts as evidence."""

LEAST_SEPARATION = 4.0
"""Distance of the halves' means in their own standard deviations, on held-out cells. A rule between
two Gaussians so far apart misplaces 2.3 % of the cells. The halves of a flat distribution lie 3.5
apart, those of one Gaussian 2.7: nearer halves may be a slope, not two modes."""

LEAST_AGREEMENT = 0.9
"""Share of cells that a rule fitted without them puts where the whole fit does."""

LEAST_SHARE = 0.1
"""Of the smaller half: fewer cells are outliers, not an imaging group."""

ENOUGH = 10
"""Samples of one Gaussian with as large a statistic after which the bootstrap stops: the p-value is
then their share of the samples drawn so far (Besag and Clifford, 1991)."""

FOLDS = 5
STARTS = 3
FLOOR = 1e-6  # of the variance: a cloud of equal values keeps this much


@dataclass(frozen=True)
class HalvingEvidence:
    """What speaks for two modes.

    Attributes:
        cells: in the two halves, the larger first.
        statistic: twice the log-likelihood ratio of two Gaussians against one. p_value: share of
            samples of one Gaussian, of the same size, with as large a statistic. bootstraps: the
            largest number of samples drawn for it.
        silhouette: mean silhouette of the halves on the leading components, -1 to 1.
        separation: of the halves on held-out cells, in their own standard deviations.
        agreement: share of cells whose half is the same when they take no part in the fit.
    """

    cells: tuple[int, int]
    statistic: float
    p_value: float
    bootstraps: int
    silhouette: float
    separation: float
    agreement: float

    @property
    def faults(self) -> tuple[str, ...]:
        """Why these are not two modes; empty where they are."""
        share = min(self.cells) / max(sum(self.cells), 1)
        checks = (
            (self.p_value <= LEVEL, f"one Gaussian explains them (p = {self.p_value:.2g})"),
            (
                self.separation > LEAST_SEPARATION,
                f"the halves lie {self.separation:.1f} standard deviations apart on held-out "
                f"cells, {LEAST_SEPARATION:.0f} are asked for",
            ),
            (
                self.agreement >= LEAST_AGREEMENT,
                f"only {percent(self.agreement, 0)} of the cells stay in their half when they take "
                f"no part in the fit, {percent(LEAST_AGREEMENT, None)} are asked for",
            ),
            (share >= LEAST_SHARE, f"the smaller half holds {percent(share, 0)} of the cells only"),
        )
        return tuple(why for holds, why in checks if not holds)

    @property
    def two_modes(self) -> bool:
        """Whether all of it speaks for two modes."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """The fields, and what follows from them, as plain data."""
        derived = {"two_modes": self.two_modes, "faults": list(self.faults)}
        return plain_fields(self) | derived


@dataclass(frozen=True)
class Halving:
    """A linear rule between the two halves of a class, and the evidence for it.

    Attributes:
        direction: (C,) of the space of the vectors. offset: a vector v is of the second half
            where v . direction + offset > 0.
    """

    direction: Floats
    offset: float
    evidence: HalvingEvidence

    @classmethod
    def fit(
        cls,
        vectors: Array,
        *,
        seed: int,
        bootstraps: int = 99,
        progress: Progress = silent,
    ) -> Halving:
        """Find two halves of a class and measure what speaks for them.

        The halving is made whatever the evidence says; ask `evidence.two_modes`.

        Args:
            vectors: (N, C) of the cells of one class, N at least 20.
            seed: of the bootstrap, the starts and the folds.
            bootstraps: samples of one Gaussian that are fitted as the cells are.

        Raises:
            DataError: too few cells, or vectors that are not finite.
        """
        points = _checked(vectors)
        if np.ptp(points, axis=0).max() == 0:
            nothing = HalvingEvidence((len(points), 0), 0.0, 1.0, 0, 0.0, 0.0, 1.0)
            return cls(np.zeros(points.shape[1]), 0.0, nothing)
        direction, offset = _rule(points, seed)
        halves = _sides(points, direction, offset)
        leading, _, _ = _components(points, COMPONENTS)
        statistic, p_value = _bootstrap(leading, seed, bootstraps, progress)
        apart, agreement = _held_out(points, halves, seed)
        evidence = HalvingEvidence(
            cells=(int((halves == 0).sum()), int((halves == 1).sum())),
            statistic=statistic,
            p_value=p_value,
            bootstraps=bootstraps,
            silhouette=_silhouette(leading, halves),
            separation=apart,
            agreement=agreement,
        )
        return cls(direction, offset, evidence)

    def assign(self, vectors: Array) -> Ints:
        """The half of each vector (M, C): (M,) of 0, the larger half of the fit, and 1.

        Raises:
            DataError: vectors of another width.
        """
        points = np.asarray(vectors, np.float64)
        if points.ndim != 2 or points.shape[1] != len(self.direction):
            raise DataError(
                f"these vectors do not fit the halving: shape {points.shape}",
                where=f"a halving of vectors of width {len(self.direction)}",
                mend="embed the cells with the encoder that the halving was fitted with",
            )
        return _sides(points, self.direction, self.offset)


@dataclass(frozen=True)
class Explained:
    """How far something known about the cells explains their halves.

    Attributes:
        share: of the halves' entropy that is explained (mutual information), less what chance
            explains, 1 for everything, about 0 for nothing.
        p_value: share of permutations that explain as much.
    """

    share: float
    p_value: float


def explained_by(halves: Ints, known: Array, *, seed: int, permutations: int = 999) -> Explained:
    """Mutual information of the halves with something known of each cell, such as its subject.

    Chance is what permuted cells explain on average: with many subjects of few cells that is a lot.

    Args:
        halves: (N,) of 0 and 1. known: (N,) names.
    """
    _, names = np.unique(np.asarray(known), return_inverse=True)
    own = _mutual_information(halves, names)
    rng = np.random.default_rng([seed, 4])
    null = np.array(
        [_mutual_information(rng.permutation(halves), names) for _ in range(permutations)]
    )
    room = _mutual_information(halves, halves) - null.mean()  # their entropy, less chance
    share = (own - null.mean()) / room if room > 1e-9 else 0.0
    p_value = (1 + np.count_nonzero(null >= own - 1e-12)) / (permutations + 1)
    return Explained(float(share), float(p_value))


def separation(values: Floats, halves: Ints) -> float:
    """Distance of the halves' means in pooled standard deviations (Ashman's D); 0 where a half
    holds fewer than two values.

    Args:
        values: (N,). halves: (N,) of 0 and 1.
    """
    parts = [values[halves == half] for half in (0, 1)]
    if min(map(len, parts)) < 2:
        return 0.0
    spread = np.sqrt(np.mean([part.var(ddof=1) for part in parts]))
    apart = abs(float(parts[1].mean() - parts[0].mean()))
    return apart / max(float(spread), 1e-9 * max(apart, 1e-300))


# parts of the fit ------------------------------------------------------------------------------


def _checked(vectors: Array) -> Floats:
    points = np.asarray(vectors, np.float64)
    if points.ndim != 2 or len(points) < LEAST_CELLS:
        raise DataError(
            f"{len(points)} cells are too few to look for two modes",
            where=f"the class to halve (vectors of shape {points.shape})",
            mend=f"a class of at least {LEAST_CELLS} cells is needed, as (N, C) vectors",
        )
    if not np.isfinite(points).all():
        raise DataError(
            "some of these vectors are not finite",
            where=f"{np.count_nonzero(~np.isfinite(points).all(axis=1))} of {len(points)} cells",
            mend="embed the cells again; look for images that are all black",
        )
    return points


def _components(points: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """Scores (N, d), axes (C, d) and mean (C,) of the leading principal components."""
    mean = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - mean, full_matrices=False)
    rank = int(np.count_nonzero(sizes > 1e-9 * sizes[0]))
    kept = axes[: max(min(count, rank), 1)].T
    return (points - mean) @ kept, kept, mean


def _rule(points: Floats, seed: int) -> tuple[Floats, float]:
    """Direction (C,) and offset of the linear rule; the larger half is on the negative side.

    Found on few components, where the two clouds are not lost among many directions, then refined
    on more, each time from the halves before.
    """
    limit = max(min(REFINED, len(points) // 6), 1)
    halves: Ints | None = None
    for count in sorted({min(COMPONENTS, limit), min(2 * COMPONENTS, limit), limit}):
        scores, axes, mean = _components(points, count)
        mixture = _mixture(scores, seed, halves)
        normal, offset = _boundary(mixture)
        direction = axes @ normal
        offset -= float(mean @ direction)
        halves = _sides(points, direction, offset)
        if min(np.bincount(halves, minlength=2)) < 2:
            break
    if halves is not None and halves.mean() > 0.5:
        return -direction, -offset
    return direction, offset


def _mixture(scores: Floats, seed: int, halves: Ints | None = None) -> GaussianMixture:
    """Two Gaussians of one covariance; started by k-means, or from halves that are given."""
    start: dict[str, Any] = {"n_init": STARTS}
    if halves is not None:
        parts = [scores[halves == half] for half in (0, 1)]
        within = np.concatenate([part - part.mean(axis=0) for part in parts])
        covariance = within.T @ within / len(scores) + _floor(scores) * np.eye(scores.shape[1])
        start = {
            "means_init": np.stack([part.mean(axis=0) for part in parts]),
            "weights_init": np.array([len(part) / len(scores) for part in parts]),
            "precisions_init": np.linalg.inv(covariance),
        }
    from sklearn.mixture import GaussianMixture  # takes long to import

    mixture = GaussianMixture(
        2,
        covariance_type="tied",
        reg_covar=_floor(scores),
        random_state=seed,
        max_iter=500,
        **start,
    )
    return mixture.fit(scores)


def _floor(scores: Floats) -> float:
    return FLOOR * float(scores.var(axis=0).max())


def _boundary(mixture: GaussianMixture) -> tuple[Floats, float]:
    """Where two Gaussians of one covariance are equally likely: a plane."""
    first, second = mixture.means_
    normal = np.linalg.solve(mixture.covariances_, second - first)
    prior = np.log(mixture.weights_[1] / mixture.weights_[0])
    return normal, float(prior - normal @ (first + second) / 2)


def _sides(points: Floats, direction: Floats, offset: float) -> Ints:
    return np.asarray(points @ direction + offset > 0, np.int64)


def _bootstrap(
    scores: Floats, seed: int, bootstraps: int, progress: Progress
) -> tuple[float, float]:
    """The likelihood-ratio statistic, and its p-value among samples of one Gaussian."""
    own = _statistic(scores, seed)
    covariance = np.atleast_2d(np.cov(scores.T))
    rng = np.random.default_rng([seed, 2])
    as_large = 0
    for done in range(1, bootstraps + 1):
        sample = rng.multivariate_normal(np.zeros(scores.shape[1]), covariance, len(scores))
        as_large += _statistic(sample, seed) >= own
        if as_large == ENOUGH:
            progress("one mode or two", bootstraps, bootstraps)
            return own, as_large / done
        progress("one mode or two", done, bootstraps)
    return own, (1 + as_large) / (bootstraps + 1)


def _statistic(scores: Floats, seed: int) -> float:
    from sklearn.mixture import GaussianMixture

    one = GaussianMixture(1, reg_covar=_floor(scores)).fit(scores)
    gain = _mixture(scores, seed).score(scores) - one.score(scores)
    return 2 * len(scores) * float(gain)


def _held_out(points: Floats, halves: Ints, seed: int) -> tuple[float, float]:
    """Separation and agreement of the halves on cells that took no part in the fit."""
    positions = np.zeros(len(points))
    sides = np.zeros(len(points), np.int64)
    for rest, held in _folds(len(points), seed):
        direction, offset = _rule(points[rest], seed)
        if (_sides(points[rest], direction, offset) == halves[rest]).mean() < 0.5:
            direction, offset = -direction, -offset
        inside = points[rest] @ direction + offset
        parts = [inside[inside <= 0], inside[inside > 0]]
        spread = max(np.sqrt(np.mean([p.var() for p in parts if len(p)])), 1e-12)
        positions[held] = (points[held] @ direction + offset) / spread
        sides[held] = _sides(points[held], direction, offset)
    return separation(positions, sides), float((sides == halves).mean())


def _folds(count: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    order = np.random.default_rng([seed, 3]).permutation(count)
    for k in range(FOLDS):
        yield np.delete(order, np.s_[k::FOLDS]), order[k::FOLDS]


def _silhouette(scores: Floats, halves: Ints) -> float:
    if not 0 < halves.sum() < len(halves):
        return 0.0
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(scores, halves))


def _mutual_information(halves: Ints, names: Ints) -> float:
    joint = np.zeros((2, int(names.max()) + 1))
    np.add.at(joint, (halves, names), 1 / len(halves))
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())
