"""What a count of fields says, in words and rows: the same on its page and the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from cellkin.core.counts import (
    LEFT_OUT,
    Count,
    CountedCell,
    CountedField,
    Foreseen,
    ShareFound,
)
from cellkin.core.kinds import ERYTHROBLAST, NOTHING, PLATELET, kind
from cellkin.core.numbers import number, percent, percent_range
from cellkin.core.records import QUALITY, LabelSet
from cellkin.report.exports import guarded
from cellkin.report.words import NO_VERDICT, counted, listed

COLUMNS = (
    "cell",
    "field",
    "x",
    "y",
    "left",
    "top",
    "right",
    "bottom",
    "um_per_pixel",
    "kind",
    "score",
    "call",
    "clinical",
    "agreement",
    "mean_distance",
    "distance_percentile",
    "state",
    "prediction_set",
    "quality",
    "left_out",
    "kin",
    "reviewed",
)


VAGUE = 0.9
"""Width of an interval of the corrected share that tells nothing."""


def count_sentence(count: Count) -> str:
    """The answer in one sentence."""
    n, fields = count.differential.n, fields_words(count)
    if not n:
        reasons = [f"{many} {LEFT_OUT[why]}" for why, many in count.left_out.items()]
        reasons += [f"{many} {words}" for many, words in _no_white_cells(count)]
        return f"No white cell in {fields} could be counted: {listed(reasons)}."
    found = sum(cell.kind == "white cell" for cell in count.cells)
    head = f"{plain_count(n, 'white cell')} in {fields}"
    if n < found:
        head = f"{n} of {plain_count(found, 'white cell')} in {fields} could be counted"
    reviewed = sum(cell.reviewed is not None for cell in count.leukocytes)
    part = any(cell.reviewed for cell in count.cells) and reviewed < n
    head += f", {reviewed} of {n} reviewed" * part
    if count.naive.share is None:
        rows = [counted(row.n, row.title) for row in count.differential.rows]
        return f"{head}: {listed(rows)}. {NO_VERDICT}"
    if count.reviewed.share is not None and not part:
        return f"{head}: {_blasts(count.reviewed, '{} after review')}{_ends(count.reviewed)}."
    counted_as = (count.reviewed, "{} by call or review") if part else (count.naive, "called {}")
    called = f"{head}: {_blasts(*counted_as)}"
    corrected = count.corrected.blasts
    if (corrected.high or 0.0) - (corrected.low or 0.0) >= VAGUE:
        return f"{called}, uncorrected: too little is known of this atlas’s errors to correct it."
    return f"{called}{_ends(corrected, 'corrected')}."


def fields_words(count: Count) -> str:
    """ "2 fields", or "1 of 13 fields" where the others are left out."""
    total = plain_count(len(count.fields), "field")
    out = len(count.fields_left_out)
    return f"{len(count.fields) - out} of {total}" if out else total


def _no_white_cells(count: Count) -> list[tuple[int, str]]:
    """How many cells were called something that is no white cell, or reviewed as such."""
    names = {NOTHING: "no cell", PLATELET: "platelets", ERYTHROBLAST: "erythroblasts"}
    told: Counter[str] = Counter()
    for cell in count.counted:
        if what := names.get(kind(cell.label or "", count.labels)):
            told[f"{'called' if cell.reviewed is None else 'reviewed as'} {what}"] += 1
    return [(many, words) for words, many in sorted(told.items())]


def plain_count(n: int, noun: str) -> str:
    """ "1 field", "2 fields"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _blasts(found: ShareFound, what: str) -> str:
    """ "61 are called lymphoblasts, 33 %"."""
    many = found.note.split(" of ")[0]
    noun, be = ("a lymphoblast", "is") if many == "1" else ("lymphoblasts", "are")
    return f"{many} {be} {what.format(noun)}, {percent(found.share, 0)}"


def _ends(found: ShareFound, word: str = "") -> str:
    if found.share is None:
        return ""
    told = [f"{word} {percent(found.share, 0)}"] if word else []
    if found.low is not None:
        told.append(f"95 % interval {percent_range(found.low, found.high, 0)}")
    return f" ({', '.join(told)})" if told else ""


def share_rows(count: Count) -> list[dict[str, str]]:
    """The share of lymphoblasts in its three ways: title, number, interval, note."""
    ways = {
        "As called": count.naive,
        "Corrected for the atlas’s errors": count.corrected.blasts,
        "After review": count.reviewed,
    }
    return [
        {
            "title": title,
            "share": percent(found.share) if found.share is not None else "not available",
            "interval": ""
            if found.low is None
            else f"95 % interval {percent_range(found.low, found.high)} ({found.method})",
            "note": found.note.removeprefix("not available: "),
        }
        for title, found in ways.items()
    ]


