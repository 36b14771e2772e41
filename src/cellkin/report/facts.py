"""What an atlas says about itself, as rows of a table; nothing is computed, only put into words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellkin.core.numbers import number, percent, percent_range
from cellkin.core.records import LabelSet, Provenance
from cellkin.report.places import place_limits, place_rows

Rows = list[tuple[str, str]]

TITLES = {
    "dataset": "Data set",
    "specimen": "Specimen",
    "stain": "Stain",
    "backbone": "Network",
    "k": "Neighbours that vote (k)",
    "distance": "Distance",
    "cells": "Reference cells",
    "verified": "Verified",
}
BY_CLASS = {"classes": "Reference cells by class", "calibration": "Calibration cells by class"}
# titles and clinical meaning are in every word of a page; the space is in its provenance
TOLD_ELSEWHERE = {
    "provenance",
    "test",
    "split",
    "titles",
    "clinical",
    "space",
    "triage",
    "sure",
    "map",
}
TOLD_ELSEWHERE |= {"conformal", "held_out_calls", "quality", "places", "robustness"}
TOLD_ELSEWHERE |= {"surroundings", "adopted"}
TOLD_ELSEWHERE |= TITLES.keys() | BY_CLASS.keys()
NO_POSITIVE = "not available: this atlas knows no lymphoblasts"


def fact_rows(facts: Mapping[str, Any], labels: LabelSet) -> Rows:
    """Name and words of every fact of an atlas: the known ones first, then whatever else it holds.

    Specimen and stain are always named, as "not stated" where the data set does not say.
    """
    rows = [
        (title, _plain(facts[name]) or "not stated")
        for name, title in TITLES.items()
        if name in facts
    ]
    named = {name for name, _ in rows}
    rows += [(t, "not stated") for t in ("Specimen", "Stain") if t not in named]
    rows += [(title, _by_class(facts[k], labels)) for k, title in BY_CLASS.items() if facts.get(k)]
    if split := facts.get("split"):
        rows.append(("Split", _split(split)))
    rows += test_rows(facts.get("test") or {}, labels)
    rows += place_rows(facts, {name: labels.title(name) for name in labels.names})
    rows += [("Warning", told) for told in place_limits(facts)]
    if sets := facts.get("conformal"):
        rows.append(("Calibration of prediction sets", _sets(sets, labels)))
    if calls := facts.get("held_out_calls"):
        rows.append(("Held-out calls, for corrected shares", _sets(calls, labels)))
    for name, value in facts.items():
        if name not in TOLD_ELSEWHERE:
            rows += _flattened(name, value)
    return rows


def provenance_rows(provenance: Provenance) -> Rows:
    """Everything needed to make the result again."""
    rows = [
        ("cellkin", provenance.version),
        ("Weights", provenance.weights),
        ("Atlas", provenance.atlas),
        ("Cells said to be from", provenance.place),
        ("Feature space", provenance.space),
        ("Recipe", provenance.recipe),
        ("Seed", str(provenance.seed)),
        ("Made from", provenance.dataset),
        ("Created (UTC)", provenance.created),
        ("Origin of the cells", "drawn: synthetic, no real blood" if provenance.drawn else ""),
    ]
    return [(name, value) for name, value in rows if value]


def test_rows(test: Mapping[str, Any], labels: LabelSet) -> Rows:
    """Test accuracy with its interval, and the clinical numbers or why there are none."""
    if not test.get("n"):
        return []
    accuracy = f"{percent(test['accuracy'])} ({test['correct']} of {test['n']} cells)"
    words = interval_words(test.get("interval"))
    known = (test.get("interval") or {}).get("low") is not None
    rows = [("Test accuracy", f"{accuracy}; {'interval: ' if known else ''}{words}")]
    if test.get("balanced_accuracy") is not None:
        rows.append(("Balanced accuracy", percent(test["balanced_accuracy"])))
    for name in ("sensitivity", "specificity"):
        value = test.get(name)
        missing = (
            NO_POSITIVE if labels.positive is None else "not available: no such cell was tested"
        )
        rows.append((name.capitalize(), missing if value is None else percent(value)))
    return rows


def interval_words(interval: Mapping[str, Any] | None) -> str:
    """ "94.1 to 98.9 % (95 %, Wilson)", or why there is none."""
    if not interval:
        return "not available"
    notes = [str(interval[key]) for key in ("method", "note") if interval.get(key)]
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None:
        return str(interval.get("note") or "not available")
    if interval.get("level"):
        notes.insert(0, percent(interval["level"], 0))
    ends = percent_range(low, high)
    return ends + (f" ({', '.join(notes)})" if notes else "")


def recall_rows(test: Mapping[str, Any], labels: LabelSet) -> list[dict[str, Any]]:
    """Recall by class: title, counts, words, and the numbers a bar is drawn from (0 to 100)."""
    rows = []
    for name, row in (test.get("per_class") or {}).items():
        interval, recall = row.get("interval") or {}, row.get("recall")
        rows.append(
            {
                "title": labels.title(name),
                "n": row["n"],
                "correct": row["correct"],
                "recall": "no test cell" if recall is None else percent(recall),
                "interval": interval_words(interval) if interval else "",
                "at": _in_percent(recall),
                "low": _in_percent(interval.get("low")),
                "high": _in_percent(interval.get("high")),
            }
        )
    return rows


def _in_percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _by_class(classes: Mapping[str, Any], labels: LabelSet) -> str:
    return ", ".join(f"{labels.title(name)} {count}" for name, count in classes.items())


def _sets(sets: Mapping[str, Any], labels: LabelSet) -> str:
    counts = _by_class(sets["units"], labels)
    return "; ".join(filter(None, (f"by {sets['unit']}: {counts}", str(sets.get("note") or ""))))


def _split(split: Any) -> str:
    if not isinstance(split, Mapping):
        return _plain(split)
    parts = [f"{name} {n}" for name, n in split.items() if isinstance(n, int) and name != "seed"]
    unit = f"by {split['unit']}" if split.get("unit") else ""
    seed = f"seed {split['seed']}" if split.get("seed") is not None else ""
    return "; ".join(filter(None, (", ".join(parts), unit, seed, str(split.get("note") or ""))))


def _flattened(name: str, value: Any) -> Rows:
    if isinstance(value, Mapping):
        return [row for key, inner in value.items() for row in _flattened(f"{name}, {key}", inner)]
    words = _plain(value)
    title = name.replace("_", " ")
    return [(title[:1].upper() + title[1:], words)] if words else []


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(item) for item in value[:12])
        return f"{shown} and {len(value) - 12} more" if len(value) > 12 else shown
    return str(value)
