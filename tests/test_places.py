"""Places, the laboratories or scanners that cells come from: read, told, split by, and measured."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from layouts import picture, write_csv

from cellkin import datasets
from cellkin.atlas import Atlas
from cellkin.cli.cells import inspect
from cellkin.core.errors import LabelError, SplitError
from cellkin.core.records import Dataset
from cellkin.core.units import Owners
from cellkin.datasets.auditing import audit
from cellkin.datasets.auditing.sides import write_merged
from cellkin.datasets.parts.places import cells_by_place, place_warnings
from cellkin.datasets.parts.splits import cut, left_out
from cellkin.measures.robustness import robustness_index
from cellkin.report import headlines, model_card, place_limits, save, save_audit
from cellkin.system import DecisionSupport
from cellkin.system.cards import atlas_card

Row = tuple[str, str, str, str]  # label, place, subject, group


def table(root: Path, rows: Sequence[Row], column: str = "place") -> Dataset:
    """A labels.csv with pictures; empty columns stay away."""
    names = [f"c{i:03d}.png" for i in range(len(rows))]
    for i, name in enumerate(names):
        picture(root / name, seed=i)
    columns = ["label", column, "subject", "group"]
    used = [j for j in range(4) if any(row[j] for row in rows)]
    lines = [[name, *(row[j] for j in used)] for name, row in zip(names, rows, strict=True)]
    write_csv(root / "labels.csv", [["file", *(columns[j] for j in used)], *lines])
    write_csv(
        root / "classes.csv", [["label", "clinical"], ["a", "other cell"], ["b", "other cell"]]
    )
    return datasets.open(root)


def crossed(place: bool = True, subject: bool = False, group: bool = False) -> list[Row]:
    """Two classes in two places, twelve cells each; two cells of every subject or slide."""
    return [
        (
            label,
            home if place else "",
            f"{home}-{label}-P{i // 2}" if subject else "",
            f"{home}-{label}-F{i // 2}" if group else "",
        )
        for label in "ab"
        for home in ("here", "there")
        for i in range(12)
    ]


# reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["place", "Laboratory", "site", "SCANNER", "centre", " Place "])
def test_a_table_names_places(column: str, tmp_path: Path) -> None:
    data = table(tmp_path, crossed(), column)
    assert {s.place for s in data} == {"here", "there"}
    again = datasets.open(datasets.save(data, tmp_path / "saved.json"))
    assert [s.place for s in again] == [s.place for s in data]
    merged = write_merged(data, [], tmp_path / "merged.csv").read_text()
    assert merged.splitlines()[0] == "file,label,subject,group,place"


@pytest.mark.parametrize("column", ["lab", "Hospital", "center", "laboratories", "scanner id"])
def test_another_name_for_place_is_never_passed_over(column: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="unknown column") as caught:
        table(tmp_path, crossed(), column)
    assert "did you mean 'place'?" in caught.value.mend


@pytest.mark.parametrize("column", ["centroid", "scan", "case notes", "replace", "websites"])
def test_a_column_of_its_own_is_no_misspelt_place(column: str, tmp_path: Path) -> None:
    data = table(tmp_path, crossed(), column)
    assert {s.place for s in data} == {None}
    assert any("not used" in note for note in data.notes)


def test_two_columns_of_places_are_refused(tmp_path: Path) -> None:
    table(tmp_path, crossed())
    text = (tmp_path / "labels.csv").read_text().splitlines()
    wider = [text[0] + ",scanner", *(line + ",x" for line in text[1:])]
    (tmp_path / "labels.csv").write_text("\n".join(wider))
    with pytest.raises(LabelError, match="place and scanner, which mean the same"):
        datasets.open(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), [("here", "Here"), ("here", "h\u0435re"), ("a-b", "a b"), ("lab 1", "lab01")]
)
def test_one_place_in_two_spellings_is_refused(one: str, other: str, tmp_path: Path) -> None:
    rows = crossed()
    rows[0], rows[1] = ("a", one, "", ""), ("a", other, "", "")
    with pytest.raises(LabelError, match="one place in two spellings"):
        table(tmp_path, rows)


@pytest.mark.parametrize("word", ["unknown", "n/a", "?", "-"])
def test_a_word_for_not_known_is_no_place(word: str, tmp_path: Path) -> None:
    rows = crossed()
    rows[0] = ("a", word, "", "")
    data = table(tmp_path, rows)
    assert sum(s.place is None for s in data) == 1
    assert any("the place of 1 of 48 images is taken as not known" in n for n in data.notes)


# said ------------------------------------------------------------------------------------------


def test_check_tells_cells_by_place_and_class(tmp_path: Path) -> None:
    report = datasets.check(table(tmp_path, crossed()))
    assert report.places == {name: {"here": 12, "there": 12} for name in "ab"}
    told = "\n".join(report.lines())
    assert "2 places" in told
    assert "12 here, 12 there" in told
    assert not any("comes from place" in warning for warning in report.warnings)


def test_a_class_of_one_place_alone_is_said_everywhere(tmp_path: Path) -> None:
    rows = [(label, "here" if label == "a" else home, "", "") for label, home, _, _ in crossed()]
    data = table(tmp_path, rows)
    told = "every cell of class a comes from place here: what tells the class may be the place"
    assert place_warnings(data) == (told,)
    assert told in datasets.check(data).warnings
    assert all(told in split.note for split in cut(data, n=3))
    found = audit(data)
    assert any(told[1:] in head["text"] for head in headlines(found))
    assert any(cue.name == "place" and cue.state == "alarm" for cue in found.cues)
    page = save_audit(found, lambda _: np.zeros((8, 8, 3), np.uint8), tmp_path / "audit.html")
    text = page.read_text()
    assert "Place meter" in text
    assert told[1:] in text
    alone = dataclasses.replace(data, samples=tuple(s for s in data if s.place == "here"))
    assert place_warnings(alone) == ()


@pytest.mark.parametrize(("subject", "group"), [(True, False), (False, True)])
def test_a_subject_or_slide_of_two_places_is_said_and_kept_together(
    subject: bool, group: bool, tmp_path: Path
) -> None:
    rows = crossed(subject=subject, group=group)
    rows[0] = ("a", "there", *rows[0][2:])  # type: ignore[assignment]
    data = table(tmp_path, rows)
    (told,) = place_warnings(data)
    assert "in more than one place" in told
    split = left_out(data, "there")
    name = "subject" if subject else "group"
    tested = {getattr(s, name) for s in data.select(split.test)}
    assert not tested & {getattr(s, name) for s in data.select((*split.train, *split.val))}
    assert "1 cells of 1" in split.note


def test_the_audit_knows_a_picture_of_two_places(tmp_path: Path) -> None:
    data = table(tmp_path, crossed())
    names = [s.id for s in data]
    (tmp_path / names[12]).write_bytes((tmp_path / names[0]).read_bytes())  # here -> there
    found = audit(datasets.open(tmp_path))
    (pair,) = found.crossing("place")
    assert {pair.first, pair.second} == {names[0], names[12]}
    assert any("under two places" in head["text"] for head in headlines(found))
    assert found.to_json()["found"]["across place"] == 1


# splits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "group", "unit"),
    [(False, False, "image"), (True, False, "subject"), (False, True, "slide/field"),
     (True, True, "subject")],
)  # fmt: skip
def test_each_place_is_left_out_once(subject: bool, group: bool, unit: str, tmp_path: Path) -> None:
    data = table(tmp_path, crossed(subject=subject, group=group))
    parts = cut(data, n=2, unit="place")
    home = {s.id: s.place for s in data}
    for split, place in zip(parts, ("here", "there"), strict=True):
        assert {home[i] for i in split.test} == {place}
        assert not {home[i] for i in (*split.train, *split.val, *split.calibration)} & {place}
        assert sum(split.counts().values()) == len(data)
        assert split.unit == unit
        assert f"place '{place}' is left out" in split.note
    assert cut(data, n=1, unit="place") == parts[1:]
    with pytest.raises(SplitError, match="5 folds cannot be cut from the places"):
        cut(data, n=5, unit="place")


def test_what_cannot_be_left_out_is_refused_with_a_mend(tmp_path: Path) -> None:
    none = table(tmp_path / "none", crossed(place=False))
    with pytest.raises(SplitError, match="48 of 48 images have no place") as caught:
        cut(none, n=2, unit="place")
    assert "labels.csv" in caught.value.mend
    one = table(tmp_path / "one", [(r[0], "here", "", "") for r in crossed()])
    with pytest.raises(SplitError, match="all cells come from 'here'"):
        cut(one, n=1, unit="place")
    two = table(tmp_path / "two", crossed())
    with pytest.raises(SplitError, match="no place 'hear'") as caught:
        left_out(two, "hear")
    assert "did you mean 'here'?" in caught.value.mend
    rows = [r for r in crossed() if r[:2] != ("b", "here")]
    with pytest.raises(SplitError, match="no other place than 'there' has this class"):
        left_out(table(tmp_path / "lone", rows), "there")


# the robustness index --------------------------------------------------------------------------


def naive(near: np.ndarray, classes: Sequence[str], places: Sequence[str]) -> float:
    up = down = 0
    for i, row in enumerate(near.tolist()):
        others = [j for j in range(len(classes)) if j != i]
        kin = any(classes[j] == classes[i] and places[j] != places[i] for j in others)
        mates = any(classes[j] != classes[i] and places[j] == places[i] for j in others)
        if kin and mates:
            up += sum(classes[j] == classes[i] and places[j] != places[i] for j in row)
            down += sum(classes[j] != classes[i] and places[j] == places[i] for j in row)
    return up / (up + down)


def test_the_index_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        classes = rng.choice(list("abc"), 40).tolist()
        places = rng.choice(["x", "y", "z"], 40, p=[0.6, 0.3, 0.1]).tolist()
        near = np.stack([rng.permutation(40)[:5] for _ in range(40)])
        owners = Owners("subject", tuple(f"S{i // 2}" for i in range(40)))
        found = robustness_index(near, classes, places, owners, seed=0)
        assert found is not None
        assert found.index == pytest.approx(naive(near, classes, places))
        low, high = found.interval.ends
        assert low is not None
        assert high is not None
        assert low <= found.index <= high
        assert "subjects" in found.interval.method


def test_the_ends_of_the_index() -> None:
    classes, places = ["a", "a", "b", "b"] * 6, ["x", "y"] * 12
    owners = Owners("image", tuple(map(str, range(24))))
    by_class = np.array([[j for j in range(24) if classes[j] == classes[i] and j != i][:11]
                         for i in range(24)])  # fmt: skip
    by_place = np.array([[j for j in range(24) if places[j] == places[i] and j != i][:11]
                         for i in range(24)])  # fmt: skip
    perfect = robustness_index(by_class, classes, places, owners, seed=0)
    worst = robustness_index(by_place, classes, places, owners, seed=0)
    assert perfect is not None
    assert worst is not None
    assert (perfect.index, worst.index) == (1.0, 0.0)
    assert perfect.chance == pytest.approx(0.5)
    assert perfect.unit == "image"
    apart = robustness_index(by_class, classes, classes, owners, seed=0)
    assert apart is None, "where the place is the class there is nothing to compare"


# the atlas -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_places(smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small atlas' encoder over cells of two made-up places: by subject."""
    from conftest import SMALL

    from cellkin.system import train

    people = smears.subjects()
    samples = tuple(
        dataclasses.replace(s, place=("left", "right")[people.index(str(s.subject)) % 2])
        for s in smears
    )
    out = tmp_path_factory.mktemp("places") / "atlas"
    data = dataclasses.replace(smears, samples=samples)
    return train(data, SMALL.with_changes(epochs=1), seed=0, out=out)