def foreseen_words(count: Count) -> str:
    """What more cells would be worth, or an empty string."""
    told = [
        f"{'however many' if one.cells is None else one.cells} cells "
        f"{percent_range(one.low, one.high, 0)}"
        for one in count.corrected.foreseen
        if one.low is not None and (one.cells is None or one.cells > count.differential.n)
    ]
    if not told:
        return ""
    now, most = count.corrected.blasts, count.corrected.foreseen[-1]
    if _width(most) > 0.9 * _width(now):
        return (
            "More cells would not narrow the corrected interval: what is wide in it are the errors "
            "of the calls. Reviewing cells narrows it, and so does an atlas of more subjects."
        )
    return (
        f"If more cells were called in these proportions, the corrected interval would be: with "
        f"{', '.join(told)}. What then is left of it are the errors of the calls."
    )


def _width(found: ShareFound | Foreseen) -> float:
    return (found.high or 0.0) - (found.low or 0.0)


def warnings_of(count: Count) -> list[str]:
    """What must stand beside the answer."""
    told = list(count.differential.warnings) if count.differential.n else []
    if count.differential.n == 0:
        told.append("Nothing is said about the blood that these fields come from.")
    elif count.naive.share is not None and _uncorrected(count):
        why = count.corrected.blasts.note.removeprefix("not available: ")
        told.append(f"The share of lymphoblasts is not corrected: {why}.")
    return told


def _uncorrected(count: Count) -> bool:
    """Whether there are calls in the share whose errors are not taken off."""
    return count.corrected.blasts.share is None and count.reviewed.low is None


def left_out_rows(count: Count) -> list[tuple[str, str, str]]:
    """How many, what, and what it means for the count."""
    rows = [(str(n), LEFT_OUT[why], _detail(count, why)) for why, n in count.left_out.items()]
    per = count.differential.per_100
    red = "" if per is None else f"{number(per)} erythroblasts per 100 white cells"
    rows += [
        (str(n), f"{words}: counted beside the white cells", red)
        if words.endswith("erythroblasts")
        else (str(n), f"{words}, which is no white cell", "")
        for n, words in _no_white_cells(count)
    ]
    return rows + [
        ("1", f"field that {'cannot be read' if f.fault else 'is no smear'}: {f.name}", f.why_not)
        for f in count.fields_left_out
    ]


def _detail(count: Count, why: str) -> str:
    """Of cells that failed the gate: what it found."""
    cells = [c.decision for c in count.cells if c.left_out == why and c.decision is not None]
    faults = [name for d in cells for name in d.quality or ()]
    told = {name: faults.count(name) for name in QUALITY if name in faults}
    return "; ".join(f"{QUALITY[name]} ({n})" for name, n in told.items() if why == "quality")


def field_words(field: CountedField) -> str:
    """Size, scale and light of a field."""
    scale = "scale not known: fewer than 20 red cells, give --mpp"
    if field.um_per_pixel is not None:
        how = {
            "metadata": "as the file says",
            "given": "as given",
            "red cells": f"by red cells ({field.red_cells} in this field)",
        }
        scale = f"{number(field.um_per_pixel)} µm per pixel, {how[field.ruler]}"
    return f"{field.width} × {field.height} pixels; {scale}"


def differential_view(told: Mapping[str, Any]) -> dict[str, Any]:
    """A differential, given as plain data, as rows of a table with bars."""
    rows = [
        {
            **row,
            "share_words": percent(row["share"]),
            "interval": percent_range(row["low"], row["high"]),
            "at": 100 * row["share"],
            "from": 100 * row["low"],
            "to": 100 * row["high"],
            "mark": row.get("mark"),
        }
        for row in told["rows"]
    ]
    per_100 = told["per_100"]
    return {
        **told,
        "rows": rows,
        "level": percent(told["level"], 0),
        "corrected": any(row.get("corrected") for row in rows),
        "per_100": None if per_100 is None else number(per_100, 3),
        "excluded": list(told["excluded"].items()),
    }


def cell_rows(count: Count) -> Iterator[tuple[Any, ...]]:
    """The header and a row for each cell; `reviewed` is for a person to fill in."""
    yield COLUMNS
    scales = {field.name: field.um_per_pixel for field in count.fields}
    for cell in count.cells:
        row = {**_place(cell, scales[cell.field]), **_call(cell, count.labels)}
        yield tuple(guarded(row.get(name)) for name in COLUMNS)


def _place(cell: CountedCell, um: float | None) -> dict[str, Any]:
    names = ("field", "x", "y", "left", "top", "right", "bottom", "kind", "score", "left_out")
    return {
        "cell": cell.id,
        **{name: getattr(cell, name) for name in names},
        "um_per_pixel": None if um is None else round(um, 5),
        "reviewed": cell.reviewed,
    }


def _call(cell: CountedCell, labels: LabelSet) -> dict[str, Any]:
    decision = cell.decision
    if decision is None:
        return {}
    sets = decision.prediction_set
    percentile = decision.distance_percentile
    return {
        "call": decision.label,
        "clinical": decision.clinical,
        "agreement": round(decision.agreement, 4),
        "mean_distance": round(decision.mean_distance, 6),
        "distance_percentile": None if percentile is None else round(percentile, 1),
        "state": decision.state,
        "prediction_set": None if sets is None else "; ".join(map(labels.title, sets.labels)),
        "quality": "; ".join(decision.quality or ()),
        "kin": "; ".join(f"{k.id} ({k.label}, {k.distance:.6g})" for k in decision.neighbors),
    }
