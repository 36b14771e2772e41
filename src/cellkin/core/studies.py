"""What a study found: a row per method, its measures, its decisions, and tests between rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellkin.core.arrays import Array
from cellkin.core.decisions import Neighbor
from cellkin.core.labels import LabelSet, frozen
from cellkin.core.plain import plain_fields

MEASURES: Mapping[str, str] = {
    "accuracy": "Accuracy, fine classes",
    "balanced_accuracy": "Balanced accuracy, fine classes",
    "weighted_f1": "Weighted F1, fine classes",
    "clinical_accuracy": "Accuracy, lymphoblast or not",
    "clinical_balanced_accuracy": "Balanced accuracy, lymphoblast or not",
    "clinical_weighted_f1": "Weighted F1, lymphoblast or not",
    "sensitivity": "Sensitivity for lymphoblasts",
    "specificity": "Specificity for lymphoblasts",
    "auroc": "AUROC for lymphoblasts",
}
"""The measures of a row, in the order of its tables. All are shares in [0, 1]."""


@dataclass(frozen=True)
class Measure:
    """One measure of one row.

    Attributes:
        value: over all test cells of all folds pooled; None where it is not defined.
        mean: over the folds that have it. sd_population: ddof = 0. sd_sample: ddof = 1, None for
            one fold. folds: how many have it. missing: how many do not (a class absent).
        low, high: 95 % interval of `value`; None where `note` says why not.
        method: of the interval. note: what must be said with it.
    """

    value: float | None
    mean: float | None
    sd_population: float | None
    sd_sample: float | None
    folds: int
    missing: int
    low: float | None
    high: float | None
    method: str
    note: str = ""


@dataclass(frozen=True)
class Call:
    """One test cell as one row decided it; `seed` and `fold` name the training.

    `neighbors`: nearest first, empty for a class head. `map_xy`: place on the map of that
    training, where there is one. `page`: its evidence page, relative to the folder of the results,
    where one was kept.
    """

    id: str
    seed: int
    fold: int
    truth: str
    label: str
    subject: str | None
    group: str | None
    score: float | None
    neighbors: tuple[Neighbor, ...]
    map_xy: tuple[float, float] | None
    page: str | None = None
    place: str | None = None

    @property
    def mean_distance(self) -> float | None:
        """Mean distance to the neighbours; None without any."""
        if not self.neighbors:
            return None
        return sum(n.distance for n in self.neighbors) / len(self.neighbors)


@dataclass(frozen=True)
class Mixup:
    """Two groups of classes that should never be confused (section 5.3.1), and how often they were.

    Attributes:
        name: what is claimed. cells: cells of both groups. confused: of them, called the other.
        which: `(true, called, count)` of each confusion.
    """

    name: str
    cells: int
    confused: int
    which: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, eq=False)
class StudyRow:
    """One way of training and deciding, over all its folds and seeds.

    Attributes:
        title: what tells it from the other rows. proposed: whether it is the method under study.
        tested_on: the data set decided on; `dataset` unless the test is external.
        unit: what the folds keep together. independent: what the intervals take as independent:
            "image", "subject", "slide", "field", or "cell" where cells were decided several times.
        cells: number of decisions. distinct: number of cells. subjects: number known.
        measures: name of `MEASURES` -> measure, over all cells.
        real: the same over real cells alone; None where no class is "no cell".
        confusion: (K, K) counts by `labels.names`, rows true. clinical: (C, C) by `clinical_names`.
        mixups: classes that should never be confused.
        calls: every decision. seconds: mean time of one fold. planned: how many of `folds` there
            are to be.
    """

    title: str
    proposed: bool
    method: str
    dataset: str
    tested_on: str
    injection: str
    backbone: str
    init: str
    recipe: str
    unit: str
    independent: str
    seeds: tuple[int, ...]
    folds: int
    cells: int
    distinct: int
    subjects: int
    labels: LabelSet
    measures: Mapping[str, Measure]
    real: Mapping[str, Measure] | None
    confusion: Array
    clinical_names: tuple[str, ...]
    clinical: Array
    mixups: tuple[Mixup, ...]
    calls: tuple[Call, ...]
    seconds: float | None = None
    planned: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "confusion", frozen(self.confusion))
        object.__setattr__(self, "clinical", frozen(self.clinical))

    @property
    def external(self) -> bool:
        """Whether it was trained on one data set and decided on another."""
        return self.tested_on != self.dataset

    @property
    def described(self) -> str:
        """The data set that its cells are described in."""
        return self.dataset if self.left_out else self.tested_on

    @property
    def left_out(self) -> str:
        """The place that is left out; empty where none is."""
        return self.tested_on if self.unit == "place" else ""

    @property
    def data(self) -> str:
        """The data set in words; of an external test, both."""
        return f"{self.dataset} → {self.tested_on}" if self.external else self.dataset

    @property
    def main(self) -> str:
        """The accuracy that rows are compared by: lymphoblast or not, where the classes know it."""
        return "accuracy" if self.labels.positive is None else "clinical_accuracy"

    @property
    def majority(self) -> float:
        """What calling every cell by the commonest class would have right, 0 to 1."""
        counts = self.confusion.sum(axis=1)
        if self.main == "clinical_accuracy":
            sides = [self.labels.is_positive(name) for name in self.labels.names]
            counts = [counts[sides].sum(), counts.sum() - counts[sides].sum()]
        return float(max(counts) / max(1, self.cells))

    @property
    def learned(self) -> bool:
        """Whether it is right more often than by calling every cell by the commonest class."""
        value = self.measures[self.main].value
        return value is None or value > self.majority

    @property
    def failing(self) -> str:
        """What a row that has not learned is to be called; empty for one that has."""
        if self.learned:
            return ""
        return "does not carry over" if self.external else "has not learned"

    def to_json(self) -> dict[str, Any]:
        """All but the single decisions, which lie in the results file."""
        return plain_fields(self, without=("calls",))


@dataclass(frozen=True)
class PairedTest:
    """Two rows on the same cells.

    Attributes:
        first, second: titles. dataset, unit: of the rows. kind: "method", or "leakage" for the
            same method split by image (first) and by subject, slide or field (second).
        measure: what "right" means: "accuracy" (fine classes) or "clinical_accuracy".
        difference: of the shares right, first minus second. low, high, method, note: its interval.
        n: cells of both. only_first, only_second: cells that only one has right.
        p_value, p_holm: before and after Holm's correction over all tests of this kind.
        test: which. units: number of independent units.
    """

    first: str
    second: str
    dataset: str
    unit: str
    kind: str
    measure: str
    difference: float
    low: float | None
    high: float | None
    method: str
    note: str
    n: int
    only_first: int
    only_second: int
    p_value: float
    p_holm: float
    test: str
    units: int

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_holm < 0.05


@dataclass(frozen=True)
class Table:
    """A table to print or export: plain text in every place.

    `name` is a file name without ending. `numeric`: columns that are set to the right. `note`: what
    must be read with it.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """All that the page of a study says.

    Attributes:
        rows: in the order of the plan. tests: paired tests between methods. leakage: what
            splitting by image was worth. tables: every table, as exported.
        findings: `{state, text}` in words, "bad", "warn" or "good", the gravest first.
        facts: plain data about environment, hashes, command and data sets, by name.
        missing: jobs that were planned and are not done, in words.
    """

    title: str
    rows: tuple[StudyRow, ...]
    tests: tuple[PairedTest, ...]
    leakage: tuple[PairedTest, ...]
    tables: tuple[Table, ...]
    findings: tuple[Mapping[str, str], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything but the single decisions."""
        return plain_fields(self, without=("tables",))