def test_an_atlas_keeps_its_places_and_its_kin_name_them(two_places: Path) -> None:
    dss = DecisionSupport.open(two_places, device="cpu")
    assert set(dss.atlas.cells.places) == {"left", "right"}
    assert all({*part.places} <= {"left", "right"} for part in dss.atlas.held_out)
    told = dss.decide(dss.atlas.image(0)).to_json()["neighbors"]
    places = dict(zip(dss.atlas.cells.ids, dss.atlas.cells.places, strict=True))
    assert [kin["place"] for kin in told] == [places[kin["id"]] for kin in told]
    rows = json.loads((two_places / "predictions.json").read_text())
    assert {row["place"] for row in rows} <= {"left", "right"}


def test_an_atlas_tells_its_places_and_its_robustness(two_places: Path) -> None:
    atlas = Atlas.open(two_places)
    facts = atlas.facts
    cells = facts["places"]["cells"]
    assert set(cells) == {"left", "right"}
    assert 0 <= facts["robustness"]["index"] <= 1
    card = (two_places / "model_card.md").read_text()
    assert "Robustness to the place" in card
    assert "Cells of place left" in card
    low = {**atlas_card(atlas, "atlas"), "robustness": {**facts["robustness"], "index": 0.3}}
    assert "robustness index is low (0.3" in model_card(low)


