"""The verdicts of a checked table in words, and as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellkin.printed.definitions import Reading
from cellkin.printed.fixed_folds import Witness
from cellkin.printed.judging import ANY, FITS, OPEN, Outcome, RowCheck, SourceCheck
from cellkin.printed.tables import COLUMNS, PrintedRow

CUT = "not decided: the search was cut"
KINDS = (
    "can be as stated",
    "only if read otherwise than stated",
    "cannot be in any way that was tried",
    CUT,
)


def check_lines(checks: Sequence[SourceCheck]) -> Iterator[str]:
    """What a person reads, row by row; then what the rows of a source say together."""
    for source in checks:
        for row in source.rows:
            yield from _row_lines(row, source)
        yield from _source_lines(source)
        yield ""
    yield _in_short([row for source in checks for row in source.rows])


def _in_short(rows: Sequence[RowCheck]) -> str:
    """One sentence over all rows."""
    counts = Counter(map(_kind, rows))
    told = [f"{n} {kind}" for kind in KINDS if (n := counts[kind])]
    return f"In short: of {len(rows)} {'row' if len(rows) == 1 else 'rows'}, {', '.join(told)}."


def _kind(found: RowCheck) -> str:
    if found.stated_outcome.state == FITS:
        return KINDS[0]
    if found.stated_outcome.state == OPEN:
        return KINDS[3]
    if found.fitting:
        return KINDS[1]
    return KINDS[3] if found.undecided else KINDS[2]


def _verdict(row: PrintedRow, outcome: Outcome) -> str:
    """Never stronger than the search: what was not looked at is not said to be impossible."""
    if outcome.state == FITS:
        return "can co-exist"
    if outcome.state == OPEN:
        return CUT
    if row.folds == 1:
        return "cannot co-exist"
    return "cannot co-exist in test sets of equal size, stratified or drawn at random"


def _row_lines(found: RowCheck, source: SourceCheck) -> Iterator[str]:
    row = found.row
    printed = "  ".join(f"{name} {cell.text}" for name, cell in row.printed().items())
    yield f"{row.source + ', ' if row.source else ''}{row.name}: {printed}"
    outcome = found.stated_outcome
    if row.shares:
        yield "  typed as shares of 1, read as percentages"
    yield f"  as stated: {_verdict(row, outcome)}" + (f" ({outcome.why})" if outcome.why else "")
    if outcome.state == FITS:
        yield f"    {_witness(row, found.stated, outcome)}"
        yield f"    {_definitions(found)}"
    else:
        yield from _other_lines(found, source)
    for note in found.notes:
        yield f"  confusion matrix: {note}"


def _definitions(found: RowCheck) -> str:
    """Which definitions of the deviation fit the row as stated, the same in all columns."""
    fitting = [r for r, _ in found.fitting if not r.departures(found.row)]
    said = list(dict.fromkeys(reading.definition(found.row) for reading in fitting))
    told = " or ".join(text for text in said if text) or "no standard deviation tells"
    cut = [reading.definition(found.row) for reading in found.undecided_definitions]
    return told + "".join(f"; {text}: {CUT}" for text in cut if text)


def _other_lines(found: RowCheck, source: SourceCheck) -> Iterator[str]:
    row = found.row
    shown = _with_definitions(_in_common(found, source), row)
    if not shown:
        open_ = f"  no fitting reading is found yet: {found.undecided} were not searched to the end"
        yield open_ if found.undecided else "  fits no reading that was tried"
    for reading, outcome in shown:
        yield f"  fits if {'; '.join(reading.departures(row))}"
        yield f"    {_witness(row, reading, outcome)}"
    hidden = len(found.fitting) - len(_in_common(found, source))
    if hidden > 0:
        yield f"  ({hidden} other readings fit this row, but not all rows of {row.source})"


def _in_common(found: RowCheck, source: SourceCheck) -> list[tuple[Reading, Outcome]]:
    """The readings of a row that its source's other rows allow as well; all where none is."""
    common = {replace(reading, ddofs=ANY) for reading in source.common}
    both = [(r, o) for r, o in found.fitting if replace(r, ddofs=ANY) in common]
    return both or list(found.fitting)


