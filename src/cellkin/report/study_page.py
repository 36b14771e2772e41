"""A study as one page: tables with intervals, tests, confusion matrices down to the cells, maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cellkin.core.arrays import Array
from cellkin.core.artifacts import write_json
from cellkin.core.numbers import number, percent, percent_range, points
from cellkin.core.records import NOTICE, Neighbor
from cellkin.core.studies import Call, Mixup, Study, StudyRow
from cellkin.report.exports import write_tables
from cellkin.report.pages import picture_uri, write_page
from cellkin.report.scatter import COLORS
from cellkin.report.study_maps import study_maps
from cellkin.report.words import shown_name

Images = Callable[[str, str], Array | None]

RIGHT_SHOWN, WRONG_SHOWN, PICTURED = 12, 60, 24  # cells listed of one place of a matrix
THUMBNAIL, LARGE = 96, 176  # pixels, shown at half of it
STEPS = (0.01, 0.02, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25)  # between the ticks of the forest plot
HEAD = 5  # findings at the top; the others are folded
EXAMPLES = 4  # rows with an example of a right and of a wrong decision


def save_study(
    study: Study,
    folder: str | Path,
    *,
    images: Images | None = None,
) -> Path:
    """Write `index.html`, `study.json` and `tables/` into the folder of the results; the page is
    returned. The paths of its calls' pages are relative to that folder.

    Args:
        images: gives the (H, W, 3) uint8 RGB image of a cell by data set and id, or None; asked
            for wrong calls and examples only.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    view = _View(study, images)
    write_json(folder / "study.json", study.to_json())
    write_tables(study, folder / "tables")
    return write_page("study.html.j2", view.context(), folder / "index.html")