def test_inspect_and_the_page_tell_places(
    two_places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(two_places)
    told = capsys.readouterr().out
    assert "places      Cells of place left: " in told
    assert "places      Robustness to the place: " in told
    dss = DecisionSupport.open(two_places, device="cpu")
    page = save(dss.explain(dss.atlas.image(0)), tmp_path / "cell.html").read_text()
    kin = dss.decide(dss.atlas.image(0)).neighbors
    for name in {str(one.place) for one in kin}:
        assert f"place {name}" in page


def test_an_atlas_of_before_places_opens(two_places: Path, tmp_path: Path) -> None:
    from cellkin.atlas.cells import read_cells, read_marks

    path = tmp_path / "cells.sqlite"
    path.write_bytes((two_places / "cells.sqlite").read_bytes())
    with sqlite3.connect(path) as base:
        base.execute("ALTER TABLE cells DROP COLUMN place")
    base.close()
    assert {place for cells in read_cells(path, 48) for place in cells.places} == {None}
    assert None not in read_marks(path)


def test_places_and_shortcuts_are_warned_of_in_words() -> None:
    cue = {"verdict": "The border strip alone tells the class", "balanced_accuracy": 0.9,
           "chance": 0.5, "state": "alarm"}  # fmt: skip
    quiet = {**cue, "verdict": "The four corners do not tell the class", "state": "silent"}
    (told,) = place_limits({"surroundings": [cue, quiet]})
    assert told.startswith("The border strip alone tells the class (90.0 % balanced accuracy")
    (alone,) = place_limits({"places": {"cells": {"here": {"a": 3}}, "warnings": []}})
    assert "no other laboratory was tested" in alone
    assert place_limits({}) == []


def test_the_surroundings_of_a_planted_shortcut_are_found(two_places: Path) -> None:
    from cellkin.atlas import Cells
    from cellkin.system.surroundings import surroundings_facts

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (120, 24, 24, 3)).astype(np.uint8)
    labels = tuple("ab"[i % 2] for i in range(120))
    cells = Cells("reference", tuple(map(str, range(120))), labels, (None,) * 120, (None,) * 120)
    blank = surroundings_facts(cells, pictures, "image", seed=0)["surroundings"]
    assert {cue["state"] for cue in blank} == {"silent"}
    pictures[::2, :2] = 250
    planted = surroundings_facts(cells, pictures, "image", seed=0)["surroundings"]
    assert all(cue["state"] == "alarm" for cue in planted)
    few = Cells("reference", cells.ids[:90], labels[:90], (None,) * 90, (None,) * 90)
    assert surroundings_facts(few, pictures[:90], "image", seed=0) == {}


def test_cells_by_place(tmp_path: Path) -> None:
    data = table(tmp_path, crossed())
    assert cells_by_place(data) == {name: {"a": 12, "b": 12} for name in ("here", "there")}
