"""Numbers as people read them, and that they are written in one place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellkin
from cellkin.core.numbers import DASH, number, percent, percent_range, points

ROOT = Path(cellkin.__file__).parent


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.41249, "0.412"), (12.345, "12.3"), (0.99999, "1.00"), (1234.5, "1234"), (0.0, "0"),
     (-0.00541, "−0.00541"), (3.2e-8, "3.20 × 10⁻⁸"), (2.5e7, "2.50 × 10⁷"), (9.999, "10.0"),
     (float("nan"), "not a number")],
)  # fmt: skip
def test_a_number_has_three_significant_digits(value: float, said: str) -> None:
    assert number(value) == said


@given(st.floats(1e-4, 9e5))
def test_a_number_is_read_back_within_half_a_digit(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100 %"), (0.0, "0 %"), (0.9999, "over 99.9 %"), (0.0001, "under 0.1 %"),
     (0.9744, "97.4 %"), (0.93, "93.0 %"), (None, DASH)],
)  # fmt: skip
def test_only_the_whole_is_called_100_percent(share: float | None, said: str) -> None:
    assert percent(share) == said


@given(st.floats(0, 1), st.integers(0, 3))
def test_a_percentage_is_within_half_a_digit_and_never_more_than_it_is(
    share: float, digits: int
) -> None:
    said = percent(share, digits)
    assert said.startswith("100") == (share == 1)
    assert said.startswith("0 ") == (share == 0)
    bound, shown = re.fullmatch(r"(over |under )?(\d+(?:\.\d+)?) %", said).groups()
    if bound:
        assert 100 * share > float(shown) if bound == "over " else 100 * share < float(shown)
    else:
        assert abs(100 * share - float(shown)) <= 0.5 * 10**-digits + 1e-9


def test_a_share_that_was_chosen_is_told_as_it_was_chosen() -> None:
    assert [percent(s, None) for s in (0.95, 0.975, 0.05, 0.29, 1.0)] == [
        "95 %", "97.5 %", "5 %", "29 %", "100 %",
    ]  # fmt: skip


def test_ranges_points_and_differences() -> None:
    assert percent_range(0.941, 0.9889) == "94.1 to 98.9 %"
    assert percent_range(0.5, 1.0) == "50.0 to 100 %"
    assert points(0.95) == "95.00"
    assert points(-0.25) == "-25.00"  # a column of numbers is read by machines too
    assert points(-0.25, 1, signed=True) == "−25.0"
    assert points(0.012, 1, signed=True) == "+1.2"
    assert points(None) == DASH


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_workstation_says_percentages_as_pages_do() -> None:
    script = (ROOT / "web/pages/static/dom.js").read_text(encoding="utf-8")
    function = re.search(r"export (function percent\(.*?\n\})\n", script, re.DOTALL).group(1)
    asked = [(s / 997, d) for s in range(998) for d in (0, 1)]
    asked += [(0.9999, 1), (0.0001, 1), (0.996, 0), (0.004, 0)]
    code = f"{function}; console.log(JSON.stringify({json.dumps(asked)}.map((a) => percent(...a))))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [percent(*pair) for pair in asked]


# A number with a percent sign that is made on the spot: `{100 * x:.1f} %`, `{x:.0%}`, `toFixed`.
MADE = re.compile(
    r"\{[^{}]*:[^{}]*[fge]\}[\"' +]*%|\{[^{}]*:\.?\d*%\}|toFixed\([^)]*\)\}? *[\"'`+ ]*%"
)
OWN = {"core/numbers.py", "web/pages/static/dom.js"}
PROGRESS_BAR = "{task.percentage:>3.0f}%"  # a form of the library that draws it


def test_the_search_for_percentages_finds_what_was_once_there() -> None:
    for code in (
        'f"{100 * value:.1f} %"',
        'f"validation vote {accuracy[-1]:.1%}"',
        'f"{100 * promised:g} % by"',
        "`${(100 * v).toFixed(1)} %`",
    ):
        assert MADE.search(code), code
    assert not MADE.search('f"{percent(share)} of {n}; {x:.2f} and {y:g}"')


def test_no_other_place_makes_a_percentage() -> None:
    found = {}
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("static/*.js")]):
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8").replace(PROGRESS_BAR, "")
        if name not in OWN and (made := MADE.findall(text)):
            found[name] = made
    assert found == {}
