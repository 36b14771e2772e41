"""Rows against each other on the same cells: does the proposed method win, and what was leakage
worth?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

from cellkin.core.numbers import percent, points
from cellkin.core.studies import Call, PairedTest, StudyRow
from cellkin.core.units import Owners
from cellkin.measures.intervals import too_few, unit_index
from cellkin.measures.paired import holm, paired_difference
from cellkin.study.method_rows import independent, right


def compare(rows: Sequence[StudyRow], *, seed: int = 0) -> tuple[PairedTest, ...]:
    """The proposed method against every other row of its data set and unit, and its own variants
    against each other; Holm's correction over all of these tests.
    """
    found = [_test(a, b, "method", seed) for a, b in _pairs(rows)]
    return _corrected(found)


def leakage(rows: Sequence[StudyRow], *, seed: int = 0) -> tuple[PairedTest, ...]:
    """What it was worth to split by image: rows that differ only in what the split keeps together.

    The difference is over the same cells, decided by trainings that had seen their subject (or
    slide) and by trainings that had not.
    """
    found = [
        _test(a, b, "leakage", seed)
        for a, b in product(rows, rows)
        if a.unit == "image" and b.unit != "image" and not a.external
        if _but_unit(a) == _but_unit(b)
    ]
    return _corrected(found)


def _but_unit(row: StudyRow) -> tuple[str, ...]:
    return (
        row.method, row.dataset, row.tested_on, row.injection, row.backbone, row.init, row.recipe,
    )  # fmt: skip


def _pairs(rows: Sequence[StudyRow]) -> Iterator[tuple[StudyRow, StudyRow]]:
    """Every other row with the proposed row (or rows) that it is most alike to."""
    families: dict[tuple[str, str, str], list[StudyRow]] = {}
    for row in rows:
        families.setdefault((row.dataset, row.tested_on, row.unit), []).append(row)
    for family in families.values():
        proposed = [row for row in family if row.proposed]
        for other in (row for row in family if not row.proposed):
            names = ("injection", "backbone", "init", "recipe")
            likeness = [
                sum(getattr(row, n) == getattr(other, n) for n in names) for row in proposed
            ]
            for row, alike in zip(proposed, likeness, strict=True):
                if alike == max(likeness):
                    yield row, other
        yield from combinations(proposed, 2)


def _test(a: StudyRow, b: StudyRow, kind: str, seed: int) -> PairedTest | None:
    """None where the two share no cell."""
    measure = a.main if a.main == b.main else "accuracy"
    pairs = _shared(a, b, by_fold=kind == "method")
    if not pairs:
        return None
    calls = [call for call, _ in pairs]
    unit = independent(calls, b.independent, a.independent)
    held = Owners.of(calls, unit).names
    single = "cell" if unit == "image" else unit
    refusal = too_few(unit_index(held), [call.truth for call in calls], single)
    found = paired_difference(
        [right(call, a.labels, measure) for call, _ in pairs],
        [right(call, b.labels, measure) for _, call in pairs],
        held,
        unit=unit,
        seed=seed,
        refusal=refusal,
    )
    interval = found.interval
    return PairedTest(
        first=a.title,
        second=b.title,
        dataset=a.data,
        unit=a.unit if kind == "method" else b.unit,
        kind=kind,
        measure=measure,
        difference=found.difference,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        note=interval.note,
        n=found.n,
        only_first=found.only_first,
        only_second=found.only_second,
        p_value=found.p_value,
        p_holm=found.p_value,
        test=found.test,
        units=found.units,
    )


def _shared(a: StudyRow, b: StudyRow, *, by_fold: bool) -> list[tuple[Call, Call]]:
    """Calls on the same cell with the same seed. An external test decides each cell in every fold:
    then the fold is part of the key.
    """
    with_fold = by_fold and (a.external or b.external)
    first, second = (
        {(c.seed, c.fold if with_fold else 0, c.id): c for c in row.calls} for row in (a, b)
    )
    return [(call, second[key]) for key, call in first.items() if key in second]


def _corrected(found: Sequence[PairedTest | None]) -> tuple[PairedTest, ...]:
    tests = [test for test in found if test is not None]
    values = holm([test.p_value for test in tests])
    return tuple(replace(test, p_holm=p) for test, p in zip(tests, values, strict=True))


def win_findings(rows: Sequence[StudyRow], tests: Sequence[PairedTest]) -> list[Mapping[str, str]]:
    """Whether the proposed method beats each other row, in words."""
    proposed = {row.title for row in rows if row.proposed}
    found: list[Mapping[str, str]] = []
    for test in tests:
        if test.first not in proposed or test.second in proposed:
            continue
        if test.significant and test.difference < 0:
            state, verb = "bad", "is beaten by"
        elif test.significant:
            state, verb = "good", "beats"
        else:
            state, verb = "warn", "does not beat"
        gain = points(test.difference, 1, signed=True)
        found.append(
            {
                "state": state,
                "text": f"{test.dataset}, split by {test.unit}: {test.first} {verb} {test.second} "
                f"({gain} points on {test.n} cells, p = {test.p_holm:.2g} after Holm)",
            }
        )
    return found


def unlearned_findings(rows: Sequence[StudyRow]) -> list[Mapping[str, str]]:
    """Rows that the commonest class alone would beat: they are no baseline, and no result."""
    return [
        {
            "state": "bad" if row.proposed else "warn",
            "text": f"{row.data}, split by {row.unit}: {row.title} {row.failing}: "
            f"{percent(row.measures[row.main].value)} right, calling every cell by the commonest "
            f"class {percent(row.majority)}",
        }
        for row in rows
        if not row.learned
    ]
