"""Prediction sets, the map and stored maps of an atlas; the options of the command."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
from openTSNE.tsne import PartialTSNEEmbedding, TSNEEmbedding
from scipy.sparse import csr_matrix
from sklearn.manifold import trustworthiness

from cellkin.atlas import Atlas, decide
from cellkin.atlas import map as mapping
from cellkin.atlas.building import calibrated, exchangeable
from cellkin.atlas.cells import Cells
from cellkin.cli import main as cli
from cellkin.core.artifacts import map_array, read_json, write_arrays, write_json
from cellkin.core.errors import ArtifactError, DecisionError, ImageError, RecipeError
from cellkin.core.manifests import write_manifest
from cellkin.core.records import Dataset, Features, ImageRef
from cellkin.core.units import Owners
from cellkin.decision import Conformal, Index
from cellkin.imaging.loading import prepared_blocks
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.recipes import Recipe
from cellkin.system import DecisionSupport, TrainOptions, train


@pytest.fixture(scope="module")
def atlas(atlas_folder: Path) -> Atlas:
    return Atlas.open(atlas_folder)


def queries(atlas: Atlas, count: int) -> Features:
    return Features(tuple(map(str, range(count))), atlas.vectors[:count] * 1.01, atlas.space)


def many_units(atlas: Atlas) -> Atlas:
    """The atlas with as many calibration cells as a set needs: its own references, jittered."""
    rng = np.random.default_rng(0)
    labels = [name for name in atlas.labels.names for _ in range(30)]
    scores = rng.uniform(0.5, 1.5, len(labels)).tolist()
    units = [f"{i}" for i in range(len(labels))]
    return replace(atlas, conformal=Conformal.from_cells(labels, units, scores, unit="cell"))


def test_an_atlas_by_subject_counts_subjects(atlas: Atlas) -> None:
    assert atlas.conformal is not None
    assert atlas.conformal.unit == "subject"
    part = {c.part: c for c in atlas.held_out}
    cells = part.get("calibration") or part["val"]
    for name, units in atlas.conformal.counts().items():
        people = {s for s, x in zip(cells.subjects, cells.labels, strict=True) if x == name}
        assert units == len(people)
    decision = decide(atlas, queries(atlas, 1))[0]
    assert decision.prediction_set is None
    assert decision.set_absent.startswith("not available: needs 19 subjects per class, has ")
    assert decision.state != "abstained"


def test_scores_are_of_the_own_class_without_the_own_subject(atlas: Atlas) -> None:
    """Against a naive count, for cells that share their subject with references."""
    part = Cells("calibration", atlas.cells.ids[:6], *(
        getattr(atlas.cells, name)[:6] for name in ("labels", "subjects", "groups")
    ))  # fmt: skip
    features = Features(part.ids, atlas.vectors[:6], atlas.space)
    made = calibrated(atlas, [(part, features)]).conformal
    assert made is not None
    assert "same people" in made.note
    naive: dict[str, list[float]] = {}
    for i in range(6):
        far = {}
        for name in atlas.labels.names:
            allowed = [
                j
                for j, (label, subject) in enumerate(
                    zip(atlas.cells.labels, atlas.cells.subjects, strict=True)
                )
                if label == name and subject != part.subjects[i]
            ]
            lengths = np.sort(np.linalg.norm(atlas.scaled[allowed] - atlas.scaled[i], axis=1))
            far[name] = float(lengths[: atlas.k].mean())
        own = far.pop(part.labels[i])
        naive.setdefault(part.labels[i], []).append(own**2 / min(far.values()))
    for name, scores in naive.items():
        found = sorted(s for unit in made.scores[name] for s in unit)
        assert found == pytest.approx(sorted(scores))


def test_units_follow_the_split_and_need_a_name_for_every_cell(atlas: Atlas) -> None:
    cells = Cells("calibration", ("a", "b"), ("x", "x"), ("P1", None), ("F1", "F2"))
    by_subject = replace(atlas, facts={**atlas.facts, "split": {"unit": "subject"}})
    assert exchangeable(by_subject, cells) == Owners("cell", ("a", "b"))
    for unit in ("slide", "field", "slide/field"):
        by_field = replace(atlas, facts={**atlas.facts, "split": {"unit": unit}})
        assert exchangeable(by_field, cells) == Owners(unit, ("F1", "F2"))


def test_sets_abstain_and_do_not_depend_on_the_batch(atlas: Atlas) -> None:
    known = many_units(atlas)
    far = Features(("far",), np.full((1, atlas.vectors.shape[1]), 1e3, np.float32), atlas.space)
    (decision,) = decide(known, far)
    assert decision.prediction_set is not None
    assert decision.prediction_set.labels == ()
    assert (decision.state, decision.reasons) in (("abstained", ("unlike",)), ("tied", ("unlike",)))
    together = decide(known, queries(atlas, 7), coverage=0.9)
    for i, alone in enumerate(together):
        one = Features((str(i),), queries(atlas, 7).vectors[i : i + 1], atlas.space)
        assert decide(known, one, coverage=0.9) == [alone]
    near, wide = (decide(known, queries(atlas, 5), coverage=c) for c in (0.5, 0.95))
    for small, large in zip(near, wide, strict=True):
        assert small.prediction_set is not None
        assert large.prediction_set is not None
        assert set(small.prediction_set.labels) <= set(large.prediction_set.labels)


def test_an_impossible_coverage_is_refused(atlas: Atlas) -> None:
    for bad in (0.0, 1.0, 2.0):
        with pytest.raises(DecisionError, match="no coverage"):
            decide(atlas, queries(atlas, 1), coverage=bad)


def test_the_class_head_is_that_of_the_network(atlas: Atlas) -> None:
    views = atlas.encoder.view(np.stack([atlas.image(i) for i in range(4)]))
    features = Features(tuple("abcd"), views.features, atlas.space)
    for decision, logits in zip(decide(atlas, features), views.logits, strict=True):
        odds = np.exp(logits - logits.max())
        assert decision.head is not None
        assert decision.head.label == atlas.encoder.classes[int(logits.argmax())]
        assert decision.head.probability == pytest.approx(odds.max() / odds.sum(), rel=1e-4)


def test_an_atlas_made_before_sets_still_opens(atlas_folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(atlas_folder, old)
    told = read_json(old / "facts.json")
    del told["conformal"]
    for name in ("map", "maps", "triage"):
        del told["facts"][name]
    write_json(old / "facts.json", told)
    head = {k: v for k, v in read_json(old / "atlas.json").items() if k != "files"}
    write_manifest(old, "atlas.json", head)
    dss = DecisionSupport.open(old)
    evidence = dss.explain(dss.atlas.image(0))
    assert evidence.decision.prediction_set is None
    assert "without calibration scores" in evidence.decision.set_absent
    assert dss.facts()["conformal"] is None


# --- the map -----------------------------------------------------------------------------------


def test_placing_is_opentsnes_partial_optimisation(atlas: Atlas) -> None:
    rng = np.random.default_rng(1)
    asked = atlas.scaled[:5] + rng.normal(0, 0.02, atlas.scaled[:5].shape)
    k = min(25, len(atlas.xy))
    neighbors, distances = atlas.index.nearest(asked, k)
    start = np.median(atlas.xy[neighbors], axis=1)
    nothing = PrecomputedAffinities(csr_matrix((len(atlas.xy),) * 2), False)
    stored = TSNEEmbedding(atlas.xy.copy(), nothing)
    P = joint_probabilities_nn(
        neighbors,
        distances,
        [5.0],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(stored),
    )
    exact = {"negative_gradient_method": "bh", "theta": 0.0, "n_jobs": 1}
    library = PartialTSNEEmbedding(start.copy(), stored, P, **exact).optimize(
        n_iter=100, learning_rate=0.1, exaggeration=1.5, momentum=0.0, max_grad_norm=0.25
    )
    ours = mapping.place(asked, atlas.index, np.asarray(atlas.xy))
    assert ours == pytest.approx(np.array(library), abs=1e-8)
    assert np.abs(ours - start).max() > 1e-3


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_trustworthiness_is_measured_where_there_is_a_map(distance: str) -> None:
    rng = np.random.default_rng(2)
    X = rng.random((40, 5)) + 0.1
    good = mapping.trust(X, X[:, :2], distance, seed=0)
    assert good is not None
    metric = "cityblock" if distance == "manhattan" else distance
    assert good["trustworthiness"] == trustworthiness(X, X[:, :2], n_neighbors=15, metric=metric)
    assert mapping.trust(X[:4], X[:4, :2], distance, seed=0) is None


def test_an_atlas_tells_the_trust_in_its_map(atlas: Atlas) -> None:
    told = atlas.facts["map"]
    assert told["cells"] == len(atlas.cells)
    assert 0.5 < told["trustworthiness"] <= 1


def test_the_ranking_is_exact_among_near_duplicates() -> None:
    rng = np.random.default_rng(3)
    base = rng.random((4, 30)) * 1e3
    near = np.repeat(base, 10, axis=0) + rng.normal(0, 1e-9, (40, 30)).round(10)
    near[5] = near[6]
    for distance in ("euclidean", "cosine"):
        index = Index(near, [f"{i:02d}" for i in rng.permutation(40)], distance)
        query = base[0] + 1e-9
        expected = index.nearest(query[None], 40)[0][0]
        assert index.ranking(query).tolist() == expected.tolist()
        assert 7 not in index.ranking(query, {7}).tolist()


# --- stored maps, files, command ---------------------------------------------------------------


def test_a_stored_array_is_mapped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    write_arrays(tmp_path / "a.safetensors", {"maps": values})
    assert np.array_equal(map_array(tmp_path / "a.safetensors", "maps"), values)
    with pytest.raises(ArtifactError, match="cannot be read"):
        map_array(tmp_path / "a.safetensors", "other")
    write_arrays(tmp_path / "b.safetensors", {"maps": values.astype(np.float32)})
    with pytest.raises(ArtifactError, match="F32"):
        map_array(tmp_path / "b.safetensors", "maps")


def test_unknown_maps_are_refused_before_any_work(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="'fp8' is not possible"):
        train(smears, small_recipe, out=tmp_path / "x", options=TrainOptions(maps="fp8"))
    assert list(tmp_path.iterdir()) == []


def test_files_and_arrays_come_prepared_in_blocks(smears: Dataset, tmp_path: Path) -> None:
    preprocessor = Preprocessor(size=32, mean=(127.0,) * 3, std=(64.0,) * 3)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(35)]
    sources = [smears.samples[0].image, *arrays]
    blocks = list(prepared_blocks(sources, preprocessor))
    assert [len(b) for b in blocks] == [32, 4]
    assert np.array_equal(np.concatenate(blocks)[1:], preprocessor.prepare_many(arrays))
    bad = ImageRef(tmp_path / "none.png")
    with pytest.raises(ImageError, match="2 images cannot be used"):
        list(prepared_blocks([bad, *arrays[:2], bad], preprocessor))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["cellkin", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_coverage_and_subject_reach_the_answer(
    atlas_folder: Path,
    smears: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = smears.samples[0].image.path
    subject = Atlas.open(atlas_folder).cells.subjects[0]
    words = ("decide", atlas_folder, cell, "--json", "--coverage", 0.4, "--subject", subject)
    assert run(monkeypatch, *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] > 0
    assert told["coverage"] == 0.4
    assert told["set_unit"] == "subject"
    assert isinstance(told["prediction_set"], list)
    assert set(told["head"]) == {"label", "probability"}
    assert run(monkeypatch, "decide", atlas_folder, cell) == 0
    assert "needs 19 subjects per class" in " ".join(capsys.readouterr().out.split())
    assert run(monkeypatch, "decide", atlas_folder, cell, "--coverage", 1.5) == 2
    capsys.readouterr()


def test_inspect_tells_triage_map_and_sets(
    atlas_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "inspect", atlas_folder, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["triage"]["n"] == facts["test"]["n"]
    assert facts["triage"]["automatic"][-1] == 1.0
    assert facts["triage"]["errors"][-1] == pytest.approx(
        1 - facts["test"]["correct"] / facts["test"]["n"], abs=0.2
    )
    assert facts["conformal"]["unit"] == "subject"
    assert facts["map"]["trustworthiness"] > 0
    assert run(monkeypatch, "inspect", atlas_folder) == 0
    said = capsys.readouterr().out
    assert "calibrated by subject" in said
    assert "trustworthiness" in said
