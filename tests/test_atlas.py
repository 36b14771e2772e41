"""The atlas: build, save, open, place, decide; and training that can be killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cellkin import datasets
from cellkin.atlas import Atlas, decide
from cellkin.core.artifacts import read_arrays, read_json, write_json
from cellkin.core.errors import (
    ArtifactError,
    DecisionError,
    OutputError,
    SpaceMismatch,
    TrainingError,
)
from cellkin.core.records import Dataset, Features
from cellkin.core.units import Owners
from cellkin.imaging.decode import decode
from cellkin.learning import checkpoints
from cellkin.learning.recipes import Recipe
from cellkin.measures.counting import HeldOutCalls
from cellkin.system import DecisionSupport, TrainOptions, index, run_folder, train

TOLD = ("truth", "label", "subject")
NO_CALLS = HeldOutCalls(("a",), np.zeros((0, 1, 1), np.int64), "subject")


@pytest.fixture(scope="module")
def atlas(atlas_folder: Path) -> Atlas:
    return Atlas.open(atlas_folder)


@pytest.fixture(scope="module")
def dss(atlas_folder: Path) -> DecisionSupport:
    return DecisionSupport.open(atlas_folder)


def test_references_are_the_training_cells(
    atlas: Atlas, smears: Dataset, atlas_folder: Path
) -> None:
    split = read_json(atlas_folder / "split.json")
    assert list(atlas.cells.ids) == split["train"]
    assert not set(split["train"]) & set(split["test"] + split["calibration"] + split["val"])
    assert atlas.cells.labels == tuple(s.label for s in smears.select(split["train"]))


def test_fault_05_reference_vectors_are_of_the_clean_images_shown(
    atlas: Atlas, smears: Dataset
) -> None:
    """Vectors, stored images and the files themselves agree: nothing was augmented."""
    files = {s.id: s.image for s in smears}
    images = np.stack([atlas.image(i) for i in range(10)])
    prepared = [atlas.encoder.preprocessor.prepare(decode(files[i])) for i in atlas.cells.ids[:10]]
    assert np.array_equal(images, np.stack(prepared))
    assert np.array_equal(atlas.encoder.view(images).features, atlas.vectors[:10])


def test_fault_01_one_feature_space_for_everything(atlas: Atlas) -> None:
    """Neighbours are searched among pooled features of full width, not among logits."""
    assert atlas.vectors.shape == (len(atlas.cells), 512)
    views = atlas.encoder.view(atlas.image(0)[None])
    assert views.maps.mean(axis=(2, 3))[0] == pytest.approx(atlas.vectors[0], rel=1e-4, abs=1e-6)


def test_a_reference_is_its_own_nearest_neighbor(dss: DecisionSupport) -> None:
    decision = dss.decide(dss.atlas.image(3))
    assert decision.neighbors[0].id == dss.atlas.cells.ids[3]
    assert decision.neighbors[0].distance == pytest.approx(0.0, abs=1e-9)


def test_min_max_scale_is_stored_and_not_clipped(atlas: Atlas) -> None:
    scaled = atlas.scaled
    moving = atlas.vectors.max(0) > atlas.vectors.min(0)
    assert scaled[:, moving].min(0) == pytest.approx(0.0, abs=1e-9)
    assert scaled[:, moving].max(0) == pytest.approx(1.0, abs=1e-9)
    assert not scaled[:, ~moving].any()
    assert atlas.scale.apply(atlas.vectors[:1] * 3).max() > 1.0


def test_decisions_do_not_depend_on_the_batch(dss: DecisionSupport, smears: Dataset) -> None:
    paths = [s.image.path for s in smears.samples[:9]]
    together = dss.decide(paths)
    assert [dss.decide(p) for p in paths] == together
    assert dss.decide(paths[:7]) + dss.decide(paths[7:]) == together


def test_own_subject_does_not_vote(dss: DecisionSupport, smears: Dataset) -> None:
    position = 0
    subject = dss.atlas.cells.subjects[position]
    decision = dss.decide(dss.atlas.image(position), subject=subject)
    assert subject is not None
    assert subject not in {n.subject for n in decision.neighbors}
    assert subject in {n.subject for n in dss.decide(dss.atlas.image(position)).neighbors}


def test_vectors_of_another_space_are_refused(atlas: Atlas) -> None:
    foreign = Features(("x",), np.zeros((1, 512), np.float32), "f" * 64)
    for question in (lambda: decide(atlas, foreign), lambda: atlas.place(foreign)):
        with pytest.raises(SpaceMismatch) as caught:
            question()
        assert "cellkin index" in caught.value.mend


def test_the_map_never_moves_and_places_one_by_one_as_together(atlas: Atlas) -> None:
    before = np.array(atlas.xy)
    queries = Features(("a", "b", "c"), atlas.vectors[:3] * 1.01, atlas.space)
    together = atlas.place(queries)
    single = [atlas.place(Features(("x",), v[None], atlas.space))[0] for v in queries.vectors]
    assert np.array_equal(np.stack(single), together)
    assert np.array_equal(atlas.xy, before)
    spread = np.ptp(before, axis=0).max()
    assert np.linalg.norm(together - before[:3], axis=1).max() < 0.5 * spread


def test_an_atlas_moves_and_needs_no_training_images(atlas_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(atlas_folder, moved)
    told = "".join(p.read_text() for p in moved.rglob("*.json"))
    assert "/tmp" not in told
    a, b = DecisionSupport.open(moved), DecisionSupport.open(atlas_folder)
    image = np.asarray(b.atlas.image(5))
    assert a.decide(image) == b.decide(image)
    assert a.atlas.id == b.atlas.id


def test_no_pickle_in_an_atlas(atlas_folder: Path) -> None:
    suffixes = {p.suffix for p in atlas_folder.rglob("*") if p.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".sqlite", ".png", ".md"}


@pytest.mark.parametrize(
    "name",
    ["features.safetensors", "cells.sqlite", "encoder/weights.safetensors", "facts.json"],
)
def test_one_flipped_byte_is_found(name: str, atlas_folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(atlas_folder, bad)
    data = bytearray((bad / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bad / name).write_bytes(bytes(data))
    with pytest.raises(ArtifactError) as caught:
        Atlas.open(bad)
    assert Path(name).name in caught.value.where
    assert caught.value.mend


def test_a_missing_or_cut_file_and_a_newer_schema_are_named(
    atlas_folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(atlas_folder, bad)
    (bad / "features.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="has 5 bytes"):
        Atlas.open(bad)
    (bad / "features.safetensors").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        Atlas.open(bad)
    manifest = json.loads((bad / "atlas.json").read_text())
    (bad / "atlas.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(ArtifactError, match="schema 99"):
        Atlas.open(bad)


def test_nothing_is_overwritten_unasked(
    atlas_folder: Path, smears: Dataset, small_recipe: Recipe
) -> None:
    before = (atlas_folder / "atlas.json").read_bytes()
    with pytest.raises(OutputError, match="something here already"):
        train(smears, small_recipe, out=atlas_folder)
    assert (atlas_folder / "atlas.json").read_bytes() == before
    assert not run_folder(atlas_folder).exists()


def test_two_trainings_with_one_seed_agree(
    atlas: Atlas, smears: Dataset, small_recipe: Recipe, tmp_path: Path
) -> None:
    again = Atlas.open(train(smears, small_recipe, seed=0, out=tmp_path / "again"))
    assert again.space == atlas.space
    assert np.array_equal(again.vectors, atlas.vectors)
    assert np.array_equal(again.xy, atlas.xy)
    other = Atlas.open(train(smears, small_recipe, seed=1, out=tmp_path / "other"))
    assert other.space != atlas.space


def test_the_test_part_is_measured_as_decided(dss: DecisionSupport, atlas_folder: Path) -> None:
    test = dss.facts()["test"]
    predictions = read_json(atlas_folder / "predictions.json")
    assert test["n"] == len(predictions) == dss.facts()["split"]["test"]
    assert test["correct"] == sum(p["label"] == p["truth"] for p in predictions)
    assert {p["subject"] for p in predictions} & set(dss.atlas.cells.subjects) == set()


def test_the_class_index_is_that_of_the_label_set(dss: DecisionSupport) -> None:
    assert dss.atlas.encoder.classes == dss.atlas.labels.names


# percentiles ----------------------------------------------------------------------------------


def test_calibration_cells_are_never_references(atlas: Atlas, smears: Dataset) -> None:
    named = {cells.part: cells for cells in atlas.held_out}
    part = named.get("calibration") or named["val"]
    assert sum(atlas.calibration.counts().values()) == len(part)
    assert not set(part.ids) & set(atlas.cells.ids)
    assert not set(part.subjects) & set(atlas.cells.subjects)


# held-out calls ---------------------------------------------------------------------------------


def test_a_trained_atlas_keeps_the_calls_of_cells_that_it_never_saw(
    atlas: Atlas, atlas_folder: Path
) -> None:
    known = atlas.held_out_calls()
    parts = {cells.part: cells for cells in atlas.held_out}
    fresh = [part for name, part in parts.items() if name in ("test", "calibration")]
    assert known.unit == "subject"
    assert known.names == atlas.labels.names
    assert known.counts.sum() == sum(map(len, fresh))
    assert len(known.counts) == len({s for part in fresh for s in part.subjects})
    tested = HeldOutCalls.of(
        *([row[key] for row in read_json(atlas_folder / "predictions.json")] for key in TOLD),
        names=atlas.labels.names,
        unit="subject",
    )
    told = DecisionSupport(atlas).facts()["held_out_calls"]
    assert told == {"unit": "subject", "units": known.units, "note": known.note}
    rows = [row.tolist() for row in known.counts]
    assert all(row.tolist() in rows for row in tested.counts)


def test_an_indexed_atlas_keeps_the_calls_of_its_references_without_their_own(
    atlas_folder: Path, tmp_path: Path
) -> None:
    from cellkin.drawing.drawn import draw

    other = datasets.open(draw(tmp_path / "other", cells=70, subjects=7, size=64, seed=12))
    made = Atlas.open(index(atlas_folder, other, out=tmp_path / "indexed"))
    known = made.held_out_calls()
    assert known.counts.sum() == len(other)  # not one was trained on
    assert len(known.counts) == 7
    owner = made.cells.subjects[0]
    rows = [i for i, subject in enumerate(made.cells.subjects) if subject == owner]
    features = Features(tuple(f"new {i}" for i in rows), made.vectors[np.array(rows)], made.space)
    called = decide(made, features, owners=Owners("subject", (owner,) * len(rows)))
    wanted = HeldOutCalls.of(
        [made.cells.labels[i] for i in rows],
        [d.label for d in called],
        [owner] * len(rows),
        names=made.labels.names,
        unit="subject",
    )
    assert wanted.counts[0].tolist() in [row.tolist() for row in known.counts]


def test_cells_of_a_subject_that_was_trained_on_are_not_held_out(
    atlas: Atlas, atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    known = Atlas.open(index(atlas_folder, smears, out=tmp_path / "same")).held_out_calls()
    seen = set(atlas.cells.subjects)
    seen |= {s for part in atlas.held_out if part.part == "val" for s in part.subjects}
    fresh = [s for s in smears.samples if s.subject not in seen]
    assert 0 < known.counts.sum() == len(fresh)


def test_an_older_atlas_answers_from_its_test_part_or_says_what_to_do(
    atlas: Atlas, atlas_folder: Path
) -> None:
    older = replace(atlas, calls=None)
    assert older.held_out_calls().counts.sum() == len(read_json(atlas_folder / "predictions.json"))
    for without in (replace(older, folder=None), replace(atlas, calls=NO_CALLS)):
        with pytest.raises(DecisionError, match="cells that it has not seen") as error:
            without.held_out_calls()
        assert "cellkin index" in error.value.mend


@pytest.mark.parametrize("unit", ["subject", "slide/field", "slide", "field", "image"])
@pytest.mark.parametrize("kept", [True, False])
def test_decisions_kept_without_their_owners_are_of_cells_alone(
    atlas: Atlas, atlas_folder: Path, tmp_path: Path, unit: str, kept: bool
) -> None:
    """Atlases made before slides and fields were known kept no "group"."""
    rows = read_json(atlas_folder / "predictions.json")
    owner = "subject" if unit == "subject" else "group"
    for number, row in enumerate(rows):
        row.pop(owner, None)
        row.update({owner: f"one of {number % 7}"} if kept else {})
    write_json(tmp_path / "predictions.json", rows)
    facts = {**atlas.facts, "split": {"unit": unit}}
    known = replace(atlas, calls=None, folder=tmp_path, facts=facts).held_out_calls()
    by_owner = kept and unit != "image"
    assert known.unit == (unit if by_owner else "image")
    assert len(known.counts) == (7 if by_owner else 1)
    assert known.counts.sum() == len(rows)
    assert ("no subjects are known" in known.note) is not by_owner


# index ----------------------------------------------------------------------------------------


def test_index_with_an_encoder_that_is_there(atlas_folder: Path, tmp_path: Path) -> None:
    from cellkin.drawing.drawn import draw

    other = datasets.open(draw(tmp_path / "other", cells=80, subjects=10, size=64, seed=11))
    folder = index(atlas_folder, other, out=tmp_path / "indexed", k=3, distance="cosine")
    indexed = Atlas.open(folder)
    assert indexed.space == Atlas.open(atlas_folder).space
    assert (indexed.k, indexed.distance) == (3, "cosine")
    assert DecisionSupport(indexed).facts()["test"]["n"] > 0


def test_cells_the_encoder_has_learned_from_are_never_held_out(
    atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    indexed = Atlas.open(index(atlas_folder, smears, out=tmp_path / "indexed", seed=5, k=3))
    split = read_json(atlas_folder / "split.json")
    seen = set(split["train"]) | set(split["val"])
    assert {i for cells in indexed.held_out for i in cells.ids} & seen == set()
    assert "trained on" in indexed.facts["split"]["note"]


# killed, resumed ------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from cellkin import datasets
from cellkin.learning.recipes import Recipe
from cellkin.system import TrainOptions, train
recipe = Recipe(name="killed", backbone="test_resnet", size=32, epochs=16, batch=8, lr=0.01, k=3,
                precision="fp32", optimizer=sys.argv[3], warmup_epochs=1)
resume = Path(sys.argv[2] + ".training").is_dir()
options = TrainOptions(resume=resume, novelty="off")
train(datasets.open(sys.argv[1]), recipe, seed=0, out=sys.argv[2], options=options)
"""


