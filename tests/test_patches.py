"""Windows over fields: labels against a naive count, what is dropped, and broken lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import allidb1_names, pictures, points, write_csv

from cellkin import datasets
from cellkin.core.errors import CellkinError, LabelError, LayoutError, RecipeError
from cellkin.core.records import LYMPHOBLAST, NO_CELL, OTHER_CELL, Dataset
from cellkin.datasets.injecting.centroids import OtherCells, read_others
from cellkin.datasets.injecting.patches import cut_patches
from cellkin.imaging.decode import decode

BLASTS = {"Im001_1": [(10.0, 10.0), (70.0, 50.0)], "Im003_1": [(5.0, 5.0)]}
OTHERS = {"Im001_1": [(20.0, 12.0)], "Im002_0": [(40.0, 40.0)], "Im003_1": []}


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three fields of 100 x 70 pixels."""
    root = tmp_path_factory.mktemp("fields")
    pictures(root, allidb1_names({1: 1, 2: 0, 3: 1}), size=(70, 100))
    for name, centroids in BLASTS.items():
        points(root, name, centroids)
    return datasets.open(root)


def naive(
    name: str,
    others: Mapping[str, Sequence[tuple[float, float]]],
    complete: bool,
    window: int,
    step: int,
) -> dict[str, str]:
    """Labels of one field's windows by a loop over pixels of corners and points."""
    found = {}
    for y in range(0, 70, step):
        for x in range(0, 100, step):
            if x + window > 100 or y + window > 70:
                continue
            kinds = Counter()
            for kind, centroids in (("b", BLASTS.get(name, [])), ("o", others.get(name, []))):
                kinds[kind] += sum(
                    x <= px < x + window and y <= py < y + window for px, py in centroids
                )
            if kinds["b"] and kinds["o"]:
                continue
            if kinds["b"] or kinds["o"]:
                label = "lymphoblast" if kinds["b"] else "normal"
            elif complete:
                label = "nothing"
            else:
                continue
            found[f"{name}/x{x:04d}_y{y:04d}"] = label
    return found


@settings(max_examples=25, deadline=None)
@given(
    window=st.integers(16, 60),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.6]),
    complete=st.sets(st.sampled_from(["Im001_1", "Im002_0", "Im003_1"])),
)
def test_labels_are_those_of_a_naive_count(
    fields: Dataset, window: int, overlap: float, complete: set[str]
) -> None:
    others = OtherCells(OTHERS, frozenset(complete))
    step = round(window * (1 - overlap))
    expected: dict[str, str] = {}
    for name in ("Im001_1", "Im002_0", "Im003_1"):
        expected |= naive(name, OTHERS, name in complete, window, step)
    if len(set(expected.values())) < 2:
        with pytest.raises(LabelError, match="the windows are of"):
            cut_patches(fields, others, window=window, overlap=overlap)
        return
    data = cut_patches(fields, others, window=window, overlap=overlap)
    assert {s.id: s.label for s in data} == expected
    assert all(s.group == s.id.partition("/")[0] for s in data)


def test_a_window_is_the_part_of_its_field(fields: Dataset, tmp_path: Path) -> None:
    data = cut_patches(fields, OtherCells(OTHERS, frozenset(OTHERS)), window=32)
    again = datasets.open(datasets.save(data, tmp_path / "p.json"))
    assert again.layout == "ALL-IDB Patches"
    assert again.labels.clinical == {
        "nothing": NO_CELL,
        "normal": OTHER_CELL,
        "lymphoblast": LYMPHOBLAST,
    }
    for sample in again:
        field = decode(sample.image.path)
        x, y = (int(word[1:]) for word in sample.id.partition("/")[2].split("_"))
        assert sample.image.box == (x, y, x + 32, y + 32)
        assert np.array_equal(decode(sample.image), field[y : y + 32, x : x + 32])
    report = datasets.check(again)
    assert report.ok
    assert report.counts == data.counts()
    assert report.complete is False
    assert report.total_groups == 3


def test_nothing_is_said_only_where_the_list_is_complete(fields: Dataset) -> None:
    one = cut_patches(fields, OtherCells(OTHERS, frozenset({"Im003_1"})), window=32)
    assert {s.group for s in one if s.label == "nothing"} == {"Im003_1"}
    every = cut_patches(fields, OtherCells(OTHERS, frozenset(OTHERS)), window=32)
    dropped = len(every) - len(one)
    assert f"{dropped} windows are left out: no centroid, and no complete list" in one.notes
    assert not any("no complete list" in note for note in every.notes)
    both = sum("both kinds" in note for note in every.notes)
    assert both == 1


