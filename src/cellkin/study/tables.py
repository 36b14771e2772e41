"""The tables of a study, recomputed from the kept predictions alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellkin.core.numbers import DASH, points
from cellkin.core.progress import Progress, silent
from cellkin.core.studies import MEASURES, Measure, Mixup, PairedTest, Study, StudyRow, Table
from cellkin.core.units import plural
from cellkin.measures import matrices
from cellkin.study.comparing import compare, leakage, unlearned_findings, win_findings
from cellkin.study.method_rows import right, study_rows
from cellkin.study.predictions import Results

MEASURE_NOTE = (
    "Mean ± standard deviation over folds, with ddof = 1 (the folds as a sample) and, in brackets, "
    "ddof = 0 (as the whole population). The interval is of all test cells pooled, 95 %."
)


def summarize(results: Results, *, seed: int = 0, progress: Progress = silent) -> Study:
    """Every number of the study, from the results file alone.

    Args:
        seed: of the bootstraps and sign flips.

    Raises:
        ArtifactError: the file lacks the classes of a data set.
    """
    rows = study_rows(results, progress=progress)
    tests, worth = compare(rows, seed=seed), leakage(rows, seed=seed)
    facts = {k: v for k, v in results.facts().items() if k not in ("labels", "plan")}
    return Study(
        title=str(facts.get("title", "Study")),
        rows=rows,
        tests=tests,
        leakage=worth,
        tables=_tables(rows, tests, worth),
        findings=tuple(_findings(rows, tests, worth)),
        facts={**facts, "predictions": results.digest()},
        missing=tuple(job.title for job in results.missing()),
    )


def _findings(
    rows: Sequence[StudyRow], tests: Sequence[PairedTest], worth: Sequence[PairedTest]
) -> list[Mapping[str, str]]:
    """The gravest first; what leakage was worth to the baselines stands behind all others."""
    proposed = {row.title for row in rows if row.proposed}
    found = [_worth(test) for test in worth if test.first in proposed]
    found += unlearned_findings(rows) + win_findings(rows, tests)
    for row in rows:
        found += [_mixup(row, entry) for entry in row.mixups if row.proposed]
    order = {"bad": 0, "warn": 1, "good": 2}
    aside = [_worth(test) for test in worth if test.first not in proposed]
    return [*sorted(found, key=lambda finding: order[finding["state"]]), *aside]


def _worth(test: PairedTest) -> Mapping[str, str]:
    gain = points(test.difference, 1, signed=True)
    chance = "" if test.significant else ", which cannot be told from chance"
    return {
        "state": "warn",
        "text": f"{test.dataset}, {test.first}: splitting by image instead of by {test.unit} was "
        f"worth {gain} points of accuracy on {test.n} cells (p = {test.p_holm:.2g} after Holm)"
        f"{chance}",
    }


def _mixup(row: StudyRow, entry: Mixup) -> Mapping[str, str]:
    where = f"{row.tested_on}, split by {row.unit}, {row.title}"
    if not entry.confused:
        return {"state": "good", "text": f"{where}: {entry.name} ({entry.cells} cells)"}
    pairs = ", ".join(
        f"{row.labels.title(a)} called {row.labels.title(b)}: {n}" for a, b, n in entry.which
    )
    text = (
        f"{where}: it does not hold that {entry.name}: {entry.confused} of "
        f"{entry.cells} cells ({pairs})"
    )
    return {"state": "warn", "text": text}


def _tables(
    rows: Sequence[StudyRow], tests: Sequence[PairedTest], worth: Sequence[PairedTest]
) -> tuple[Table, ...]:
    found = [_results_table(rows)]
    found += _sensible([_measures_table(rows, real=False), _measures_table(rows, real=True)])
    found += _sensible([_tests_table(tests), _leakage_table(worth), _external_table(rows)])
    found += _sensible([_across_table(rows), _by_place_table(rows)])
    found += [_confusion_table(row, number) for number, row in enumerate(rows, start=1)]
    return tuple(found)


def _sensible(tables: Sequence[Table | None]) -> list[Table]:
    return [table for table in tables if table is not None and table.rows]


def _results_table(rows: Sequence[StudyRow]) -> Table:
    """The paper's form: accuracy, sensitivity, specificity, mean and standard deviation."""
    header = ("Data", "Split by", "Method", "Accuracy", "Sensitivity", "Specificity", "Cells")
    lines = []
    for row in rows:
        chosen = [row.measures[name] for name in (row.main, "sensitivity", "specificity")]
        shown = [_mean(measure) for measure in chosen]
        part = f" ({row.folds} of {row.planned} trainings)" if row.folds < row.planned else ""
        title = row.title if row.learned else f"{row.title} ({row.failing})"
        lines.append((row.data, row.unit, title, *shown, f"{row.cells}{part}"))
    note = (
        "Percent, mean ± standard deviation over folds (ddof = 1; in brackets ddof = 0). Accuracy "
        "is lymphoblast or not where a class means lymphoblast, else over the classes."
    )
    return Table("results", "Results", header, tuple(lines), (3, 4, 5, 6), note)


