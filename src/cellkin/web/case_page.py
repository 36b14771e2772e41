"""What the report of a case shows, as plain data for its template."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cellkin.core.numbers import number, percent
from cellkin.core.records import Decision, LabelSet, Provenance
from cellkin.report.context import foot
from cellkin.report.counting import differential_view
from cellkin.report.facts import fact_rows
from cellkin.report.pages import picture_uri
from cellkin.report.telling import in_line, tell
from cellkin.report.words import NO_VERDICT
from cellkin.web.store import Case, CaseReport, Cell
from cellkin.web.worklist.flags import other_specimen
from cellkin.web.worklist.held import REASONS
from cellkin.web.worklist.misfit import DISTANT, EXPECTED, misfit

SHOWN = 120  # cells whose evidence a page shows; the rest is in the data
LISTED = 400  # cells in the table of a page
THUMB = 104  # pixels, shown at half of it
HOW = {
    "singly": "by itself",
    "together": "together with others",
    "by signing": "with the signature",
    None: "not yet",
}

CellPicture = Callable[[str], bytes]
KinPictures = Callable[[str, Sequence[str]], Mapping[str, bytes]]
Plain = Mapping[str, Any]


def case_context(report: CaseReport, cell: CellPicture, kin: KinPictures) -> dict[str, Any]:
    """All that the page of a case shows.

    Args:
        cell: cell id -> its picture. kin: atlas, reference ids -> the pictures that are kept.
    """
    data, cells = report.data, report.cells
    sets = {name: report.labels(name) for name in data["atlases"]}
    decisive = sorted(filter(is_decisive, cells), key=lambda c: (-c.worry, c.position))
    return {
        "case": data["case"],
        "signed": report.signed,
        "signature": data,
        "amended_for": _reason(data),
        "warnings": _warnings(data, sets),
        "summary": _summary(cells),
        "differential": differential_view(data["differential"]),
        "changes": _changes(cells, sets),
        "decisive": _evidence(decisive[:SHOWN], sets, cell, kin),
        "decisive_left": max(0, len(decisive) - SHOWN),
        "excluded": _excluded(cells, sets, cell),
        "cells": [_row(c, sets) for c in cells[:LISTED]],
        "cells_left": max(0, len(cells) - LISTED),
        "work": _work(data["history"]),
        "revisions": data["revisions"],
        "sha256": report.sha256,
        "witness": data["witness"],
        "other_atlases": [
            (name, fact_rows(atlas["facts"], sets[name]))
            for name, atlas in data["atlases"].items()
            if name != data["case"]["atlas"]
        ],
        "moment": moment,
        **_atlas(data, sets),
    }


def is_decisive(cell: Cell) -> bool:
    """Whether a cell had to be looked at by itself, or was decided otherwise than proposed."""
    return cell.held or cell.state == "reclassified"


def moment(iso: str | None) -> str:
    """A time as people read it, to the minute."""
    return "" if iso is None else f"{iso[:10]} {iso[11:16]} UTC"


def _atlas(data: Plain, sets: Mapping[str, LabelSet]) -> dict[str, Any]:
    name = data["case"]["atlas"]
    if name is None:
        empty = LabelSet((), {})
        return foot({}, empty, Provenance("", "", "", "", 0, ""))
    facts = data["atlases"][name]["facts"]
    return foot(facts, sets[name], Provenance.from_json(facts["provenance"]))


def _reason(data: Plain) -> str:
    own = [r for r in data["revisions"] if r["revision"] == data["case"]["revision"]]
    return str(own[-1]["reason"]) if own else ""


def _warnings(data: Plain, sets: Mapping[str, LabelSet]) -> list[str]:
    found = [NO_VERDICT] if any(labels.positive is None for labels in sets.values()) else []
    specimens = [atlas["facts"].get("specimen") for atlas in data["atlases"].values()]
    own = data["case"]["specimen"]
    if other_specimen(own, specimens):
        named = ", ".join(sorted({f"“{name}”" for name in specimens if name}))
        found.append(f"The case is of “{own}”, the atlas of {named}: its proposals may not fit.")
    found += misfit_words(data)
    if any(atlas["facts"].get("provenance", {}).get("drawn") for atlas in data["atlases"].values()):
        found.append("The atlas is of drawn cells: it says nothing about blood.")
    if data["case"]["duplicates"]:
        count = data["case"]["duplicates"]
        found.append(
            f"{count} uploaded {'image was' if count == 1 else 'images were'} in the case already "
            "and not counted twice."
        )
    return found


def misfit_words(data: Plain) -> list[str]:
    """That a case does not fit its atlas, and who went on why."""
    far = sum(bool(DISTANT & {*cell["held_reasons"]}) for cell in data["cells"])
    count = len(data["cells"])
    if not misfit(far, count):
        return []
    by, why = data["case"].get("accepted_by"), data["case"].get("accepted_why")
    told = f" {by} went on: {why}." if by else " Nobody has decided to go on."
    return [
        f"This case does not fit its atlas: {far} of {count} cells are unlike it, of a case like "
        f"it about {percent(EXPECTED, 0)} would be.{told}"
    ]


def _summary(cells: Sequence[Cell]) -> list[tuple[str, str, str]]:
    changed = sum(cell.state == "reclassified" for cell in cells)
    how = Counter(cell.confirmed for cell in cells)
    others = ", ".join(f"{how[key]} {HOW[key]}" for key in HOW if key != "singly" and how[key])
    out = sum(cell.disposition != "cell" for cell in cells)
    held = sum(cell.held for cell in cells)
    return [
        ("Objects", str(len(cells)), f"{held} held: to be looked at one by one"),
        ("Decided by itself", str(how["singly"]), others or "no others"),
        ("Decided otherwise", str(changed), "than the atlas proposed"),
        ("Set aside", str(out), "smudge cells, artefacts, unidentifiable"),
    ]


def _changes(cells: Sequence[Cell], sets: Mapping[str, LabelSet]) -> list[dict[str, Any]]:
    """Proposed class beside decided class, with how many cells; the changed ones first."""
    counts = Counter((_proposed(cell, sets), _decided(cell, sets)) for cell in cells)
    rows = [
        {"proposed": pair[0], "decided": pair[1], "n": n, "same": pair[0] == pair[1]}
        for pair, n in counts.items()
    ]
    return sorted(rows, key=lambda row: (row["same"], -row["n"], row["proposed"]))


def _labels(cell: Cell, sets: Mapping[str, LabelSet]) -> LabelSet:
    return sets[str(cell.provenance["atlas"])]


def _proposed(cell: Cell, sets: Mapping[str, LabelSet]) -> str:
    return _labels(cell, sets).group_title(cell.proposed)


def _decided(cell: Cell, sets: Mapping[str, LabelSet]) -> str:
    if cell.disposition != "cell":
        return cell.disposition
    return "not decided" if cell.final is None else _labels(cell, sets).group_title(cell.final)


def _row(cell: Cell, sets: Mapping[str, LabelSet]) -> dict[str, Any]:
    return {
        "number": cell.position + 1,
        "name": cell.name,
        "proposed": _proposed(cell, sets),
        "decided": _decided(cell, sets),
        "changed": cell.state == "reclassified",
        "how": HOW[cell.confirmed],
        "by": cell.reviewed_by or "",
        "at": moment(cell.reviewed),
        "reason": cell.reason,
        "comment": cell.comment,
    }


def _evidence(
    cells: Sequence[Cell], sets: Mapping[str, LabelSet], picture: CellPicture, kin: KinPictures
) -> list[dict[str, Any]]:
    wanted: dict[str, list[str]] = {}
    for cell in cells:
        ids = [str(neighbor["id"]) for neighbor in cell.decision["neighbors"]]
        wanted.setdefault(str(cell.provenance["atlas"]), []).extend(ids)
    shown = {
        (atlas, name): _thumbnail(png)
        for atlas, ids in wanted.items()
        for name, png in kin(atlas, ids).items()
    }
    return [_decisive(cell, _labels(cell, sets), sets, picture, shown) for cell in cells]


def _decisive(
    cell: Cell,
    labels: LabelSet,
    sets: Mapping[str, LabelSet],
    picture: CellPicture,
    shown: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    decision = Decision.from_json(cell.decision)
    told = tell(decision, labels)
    atlas = str(cell.provenance["atlas"])
    return {
        **_row(cell, sets),
        "image": _thumbnail(picture(cell.id)),
        "held": [REASONS[name] for name in cell.held_reasons],
        "told": told,
        "set": in_line(told.prediction_set),
        "kin": [
            {
                "title": labels.group_title(neighbor.label),
                "distance": number(neighbor.distance),
                "image": shown.get((atlas, neighbor.id)),
                "id": neighbor.id,
                "rank": neighbor.rank,
            }
            for neighbor in decision.neighbors
        ],
    }


def _thumbnail(png: bytes) -> str:
    with Image.open(io.BytesIO(png)) as picture:
        return picture_uri(np.asarray(picture.convert("RGB")), THUMB)


def _excluded(
    cells: Sequence[Cell], sets: Mapping[str, LabelSet], picture: CellPicture
) -> list[dict[str, Any]]:
    found = [cell for cell in cells if cell.disposition != "cell"]
    return [
        {**_row(cell, sets), "image": _thumbnail(picture(cell.id)) if i < SHOWN else None}
        for i, cell in enumerate(found)
    ]


def _work(history: Sequence[Plain]) -> list[dict[str, Any]]:
    """Who did what: one row for each person and action, with the first and last time."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in history:
        key = (entry["user"], entry["action"])
        row = rows.setdefault(key, {"first": entry["at"], "n": 0, "role": entry["role"]})
        row.update(user=key[0], action=key[1], n=row["n"] + 1, last=entry["at"])
    return list(rows.values())


def title_of(case: Case) -> str:
    """How a case is called in the name of a file: letters, digits, - and _ only."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in case.pseudonym)
    return kept.strip("-")[:60] or case.id
