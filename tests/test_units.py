"""One unit: what a data set is split by is what is scored, calibrated and left out of the vote."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.atlas import Atlas, Cells, calibrated
from cellkin.cli.main import app
from cellkin.core.artifacts import read_json
from cellkin.core.engine import Crew
from cellkin.core.errors import CellkinError, OutputError, SplitError
from cellkin.core.records import Dataset, Features, Sample, Split
from cellkin.core.units import GROUP, IMAGE, SUBJECT, UNITS, Owners, owner_of, plural
from cellkin.drawing.drawn import draw_layout
from cellkin.drawing.plan import Order
from cellkin.learning.recipes import Recipe
from cellkin.proving.held_out import FIELD, PERSON, held_out
from cellkin.study.evaluate import StudyOptions, evaluate
from cellkin.study.experiment_file import load_experiment
from cellkin.study.method_rows import study_rows
from cellkin.study.predictions import Results
from cellkin.system import DecisionSupport, TrainOptions, cross_validate, index, train

TINY = "backbone = 'test_resnet'\ninit = 'scratch'\nsize = 32\nepochs = 1\nk = 3\n"
ORDER = Order(cells=40, subjects=10, size=48, seed=1)


def called(*words: object) -> str:
    """`cellkin WORDS`, which must succeed; what it printed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.fixture(scope="module")
def allidb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn ALL-IDB1 and ALL-IDB2 of the same cells, and a recipe that trains in no time."""
    folder = tmp_path_factory.mktemp("allidb")
    for layout in ("all-idb1", "all-idb2"):
        draw_layout(layout, folder / layout, ORDER)
    (folder / "tiny.toml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def injected(allidb: Path) -> Path:
    """The paper's headline data set: windows with their fields as groups, cells without one."""
    fields, out = allidb / "all-idb1", allidb / "injected.json"
    called("inject", allidb / "all-idb2", "--nothing-from", fields, "--count", 16, "--out", out)
    return out


def scores_of(out: Path, text: str) -> dict[str, object]:
    """The scores that a cross-validation has kept, of which it printed the head."""
    kept = dict(read_json(out / "out_of_fold.json"))
    assert json.loads(text)["correct"] == kept["correct"]
    return kept


def test_the_headline_experiment_goes_from_injection_to_scores_out_of_fold(
    allidb: Path, injected: Path
) -> None:
    out, recipe = allidb / "headline", allidb / "tiny.toml"
    text = called("train", injected, "--folds", 3, "--out", out, "--recipe", recipe, "--json")
    told = scores_of(out, text)
    assert (told["n"], told["unit"]) == (56, GROUP)
    assert told["by_subject"] == []
    rows = {row["image"]: row for row in read_json(out / "predictions.json")}
    data = datasets.open(injected)
    assert set(rows) == {sample.id for sample in data}
    for fold in (1, 2, 3):
        split = read_json(out / f"fold-{fold}" / "split.json")
        facts = read_json(out / f"fold-{fold}" / "facts.json")
        assert (
            split["unit"] == facts["facts"]["test"]["unit"] == facts["conformal"]["unit"] == GROUP
        )


def test_located_crops_are_trained_by_field_in_one_split_and_in_folds(allidb: Path) -> None:
    crops, recipe = allidb / "crops", allidb / "tiny.toml"
    shutil.copytree(allidb / "all-idb2" / "img", crops)
    labels = crops / "labels.csv"
    words = ["--scales", "1", "--orientations", "same", "--labels", labels]
    called("locate", crops, allidb / "all-idb1" / "im", "--out", allidb / "places.csv", *words)
    with labels.open(newline="") as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    one, out = allidb / "located", allidb / "located-folds"
    facts = json.loads(called("train", crops, "--out", one, "--recipe", recipe, "--json"))
    assert facts["test"]["unit"] == facts["split"]["unit"] == facts["conformal"]["unit"] == GROUP
    text = called("train", crops, "--folds", 3, "--out", out, "--recipe", recipe, "--json")
    assert scores_of(out, text)["unit"] == GROUP
    for fold in (1, 2, 3):
        split = read_json(out / f"fold-{fold}" / "split.json")
        sides = [{groups[i] for i in split[part]} for part in ("train", "test")]
        assert not sides[0] & sides[1]


# the unit itself -------------------------------------------------------------------------------

KNOWN = {
    "subject": ("P{}", None),
    "group": (None, "F{}"),
    "both": ("P{}", "F{}"),
    "neither": (None, None),
}
"""What is known of the cells -> the names of their subjects and of their slides or fields."""


def told(data: Dataset, known: str, *, some: bool = False) -> Dataset:
    """The same cells, of whom only this is known; of every third cell nothing, with `some`."""

    def renamed(i: int, sample: Sample) -> Sample:
        assert sample.subject is not None
        number = sample.subject.lstrip("S")
        names = (None, None) if some and i % 3 == 0 else KNOWN[known]
        subject, group = (name and name.format(number) for name in names)
        return replace(sample, subject=subject, group=group)

    return replace(data, samples=tuple(renamed(i, s) for i, s in enumerate(data.samples)))