class _View:
    """What the page shows, as plain data for its template."""

    def __init__(self, study: Study, images: Images | None) -> None:
        self.study, self.images = study, images

    def context(self) -> dict[str, Any]:
        study = self.study
        tables = {table.name: table for table in study.tables}
        names = (
            *("results", "across_places", "by_place", "leakage", "paired_tests", "external"),
            *("real_cells", "measures"),
        )
        return {
            "title": study.title,
            "heads": study.findings,
            "head": HEAD,
            "about": _about(study),
            "missing": study.missing,
            "tables": {name: tables[name] for name in names if name in tables},
            "forest": _forest(study),
            "matrices": [self._matrix(i, row) for i, row in enumerate(study.rows)],
            "maps": study_maps(study),
            "examples": self._examples(),
            "counts": _counts(study),
            "command": _command(study),
            "notice": NOTICE,
            "drawn": _drawn(study),
            "facts": _facts(study),
            "provenance": _provenance(study),
            "colors": COLORS,
        }

    # confusion matrices ---------------------------------------------------------------------

    def _matrix(self, index: int, row: StudyRow) -> dict[str, Any]:
        names = row.labels.names
        total = max(int(row.confusion.sum()), 1)
        places: dict[tuple[str, str], list[Call]] = {}
        for call in row.calls:
            places.setdefault((call.truth, call.label), []).append(call)
        largest = max(1, int(row.confusion.max()))
        lines = []
        for i, truth in enumerate(names):
            cells = []
            for j, called in enumerate(names):
                count = int(row.confusion[i, j])
                cells.append(
                    {
                        "count": count,
                        "percent": points(count / total),
                        "href": f"m{index}-{i}-{j}" if count else None,
                        "right": i == j,
                        "strength": round(count / largest, 3),
                        "words": f"{row.labels.title(truth)} called {row.labels.title(called)}",
                    }
                )
            lines.append({"title": row.labels.title(truth), "cells": cells})
        lists = [
            self._listed(index, row, (truth, called), places[truth, called])
            for truth in names
            for called in names
            if (truth, called) in places
        ]
        return {
            "id": f"m{index}",
            "title": row.title,
            "where": _where(row),
            "open": row.proposed,
            "columns": [row.labels.title(name) for name in names],
            "lines": lines,
            "lists": lists,
            "mixups": [_mixup(entry) for entry in row.mixups],
            "table": f"confusion_{index + 1}",
        }

    def _listed(
        self, index: int, row: StudyRow, place: tuple[str, str], calls: Sequence[Call]
    ) -> dict[str, Any]:
        truth, called = place
        i, j = row.labels.index(truth), row.labels.index(called)
        most = RIGHT_SHOWN if i == j else WRONG_SHOWN
        shown = sorted(calls, key=lambda c: (c.page is None, c.id, c.seed, c.fold))[:most]
        pictured = PICTURED if i != j and row.proposed else 0
        return {
            "id": f"m{index}-{i}-{j}",
            "title": f"{row.labels.title(truth)} called {row.labels.title(called)}",
            "count": len(calls),
            "cells": [self._cell(row, call, n < pictured) for n, call in enumerate(shown)],
            "hidden": len(calls) - len(shown),
        }

    def _cell(self, row: StudyRow, call: Call, pictured: bool, side: int = THUMBNAIL) -> Any:
        distance = call.mean_distance
        return {
            "id": call.id,
            "name": shown_name(call.id),
            "image": self._picture(row.described, call.id, side) if pictured else None,
            "truth": row.labels.title(call.truth),
            "call": row.labels.title(call.label),
            "subject": call.subject or call.group,
            "fold": f"fold {call.fold}" + (f", seed {call.seed}" if len(row.seeds) > 1 else ""),
            "distance": None if distance is None else number(distance),
            "kin": [_kin(row, neighbor) for neighbor in call.neighbors],
            "href": None if call.page is None else quote(call.page, safe="/"),
        }

    def _picture(self, dataset: str, name: str, side: int) -> str | None:
        image = None if self.images is None else self.images(dataset, name)
        return None if image is None else picture_uri(image, side)

    # examples -------------------------------------------------------------------------------

    def _examples(self) -> list[dict[str, Any]]:
        rows = [
            row for row in self.study.rows if row.proposed and any(c.neighbors for c in row.calls)
        ]
        return [self._example(row) for row in rows[:EXAMPLES]]

    def _example(self, row: StudyRow) -> dict[str, Any]:
        """The right and the wrong call of median distance to their kin: typical, not chosen."""
        sides, labels = [], row.labels
        for right in (True, False):
            calls = [
                c for c in row.calls if c.neighbors and labels.right(c.label, c.truth) == right
            ]
            calls.sort(key=lambda c: (c.mean_distance or 0.0, c.id))
            if calls:
                typical = calls[(len(calls) - 1) // 2]
                cell = self._cell(row, typical, True, LARGE)
                for kin, neighbor in zip(cell["kin"], typical.neighbors, strict=True):
                    kin["image"] = self._picture(row.dataset, neighbor.id, LARGE)
                sides.append(
                    {
                        "right": right,
                        "cell": cell,
                        "count": len(calls),
                        "median": number(float(typical.mean_distance or 0.0)),
                    }
                )
        return {"title": row.title, "where": _where(row), "sides": sides}


def _kin(row: StudyRow, neighbor: Neighbor) -> dict[str, Any]:
    label = neighbor.label
    return {
        "id": neighbor.id,
        "name": shown_name(neighbor.id),
        "title": row.labels.title(label) if label in row.labels.names else label,
        "distance": number(neighbor.distance),
        "image": None,
    }


def _where(row: StudyRow) -> str:
    return f"{row.data}, split by {row.unit}"


def _mixup(entry: Mixup) -> dict[str, Any]:
    confused = entry.confused
    said = "holds" if not confused else f"does not hold: {confused} of {entry.cells}"
    return {"good": not confused, "text": f"{entry.name.capitalize()}: {said}"}


def _forest(study: Study) -> list[dict[str, Any]]:
    """One group of rows per data set and unit, on one scale."""
    groups: dict[str, list[StudyRow]] = {}
    for row in study.rows:
        if row.measures[row.main].value is not None:
            groups.setdefault(_where(row), []).append(row)
    if not groups:
        return []
    every = [row.measures[row.main] for rows in groups.values() for row in rows]
    lowest = min(m.low if m.low is not None else (m.value or 0.0) for m in every)
    step = next((s for s in STEPS if 1 - 4 * s <= lowest - s / 4), STEPS[-1])
    floor = 1 - 4 * step
    ticks = [floor + step * i for i in range(5)]
    return [
        {
            "title": title,
            "measure": "lymphoblast or not" if rows[0].main != "accuracy" else "all classes",
            "rows": [_bar(row, floor) for row in rows],
            "ticks": [(400 * (t - floor) / (1 - floor), f"{100 * t:.4g}") for t in ticks],
        }
        for title, rows in groups.items()
    ]


def _bar(row: StudyRow, floor: float) -> dict[str, Any]:
    measure = row.measures[row.main]
    known = measure.low is not None and measure.high is not None

    def place(share: float | None) -> float:
        return 400 * (max(share or 0.0, floor) - floor) / (1 - floor)

    interval = measure.note.partition(" (")[0] or "no interval"
    if known:
        interval = percent_range(measure.low, measure.high)
    return {
        "title": row.title,
        "proposed": row.proposed,
        "at": place(measure.value),
        "low": place(measure.low) if known else None,
        "high": place(measure.high) if known else None,
        "value": percent(measure.value or 0.0),
        "interval": interval,
        "known": known,
        "how": measure.method,
    }


def _counts(study: Study) -> list[tuple[str, str]]:
    rows = study.rows
    return [
        ("Rows", str(len(rows))),
        ("Jobs scored", str(sum(row.folds for row in rows))),
        ("Decisions kept", f"{sum(row.cells for row in rows):,}"),
        ("Data sets", str(len({row.tested_on for row in rows}))),
    ]


def _command(study: Study) -> str:
    """What makes these results, or the rest of them."""
    command = str(study.facts.get("command") or "")
    return f"{command} --resume" if command and study.missing else command


def _about(study: Study) -> str:
    experiment = study.facts.get("experiment")
    return str(experiment.get("about") or "") if isinstance(experiment, Mapping) else ""


def _drawn(study: Study) -> bool:
    data = study.facts.get("data")
    if not isinstance(data, Mapping):
        return False
    return any(isinstance(own, Mapping) and bool(own.get("drawn")) for own in data.values())


def _facts(study: Study) -> list[tuple[str, str]]:
    """The data sets, in words."""
    data = study.facts.get("data")
    rows: list[tuple[str, str]] = []
    for name, own in data.items() if isinstance(data, Mapping) else ():
        for key, value in own.items() if isinstance(own, Mapping) else ():
            rows += _flat(f"{name}: {key}", value)
    return rows


def _provenance(study: Study) -> list[tuple[str, str]]:
    seeds = sorted({seed for row in study.rows for seed in row.seeds})
    rows = [("Command", str(study.facts.get("command") or "not kept"))]
    rows.append(("Seeds", ", ".join(map(str, seeds))))
    experiment = study.facts.get("experiment")
    if isinstance(experiment, Mapping) and experiment.get("sha256"):
        rows.append(("Experiment file, SHA-256", str(experiment["sha256"])))
    rows.append(("All predictions, hash", str(study.facts.get("predictions", "not kept"))))
    environment = study.facts.get("environment")
    for key, value in environment.items() if isinstance(environment, Mapping) else ():
        rows += _flat(str(key), value)
    return rows


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """A fact as one line of words."""
    if value in (None, "", [], {}):
        return []
    if isinstance(value, Mapping):
        return [(name, ", ".join(f"{k} {v}" for k, v in value.items()))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))]
    return [(name, "yes" if value is True else "no" if value is False else str(value))]