def test_a_field_of_the_publisher_has_13_by_9_windows(tmp_path: Path) -> None:
    pictures(tmp_path, allidb1_names({1: 1}), size=(1944, 2592))
    pictures(tmp_path, allidb1_names({2: 0}), size=(300, 300))
    points(tmp_path, "Im001_1", [(5, 5)])
    cells = OtherCells({"Im001_1": []}, frozenset({"Im001_1"}))
    data = cut_patches(datasets.open(tmp_path), cells)
    assert len([s for s in data if s.group == "Im001_1"]) == 13 * 9


def test_fields_stay_on_one_side(fields: Dataset) -> None:
    data = cut_patches(fields, OtherCells(OTHERS, frozenset(OTHERS)), window=20, overlap=0.5)
    assert datasets.split_unit(data) == "slide/field"


def test_a_list_of_other_cells(tmp_path: Path) -> None:
    rows = [["field", "x", "y", "complete"], ["A", 1, 2, "yes"], ["A", 3.5, 4, "yes"]]
    rows += [["B", "", "", "yes"], ["C", 1, 1, "no"], ["D", 2, 2, ""]]
    path = write_csv(tmp_path / "o.csv", rows)
    cells = read_others(path)
    assert cells.points == {"A": [(1, 2), (3.5, 4)], "B": [], "C": [(1, 1)], "D": [(2, 2)]}
    assert cells.complete == {"A", "B"}
    assert read_others(path, complete=True).complete == set("ABCD")


LISTS: Mapping[str, tuple[str, str]] = {
    "a missing column": ("field,x\nIm001_1,3\n", "lacks the column y"),
    "not a number": ("field,x,y\nIm001_1,3,five\n", "(3, five) of Im001_1 are no two numbers"),
    "one coordinate": ("field,x,y\nIm001_1,3,\n", "(3, ) of Im001_1 are no two numbers"),
    "negative": ("field,x,y\nIm001_1,3,-1\n", "(3, -1) of Im001_1 does not lie in a field"),
    "not finite": ("field,x,y\nIm001_1,nan,1\n", "does not lie in a field"),
    "no field": ("field,x,y\n,3,1\n", "line 2: the field is empty"),
    "twice": (
        "field,x,y\nIm001_1,3,1\nIm001_1,3.0,1\n",
        "line 3: (3, 1) of Im001_1 is listed twice",
    ),
    "unknown field": ("field,x,y\nIm009_1,3,1\n", "1 fields of the list are not in the data set"),
    "outside": ("field,x,y\nIm001_1,100,1\n", "outside of their field of 100 x 70 pixels"),
    "neither yes nor no": ("field,x,y,complete\nIm001_1,3,1,maybe\n", "complete is 'maybe'"),
    "yes and no": (
        "field,x,y,complete\nIm001_1,3,1,yes\nIm001_1,4,1,no\n",
        "complete in one row and not in another",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_broken_lists(name: str, fields: Dataset, tmp_path: Path) -> None:
    text, what = LISTS[name]
    path = tmp_path / "others.csv"
    path.write_text(text)
    with pytest.raises(CellkinError) as caught:
        cut_patches(fields, read_others(path), window=32)
    assert what in caught.value.what
    assert caught.value.where
    assert caught.value.mend


def test_what_cannot_be_cut(fields: Dataset, smears: Dataset, tmp_path: Path) -> None:
    none = OtherCells({})
    with pytest.raises(LayoutError, match="no such file"):
        read_others(tmp_path / "none.csv")
    for wrong in ({"window": 8}, {"overlap": 1.0}, {"overlap": -0.1}):
        with pytest.raises(RecipeError, match="is not possible"):
            cut_patches(fields, none, **wrong)  # type: ignore[arg-type]
    with pytest.raises(LayoutError, match="does not fit into a field of 100 x 70"):
        cut_patches(fields, none, window=80)
    with pytest.raises(LayoutError, match="marks no blasts"):
        cut_patches(smears, none)
    pictures(tmp_path, allidb1_names({1: 1, 2: 1, 3: 0}))
    points(tmp_path, "Im001_1", [(1, 1)])
    with pytest.raises(LabelError, match="1 fields of persons with blasts list none: im/Im002_1"):
        cut_patches(datasets.open(tmp_path), none, window=16)
    points(tmp_path, "Im002_1", [(1, 25)])
    with pytest.raises(LabelError, match="1 centroids of blasts lie outside") as caught:
        cut_patches(datasets.open(tmp_path), none, window=16)
    assert caught.value.where == "im/Im002_1.jpg"


def test_the_file_says_how_it_was_made(fields: Dataset, tmp_path: Path) -> None:
    data = cut_patches(fields, OtherCells(OTHERS, frozenset(OTHERS)), window=32)
    path = datasets.save(data, tmp_path / "p.json", made_by={"window": 32})
    assert json.loads(path.read_text())["made_by"] == {"window": 32}