def test_owners_by_every_unit(smears: Dataset) -> None:
    sample = replace(smears.samples[0], subject="P", group="F")
    found = {unit: owner_of(sample, unit) for unit in UNITS}
    assert found == {SUBJECT: "P", GROUP: "F", "slide": "F", "field": "F", IMAGE: sample.id}
    owners = Owners.of([sample, replace(sample, subject=None)], SUBJECT)
    assert (owners.names, owners.known) == (("P", None), False)
    assert [plural(unit) for unit in (SUBJECT, GROUP, "field")] == [
        "subjects", "slides/fields", "fields",
    ]  # fmt: skip


@pytest.mark.parametrize("known", ["subject", "group", "both"])
def test_cells_of_whom_some_are_known_are_refused_by_every_unit_but_image(
    smears: Dataset, known: str
) -> None:
    mixed = told(smears, known, some=True)
    for unit in ("auto", SUBJECT, GROUP):
        with pytest.raises(SplitError, match=f"of {len(smears)} images have no "):
            datasets.folds(mixed, n=3, unit=unit)
    assert datasets.folds(mixed, n=3, unit=IMAGE)[0].unit == IMAGE


# one unit from the split to the answer ---------------------------------------------------------

UNIT = {"subject": SUBJECT, "group": GROUP, "both": SUBJECT, "neither": IMAGE}


@dataclass(frozen=True)
class Made:
    """What is known of the cells, the cells, and the atlas that was trained on them."""

    known: str
    data: Dataset
    folder: Path

    @property
    def unit(self) -> str:
        return UNIT[self.known]


