"""From the kept predictions to one row per method: measures, intervals, confusion matrices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from cellkin.core.arrays import Ints
from cellkin.core.labels import NO_CELL, LabelSet
from cellkin.core.progress import Progress, silent
from cellkin.core.studies import MEASURES, Call, Measure, StudyRow
from cellkin.core.units import GROUP, SUBJECT, Owners
from cellkin.datasets.parts.places import PLACE
from cellkin.measures import matrices
from cellkin.measures.intervals import Interval, bootstrap, share_interval, too_few, unit_index
from cellkin.measures.ranking import auroc
from cellkin.study.predictions import Job, Results

KEY = ("method", "dataset", "tested_on", "injection", "backbone", "init", "recipe", "unit")
TOLD = ("injection", "backbone", "init", "recipe")
"""What a title tells besides the method, where the rows differ in it."""

Read = Callable[[Ints], float | None]


def binary(name: str, labels: LabelSet) -> str:
    """The side of a fine class: lymphoblast or not."""
    return matrices.BINARY.names[0 if labels.is_positive(name) else 1]


def _sides(names: Sequence[str], labels: LabelSet) -> list[str]:
    return [binary(name, labels) for name in names]


def right(call: Call, labels: LabelSet, measure: str) -> bool:
    """Whether a call is right, by fine class ("accuracy") or as lymphoblast or not."""
    judge = labels.exact if measure == "accuracy" else labels.right_side
    return judge(call.label, call.truth)


def study_rows(results: Results, *, progress: Progress = silent) -> tuple[StudyRow, ...]:
    """One row per method, data set, injection, backbone, start, recipe and unit.

    Rows follow the order of the plan. Folds and seeds of one row are pooled.
    """
    groups: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in results.jobs():
        groups[_key(job)].append(job)
    planned = Counter(map(_key, results.planned()))
    rows: list[StudyRow] = []
    for jobs, title in zip(groups.values(), _titles(groups), strict=True):
        progress("measuring rows", len(rows), len(groups))
        rows.append(replace(_row(results, jobs, title), planned=planned[_key(jobs[0])]))
    progress("measuring rows", len(rows), len(rows))
    return tuple(rows)


def _key(job: Job) -> tuple[str, ...]:
    return tuple(str(getattr(job, name)) for name in KEY)


def _titles(keys: Iterable[tuple[str, ...]]) -> list[str]:
    """The method and what else tells a row from others of the same data set and unit."""
    rows = [dict(zip(KEY, key, strict=True)) for key in keys]
    differing = [name for name in TOLD if len({row[name] for row in rows if row[name]}) > 1]
    titles = []
    for row in rows:
        words = [row[name] for name in differing if row[name] and row[name] != "none"]
        words = [word for word in words if word.lower() not in row["method"].lower()]
        titles.append(", ".join([row["method"], *words]))
    return titles


def _row(results: Results, jobs: Sequence[Job], title: str) -> StudyRow:
    job = jobs[0]
    labels = _labels(results, job)
    calls = tuple(call for one in jobs for call in _calls(results, one))
    units = (SUBJECT, GROUP) if job.unit == PLACE else (job.unit,)
    measuring = _Measuring(labels, independent(calls, *units), job.seed)
    counts = matrices.confusion([c.truth for c in calls], [c.label for c in calls], labels.names)
    clinical_names, clinical = matrices.merged(counts, labels)
    real = tuple(c for c in calls if labels.clinical[c.truth] != NO_CELL)
    has_empty = NO_CELL in labels.clinical.values()
    return StudyRow(
        title=title,
        proposed=job.proposed,
        **{name: getattr(job, name) for name in KEY if name != "tested_on"},
        tested_on=job.tested_on or job.dataset,
        independent=measuring.unit,
        seeds=tuple(sorted({one.seed for one in jobs})),
        folds=len(jobs),
        cells=len(calls),
        distinct=len({c.id for c in calls}),
        subjects=len({c.subject for c in calls if c.subject is not None}),
        labels=labels,
        measures=measuring.all_of(calls),
        real=measuring.all_of(real) if has_empty else None,
        confusion=counts,
        clinical_names=clinical_names,
        clinical=clinical,
        mixups=tuple(matrices.mixups(counts, labels)),
        calls=calls,
        seconds=float(np.mean([results.seconds(one.key) for one in jobs])),
    )


def _labels(results: Results, job: Job) -> LabelSet:
    """The classes of a row; an external test may add some of the other data set, and a place that
    is left out has those that it shares.
    """
    if job.unit == PLACE:
        return LabelSet.from_json(results.extra(job.key)["classes"])
    own = results.labels(job.dataset, job.injection or None)
    if not job.tested_on or job.tested_on == job.dataset:
        return own
    met = {n for p in results.predictions(job.key) for n in (p.truth, p.label)}
    if met <= set(own.names):
        return own
    both = own.joined(results.labels(job.tested_on))
    return both.only(met | set(own.names))


def _calls(results: Results, job: Job) -> list[Call]:
    extra, folder = results.extra(job.key), results.path.parent
    pages, places = extra.get("evidence", {}), extra.get("places", {})
    return [
        Call(
            id=p.id,
            seed=job.seed,
            fold=job.fold,
            truth=p.truth,
            label=p.label,
            subject=p.subject,
            group=p.group,
            place=places.get(p.id),
            score=p.score,
            neighbors=p.neighbors,
            map_xy=p.map_xy,
            page=page if (page := pages.get(p.id)) and (folder / page).is_file() else None,
        )
        for p in results.predictions(job.key)
    ]


def independent(calls: Sequence[Call], *units: str) -> str:
    """What may be taken as independent: the first of these units that is larger than an image and
    that all cells have; single images where each was decided once, else the cells.
    """
    own = tuple(call.id for call in calls)
    for unit in units:
        owners = Owners.of(calls, unit)
        if unit not in ("image", "cell") and owners.known and owners.names != own:
            return unit
    return "image" if len({call.id for call in calls}) == len(calls) else "cell"


@dataclass(frozen=True)
class _Measuring:
    """How the cells of one row are measured."""

    labels: LabelSet
    unit: str
    seed: int

    @property
    def clinical(self) -> bool:
        return self.labels.positive is not None

    def all_of(self, calls: Sequence[Call]) -> dict[str, Measure]:
        """Every measure of `MEASURES`; those that these classes cannot give have no value."""
        folds: dict[tuple[int, int], list[Call]] = {}
        for call in calls:
            folds.setdefault((call.seed, call.fold), []).append(call)
        intervals = self._intervals(calls) if calls else {}
        values = self._values(calls)
        by_fold = [self._values(fold) for fold in folds.values()]
        none = Interval.none("", "not defined for these cells")
        return {
            name: _measure(
                values[name], [fold[name] for fold in by_fold], intervals.get(name, none)
            )
            for name in MEASURES
        }

    def _values(self, calls: Sequence[Call]) -> dict[str, float | None]:
        found: dict[str, float | None] = dict.fromkeys(MEASURES)
        truth, called = [c.truth for c in calls], [c.label for c in calls]
        fine = matrices.confusion(truth, called, self.labels.names)
        sides = matrices.sides(fine, self.labels)
        for name, read in _READ.items():
            if self.clinical or not _is_clinical(name):
                found[name] = read(sides if _is_clinical(name) else fine)
        if self.clinical and calls and all(call.score is not None for call in calls):
            scores: dict[bool, list[float]] = {False: [], True: []}
            for call in calls:
                scores[self.labels.is_positive(call.truth)].append(call.score or 0.0)
            found["auroc"] = auroc(scores[False], scores[True]) if all(scores.values()) else None
        return found

    def _intervals(self, calls: Sequence[Call]) -> dict[str, Interval]:
        """Wilson for shares of independent cells, else bootstraps over what is independent."""
        truth, called = [c.truth for c in calls], [c.label for c in calls]
        fine = _Table(truth, called, self.labels.names, self._held(calls), self.unit, self.seed)
        found = {"accuracy": fine.share(), **fine.resampled(_FINE)}
        if not self.clinical:
            return found
        sides = replace(
            fine,
            truth=_sides(truth, self.labels),
            called=_sides(called, self.labels),
            names=matrices.BINARY.names,
        )
        shares = zip(("sensitivity", "specificity"), matrices.BINARY.names, strict=True)
        found |= {"clinical_accuracy": sides.share(), **sides.resampled(_SIDES)}
        found |= {measure: sides.share(only=side) for measure, side in shares}
        if all(call.score is not None for call in calls):
            found["auroc"] = sides.area([call.score or 0.0 for call in calls])
        return found

    def _held(self, calls: Sequence[Call]) -> Sequence[Hashable] | None:
        """What owns each call; for single images their subjects, None where not one is known."""
        held = Owners.of(calls, "subject" if self.unit == "image" else self.unit).names
        return None if all(owner is None for owner in held) else held


@dataclass(frozen=True)
class _Table:
    """True and called classes of N cells, and who owns them."""

    truth: Sequence[str]
    called: Sequence[str]
    names: Sequence[str]
    held: Sequence[Hashable] | None
    unit: str
    seed: int

    def share(self, only: str | None = None) -> Interval:
        """Of the share of cells (of one class) that are right."""
        rows = [i for i, name in enumerate(self.truth) if only in (None, name)]
        return share_interval(
            [self.truth[i] == self.called[i] for i in rows],
            [self.truth[i] for i in rows],
            None if self.held is None else [self.held[i] for i in rows],
            unit=self.unit,
            seed=self.seed,
        )

    def resampled(self, measures: Sequence[str]) -> dict[str, Interval]:
        """Measures of confusion matrices."""
        size = len(self.names)
        rows = np.eye(size**2, dtype=np.int64)[matrices.places(self.truth, self.called, self.names)]

        def one(name: str) -> Interval:
            return self._bootstrap(lambda sums: _READ[name](sums.reshape(size, size)), rows)

        return {name: one(name) for name in measures}

    def area(self, scores: Sequence[float]) -> Interval:
        """Of the area under the ROC curve; the first of the names is the positive side."""
        positive = np.array([name == self.names[0] for name in self.truth])
        _, place = np.unique(scores, return_inverse=True)
        size = int(place.max()) + 1

        def area(drawn: Ints) -> float | None:
            high = np.bincount(place, weights=drawn * positive, minlength=size)
            low = np.bincount(place, weights=drawn * ~positive, minlength=size)
            pairs = high.sum() * low.sum()
            below = np.cumsum(low) - low
            return float(high @ (below + low / 2) / pairs) if pairs else None

        return self._bootstrap(area)

    def _bootstrap(self, measure: Read, rows: Ints | None = None) -> Interval:
        single = self.unit == "image"
        owner = unit_index(range(len(self.truth)) if single else self.held or ())
        unit = "cell" if single else self.unit
        refusal = too_few(owner, self.truth, unit)
        return bootstrap(measure, owner, unit, seed=self.seed, rows=rows, refusal=refusal)


_READ: Mapping[str, Read] = {
    "accuracy": matrices.accuracy,
    "balanced_accuracy": matrices.balanced_accuracy,
    "weighted_f1": matrices.weighted_f1,
    "clinical_accuracy": matrices.accuracy,
    "clinical_balanced_accuracy": matrices.balanced_accuracy,
    "clinical_weighted_f1": matrices.weighted_f1,
    "sensitivity": lambda counts: matrices.sensitivity(counts, matrices.BINARY),
    "specificity": lambda counts: matrices.specificity(counts, matrices.BINARY),
}
_FINE = ("balanced_accuracy", "weighted_f1")
_SIDES = ("clinical_balanced_accuracy", "clinical_weighted_f1")


def _is_clinical(name: str) -> bool:
    return name.startswith("clinical_") or name in ("sensitivity", "specificity", "auroc")


def _measure(value: float | None, folds: Sequence[float | None], interval: Interval) -> Measure:
    low, high = (None, None) if value is None else (interval.low, interval.high)
    return Measure(
        value=value,
        **asdict(matrices.spread(folds)),
        low=low,
        high=high,
        method=interval.method,
        note=interval.note,
    )
