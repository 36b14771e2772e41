"""Does an atlas fit new cells? In lines for a terminal, and as one page with pictures of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Floats
from cellkin.core.artifacts import write_json
from cellkin.core.fits import CARE, FITS, MEASURES, UNFIT, Expected, Fits, Shift
from cellkin.core.numbers import number, percent, percent_range
from cellkin.core.records import LabelSet, Provenance
from cellkin.report.context import foot
from cellkin.report.pages import picture_uri, write_page

HEAD = {
    FITS: "This atlas fits these cells.",
    CARE: "This atlas fits these cells with care: look at more of them yourself.",
    UNFIT: "This atlas does not fit these cells: adopt cells of this place first (cellkin adopt).",
}
THUMB = 144  # pixels of a typical cell, shown at half of it and more
BINS, WIDE, TALL = 24, 240.0, 44.0  # of a small distribution, in units of its drawing


def fits_lines(found: Fits) -> list[str]:
    """The answer in lines, the verdict first."""
    lines = [f"{HEAD[found.verdict]} ({found.cells} cells)"]
    lines += [f"  because   {reason}" for reason in found.reasons]
    lines.append(f"  expected  {expected_words(found.expected, found.expected_absent)}")
    width = max(len(MEASURES[s.name][0]) for s in found.shifts)
    for one in found.shifts:
        title, unit, _ = MEASURES[one.name]
        lines.append(
            f"  {title:<{width}}  {one.words:<20} {number(one.before)} in the atlas, "
            f"{number(one.after)} here ({unit}; {p_words(one)})"
        )
    return lines + [f"  note      {note}" for note in found.notes]


def expected_words(expected: Expected | None, absent: str) -> str:
    """The accuracy to expect, with its interval, or why there is none."""
    if expected is None:
        return f"accuracy not available: {absent}"
    span = ""
    if expected.low is not None:
        span = f" (95 % interval {percent_range(expected.low, expected.high, 0)})"
    return (
        f"{percent(expected.accuracy, 0)} of the calls right{span}, without a label; "
        f"{percent(expected.held_out, 0)} of {expected.n} held-out calls were"
    )


def p_words(one: Shift) -> str:
    """The p-value after correction, and how many new cells lie outside of what is usual."""
    p = "p < 0.001" if one.adjusted < 0.001 else f"p = {one.adjusted:.2g}"
    return f"{p}, {percent(one.outside, 0)} outside the atlas’s middle 95 %"


def save_fits(
    found: Fits,
    labels: LabelSet,
    facts: Mapping[str, Any],
    provenance: Provenance,
    folder: str | Path,
) -> Path:
    """Write `fits.html` and `fits.json` into a folder; the page is returned.

    Raises:
        OutputError: one of them cannot be written.
    """
    folder = Path(folder)
    write_json(folder / "fits.json", found.to_json())
    return write_page(
        "fits.html.j2", {**_context(found, labels), **foot(facts, labels, provenance)},
        folder / "fits.html",
    )  # fmt: skip


def _context(found: Fits, labels: LabelSet) -> dict[str, Any]:
    calls = sorted(found.calls.items(), key=lambda pair: -pair[1])
    expected = found.expected
    return {
        "title": HEAD[found.verdict],
        "verdict": found.verdict,
        "reasons": found.reasons,
        "cells": found.cells,
        "expected": "not available" if expected is None else percent(expected.accuracy, 0),
        "expected_words": expected_words(expected, found.expected_absent),
        "far": percent(found.far, 0),
        "calls": ", ".join(f"{labels.title(name)} {n}" for name, n in calls),
        "rows": [_row(one, found) for one in found.shifts],
        "sides": [
            (caption, [picture_uri(image, THUMB) for image in side.typical])
            for caption, side in (("The atlas’s cells", found.old), ("These cells", found.new))
        ],
        "notes": found.notes,
    }


def _row(one: Shift, found: Fits) -> dict[str, Any]:
    title, unit, _ = MEASURES[one.name]
    return {
        "title": title,
        "unit": unit,
        "words": one.words,
        "marked": one.found and one.effect == "large",
        "before": number(one.before),
        "after": number(one.after),
        "effect": f"{one.delta:+.2f}".replace("-", "−"),
        "p": p_words(one),
        "drawn": small_distributions(found.old.values[one.name], found.new.values[one.name]),
    }


def small_distributions(old: Floats, new: Floats) -> dict[str, Any]:
    """Two histograms over one axis: outlines as SVG paths, each as tall as its own most, and the
    ends of the axis in words.
    """
    both = np.concatenate([old, new])
    low, high = (float(q) for q in np.quantile(both, (0.005, 0.995)))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    paths = [_outline(np.histogram(np.clip(side, low, high), edges)[0]) for side in (old, new)]
    return {"old": paths[0], "new": paths[1], "low": number(low), "high": number(high)}


def _outline(counts: Any) -> str:
    heights = TALL * (1 - counts / max(counts.max(), 1))
    steps = [f"M0,{TALL:.0f}"]
    for i, height in enumerate(heights):
        steps.append(f"V{height:.1f}H{(i + 1) * WIDE / BINS:.1f}")
    return "".join(steps) + f"V{TALL:.0f}Z"
