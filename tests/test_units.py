"""One unit: what a data set is split by is what is scored, calibrated and left out of the vote."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.cli.main import app
from cellkin.core.artifacts import read_json
from cellkin.core.errors import CellkinError, OutputError, SplitError
from cellkin.core.records import Dataset, Sample, Split
from cellkin.core.units import GROUP, IMAGE, SUBJECT, UNITS, Owners, owner_of, plural
from cellkin.drawing.drawn import draw_layout
from cellkin.drawing.plan import Order
from cellkin.learning.recipes import Recipe
from cellkin.system import cross_validate, train

TINY = "backbone = 'resnet18'\ninit = 'scratch'\nsize = 32\nepochs = 1\nk = 3\n"
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
    def refused(split: Split, recipe: Recipe, **options: object) -> str:
        parts = {"split": split} if verb is train else {"parts": [good, split]}
        with pytest.raises(CellkinError) as found:
            verb(smears, recipe, out=tmp_path / "out", options=options, **parts)
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
        cross_validate(smears, small_recipe, out=tmp_path, parts=parts, options={"resume": True})
