"""Can the numbers of a printed table co-exist? (`cellkin check-table`)

A recall of a fold is a whole number of cells over a whole number of cells. So a mean and a standard
deviation over folds leave few ways in which they can have come about, and accuracy, sensitivity and
specificity of one row share their folds. Every row is first read as its caption says; where that is
impossible, other readings are tried, those with the fewest departures first. "Impossible" is a
proof: every allocation of wrong cells to folds was looked at, or a bound rules all of them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from cellkin.core.numbers import percent_range
from cellkin.core.progress import Progress, silent
from cellkin.printed.definitions import (
    Reading,
    column,
    compositions,
    drawn_mixes,
    readings,
    strange_shares,
    whole_sizes,
    window_of,
)
from cellkin.printed.fixed_folds import Column, Found, Witness, allowed_totals, search_fixed
from cellkin.printed.random_folds import search_random
from cellkin.printed.tables import COLUMNS, PrintedRow

__all__ = ["ANY", "FITS", "IMPOSSIBLE", "OPEN", "Outcome", "RowCheck", "SourceCheck", "check_rows"]

FITS, IMPOSSIBLE, OPEN = "fits", "impossible", "open"
MOST_DEPARTURES = 3
MOST_CUT = 6  # mixes of stratified folds whose search was cut, until all of it is
STRATIFIED, RANDOM = "stratified folds", "folds drawn at random"
ONE = "one test set"
ANY = (-1, -1, -1)  # whichever definition of the deviation, in each column


@dataclass(frozen=True)
class Outcome:
    """Whether a row can be read in one way.

    Attributes:
        state: `FITS`, `IMPOSSIBLE` (proved), or `OPEN` where the search was cut.
        folds: with which folds it fits: stratified, drawn at random, or one test set.
        witness: cells and wrong cells by fold. why: in words, where it does not fit.
    """

    state: str
    folds: str = ""
    witness: Witness | None = None
    why: str = ""


@dataclass(frozen=True)
class RowCheck:
    """One row: as its caption says, and the readings with the fewest departures that fit.

    Attributes:
        undecided: readings whose search was cut. undecided_definitions: the row as stated with
            definitions of the deviation whose search was cut.
    """

    row: PrintedRow
    stated: Reading
    stated_outcome: Outcome
    fitting: tuple[tuple[Reading, Outcome], ...]
    notes: tuple[str, ...] = ()
    undecided: int = 0
    undecided_definitions: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class SourceCheck:
    """The rows of one source, which were surely made in one way.

    Attributes:
        common: the readings with the fewest departures that no row rules out, definitions of the
            deviation aside. by_row: for each of them, what each row says to it.
        definitions: for the first of them, column -> row -> the ddofs that are not ruled out.
    """

    source: str
    rows: tuple[RowCheck, ...]
    common: tuple[Reading, ...]
    by_row: tuple[tuple[Outcome, ...], ...]
    definitions: Mapping[str, Mapping[str, tuple[int, ...]]]

    @property
    def mixed(self) -> tuple[str, ...]:
        """Columns for whose rows every common definition of the deviation is ruled out."""
        return tuple(
            name
            for name, rows in self.definitions.items()
            if rows and not set.intersection(*[set(ddofs) for ddofs in rows.values()])
        )


def check_rows(
    rows: Sequence[PrintedRow], *, progress: Progress = silent
) -> tuple[SourceCheck, ...]:
    """Check every row, and the rows of each source together."""
    sources: dict[str, list[PrintedRow]] = {}
    for row in rows:
        sources.setdefault(row.source, []).append(row)
    checked, done = [], 0
    for source, members in sources.items():
        judges = [_Judge(row) for row in members]
        found = []
        for judge in judges:
            progress("rows of the table", done, len(rows))
            found.append(judge.check())
            done += 1
        checked.append(_source(source, judges, found))
    progress("rows of the table", len(rows), len(rows))
    return tuple(checked)


def _source(source: str, judges: Sequence[_Judge], rows: Sequence[RowCheck]) -> SourceCheck:
    common = _common(judges)
    by_row = tuple(tuple(judge.either(reading) for judge in judges) for reading in common)
    possible = [judge.possible_ddofs(common[0]) for judge in judges] if common else []
    definitions = {
        name: {
            judge.row.name: found[name]
            for judge, found in zip(judges, possible, strict=True)
            if name in found
        }
        for name in (COLUMNS if common else ())
    }
    return SourceCheck(source, tuple(rows), common, by_row, definitions)


def _common(judges: Sequence[_Judge]) -> tuple[Reading, ...]:
    """The readings, definitions of the deviation aside, that no row of a source rules out: those
    with the fewest departures.
    """
    for level in range(MOST_DEPARTURES + 1):
        found = [
            reading
            for reading in readings(judges[0].row)
            if len(reading.departures(judges[0].row)) == level
            and all(j.knows(reading) and j.either(reading).state != IMPOSSIBLE for j in judges)
        ]
        if found:
            return tuple(found)
    return ()


@dataclass
class _Judge:
    """One row, and what was found out about it."""

    row: PrintedRow
    known: dict[Any, Outcome] = field(default_factory=dict)

    @property
    def stated(self) -> Reading:
        return next(iter(readings(self.row)))

    def check(self) -> RowCheck:
        plain = [replace(self.stated, ddofs=(d, d, d)) for d in self._definitions()]
        outcomes = [(reading, self.outcome(reading)) for reading in plain]
        stated, outcome = min(outcomes, key=lambda p: (FITS, OPEN, IMPOSSIBLE).index(p[1].state))
        undecided = 0
        for level in range(MOST_DEPARTURES + 1):
            judged = [(reading, self.outcome(reading)) for reading in self.at_level(level)]
            undecided += sum(found.state == OPEN for _, found in judged)
            fitting = tuple((r, found) for r, found in judged if found.state == FITS)
            if fitting:
                break
        notes = strange_shares(self.row)
        cut = tuple(reading for reading, found in outcomes if found.state == OPEN)
        return RowCheck(self.row, stated, outcome, fitting, notes, undecided, cut)

    def at_level(self, level: int) -> Iterator[Reading]:
        """The readings with so many departures."""
        for reading in readings(self.row):
            for ddofs in self._all_definitions():
                whole = replace(reading, ddofs=ddofs)
                if len(whole.departures(self.row)) == level:
                    yield whole

    def knows(self, reading: Reading) -> bool:
        """Whether the reading speaks of this row's classes and columns."""
        names = {name for _, classes in reading.parts for name in classes}
        wanted = {name for name in self.row.printed() if name != "accuracy"}
        return names <= set(self.row.classes) and {n for n, _ in reading.parts} == wanted

    def _deviating(self) -> list[str]:
        return [name for name, cell in self.row.printed().items() if cell.deviation]

    def _definitions(self) -> tuple[int, ...]:
        return (0, 1) if self._deviating() else (0,)

    def _all_definitions(self) -> Iterator[tuple[int, int, int]]:
        """Definitions by column; a column without a deviation takes part in none of them."""
        free = self._deviating()
        if not free:
            yield (0, 0, 0)
            return
        for choice in product((0, 1), repeat=len(free)):
            chosen = dict(zip(free, choice, strict=True))
            first = chosen[free[0]]
            yield tuple(chosen.get(name, first) for name in COLUMNS)  # type: ignore[misc]

    def outcome(self, reading: Reading) -> Outcome:
        """Whether the row can be read so; a reading that is impossible with either definition of
        each deviation is not tried with one of them.
        """
        either = self.either(reading)
        if either.state != FITS:
            return either
        if reading not in self.known:
            self.known[reading] = self._searched(reading)
        return self.known[reading]

    def either(self, reading: Reading) -> Outcome:
        """Whether the row can be read so with whichever definition in each column."""
        free = replace(reading, ddofs=ANY)
        if free not in self.known:
            self.known[free] = self._searched(free)
        return self.known[free]

    def possible_ddofs(self, reading: Reading) -> dict[str, tuple[int, ...]]:
        """The definitions by column that a reading leaves; a search that was cut rules none out."""
        left = [
            ddofs
            for ddofs in self._all_definitions()
            if self.outcome(replace(reading, ddofs=ddofs)).state != IMPOSSIBLE
        ]
        return {
            name: tuple(sorted({ddofs[COLUMNS.index(name)] for ddofs in left}))
            for name in self._deviating()
        }

    def _searched(self, reading: Reading) -> Outcome:
        ddofs = [(0, 1) if d < 0 else (d,) for d in reading.ddofs]
        columns = {
            name: column(self.row, name, reading, ddofs[COLUMNS.index(name)])
            for name in self.row.printed()
        }
        why = _refuted(self.row, reading, columns)
        if why:
            return Outcome(IMPOSSIBLE, why=why)
        either = self.known.get(replace(reading, ddofs=ANY))
        ways = [(STRATIFIED, _stratified), (RANDOM, _random)]
        if self.row.folds == 1:
            ways = [(ONE, _stratified)]
        searched = []
        for folds, search in ways[1:] if either is not None and either.folds == RANDOM else ways:
            found = search(self.row, reading, columns)
            if found.witness is not None:
                return Outcome(FITS, folds, found.witness)
            searched.append(found.complete)
        if all(searched):
            return Outcome(IMPOSSIBLE, why=_counting(self.row, reading, columns))
        tried = [folds for folds, _ in ways][-len(searched) :]
        missing = [n for n, done in zip(tried, searched, strict=True) if not done]
        return Outcome(OPEN, why=f"the search was cut with {' and '.join(missing)}")


