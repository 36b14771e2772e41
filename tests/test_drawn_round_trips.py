"""`draw` -> `open`: what was drawn in a publisher's layout is what its reader finds."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pytest

from cellkin import datasets
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, Dataset
from cellkin.drawing import tissue
from cellkin.drawing.drawn import Order, draw_layout

pytest.importorskip("cellkin.datasets.readers.allidb1", reason="no readers of these layouts here")

ORDER = Order(cells=36, subjects=6, size=40, seed=7)


def drawn(name: str, tmp_path: Path) -> tuple[Dataset, list[dict[str, str]]]:
    folder = draw_layout(name, tmp_path / name, ORDER)
    data = datasets.open(folder)
    assert data.drawn
    table = folder / (tissue.TABLE if name == "adp" else "masks/cells.csv")
    with table.open(encoding="utf-8", newline="") as file:
        return data, list(csv.DictReader(file))


def test_all_idb1(tmp_path: Path) -> None:
    from cellkin.datasets.injecting.centroids import read_others

    data, truth = drawn("all-idb1", tmp_path)
    blasts, others = defaultdict(list), defaultdict(list)
    for row in truth:
        cells = blasts if row["kind"] == "lymphoblast" else others
        cells[row["file"]].append([float(row["x"]), float(row["y"])])
    assert data.layout == "ALL-IDB1"
    assert {sample.id for sample in data} == {row["file"] for row in truth}
    listed = read_others(data.root / "others.csv")
    assert listed.complete == {PurePosixPath(sample.id).stem for sample in data}
    for sample in data:
        assert sample.annotations.get("blasts", []) == blasts[sample.id]
        ill = data.labels.clinical[sample.label] == LYMPHOBLAST
        assert ill == bool(blasts[sample.id])
        points = listed.points[PurePosixPath(sample.id).stem]
        assert [list(point) for point in points] == others[sample.id]


def test_all_idb2(tmp_path: Path) -> None:
    data, truth = drawn("all-idb2", tmp_path)
    assert data.layout == "ALL-IDB2"
    found = {sample.id: data.labels.clinical[sample.label] for sample in data}
    assert found == {
        row["file"]: LYMPHOBLAST if row["kind"] == "lymphoblast" else OTHER_CELL for row in truth
    }


def test_adp(tmp_path: Path) -> None:
    data, table = drawn("adp", tmp_path)
    assert [len(level) for level in data.levels] == [9, 26, 38]
    said = {f"img/{row['Patch Names']}": row for row in table}
    assert {sample.id for sample in data} == set(said)
    for sample in data:
        for depth, level in enumerate(data.levels):
            expected = {code for code in level if said[sample.id][code] == "1"}
            assert set(sample.labels[depth]) == expected
    assert len({sample.group for sample in data}) == ORDER.subjects
