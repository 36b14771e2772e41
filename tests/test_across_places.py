"""Each place left out in turn: several data sets as one, their parts, the rows, and the table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from study_results import CLASSES, job, prediction

from cellkin.core.engine import Crew
from cellkin.core.errors import DataError, LabelError, RecipeError, SplitError
from cellkin.core.progress import silent
from cellkin.core.records import OTHER_CELL, Dataset, Features, ImageRef, LabelSet, Sample
from cellkin.datasets.parts.seen import seen_to_training
from cellkin.decision import MinMaxScale
from cellkin.report import save_study
from cellkin.study.alignment import ALIGNMENTS, aligned
from cellkin.study.evaluate import StudyOptions, evaluate
from cellkin.study.experiment_file import Experiment, load_experiment
from cellkin.study.pictures import Pictures
from cellkin.study.places import PLACES, joined, parts_by_place
from cellkin.study.plan import plan
from cellkin.study.predictions import Results
from cellkin.study.sources import Gathered, gather
from cellkin.study.tables import summarize

TOLD = """
title = "tiny"
units = ["place"]
maps = false
recipes = ["demo"]
backbones = ["test_resnet"]
inits = ["scratch"]
methods = {methods}
{lists}
[changes]
size = 32
epochs = 1
warmup_epochs = 0
frozen_stages = -1
frozen_batch_norm = false
validate_from = 1
[data.east]
drawn = {{ cells = 48, subjects = 6, size = 48, seed = 3 }}
merge = {{ lymphoblast = ["lymphoblast (1)", "lymphoblast (2)"] }}
[data.west]
drawn = {{ layout = "cnmc", cells = 36, subjects = 6, size = 48, seed = 4 }}
merge = {{ lymphoblast = ["all"], normal = ["hem"] }}
"""
METHODS = '["cellkin", "cellkin, centred", "cellkin, CORAL", "colour histogram + neighbours"]'
EVERY = METHODS[:-1] + ', "frozen start + neighbours"]'


def tiny(folder: Path, lists: str = "", methods: str = METHODS) -> Experiment:
    path = folder / "tiny.toml"
    path.write_text(TOLD.format(lists=lists, methods=methods))
    return load_experiment(path)


def cells(
    name: str, classes: str, *, subject: bool = False, group: bool = False, place: str | None = None
) -> Dataset:
    """Eight cells of every class, two of each subject or slide."""
    samples = [
        Sample(
            f"{label}{i}.png",
            ImageRef(Path("/", name, f"{label}{i}.png")),
            ((label,),),
            subject=f"P{i // 2}{label}" if subject else None,
            group=f"F{i // 2}{label}" if group else None,
            place=place,
        )
        for label in classes
        for i in range(8)
    ]
    labels = LabelSet(tuple(classes), dict.fromkeys(classes, OTHER_CELL))
    return Dataset(name, tuple(samples), labels, root=Path("/", name))


# several data sets as one ----------------------------------------------------------------------


KINDS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_any_two_kinds_of_units_can_be_joined_and_split(
    one: tuple[bool, bool], other: tuple[bool, bool]
) -> None:
    """Whatever each place names is never on two sides; nothing of one is taken for the other's."""
    here = cells("here", "ab", subject=one[0], group=one[1])
    there = cells("there", "ab", subject=other[0], group=other[1])
    data = joined({"here": here, "there": there})
    assert {s.place for s in data} == {"here", "there"}
    assert len({s.id for s in data}) == len(data) == 32
    for part in parts_by_place(data, 0):
        split = part.split
        tested, others = data.select(split.test), data.select((*split.train, *split.val))
        assert {s.place for s in tested} == {part.place}
        assert part.place not in {s.place for s in others}
        assert len(tested) == len(others) + len(split.calibration) == 16
        for name in ("subject", "group"):
            sides = [{getattr(s, name) for s in data.select(ids)} - {None}
                     for ids in split.parts().values()]  # fmt: skip
            assert sum(map(len, sides)) == len(set().union(*sides)), "nothing is on two sides"
        assert "both sides" not in split.note


def test_a_data_set_with_places_of_its_own_keeps_them() -> None:
    both = cells("both", "ab", place="lab 1").samples + tuple(
        replace(s, id=f"2{s.id}") for s in cells("both", "ab", place="lab 2")
    )
    data = joined({"both": replace(cells("both", "ab"), samples=both)})
    assert [part.place for part in parts_by_place(data, 0)] == ["lab 1", "lab 2"]
    assert data.samples[0].id == "a0.png", "one data set keeps its ids"
    one = replace(cells("x", "ab", place="Lab 1"))
    with pytest.raises(LabelError, match="one place in two spellings"):
        joined({"x": one, "y": cells("y", "ab", place="lab 1")})