@pytest.fixture(scope="module", params=list(KNOWN))
def made(
    request: pytest.FixtureRequest, smears: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    recipe = Recipe(name="tiny", **tomllib.loads(TINY))
    data = told(smears, request.param)
    return Made(request.param, data, train(data, recipe, out=folder / "atlas"))


def units_of(folder: Path) -> set[str]:
    """The units of the split, of the scores and of the prediction sets; cells are images there."""
    kept = read_json(folder / "facts.json")
    found = [read_json(folder / "split.json")["unit"], kept["facts"]["test"]["unit"]]
    sets = kept["conformal"] or {"unit": "no sets"}
    return {*found, sets["unit"].replace("cell", IMAGE)}


def own_among_kin(data: Dataset, unit: str, decided: Sequence[Mapping[str, Any]]) -> int:
    """How many of the neighbours that voted are of the unit of the cell they voted on."""
    owner = {s.id: owner_of(s, unit) for s in data}
    return sum(
        owner[kin["id"]] == owner[row["image"]] for row in decided for kin in row["neighbors"]
    )


def test_a_training_takes_its_unit_from_the_split(made: Made) -> None:
    assert units_of(made.folder) == {made.unit}
    decided = read_json(made.folder / "predictions.json")
    assert decided
    assert own_among_kin(made.data, made.unit, decided) == 0
    samples = made.data.select([row["image"] for row in decided])
    assert [(s.subject, s.group) for s in samples] == [
        (row["subject"], row["group"]) for row in decided
    ]


def in_pairs(data: Dataset) -> Dataset:
    """The same cells, every two owners made one: the encoder knows one half of some."""

    def half(name: str | None) -> str | None:
        return name and f"{name[0]}{int(name[1:]) // 2}"

    pairs = tuple(replace(s, subject=half(s.subject), group=half(s.group)) for s in data.samples)
    return replace(data, samples=pairs)


def test_an_index_leaves_out_the_own_of_cells_whose_kin_were_trained_on(
    made: Made, tmp_path: Path
) -> None:
    """Cells that the encoder knows become references, whatever the new split says."""
    data = in_pairs(made.data)
    out = index(made.folder, data, out=tmp_path / "index", seed=3, k=3)
    assert units_of(out) <= {made.unit, "no sets"}
    decided = read_json(out / "predictions.json")
    assert decided
    assert own_among_kin(data, made.unit, decided) == 0
    assert (sum(row["left_out"] for row in decided) > 0) == (made.unit != IMAGE)


def test_only_cells_of_other_owners_are_held_out(made: Made) -> None:
    atlas, split = Atlas.open(made.folder), read_json(made.folder / "split.json")
    new = replace(made.data, samples=tuple(replace(s, id=f"new/{s.id}") for s in made.data))
    atlas.encoder.trained_on = ()
    held, test = held_out(atlas, new), {f"new/{i}" for i in split["test"]}
    kept = {s.id for s in held.samples}
    assert kept == (test if made.unit != IMAGE else {s.id for s in new})
    reason = {SUBJECT: {PERSON}, GROUP: {FIELD}, IMAGE: set()}[made.unit]
    assert set(held.left_out) == reason


def test_calibration_leaves_out_the_own_unit(made: Made) -> None:
    """Against a count by hand, for cells that share their owners with references."""
    atlas = Atlas.open(made.folder)
    part = Cells("calibration", *(
        getattr(atlas.cells, name)[:6] for name in ("ids", "labels", "subjects", "groups")
    ))  # fmt: skip
    features = Features(part.ids, atlas.vectors[:6], atlas.space)
    known = calibrated(atlas, [(part, features)]).calibration.distances
    owner = atlas.cells.owners(made.unit).names
    expected: dict[str, list[float]] = {}
    for i in range(6):
        others = [j for j, name in enumerate(owner) if name != owner[i]]
        lengths = np.sort(np.linalg.norm(atlas.scaled[others] - atlas.scaled[i], axis=1))
        expected.setdefault(part.labels[i], []).append(float(lengths[: atlas.k].mean()))
    for name, lengths_of in expected.items():
        assert known[name] == pytest.approx(sorted(lengths_of))


def test_a_decision_hides_the_own_of_whichever_unit_is_named(made: Made) -> None:
    dss = DecisionSupport.open(made.folder, device="cpu")
    for unit in (SUBJECT, GROUP, IMAGE):
        names = dss.atlas.cells.owners(unit).names
        own = [name == names[0] for name in names]
        for subject in (Owners(unit, names[:1]), names[0])[: 2 if unit == SUBJECT else 1]:
            decision = dss.decide(dss.atlas.image(0), subject=subject)
            assert decision.left_out == (sum(own) if names[0] is not None else 0)
            kin = [dss.atlas.cells.positions[n.id] for n in decision.neighbors]
            assert names[0] is None or not any(own[position] for position in kin)


EVALUATED = """
title = "cells by {unit}"
maps = false
folds = 3
units = ["{unit}"]
recipes = ["{recipe}"]
methods = ["cellkin"]
[data.smears]
path = "{path}"
"""


@pytest.mark.parametrize(("known", "unit"), [("both", IMAGE), ("group", GROUP)])
def test_train_in_folds_and_evaluate_decide_alike(
    smears: Dataset, tmp_path: Path, known: str, unit: str
) -> None:
    """By image they leave out the image alone, although subjects are known."""
    few = told(replace(smears, samples=smears.samples[::2]), known)
    path, recipe = datasets.save(few, tmp_path / "few.json"), tmp_path / "tiny.toml"
    recipe.write_text(TINY)
    experiment = tmp_path / "few.toml"
    experiment.write_text(EVALUATED.format(unit=unit, recipe=recipe, path=path))
    crew = StudyOptions(crew=Crew(workers=1), device="cpu")
    done = evaluate(load_experiment(experiment), tmp_path / "study", options=crew)
    assert done.failures == ()
    with Results.open(tmp_path / "study") as results:
        studied = {
            p.id: (p.label, dict(p.votes), [n.id for n in p.neighbors])
            for job in results.jobs()
            for p in results.predictions(job.key)
        }
        (scored,) = study_rows(results)
    parts = datasets.folds(datasets.open(path), n=3, unit=unit)
    apart = {"out": tmp_path / "folds", "parts": parts, "options": TrainOptions(novelty="off")}
    out = cross_validate(datasets.open(path), recipe, **apart)
    trained = {
        row["image"]: (row["label"], row["votes"], [n["id"] for n in row["neighbors"]])
        for row in read_json(tmp_path / "folds" / "predictions.json")
    }
    assert trained == studied
    assert (out["unit"], out["accuracy"]) == (scored.independent, scored.measures["accuracy"].value)
    assert out["interval"]["low"] == scored.measures["accuracy"].low


# what can be refused is refused before a network is trained ------------------------------------


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training would fail the test."""

    def train_encoder(*given: object, **options: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr("cellkin.system.atlases.train_encoder", train_encoder)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("verb", [train, cross_validate])
def test_cells_that_cannot_be_scored_are_refused_before_training(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path, verb: Callable[..., object]
) -> None:
    def refused(split: Split, recipe: Recipe, maps: str = "none") -> str:
        parts = {"split": split} if verb is train else {"parts": [good, split]}
        with pytest.raises(CellkinError) as found:
            verb(smears, recipe, out=tmp_path / "out", options=TrainOptions(maps=maps), **parts)
        assert not list(tmp_path.iterdir())
        return found.value.what

    good = datasets.single(smears)
    assert refused(replace(good, unit="patient"), small_recipe) == "unknown unit 'patient'"
    parted = replace(good, train=(*good.train, good.test[0]), test=good.test[1:])
    assert "on two sides" in refused(parted, small_recipe)
    many = replace(small_recipe, k=len(good.train) + 1)
    assert "neighbours cannot vote" in refused(good, many)
    token = replace(small_recipe, backbone="vit_tiny_patch16_224")
    assert "maps of a transformer" in refused(good, token, maps="fp16")


@pytest.mark.usefixtures("untrained")
def test_a_finished_fold_of_another_split_is_not_resumed(
    smears: Dataset, small_recipe: Recipe, atlas_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(atlas_folder, tmp_path / "fold-1")
    parts = datasets.folds(smears, n=3, seed=1)
    with pytest.raises(OutputError, match="other parts of the data set"):
        cross_validate(
            smears, small_recipe, out=tmp_path, parts=parts, options=TrainOptions(resume=True)
        )
