"""Numbers as people read them: one form for pages, reports, tables and the command line."""

from __future__ import annotations

import math

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent between 1e-4 and 1e6."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == 0:
        return "0"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    sign = MINUS if value < 0 else ""
    if not -4 <= power < 6:
        return f"{sign}{mantissa} × 10{str(power).translate(RAISED)}"
    if power >= digits:  # never fewer digits than stand before the point
        return f"{sign}{abs(value):.0f}"
    return f"{sign}{float(f'{mantissa}e{power}'):.{max(0, digits - 1 - power)}f}"


def percent(share: float | None, digits: int | None = 1) -> str:
    """A share in [0, 1] as "97.4 %"; only the whole is "100 %", only nothing is "0 %".

    Args:
        share: None is a dash. digits: after the point; None where somebody chose the share, and
            it is told as it was chosen: "97.5 %", "5 %".
    """
    if share is None:
        return DASH
    if digits is None:
        return f"{100 * share:g} %"
    shown = points(share, digits)
    if share < 1 and float(shown) >= 100:
        return f"over {100 - 10**-digits:.{digits}f} %"
    if share > 0 and float(shown) == 0:
        return f"under {10**-digits:.{digits}f} %"
    return f"{shown.split('.')[0] if share in (0, 1) else shown} %"


def percent_range(low: float | None, high: float | None, digits: int = 1) -> str:
    """The ends of an interval of a share: "94.1 to 98.9 %"."""
    return f"{percent(low, digits).removesuffix(' %')} to {percent(high, digits)}"


def points(share: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A share in points of a hundred, for a column of numbers: "95.00"; None is a dash.

    Args:
        signed: for the difference of two, before the word "points": "+1.2", "−0.4".
    """
    if share is None:
        return DASH
    if signed:
        return f"{100 * share:+.{digits}f}".replace("-", MINUS)
    return f"{100 * share:.{digits}f}"