def _refuted(row: PrintedRow, reading: Reading, columns: Mapping[str, Column]) -> str:
    """A bound that rules every allocation out, in words; empty where there is none.

    The share of wrong cells over all is that of each group times the group's share of the fold.
    """
    if "accuracy" not in columns or not reading.parts:
        return ""
    sizes = whole_sizes(row, reading)
    low = high = 0.0
    for name, classes in reading.parts:
        least, most = window_of(row, classes, reading)
        low += columns[name].wrong[0] * least / int(sizes.max())
        high += columns[name].wrong[1] * most / int(sizes.min())
    if rest := _rest(row, reading):
        high += window_of(row, rest, reading)[1] / int(sizes.min())
    wrong = columns["accuracy"].wrong
    if low <= wrong[1] + 1e-9 and high >= wrong[0] - 1e-9:
        return ""
    return (
        f"the recalls make {percent_range(low, min(high, 1), 2)} of all cells wrong, the "
        f"accuracy {percent_range(*wrong, 2)}"
    )


def _rest(row: PrintedRow, reading: Reading) -> tuple[str, ...]:
    covered = {name for _, classes in reading.parts for name in classes}
    return tuple(name for name in row.classes if name not in covered)


def _stratified(row: PrintedRow, reading: Reading, columns: Mapping[str, Column]) -> Found:
    groups = [classes for _, classes in reading.parts]
    ways, complete = compositions(row, [*groups, _rest(row, reading)], reading)
    parts = [columns[name] for name, _ in reading.parts]
    cut = 0
    for way in ways:
        if cut == MOST_CUT:
            return Found(None, False)
        if any(int(sizes.min()) < 1 for sizes in way[:-1]):
            complete = False
            continue
        found = search_fixed(parts, columns.get("accuracy"), way[:-1], way[-1])
        if found.witness is not None:
            return found
        cut += not found.complete
    return Found(None, complete and not cut)


