"""Do the cells of these days still look as those of the atlas? A chart by day with limits.

A day is a dot: the median over its cells. The limits are drawn from the atlas's own cells, so they
stand from the first day on: of light, stain and focus the middle 95 % of its reference pictures, of
the distance the third quartile of held-out cells, beyond which the median of a day hardly gets by
chance. A day of fewer than ten cells is drawn and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cellkin.core.fits import DISTANCE, LESS, MEASURES
from cellkin.core.plain import Plain

LEAST = 10  # cells of a day that is judged
FAR = 75.0  # percentile of the distance that the median of a day should stay below
CHARTED = (DISTANCE, "white", "cast", "stain", "hue", "focus")


@dataclass(frozen=True)
class Day(Plain):
    """One day: its cells, their median, and whether it is judged and lies beyond a limit."""

    day: str
    cells: int
    median: float
    beyond: bool


@dataclass(frozen=True)
class Chart(Plain):
    """One measure by day.

    Attributes:
        low, high: limits; None where there is none on that side. days: in their order.
        words: what is to be said of it, a sentence; alarm: whether the last judged day is beyond.
    """

    name: str
    title: str
    unit: str
    low: float | None
    high: float | None
    days: tuple[Day, ...]
    words: str
    alarm: bool


Limits = Mapping[str, tuple[float | None, float | None]]


def charts(daily: Mapping[str, Sequence[Mapping[str, float]]], limits: Limits) -> list[Chart]:
    """The charts of what was measured on each day (see `Store.daily_looks`), where there are days.

    Args:
        limits: measure -> its low and its high limit.
    """
    found = []
    for name in CHARTED:
        low, high = limits.get(name, (None, None))
        days = tuple(
            _day(day, values, low, high)
            for day, cells in daily.items()
            if (values := [cell[name] for cell in cells if name in cell])
        )
        if days:
            found.append(_chart(name, low, high, days))
    return found


def _day(day: str, values: Sequence[float], low: float | None, high: float | None) -> Day:
    middle = median(values)
    below, above = low is not None and middle < low, high is not None and middle > high
    return Day(day, len(values), middle, len(values) >= LEAST and (below or above))


def _chart(name: str, low: float | None, high: float | None, days: tuple[Day, ...]) -> Chart:
    title, unit, _ = MEASURES[name]
    if name == DISTANCE:
        unit = "percentile among held-out cells of the class, median of the day"
    judged = [day for day in days if day.cells >= LEAST]
    alarm = bool(judged) and judged[-1].beyond
    return Chart(name, title, unit, low, high, days, _words(name, judged, high), alarm)


def _words(name: str, judged: Sequence[Day], high: float | None) -> str:
    if not judged:
        return f"No day has {LEAST} cells yet: nothing is judged."
    since: dict[str, Any] = {}
    for day in judged:
        since = {"day": since.get("day", day.day), "last": day} if day.beyond else {}
    if not since:
        return f"Within its limits on {judged[-1].day}, the last day with {LEAST} cells or more."
    more = MEASURES[name][2]
    over = high is not None and since["last"].median > high
    word = more if over else LESS[more]
    return (
        f"Since {since['day']} the cells are {word} than this atlas knows them: ask cellkin fits, "
        "and look at lamp, stain and focus before you go on."
    )
