"""The verification of an atlas as one page: verdicts in words, then what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellkin.core.numbers import number, percent, percent_range, points
from cellkin.core.records import LabelSet, Provenance
from cellkin.report.context import foot
from cellkin.report.pages import write_page
from cellkin.report.plots import course_view, reliability_view
from cellkin.report.words import unbroken

Data = Mapping[str, Any]

TITLES = {
    "contrast": "Contrast map",
    "grad-cam": "Grad-CAM",
    "likeness": "Metric-Grad-CAM, likeness",
    "difference": "Metric-Grad-CAM, difference",
    "uniform": "A uniform map",
}
TARGETS = {
    "contrast": "margin between the kin and the other side",
    "grad-cam": "score of the voted class",
    "likeness": "likeness to the nearest kin",
    "difference": "distance to the nearest kin",
}
STATES = {"bad": "Fails", "warn": "To know", "good": "Holds"}


def save_verification(
    result: Data, labels: LabelSet, provenance: Provenance, path: str | Path, facts: Data
) -> Path:
    """Write the verification as one HTML page, whole in itself.

    Args:
        result: as `cellkin.proving.proving.verify` returns it, plain data.
        facts: the atlas's facts.

    Raises:
        OutputError: the file cannot be written.
    """
    by_name: dict[str, list[Data]] = {}
    found = [{**v, "text": unbroken(v["text"])} for v in result["verdicts"]]
    for verdict in found:
        by_name.setdefault(verdict["name"], []).append(verdict)
    told = {state: sum(v["state"] == state for v in result["verdicts"]) for state in STATES}
    context = {
        "title": f"What the evidence of this atlas is worth: {result['dataset']}",
        "told": told,
        "states": STATES,
        "gravest": [v for v in found if v["state"] != "good"],
        "said": by_name,
        "counts": _counts(result),
        "left_out": [f"{count} {why}" for why, count in result["left_out"].items()],
        "completeness": _completeness(result["completeness"]),
        "random": _randomisation(result["randomisation"]),
        "courses": _courses(result["deletion"]),
        "attention": _attention(result["attention"]),
        "stability": _stability(result["stability"]),
        "sets": _sets(result["sets"], labels),
        "reliability": _reliability(result["calibration"]),
        "outside": _outside(result["outside"]),
        "settings": result["settings"],
        **foot(facts, labels, provenance),
        "drawn": bool(result["drawn"] or provenance.drawn),
    }
    return write_page("verification.html.j2", context, Path(path))


def _by_method(found: Data) -> list[tuple[str, Any]]:
    """In the order of `TITLES`, whatever the order of the data."""
    return [(name, found[name]) for name in TITLES if name in found]


def _counts(result: Data) -> list[tuple[str, str]]:
    people = str(result["subjects"]) if result["subjects"] else "not named"
    return [
        ("Held-out cells", str(result["held_out"])),
        ("Their subjects", people),
        ("Heatmaps tested on", f"{result['tested']} cells"),
        ("Random networks", str(result["settings"]["networks"])),
    ]


def _interval_cell(found: Data | None, digits: int = 2) -> str:
    """ "0.12 (0.10 to 0.14)", or the mean and why there is no interval."""
    if found is None:
        return "not available"
    mean = number(found["mean"], digits)
    if found["low"] is None:
        return f"{mean} ({found['note']})"
    return f"{mean} ({number(found['low'], digits)} to {number(found['high'], digits)})"


def _share_cell(found: Data | None) -> str:
    if found is None:
        return "not available: every map is empty"
    if found["low"] is None:
        return f"{percent(found['mean'])} ({found['note']})"
    return unbroken(f"{percent(found['mean'])} ({percent_range(found['low'], found['high'])})")


def _rate_cell(found: Data) -> str:
    if found["share"] is None:
        return "none"
    return f"{found['count']} of {found['n']} ({unbroken(percent(found['share']))})"


def _completeness(found: Data) -> list[dict[str, str]]:
    return [
        {
            "name": TITLES[name],
            "maps": str(own["maps"]),
            "median": number(own["median"], 2),
            "largest": number(own["largest"], 2),
            "refused": str(own["refused"]) if found["exact"] else "approximate",
        }
        for name, own in _by_method(found["methods"])
    ]


def _randomisation(found: Data) -> dict[str, Any]:
    rows = []
    for name, own in _by_method(found["methods"]):
        similarity = own["similarity"]
        state = {True: "told", False: "alarm", None: "faint"}[own["told_apart"]]
        rows.append(
            {
                "name": TITLES[name],
                "state": state,
                "at": None if similarity is None else similarity["mean"],
                "low": None if similarity is None else similarity["low"],
                "high": None if similarity is None else similarity["high"],
                "words": _interval_cell(similarity),
                "among": "" if own["among"] is None else number(own["among"], 2),
                "chance": "" if own["chance"] is None else number(own["chance"], 2),
                "left_out": str(own["left_out"]),
            }
        )
    cells = found["cells"]
    told = [f"of {cells['mask']} by their masks"] if cells["mask"] else []
    told += [f"of {cells['stain']} by the stain of their nuclei"] if cells["stain"] else []
    return {"rows": rows, "told_by": " and ".join(told), "without": cells["without a cell"]}


def _courses(found: Data) -> list[dict[str, Any]]:
    return [
        {
            "name": TITLES[name],
            "target": TARGETS[name],
            "view": course_view(own["covered"], {k: own[k] for k in ("most", "random", "least")}),
            "deletion": _interval_cell(own["deletion"]),
            "insertion": _interval_cell(own["insertion"]),
            "beats": {test: (own[test]["low"] or 0) > 0 for test in ("deletion", "insertion")},
        }
        for name, own in _by_method(found)
    ]


BY = {"masks": "their exact masks", "outlines": "their outline and stain"}


def _attention(found: Data | None) -> dict[str, Any] | None:
    if found is None:
        return None
    tables = []
    for region, methods in sorted(found["regions"].items(), key=lambda item: len(item[0])):
        rows = [
            {
                "name": TITLES[name],
                "share": _share_cell(None if own is None else own["share"]),
                "over": "" if own is None or name == "uniform" else _points(own["over_uniform"]),
                "pointing": _share_cell(None if own is None else own["pointing"]),
            }
            for name, own in _by_method(methods)
        ]
        tables.append({"region": region, "rows": rows})
    return {"cells": found["cells"], "by": BY[found.get("by", "masks")], "tables": tables}


def _points(found: Data) -> str:
    """A difference of shares in points of a hundred."""
    mean, low, high = (points(found[key], 1, signed=True) for key in ("mean", "low", "high"))
    if found["low"] is None:
        return f"{mean} points ({found['note']})"
    return f"{mean} points ({low} to {high})"


def _stability(found: Data) -> dict[str, Any]:
    methods = [name for name, _ in _by_method(next(iter(found.values()))["maps"])]
    return {
        "methods": [TITLES[name] for name in methods],
        "rows": [
            {
                "name": own["title"],
                "maps": [_interval_cell(own["maps"][name]) for name in methods],
                "label": _rate_cell(own["label"]),
                "kin": percent(own["neighbors"]["mean"]),
            }
            for own in found.values()
        ],
    }


def _sets(found: Data, labels: LabelSet) -> dict[str, Any]:
    if found["absent"]:
        return {"absent": found["absent"]}
    rows = [{"name": labels.title(name), **_set_row(own)} for name, own in found["classes"].items()]
    unjudged = [
        f"{labels.title(name)} ({count} held-out)" for name, count in found["unjudged"].items()
    ]
    return {
        "absent": "",
        "promised": percent(found["promised"], 0),
        "unit": found["unit"],
        "note": found["note"],
        "rows": [*rows, {"name": "together", **_set_row(found["together"])}],
        "by_unit": _share_cell(found["by_unit"]) if found["by_unit"] else "",
        "unjudged": ", ".join(unjudged),
    }


def _set_row(own: Data) -> dict[str, str]:
    covered = own["covered"]
    return {
        "n": str(covered["n"]),
        "covered": percent(covered["share"]),
        "interval": percent_range(covered["low"], covered["high"]),
        "size": f"{own['size']:.2f}",
        "empty": str(own["empty"]),
        "several": str(own["several"]),
    }


def _reliability(found: Data) -> list[dict[str, Any]]:
    titles = {
        "vote": f"Agreement of the kin ({found['question']})",
        "head": "Probability of the class head",
    }
    return [
        {
            "name": titles[name],
            "view": reliability_view(found[name]["bins"]),
            "ece": number(found[name]["ece"], 2),
            "brier": number(found[name]["brier"], 2),
            "bins": [
                {
                    "range": f"{b['low']:.1f} to {b['high']:.1f}",
                    "n": b["n"],
                    "confidence": percent(b["confidence"]),
                    "right": percent(b["right"]),
                }
                for b in found[name]["bins"]
            ],
        }
        for name in ("vote", "head")
        if found[name] is not None
    ]


def _outside(found: Data) -> dict[str, Any]:
    inside = {
        "name": "held-out cells: false alarms",
        "n": str(found["unlike"]["n"]),
        "unlike": _with_interval(found["unlike"]),
        "refused": _rate_cell(found["refused"]),
        "sets": percent(found["sets_alone"]["share"]),
        "gate": percent(found["gate_alone"]["share"]),
        "far": percent(found["far"]["share"]),
        "auroc": ["", "", ""],
        "own": True,
        "unread": "",
    }
    kinds = [_kind(name, own) for name, own in found["kinds"].items()]
    return {"rows": [inside, *kinds], "allowed": percent(found["allowed"], 0),
            "coverage": percent(1 - found["allowed"], 0)}  # fmt: skip


def _kind(name: str, own: Data) -> dict[str, Any]:
    unread = f"{own['unreadable']} refused before: no colour pictures" if own["unreadable"] else ""
    if not own["n"]:
        blank = dict.fromkeys(("unlike", "refused", "sets", "gate"), "")
        return {**blank, "name": name, "n": "0", "auroc": ["", "", ""], "own": False,
                "unread": unread}  # fmt: skip
    areas: Sequence[float | None] = [own["auroc"][k] for k in ("features", "look", "both")]
    return {
        "name": name,
        "n": str(own["n"]),
        "unlike": _with_interval(own["unlike"]),
        "refused": _rate_cell(own["refused"]),
        "sets": percent(own["sets_alone"]["share"]),
        "gate": percent(own["gate_alone"]["share"]),
        "far": percent(own["far"]["share"]),
        "auroc": ["not available" if a is None else f"{a:.3f}" for a in areas],
        "own": False,
        "unread": unread,
    }


def _with_interval(found: Data) -> str:
    return f"{_rate_cell(found)}, {unbroken(percent_range(found['low'], found['high']))}"
