"""The audit of a data set as one page: findings in words, then pairs side by side, then cues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellkin.core.arrays import Array
from cellkin.core.findings import ALARM, CROSSED, SILENT, AuditReport, Cue, DuplicatePair
from cellkin.core.numbers import number, percent, percent_range
from cellkin.core.records import NOTICE
from cellkin.report.pages import picture_uri, write_page

SHOWN = 60  # pairs of one section that a page shows; the files hold all
THUMBNAIL = 224  # pixels, shown at half of it and less

INCLUDE_THE_CELL = ("mean colour", "focus")
"""Cues that may be honest ones: to be known, not to be mended."""

SECTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "class",
        "Conflicting labels",
        "The same picture carries two labels: one of them is wrong, or both are doubtful.",
    ),
    (
        "split",
        "On two sides of the split",
        "A model that was trained on one of the two has seen the other: the test flatters it.",
    ),
    (
        "subject",
        "Of two subjects",
        "Either a picture was filed under the wrong person, or two names mean one.",
    ),
    (
        "place",
        "Of two places",
        "The same picture stands for two laboratories: a test that leaves one out has seen it.",
    ),
    (
        "",
        "Within one side",
        "They do not bend a test, but they count one cell twice or more.",
    ),
)


def shown_pairs(report: AuditReport) -> list[DuplicatePair]:
    """The pairs that the page shows: the first `SHOWN` of each section."""
    return [pair for rows in _by_section(report) for pair in rows[:SHOWN]]


def save_audit(report: AuditReport, images: Callable[[str], Array], path: str | Path) -> Path:
    """Write the audit as one HTML page, whole in itself.

    Args:
        images: gives the (H, W, 3) uint8 RGB image of an id; asked for `shown_pairs` only.

    Raises:
        OutputError: the file cannot be written.
    """
    context = {
        "title": f"What is in {report.name}",
        "report": report,
        "heads": headlines(report),
        "sections": _sections(report, images),
        "cues": [_cue(cue) for cue in report.cues],
        "subject_cues": [_cue(cue) for cue in report.subject_cues],
        "place_cues": [_cue(cue) for cue in report.place_cues],
        "meter_how": _meter_how(report.cues or report.subject_cues),
        "counts": _counts(report),
        "notice": NOTICE,
        "drawn": report.drawn,
        "facts": _facts(report),
        "provenance": _provenance(report),
        "colors": (),
    }
    return write_page("audit.html.j2", context, Path(path))


def headlines(report: AuditReport) -> list[dict[str, str]]:
    """The findings in words, the gravest first; `state` is "bad", "warn" or "good"."""
    heads = []
    conflicts, split, subject, place = (len(report.crossing(what)) for what in CROSSED)
    if conflicts:
        heads.append(_head("bad", f"{_pairs(conflicts)} the same picture under two labels"))
    if split:
        heads.append(_head("bad", f"{_pairs(split)} on two sides of {report.split}"))
    if subject:
        heads.append(_head("bad", f"{_pairs(subject)} filed under two subjects"))
    if place:
        heads.append(_head("bad", f"{_pairs(place)} filed under two places"))
    heads += [_head("bad", told[:1].upper() + told[1:]) for told in report.place_warnings]
    for cue in report.cues:
        if cue.state != SILENT:
            outside = cue.name not in INCLUDE_THE_CELL
            state = "bad" if cue.state == ALARM and outside else "warn"
            heads.append(_head(state, f"{cue.verdict}: {_right(cue)}"))
    for cue in (*report.subject_cues, *report.place_cues):
        if cue.state != SILENT:
            heads.append(_head("warn", f"{cue.verdict}: {_right(cue)}"))
    inside = len(report.pairs) - len(_crossing_any(report))
    if inside:
        heads.append(_head("warn", f"{_pairs(inside)} alike within one side"))
    if report.unreadable:
        many = len(report.unreadable)
        heads.append(_head("bad", f"{many} image{'s' * (many > 1)} cannot be read"))
    return heads + _all_clear(report)


def _all_clear(report: AuditReport) -> list[dict[str, str]]:
    heads = []
    if not report.pairs:
        heads.append(_head("good", "No two images show the same, nor overlap"))
    elif not _crossing_any(report):
        heads.append(_head("good", "No pair crosses a class, a subject, a place or the split"))
    if report.cues and all(cue.state == SILENT for cue in report.cues):
        heads.append(_head("good", "Nothing outside the cell tells the class better than chance"))
    return heads


def _head(state: str, text: str) -> dict[str, str]:
    return {"state": state, "text": text}


def _right(cue: Cue) -> str:
    balanced, chance = percent(cue.balanced_accuracy), percent(cue.chance)
    return f"{balanced} balanced accuracy, {chance} would be chance"


def _pairs(count: int) -> str:
    return "1 pair of images is" if count == 1 else f"{count} pairs of images are"


def _crossing_any(report: AuditReport) -> list[DuplicatePair]:
    return [pair for pair in report.pairs if pair.crosses]


def _by_section(report: AuditReport) -> list[list[DuplicatePair]]:
    """The pairs of each of `SECTIONS`, each pair once: in the gravest one."""
    names = [name for name, _, _ in SECTIONS]
    rows: list[list[DuplicatePair]] = [[] for _ in names]
    for pair in report.pairs:
        rows[names.index(next((n for n in names if n in pair.crosses), ""))].append(pair)
    return rows


def _sections(report: AuditReport, images: Callable[[str], Array]) -> list[dict[str, Any]]:
    found = []
    for (name, title, why), pairs in zip(SECTIONS, _by_section(report), strict=True):
        if pairs:
            cards = [_card(pair, report, images) for pair in pairs[:SHOWN]]
            hidden = len(pairs) - len(cards)
            found.append(
                {
                    "name": name or "within",
                    "title": title,
                    "why": why,
                    "count": len(pairs),
                    "cards": cards,
                    "hidden": hidden,
                }
            )
    return found


def _card(
    pair: DuplicatePair, report: AuditReport, images: Callable[[str], Array]
) -> dict[str, Any]:
    sides = []
    for place, identity in enumerate((pair.first, pair.second)):
        label = pair.labels[place]
        sides.append(
            {
                "id": identity,
                "image": picture_uri(images(identity), THUMBNAIL),
                "label": report.titles.get(label, label),
                "subject": pair.subjects[place],
                "place": pair.places[place],
                "side": pair.sides[place],
            }
        )
    exact = pair.kind in ("same file", "same pixels")
    score = "" if exact else f"likeness of detail {number(pair.score, 3)}"
    return {
        "sides": sides,
        "relation": pair.relation,
        "kind": pair.kind,
        "score": score,
        "crosses": pair.crosses,
    }


def _cue(cue: Cue) -> dict[str, Any]:
    low, high = cue.null
    return {
        "name": cue.name,
        "verdict": cue.verdict,
        "state": cue.state,
        "at": 100 * cue.balanced_accuracy,
        "low": 100 * low,
        "high": 100 * high,
        "chance": 100 * cue.chance,
        "majority": 100 * cue.majority,
        "balanced": percent(cue.balanced_accuracy),
        "accuracy": percent(cue.accuracy),
        "majority_words": percent(cue.majority),
        "null": percent_range(low, high),
        "p": number(cue.p_value, 2),
        "told": [(name, percent(recall)) for name, recall in cue.told.items()],
    }


def _meter_how(cues: Sequence[Cue]) -> str:
    if not cues:
        return ""
    unit, units = cues[0].unit, cues[0].units
    what = {"subject": "subject", "slide/field": "slide or field"}.get(unit, "image")
    own = "itself" if unit == "image" else f"one of its own {what}"
    few = ""
    if unit != "image" and units < 20:
        few = f" With only {units} {what}s it takes a strong cue to rise above chance."
    return (
        f"Each image is called by the 15 that are most alike in the cue, never by "
        f"{own}. The grey band is the middle 95 % of 999 random deals of the labels to the "
        f"{units} {what}s: that is what chance gives here.{few}"
    )


def _counts(report: AuditReport) -> list[tuple[str, str]]:
    kinds = report.kinds()
    return [
        ("Images", str(report.images)),
        ("Same file", str(kinds["same file"])),
        ("Same pixels, other file", str(kinds["same pixels"])),
        ("Near duplicates", str(kinds["near duplicate"])),
        ("Overlapping fields", str(kinds["overlap"])),
        ("Clusters", f"{len(report.groups)} of {sum(map(len, report.groups))} images"),
    ]


def _facts(report: AuditReport) -> list[tuple[str, str]]:
    rows: Mapping[str, str] = {
        "Data set": report.name,
        "Read as": report.layout,
        "Specimen": report.specimen or "not stated",
        "Stain": report.stain or "not stated",
        "Subjects": str(report.subjects) if report.subjects else "none named",
        "Images by class": ", ".join(
            f"{report.titles.get(name, name)} {n}" for name, n in report.counts.items()
        ),
        "Split": report.split,
    }
    places = [
        (f"Place {name}", ", ".join(f"{report.titles.get(c, c)} {n}" for c, n in row.items()))
        for name, row in report.places.items()
    ]
    return [*rows.items(), *places, *[("Note", note) for note in report.notes]]


def _provenance(report: AuditReport) -> list[tuple[str, str]]:
    laid = f"{report.proposed} of {report.compared} pairs"
    rows = [
        ("cellkin", report.version),
        ("Seed", str(report.seed)),
        ("Folder", report.root),
        ("Laid over each other", laid),
        ("All pairs and numbers", "audit.json, audit.csv"),
    ]
    return rows + [("Not readable", f"{name}: {why}") for name, why in report.unreadable[:20]]