def test_a_class_of_two_meanings_is_refused() -> None:
    other = cells("there", "ab")
    meant = replace(other, labels=LabelSet(("a", "b"), {"a": "lymphoblast", "b": OTHER_CELL}))
    with pytest.raises(LabelError, match="'a' means other cell in 'here', and lymphoblast"):
        joined({"here": cells("here", "ab"), "there": meant})


def test_only_classes_of_both_take_part_and_the_others_are_named() -> None:
    data = joined({"here": cells("here", "abc"), "there": cells("there", "bcd")})
    here, there = parts_by_place(data, 0)
    for part in (here, there):
        assert part.classes == ("b", "c")
        ids = [i for some in part.split.parts().values() for i in some]
        assert {s.label for s in data.select(ids)} == {"b", "c"}
    assert "a of place 'here' takes no part; d of the others takes no part" in here.split.note
    assert "d of place 'there' takes no part" in there.split.note


def test_one_place_or_too_few_shared_classes_are_refused_with_a_mend() -> None:
    with pytest.raises(SplitError, match="all cells come from 'here'") as caught:
        list(parts_by_place(joined({"here": cells("here", "ab")}), 0))
    assert "another place" in caught.value.mend
    far = joined({"here": cells("here", "ab"), "there": cells("there", "bc")})
    with pytest.raises(SplitError, match="shares 1 classes with the others") as caught:
        list(parts_by_place(far, 0))
    assert "merge" in caught.value.mend


def test_what_the_first_weights_know_of_a_left_out_place_takes_no_part() -> None:
    """Neither as a test, nor in training: then the place would not be left out."""
    plain = joined({"here": cells("here", "ab"), "there": cells("there", "ab")})
    data = replace(plain, samples=tuple(replace(s, pixels=s.id) for s in plain))
    known = {
        f"{place}/{label}{i}.png" for place in ("here", "there") for label in "ab" for i in (1, 2)
    }
    for part in parts_by_place(data, 0):
        (moved,) = seen_to_training([part.split], data, known, init="x")
        found = part.of(moved).split
        assert not known & {*found.test, *found.val, *found.calibration}
        used = [i for ids in found.parts().values() for i in ids]
        assert {i for i in known if not i.startswith(part.place)} <= {*found.train}
        assert not any(i.startswith(part.place) for i in found.train)
        assert len(used) == 32 - 4
        assert f"4 of them are of '{part.place}' and take no part at all" in found.note
        assert part.of(part.split) == part


# alignments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", sorted(ALIGNMENTS))
def test_an_alignment_takes_away_what_a_place_adds_and_knows_no_class(how: str) -> None:
    """Another camera shifts and stretches every feature; the batch of the place undoes it."""
    rng = np.random.default_rng(0)
    references = rng.normal(size=(400, 5)).astype(np.float32)
    atlas = SimpleNamespace(
        scale=(scale := MinMaxScale.fit(references)),
        scaled=scale.apply(references),
        cells=SimpleNamespace(labels=("a", "b") * 200),
        space="x",
    )
    seen = rng.normal(size=(400, 5)) * [0.5, 2, 1, 3, 0.7] + [9, -4, 0, 2, 5]
    place = Features(tuple(map(str, range(400))), seen.astype(np.float32), "x")
    moved = aligned(how, place, atlas)  # type: ignore[arg-type]
    assert moved.space == "x"
    assert np.allclose(moved.vectors.mean(0), references.mean(0), atol=0.05)
    assert np.allclose(moved.vectors.std(0), references.std(0), rtol=0.1)


# the experiment --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lists", ['injections = ["both"]', '[[external]]\ntrain = "east"\ntest = "west"\nclasses = {}']
)
def test_what_does_not_go_with_places_is_refused(lists: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stands alone"):
        tiny(tmp_path, lists)


def test_units_do_not_mix_and_alignments_need_places(tmp_path: Path) -> None:
    tiny(tmp_path)
    path = tmp_path / "tiny.toml"
    text = path.read_text()
    path.write_text(text.replace('["place"]', '["place", "image"]'))
    with pytest.raises(RecipeError, match="stands alone"):
        load_experiment(path)
    path.write_text(text.replace('["place"]', '["image"]'))
    with pytest.raises(RecipeError, match="is about places"):
        load_experiment(path)


def test_any_folders_can_be_named_as_places(tmp_path: Path) -> None:
    experiment = load_experiment("across-places")
    with pytest.raises(DataError, match="needs cells of two places") as caught:
        gather(experiment, {}, tmp_path, silent)
    assert "--data HERE=FOLDER" in caught.value.mend
    with pytest.raises(DataError, match="no such folder"):
        gather(experiment, {"here": tmp_path / "nowhere"}, tmp_path, silent)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gathered]:
    folder = tmp_path_factory.mktemp("across")
    return gather(tiny(folder), {}, folder, silent)