def _with_definitions(
    fitting: Sequence[tuple[Reading, Outcome]], row: PrintedRow
) -> list[tuple[Reading, Outcome]]:
    """One of the readings that differ only in a definition that is the same in all columns."""
    seen: dict[tuple[str, ...], tuple[Reading, Outcome]] = {}
    for reading, outcome in fitting:
        seen.setdefault(reading.departures(row), (reading, outcome))
    return list(seen.values())


def _witness(row: PrintedRow, reading: Reading, outcome: Outcome) -> str:
    """Where the wrong cells are, for example."""
    if outcome.witness is None:
        return ""
    names = [" + ".join(classes) for _, classes in reading.parts] + ["all"]
    words = []
    for name, sizes, wrong in zip(
        names, outcome.witness.sizes, outcome.witness.wrong, strict=False
    ):
        if name != "all" or len(names) == 1:
            folds = [f"{k} of {m}" for m, k in zip(sizes, wrong, strict=True) if k]
            if len(folds) == 1:
                where = "in one fold" if row.folds > 1 else "in the test set"
                words.append(f"{folds[0]} {name} wrong {where}")
            else:
                told = ", ".join(folds)
                words.append(f"{name}: wrong {told}" if folds else f"no {name} wrong")
    return f"for example, {outcome.folds}: {'; '.join(words)}"


def _source_lines(source: SourceCheck) -> Iterator[str]:
    if len(source.rows) < 2:
        return
    rows, name = [found.row for found in source.rows], source.source or "this table"
    if not source.common:
        yield f"  => the {len(rows)} rows of {name} have no reading in common"
    for reading, outcomes in zip(source.common, source.by_row, strict=True):
        undecided = sum(outcome.state != FITS for outcome in outcomes)
        said = "; ".join(reading.departures(rows[0])) or "as its caption says"
        cut = f" or may fit ({undecided} not decided: the search was cut)" if undecided else ""
        yield f"  => all {len(rows)} rows of {name} fit{cut}: {said}"
    yield from _definition_lines(source)


def _definition_lines(source: SourceCheck) -> Iterator[str]:
    for column in COLUMNS:
        by_row = {n: d for n, d in source.definitions.get(column, {}).items() if len(d) == 1}
        kinds = {ddof: [n for n, d in by_row.items() if d == (ddof,)] for ddof in (0, 1)}
        told = [f"{', '.join(names)} with ddof = {d}" for d, names in kinds.items() if names]
        if column in source.mixed:
            yield f"  => the {column} column mixes both definitions: {'; '.join(told)}"
        elif told:
            yield f"  => standard deviation of {column}: {'; '.join(told)}"


def check_json(title: str, checks: Sequence[SourceCheck]) -> dict[str, Any]:
    """The verdicts as plain data."""
    return {"title": title, "sources": [_source_json(source) for source in checks]}


def _source_json(source: SourceCheck) -> dict[str, Any]:
    first = source.rows[0].row
    return {
        "source": source.source,
        "rows": [_row_json(found) for found in source.rows],
        "common": [
            {
                "departures": list(reading.departures(first)),
                "states": [outcome.state for outcome in outcomes],
            }
            for reading, outcomes in zip(source.common, source.by_row, strict=True)
        ],
        "ddof": {
            c: {r: list(d) for r, d in rows.items()} for c, rows in source.definitions.items()
        },
        "mixed_columns": list(source.mixed),
    }


def _row_json(found: RowCheck) -> dict[str, Any]:
    row, outcome = found.row, found.stated_outcome
    return {
        "name": row.name,
        "printed": {name: cell.text for name, cell in row.printed().items()},
        "shares": row.shares,
        "stated": {"state": outcome.state, "why": outcome.why, **_folds(found.stated, outcome)},
        "fits": [
            {"departures": list(reading.departures(row)), **_folds(reading, fitting)}
            for reading, fitting in found.fitting
        ],
        "undecided": found.undecided,
        "notes": list(found.notes),
    }


def _folds(reading: Reading, outcome: Outcome) -> Mapping[str, Any]:
    witness: Witness | None = outcome.witness
    if witness is None:
        return {}
    groups = [*reading.parts, ("accuracy", ("all",))]
    return {
        "folds": outcome.folds,
        "ddof": dict(zip(COLUMNS, reading.ddofs, strict=True)),
        "witness": [
            {"column": column, "classes": list(classes), "cells": list(m), "wrong": list(k)}
            for (column, classes), m, k in zip(groups, witness.sizes, witness.wrong, strict=False)
        ],
    }
