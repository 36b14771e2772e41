"""The triage curve of an atlas's test cells, as geometry for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cellkin.core.numbers import percent

LEFT, RIGHT, TOP, BOTTOM = 46.0, 410.0, 14.0, 190.0  # of the curve in its picture
TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the upper end of the scale: the first that fits


def triage_view(curve: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Lines, ticks and words of a triage curve; None where there is none.

    Args:
        curve: as `cellkin.decision.Triage.to_json` writes it.
    """
    if not curve or not curve.get("automatic"):
        return None
    automatic, errors, missed = curve["automatic"], curve["errors"], curve.get("missed")
    highest = max([*errors, *(missed or ())])
    top = next(t for t in TOPS if t >= highest)
    lines = [{"class": "errors", "path": _steps(automatic, errors, top)}]
    if missed is not None:
        lines.append({"class": "missed", "path": _steps(automatic, missed, top)})
    return {
        "lines": lines,
        "y_ticks": [
            (f"{_y(s * top, top):.1f}", percent(s * top, _digits(s * top))) for s in (0, 0.5, 1)
        ],
        "x_ticks": [(f"{_x(s):.1f}", percent(s, 0)) for s in (0, 0.25, 0.5, 0.75, 1)],
        "missed": missed is not None,
        "words": _words(curve),
        "n": curve["n"],
        "blasts": curve["blasts"],
    }


def _words(curve: Mapping[str, Any]) -> str:
    """The curve in a sentence: the most that can be decided before anything is missed."""
    values, what = curve.get("missed"), "lymphoblast is missed"
    if values is None:
        values, what = curve["errors"], "call is wrong"
    clean = [a for a, v in zip(curve["automatic"], values, strict=True) if v == 0]
    if not clean:
        return f"Even among the surest cells a {what}."
    return f"The surest {percent(max(clean))} of the cells are decided before a {what}."


def _digits(share: float) -> int:
    """No decimals for whole percents."""
    return 0 if round(100 * share, 6).is_integer() else 1


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def _y(share: float, top: float) -> float:
    return BOTTOM - share / top * (BOTTOM - TOP)


def _steps(automatic: Sequence[float], values: Sequence[float], top: float) -> str:
    """A curve that holds its value until more cells are decided."""
    points = [(_x(a), _y(v, top)) for a, v in zip(automatic, values, strict=True)]
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    return path + "".join(f"V{y:.1f}H{x:.1f}" for _, (x, y) in pairwise(points))