def _mean(measure: Measure) -> str:
    if measure.mean is None:
        return DASH
    if measure.sd_sample is None:
        return points(measure.mean)
    spread = f"{points(measure.sd_sample)} ({points(measure.sd_population)})"
    return f"{points(measure.mean)} ± {spread}"


def _measures_table(rows: Sequence[StudyRow], *, real: bool) -> Table | None:
    """Every measure of every row; with `real`, without the cell-free patches, both side by side."""
    header = ["Data", "Split by", "Method", "Measure", "Mean ± SD over folds", "Pooled"]
    header += ["95 % interval", "How"] + (["With “nothing”"] if real else [])
    lines = []
    for row in rows:
        measures = row.real if real else row.measures
        for name, title in MEASURES.items() if measures is not None else ():
            measure = measures[name]  # type: ignore[index]
            if measure.value is None:
                continue
            both = [points(row.measures[name].value)] if real else []
            told = (title, _mean(measure), points(measure.value), *_interval(measure), *both)
            lines.append((row.data, row.unit, row.title, *told))
    name, title = ("real_cells", "Real cells alone") if real else ("measures", "All measures")
    numeric = (4, 5, 6, 8) if real else (4, 5, 6)
    return Table(name, title, tuple(header), tuple(lines), numeric, MEASURE_NOTE)


def _interval(measure: Measure | PairedTest) -> tuple[str, str]:
    if measure.low is None or measure.high is None:
        return DASH, measure.note or "no interval"
    words = measure.method + (f"; {measure.note}" if measure.note else "")
    return f"{points(measure.low)} to {points(measure.high)}", words


def _how(test: PairedTest) -> str:
    """The test and the interval's method, or in short why there is none."""
    return f"{test.test}; {_interval(test)[1].partition(' (')[0]}"


def _tests_table(tests: Sequence[PairedTest]) -> Table:
    header = (
        "Data", "Split by", "First", "Second", "Difference", "95 % interval", "Cells",
        "Only first right", "Only second right", "p", "p (Holm)", "Test",
    )  # fmt: skip
    lines = tuple(
        (
            test.dataset, test.unit, test.first, test.second, points(test.difference),
            _interval(test)[0], str(test.n), str(test.only_first), str(test.only_second),
            f"{test.p_value:.3g}", f"{test.p_holm:.3g}",
            _how(test),
        )
        for test in tests
    )  # fmt: skip
    note = (
        "Differences in percentage points of accuracy on the cells that both rows decided. "
        f"Holm's correction over all {len(tests)} tests of this table."
    )
    return Table("paired_tests", "Paired tests", header, lines, tuple(range(4, 11)), note)


def _leakage_table(tests: Sequence[PairedTest]) -> Table:
    header = (
        "Data", "Method", "Unit", "By image less by unit", "95 % interval", "Cells",
        "Right only by image", "Right only by unit", "p (Holm)", "Test",
    )  # fmt: skip
    lines = tuple(
        (
            test.dataset, test.first, test.unit, points(test.difference), _interval(test)[0],
            str(test.n), str(test.only_first), str(test.only_second), f"{test.p_holm:.3g}",
            _how(test),
        )
        for test in tests
    )  # fmt: skip
    note = (
        "Percentage points of accuracy that a split by image adds: other cells of the same subject "
        "(slide, field) were in training."
    )
    return Table("leakage", "What leakage was worth", header, lines, tuple(range(3, 9)), note)