def test_each_place_is_a_fold_and_alignments_train_nothing_anew(
    gathered: dict[str, Gathered], tmp_path: Path
) -> None:
    works = plan(tiny(tmp_path), gathered, {})
    assert set(gathered) == {PLACES}
    rows = [(row.job.method, row.job.tested_on) for work in works for row in work.rows]
    assert len(set(rows)) == len(rows) == 4 * 2
    trained = [work for work in works if work.kind == "trained"]
    assert [len(work.rows) for work in trained] == [3, 3]
    assert {row.job.unit for work in works for row in work.rows} == {"place"}
    assert len({row.job.key for work in works for row in work.rows}) == 8
    once = plan(tiny(tmp_path, methods='["cellkin"]'), gathered, {})
    kept = {row.job.key for work in once for row in work.rows}
    assert kept < {row.job.key for work in works for row in work.rows}


def test_a_start_that_is_the_packaged_network_is_looked_with_once(
    gathered: dict[str, Gathered], tmp_path: Path
) -> None:
    methods = '["frozen ImageNet + neighbours", "frozen start + neighbours"]'
    experiment = tiny(tmp_path, methods=methods)
    lite0 = replace(experiment, backbones=("tf_efficientnet_lite0",), inits=("imagenet",))
    for one, kinds in ((experiment, ["frozen", "start"]), (lite0, ["frozen"])):
        works = plan(one, gathered, {})
        assert [work.kind for work in works] == kinds * 2
        assert all(len(work.rows) == 1 for work in works)
    same = plan(replace(experiment, inits=("scratch", "scratch")), gathered, {})
    assert len(same) == 4


def test_weights_that_are_named_start_any_experiment_that_names_none(
    gathered: dict[str, Gathered], tmp_path: Path
) -> None:
    experiment = replace(tiny(tmp_path), inits=(), methods=("cellkin",))
    works = plan(experiment, gathered, {"test_resnet": tmp_path / "weights.pt"})
    assert {work.recipe.init for work in works} == {str(tmp_path / "weights.pt")}
    assert {row.job.init for work in works for row in work.rows} == {"weights given"}


def test_the_whole_run(tmp_path: Path) -> None:
    """Every prediction is kept; table, page and pictures are made of them."""
    out = tmp_path / "out"
    options = StudyOptions(evidence=False, crew=Crew(workers=1), device="cpu")
    summary = evaluate(tiny(tmp_path, methods=EVERY), out, options=options)
    assert (summary.done, summary.failures) == (10, ())
    with Results.open(out, readonly=True) as results:
        study = summarize(results)
    assert {row.left_out for row in study.rows} == {"east", "west"}
    for row in study.rows:
        assert row.independent == "subject"
        assert {call.place for call in row.calls} == {row.left_out}
        assert {kin.place for call in row.calls for kin in call.neighbors} == {
            "east" if row.left_out == "west" else "west"
        }
        assert set(row.labels.names) == {"lymphoblast", "normal"}
    (table,) = [t for t in study.tables if t.name == "across_places"]
    assert len(table.rows) == 10 + 5
    means = {row[1]: row[2] for row in table.rows if row[0] == "mean of 2 places"}
    assert set(means) == {row.title for row in study.rows}
    for title, mean in means.items():
        own = [r.measures["accuracy"].value for r in study.rows if r.title == title]
        assert float(mean) == pytest.approx(100 * sum(own) / 2, abs=0.006)
    page = save_study(study, out, images=Pictures(out)).read_text()
    assert "Each place left out" in page
    assert "data:image" in page, "cells of a place have pictures"
    with (out / "tables" / "decisions.csv").open() as file:
        decided = list(csv.DictReader(file))
    assert {row["place"] for row in decided} == {"east", "west"}


@pytest.mark.parametrize("places", [0, 1, 2])
def test_an_ordinary_study_tells_its_rows_by_place(places: int, tmp_path: Path) -> None:
    """Only where its cells come from several: the places are kept with each job."""
    one = job(unit="subject")
    found = [prediction(f"c{i}", "normal", "normal" if i % 3 else "blast (1)") for i in range(12)]
    homes = {p.id: ("here", "there")[i % places] for i, p in enumerate(found)} if places else {}
    with Results.open(tmp_path) as results:
        results.plan([one])
        results.add(one, found, 1.0, {**CLASSES, **({"places": homes} if homes else {})})
        tables = {table.name: table for table in summarize(results).tables}
    assert ("by_place" in tables) == (places == 2)
    if places == 2:
        told = [(row[3], row[4], row[5]) for row in tables["by_place"].rows]
        assert told == [("here", "66.67", "6"), ("there", "66.67", "6")]
    assert "across_places" not in tables