def _random(row: PrintedRow, reading: Reading, columns: Mapping[str, Column]) -> Found:
    """All mixes of the folds where few cells are wrong, else a few that are drawn."""
    if "accuracy" not in columns:
        return Found(None, False)
    groups = [classes for _, classes in reading.parts]
    sums = [None if reading.half else sum(row.classes[n] for n in classes) for classes in groups]
    parts = [columns[name] for name, _ in reading.parts]
    found = search_random(
        parts,
        columns["accuracy"],
        [window_of(row, classes, reading) for classes in groups],
        sums,
        whole_sizes(row, reading),
        not _rest(row, reading),
    )
    if found.witness is not None or found.complete:
        return found
    for sizes in drawn_mixes(row, [*groups, _rest(row, reading)], reading):
        drawn = search_fixed(parts, columns["accuracy"], sizes[:-1], sizes[-1])
        if drawn.witness is not None:
            return drawn
    return Found(None, False)


def _counting(row: PrintedRow, reading: Reading, columns: Mapping[str, Column]) -> str:
    """How many wrong cells each column leaves, in words."""
    sizes = whole_sizes(row, reading)
    words = []
    if "accuracy" in columns:
        low, high = allowed_totals(
            columns["accuracy"], int(sizes.min()), int(sizes.max()), row.folds
        )
        words.append(f"accuracy leaves {_range(low, high)} wrong of {int(sizes.sum())}")
    for name, classes in reading.parts:
        least, most = window_of(row, classes, reading)
        low, high = allowed_totals(columns[name], least, most, row.folds)
        words.append(
            f"{name} {_range(low, high)} wrong of {' + '.join(classes)} "
            f"({least} to {most} of them in a fold)"
        )
    return "no allocation to the folds gives these numbers: " + "; ".join(words)


def _range(low: int, high: int) -> str:
    if high < low:
        return "no whole number"
    return str(low) if low == high else f"{low} to {high}"