@pytest.mark.parametrize("optimizer", ["adamw"])  # SGD is killed in the tests of training
def test_killed_and_resumed_equals_undisturbed(
    optimizer: str, smears: Dataset, tmp_path: Path
) -> None:
    def command(out: Path) -> list[str]:
        return [sys.executable, "-c", SCRIPT, str(smears.root), str(out), optimizer]

    subprocess.run(command(tmp_path / "whole"), check=True)
    out = tmp_path / "killed"
    kills = 0
    pauses = np.random.default_rng(4).uniform(0.0, 0.2, 50)
    while not out.exists():
        process = subprocess.Popen(command(out))
        steps = run_folder(out) / "checkpoints"
        before = sorted(p.name for p in steps.glob("step-*"))
        limit = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < limit:
            now = sorted(p.name for p in steps.glob("step-*"))
            if kills < 2 and now and now != before:
                time.sleep(float(pauses[kills]))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
    assert kills >= 2
    whole, killed = (
        read_arrays(f / "encoder" / "weights.safetensors") for f in (tmp_path / "whole", out)
    )
    assert all(np.array_equal(whole[name], killed[name]) for name in whole)
    a, b = (read_arrays(f / "features.safetensors") for f in (tmp_path / "whole", out))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not run_folder(out).exists()


def test_resume_refuses_another_recipe(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "atlas"
    monkeypatch.setattr("cellkin.system.atlases.report.training_curve", stop)
    with pytest.raises(KeyboardInterrupt):
        train(smears, small_recipe, out=out)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="unfinished training here already"):
        train(smears, small_recipe, out=out)
    with pytest.raises(TrainingError, match=r"recipe lr: 0\.01 there, 0\.5 now"):
        train(smears, replace(small_recipe, lr=0.5), out=out, options=TrainOptions(resume=True))
    assert train(smears, small_recipe, out=out, options=TrainOptions(resume=True)) == out


def test_a_checkpoint_that_was_cut_off_is_never_seen(tmp_path: Path) -> None:
    state = {"w": torch.ones(3)}
    checkpoints.save(tmp_path, checkpoints.Checkpoint(1, state, {}, None, {"a": 1}))
    (tmp_path / ".step-00002.half").mkdir()
    found = checkpoints.load_latest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_loss_that_is_no_number_stops_the_training(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="not a number") as caught:
        train(smears, replace(small_recipe, lr=1e20, epochs=3), out=tmp_path / "a")
    assert "smaller lr" in caught.value.mend
