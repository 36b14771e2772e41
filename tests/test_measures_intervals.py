"""The one interval and the one bootstrap: against other libraries, by hand, and for any input."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

import cellkin
from cellkin.core.errors import DecisionError
from cellkin.core.units import Owners
from cellkin.measures import intervals
from cellkin.measures.intervals import Interval, bootstrap, mean_of, share_interval, wilson

CLOSE = 1e-9
finite = st.floats(-1e6, 1e6)
LEVELS = [0.5, 0.9, 0.95, 0.99]
counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# --- the record ----------------------------------------------------------------------------------


@given(finite, finite)
def test_an_interval_has_two_ends_that_differ_or_is_refused(low: float, high: float) -> None:
    if low < high - 1e-6:
        assert Interval(low, high, "by hand").ends == (low, high)
    elif low >= high:
        with pytest.raises(DecisionError, match="this is no interval"):
            Interval(low, high, "by hand", note="as measured")


@given(finite)
def test_no_interval_has_length_zero_nor_a_length_of_mere_rounding(value: float) -> None:
    for end in (value, math.nextafter(value, math.inf), value * (1 + 4e-16)):
        if abs(value) < 1e-300:  # the next number after nothing is as far from it as can be told
            end = value
        with pytest.raises(DecisionError, match="this is no interval"):
            Interval(value, end, "by hand")


@pytest.mark.parametrize(
    "ends",
    [(None, 1.0), (0.0, None), (math.nan, 1.0), (0.0, math.nan), (0.0, math.inf), (None, None)],
)
def test_half_an_interval_or_none_without_a_reason_is_refused(ends) -> None:
    with pytest.raises(DecisionError, match="this is no interval"):
        Interval(*ends, "by hand")


def test_no_interval_says_why_and_is_plain_data() -> None:
    assert Interval.none("Wilson", "no cells").to_json() == {
        "low": None,
        "high": None,
        "method": "Wilson",
        "level": 0.95,
        "note": "no cells",
    }


# --- shares of independent cells -----------------------------------------------------------------


@settings(deadline=None)
@given(counts, st.sampled_from(LEVELS))
def test_wilson_equals_scipy_and_statsmodels(counts: tuple[int, int], level: float) -> None:
    expected = binomtest(*counts).proportion_ci(level, method="wilson")
    assert wilson(*counts, level).ends == pytest.approx((expected.low, expected.high), abs=CLOSE)
    wanted = proportion_confint(*counts, alpha=1 - level, method="wilson")
    assert wilson(*counts, level).ends == pytest.approx(wanted, abs=CLOSE)


def test_wilson_in_closed_form() -> None:
    z = 1.959963984540054
    for correct, n in [(5, 10), (77, 78), (10219, 10661)]:
        p = correct / n
        centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        both = [(centre + sign * spread) / (1 + z * z / n) for sign in (-1, 1)]
        assert wilson(correct, n).ends == pytest.approx(both, abs=1e-12)
    assert wilson(0, 9).low == 0
    assert wilson(9, 9).high == 1
    assert wilson(9, 9).low == pytest.approx(9 / (9 + z * z))


@pytest.mark.parametrize("bad", [(0, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0)])
@pytest.mark.parametrize("of", [wilson, intervals.clopper_pearson])
def test_impossible_counts_are_refused(of, bad) -> None:
    with pytest.raises(DecisionError, match=r"no (Wilson|Clopper-Pearson) interval"):
        of(*bad)


def test_of_nothing_there_is_no_share() -> None:
    assert intervals.share_of([]).to_json()["share"] is None
    assert intervals.share_of([]).interval.ends == (None, None)
    found = intervals.share_of([True, False, True, True])
    assert (found.share, found.count, found.n) == (0.75, 3, 4)
    assert found.to_json()["low"] == wilson(3, 4).low


def test_a_share_by_subject_without_subjects_is_refused() -> None:
    with pytest.raises(DecisionError, match="subject of these cells is not known"):
        share_interval([True], ["a"], None, unit="subject", seed=0)


# --- the bootstrap -------------------------------------------------------------------------------


def test_too_few_subjects_give_no_interval_but_a_reason() -> None:
    owner = intervals.unit_index([f"p{i % 12}" for i in range(48)])
    classes = ["a" if i % 12 < 4 else "b" for i in range(48)]
    why = intervals.too_few(owner, classes, "subject")
    assert why == "too few subjects for an interval (a: 4, b: 8; 10 per class needed)"
    found = bootstrap(lambda drawn: 0.5, owner, "subject", seed=0, refusal=why)
    assert (found.low, found.note) == (None, why)
    assert intervals.too_few(np.arange(40), ["a", "b"] * 20, "subject") == ""


def test_the_bootstrap_draws_whole_subjects() -> None:
    seen = []

    def measure(drawn: np.ndarray) -> float:
        seen.append(drawn.copy())
        return float(drawn @ np.array([1, 1, 0, 0, 0, 1]) / drawn.sum())

    owner = intervals.unit_index(["x", "x", "y", "y", "z", "z"])
    found = bootstrap(measure, owner, "subject", seed=1)
    assert len(seen) == intervals.RESAMPLES
    assert all(d[0] == d[1] and d[2] == d[3] and d[4] == d[5] for d in seen)
    assert all(d[::2].sum() == 3 for d in seen)
    assert 0 <= found.low < found.high <= 1


owned = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=25
)


@settings(max_examples=25, deadline=None)
@given(owned)
def test_drawing_sums_of_units_is_drawing_their_cells(cells) -> None:
    """Rows of units are added up beforehand: the totals are those that whole units can make."""
    owner = intervals.unit_index([unit for unit, _, _ in cells])
    rows = np.array([[value, weight] for _, value, weight in cells])
    units = np.array([rows[owner == u].sum(axis=0) for u in range(owner.max() + 1)])
    seen: list[np.ndarray] = []
    bootstrap(lambda sums: seen.append(sums.copy()), owner, "subject", seed=0, rows=rows)
    assert len(seen) == intervals.RESAMPLES
    found = np.array(seen)
    assert (found >= len(units) * units.min(axis=0)).all()
    assert (found <= len(units) * units.max(axis=0)).all()
    error = np.sqrt(len(units)) * units.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - units.sum(axis=0)) <= 6 * error + CLOSE).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(0, 3)), min_size=1, max_size=60
    )
)
def test_a_bootstrap_of_a_mean_is_an_interval_within_the_units_or_says_why(cells) -> None:
    owner = intervals.unit_index([name for name, _ in cells])
    values = np.array([value for _, value in cells])
    found = intervals.mean_interval(values, owner, "subject", seed=0)
    of_units = [values[owner == u].mean() for u in range(owner.max() + 1)]
    if found.low is None:
        assert "score alike" in found.note
    else:
        assert min(of_units) - CLOSE <= found.low < found.high <= max(of_units) + CLOSE
    order = np.random.default_rng(0).permutation(len(cells))
    again = intervals.unit_index([cells[i][0] for i in order])
    assert intervals.mean_interval(values[order], again, "subject", seed=0) == found


def persons(names: Iterable[str | None]) -> Owners:
    return Owners("subject", tuple(names))


@settings(max_examples=25, deadline=None)
@given(finite, st.integers(10, 40), st.booleans())
def test_values_that_are_all_alike_have_no_interval(value: float, n: int, people: bool) -> None:
    names = persons(f"P{i % 11}" for i in range(n)) if people and n > 10 else None
    found = mean_of([value] * n, names).interval
    assert found.ends == (None, None)
    assert "score alike" in found.note


def test_a_bootstrap_says_how_often_a_measure_was_undefined() -> None:
    owner = np.arange(4)
    found = bootstrap(
        lambda drawn: None if drawn[0] == 0 else float(drawn[0]), owner, "cell", seed=0
    )
    assert "not defined in" in found.note
    none = bootstrap(lambda drawn: None, owner, "cell", seed=0)
    assert (none.low, none.note) == (None, "not defined in any resample")


def test_the_bootstrap_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        values = (generator.random(80) < 0.8).astype(int)
        found = intervals.mean_interval(values, np.arange(80), "cell", seed=trial)
        hits += found.low <= 0.8 <= found.high
    assert 50 <= hits <= 60


# --- means of cells ------------------------------------------------------------------------------


@given(st.lists(st.floats(-5, 5), min_size=10, max_size=40))
@settings(max_examples=25, deadline=None)
def test_the_interval_holds_the_mean_and_moves_with_it(values: list[float]) -> None:
    assume(max(values) - min(values) > 1e-3)
    found, moved = mean_of(values), mean_of(np.array(values) + 3)
    low, high = found.interval.ends
    assert low < high
    assert low - 1e-9 <= found.mean <= high + 1e-9
    assert moved.mean == pytest.approx(found.mean + 3)
    assert moved.interval.low == pytest.approx(low + 3)


def test_cells_of_one_person_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(rng.normal(size=12), 20)
    names = np.repeat([f"P{i}" for i in range(12)], 20).tolist()
    by_cell, by_person = mean_of(people), mean_of(people, persons(names))
    assert by_person.unit == "subject"
    assert by_person.units == 12
    (low, high), (lower, higher) = by_cell.interval.ends, by_person.interval.ends
    assert higher - lower > 3 * (high - low)
    unknown = [*names[:-1], None]
    assert mean_of(people, persons(unknown)).unit == "cell"
    fields = mean_of(people, Owners("slide/field", tuple(names)))
    assert (fields.unit, fields.interval.ends) == ("slide/field", by_person.interval.ends)
    assert mean_of(people, Owners("image", tuple(names))).interval == by_cell.interval
    few = mean_of(people[:180], persons(names[:180])).interval
    assert few.low is None
    assert few.note == "too few subjects for an interval: 9, 10 needed"


@pytest.mark.parametrize(
    ("values", "subjects"), [([], None), ([1.0, math.nan], None), ([1.0], ["a", "b"])]
)
def test_no_mean_of_nothing(values: list[float], subjects: list[str] | None) -> None:
    with pytest.raises(DecisionError, match=r"mean|owner"):
        mean_of(values, subjects and persons(subjects))


def test_the_keys_of_kept_measurements_stay() -> None:
    """Verifications on disk are read by these names."""
    assert {"mean", "low", "high", "n", "units", "unit", "level", "note"} <= set(
        mean_of([1.0, 2.0]).to_json()
    )
    assert {"count", "n", "share", "low", "high"} <= set(intervals.share_of([True]).to_json())


# --- one place -----------------------------------------------------------------------------------

ROOT = Path(cellkin.__file__).parent
OWN = "measures/intervals.py"
ENDS = {0.025, 0.975, 2.5, 97.5}


def intervals_made(code: str) -> Iterator[str]:
    """What in some source computes an interval: draws with replacement over the number of a thing,
    quantiles of a level, a Wilson or exact interval of its own.
    """
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        ends = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & ENDS
        if name in {"quantile", "percentile"} and ("LEVEL" in words or ends):
            yield f"line {node.lineno}: quantiles of a level"
        if name in {"inv_cdf", "betaincinv", "proportion_ci", "proportion_confint"}:
            yield f"line {node.lineno}: {name}"
        if name == "integers" and _many_of_a_length(node):
            yield f"line {node.lineno}: units drawn with replacement"


def _many_of_a_length(node: ast.Call) -> bool:
    """`integers(n, size=n)` and its kin: as many numbers as there are things, or a table."""
    size = {ast.unparse(k.value) for k in node.keywords if k.arg == "size"}
    top = [ast.unparse(argument) for argument in node.args]
    return any(end in size or f", {end})" in text for end in top for text in size)


def test_the_search_for_intervals_finds_what_was_once_there() -> None:
    for code in (
        "drawn = generator.integers(units, size=units)",
        "drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))",
        "np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])",
        "null = (np.quantile(null, 0.025), np.quantile(null, 0.975))",
        "NormalDist().inv_cdf(0.5 + level / 2)",
    ):
        assert list(intervals_made(code)), code
    assert not list(intervals_made("np.quantile(scores, coverage); rng.integers(0, 4, size=n)"))


def test_no_other_place_makes_an_interval() -> None:
    own = list(intervals_made((ROOT / OWN).read_text()))
    assert own, "the search finds the one place"
    found = {
        name: made
        for path in sorted(ROOT.rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) != OWN
        and (made := list(intervals_made(path.read_text())))
    }
    assert found == {}