def _external_table(rows: Sequence[StudyRow]) -> Table:
    """Each external test beside the same training on test cells of its own data set."""
    header = (
        "Method", "Trained on", "Decided on", "Split by", "Own test", "95 % interval",
        "External", "95 % interval", "Drop",
    )  # fmt: skip
    lines = []
    for row in rows:
        own = next((r for r in rows if _same_training(r, row)), None)
        if not row.external or own is None or own.main != row.main:
            continue
        here, there = own.measures[own.main], row.measures[row.main]
        drop = None if None in (here.value, there.value) else here.value - there.value  # type: ignore[operator]
        values = (points(here.value), _interval(here)[0], points(there.value), _interval(there)[0])
        lines.append((row.title, row.dataset, row.tested_on, row.unit, *values, points(drop)))
    note = (
        "Accuracy in percent, all cells pooled; the external cells are decided by the training of "
        "every fold. Drop: percentage points."
    )
    return Table("external", "External tests", header, tuple(lines), (4, 5, 6, 7, 8), note)


def _across_table(rows: Sequence[StudyRow]) -> Table:
    """Each place left out by each method, and the mean over the places."""
    header = (
        "Left out", "Method", "Accuracy", "95 % interval", "Balanced accuracy", "95 % interval",
        "Cells", "Independent",
    )  # fmt: skip
    across: dict[str, list[StudyRow]] = {}
    for row in rows:
        if row.left_out:
            across.setdefault(row.title, []).append(row)
    lines = [
        (
            row.left_out, row.title, *_with_interval(row.measures["accuracy"]),
            *_with_interval(row.measures["balanced_accuracy"]), str(row.cells),
            plural(row.independent),
        )
        for row in rows if row.left_out
    ]  # fmt: skip
    for title, own in across.items():
        many, cells = f"mean of {len(own)} places", str(sum(row.cells for row in own))
        fine = _mean_of([row.measures["accuracy"] for row in own])
        even = _mean_of([row.measures["balanced_accuracy"] for row in own])
        lines.append((many, title, fine, DASH, even, DASH, cells, DASH))
    note = (
        "Percent. Trained on the other places, in the classes that both have. No interval of the "
        "mean: places are few, and no sample of all laboratories."
    )
    numeric = (2, 3, 4, 5, 6)
    return Table("across_places", "Each place left out", header, tuple(lines), numeric, note)


def _with_interval(measure: Measure) -> tuple[str, str]:
    return points(measure.value), _interval(measure)[0]


def _mean_of(measures: Sequence[Measure]) -> str:
    values = [measure.value for measure in measures if measure.value is not None]
    return points(sum(values) / len(values)) if values else DASH


def _by_place_table(rows: Sequence[StudyRow]) -> Table:
    """How good each row is in each place of its cells, where they come from several."""
    header = ("Data", "Split by", "Method", "Place", "Accuracy", "Cells")
    lines = []
    for row in rows:
        found: dict[str, list[bool]] = {}
        for call in row.calls:
            if call.place is not None and not row.external:
                found.setdefault(call.place, []).append(right(call, row.labels, row.main))
        for place, hits in sorted(found.items()) if len(found) > 1 else ():
            share = points(sum(hits) / len(hits))
            lines.append((row.data, row.unit, row.title, place, share, str(len(hits))))
    note = "Accuracy in percent, all folds; cells of the same place were in training."
    return Table("by_place", "By place", header, tuple(lines), (4, 5), note)


def _same_training(own: StudyRow, external: StudyRow) -> bool:
    names = ("method", "dataset", "injection", "backbone", "init", "recipe", "unit")
    return not own.external and all(getattr(own, n) == getattr(external, n) for n in names)


def _confusion_table(row: StudyRow, number: int) -> Table:
    titles = [row.labels.title(name) for name in row.labels.names]
    shares = matrices.percentages(row.confusion)
    lines = tuple(
        (title, *(f"{p:.2f} ({n})" for p, n in zip(share, counts, strict=True)))
        for title, share, counts in zip(titles, shares, row.confusion.tolist(), strict=True)
    )
    return Table(
        f"confusion_{number}",
        f"{row.data}, split by {row.unit}: {row.title}",
        ("True \\ called", *titles),
        lines,
        tuple(range(1, len(titles) + 1)),
        "Percent of all cells (and cells), all folds.",
    )
