"""Curves of a verification as geometry for a page: targets under covering, and reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellkin.core.numbers import number, percent

LEFT, RIGHT, TOP, BOTTOM = 52.0, 296.0, 12.0, 172.0
LARGEST = 9.0  # radius of the bin with most cells


def course_view(covered: Sequence[float], curves: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Lines and ticks of targets against the share of the picture that is covered.

    Args:
        covered: T shares in [0, 1], ascending. curves: name -> T finite numbers.
    """
    values = [v for curve in curves.values() for v in curve]
    low, high = min(values), max(values)
    room = (high - low) or 1.0

    def y(value: float) -> float:
        return BOTTOM - (value - low) / room * (BOTTOM - TOP)

    at = [_x(share) for share in covered]
    return {
        "lines": [
            {"class": name, "path": _path(list(zip(at, map(y, curve), strict=True)))}
            for name, curve in curves.items()
        ],
        "y_ticks": [(f"{y(v):.1f}", number(v, 3)) for v in (low, low + room / 2, low + room)],
        "x_ticks": [(f"{_x(s):.1f}", percent(s, 0)) for s in (0.0, 0.5, 1.0)],
    }


def reliability_view(bins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A dot for every bin, as large as its share of the cells, with the diagonal of the honest.

    Args:
        bins: as `cellkin.measures.reliability.Reliability` holds them.
    """
    most = max(b["n"] for b in bins)
    return {
        "diagonal": _path([(_x(0), _y(0)), (_x(1), _y(1))]),
        "dots": [
            {
                "x": f"{_x(b['confidence']):.1f}",
                "y": f"{_y(b['right']):.1f}",
                "honest": f"{_y(b['confidence']):.1f}",
                "r": f"{max(2.5, LARGEST * math.sqrt(b['n'] / most)):.1f}",
                "title": f"{b['n']} cells: confidence {percent(b['confidence'])}, "
                f"right {percent(b['right'])}",
            }
            for b in bins
        ],
        "y_ticks": [(f"{_y(s):.1f}", percent(s, 0)) for s in (0.0, 0.5, 1.0)],
        "x_ticks": [(f"{_x(s):.1f}", percent(s, 0)) for s in (0.0, 0.5, 1.0)],
    }


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
