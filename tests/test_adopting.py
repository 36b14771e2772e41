"""Cells of another place join an atlas: without training, and without a change for its own."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cellkin import adopt, datasets
from cellkin.atlas import Atlas, seen_from
from cellkin.atlas.adopting import ALIGNMENTS, CLASS_MEANS, Judged, best
from cellkin.cli.main import app
from cellkin.core.errors import ArtifactError, DataError, DecisionError, LabelError
from cellkin.core.records import Dataset
from cellkin.decision import Affine, MinMaxScale
from cellkin.decision.alignment import Cloud, centred, class_means, coral
from cellkin.drawing.drawn import draw
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.quality import measure
from cellkin.learning.encoder import Encoder
from cellkin.learning.weights import initialize
from cellkin.system import DecisionSupport, index
from cellkin.system.suggesting import farthest_first

PLACE = "St Mary"


def otherwise(path: Path) -> None:
    """The picture as another lamp, another stain and a careless camera would show it."""
    with Image.open(path) as image:
        light = np.asarray(image.convert("RGB"), np.float64) / 255
    Image.fromarray((255 * light[..., ::-1] ** 0.6 * (1.0, 0.9, 0.7)).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Cells of another place, of several people."""
    folder = tmp_path_factory.mktemp("others") / PLACE
    made = datasets.open(draw(folder, cells=36, subjects=6, size=64, seed=11))
    for sample in made:
        otherwise(sample.image.path)
    return made


@pytest.fixture(scope="module")
def adopted(others: Dataset, atlas_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adopt(atlas_folder, others, out=tmp_path_factory.mktemp("adopted") / "a", place=PLACE)


@pytest.fixture(scope="module")
def both(adopted: Path) -> DecisionSupport:
    return DecisionSupport.open(adopted, device="cpu")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


# alignments ---------------------------------------------------------------------------------------


@pytest.fixture
def clouds(rng: np.random.Generator) -> tuple[Cloud, Cloud, Any]:
    """An atlas of three classes, new cells that another camera mixed, and what it did."""
    means, mixing = rng.normal(size=(3, 6)), np.eye(6) + 0.2 * rng.normal(size=(6, 6))

    def cells(n: int) -> tuple[Any, list[str]]:
        owners = np.arange(n) % 3
        return means[owners] + 0.05 * rng.normal(size=(n, 6)), [f"c{i}" for i in owners]

    known, new = cells(90), cells(30)
    return Cloud(new[0] @ mixing.T + 1.0, new[1]), Cloud(*known), means


def test_class_means_move_onto_those_of_the_atlas(clouds: tuple[Cloud, Cloud, Any]) -> None:
    new, atlas, _ = clouds
    moved = Cloud(class_means(new, atlas).apply(new.vectors), new.labels)
    before = max(np.linalg.norm(new.means[c] - atlas.means[c]) for c in new.means)
    after = max(np.linalg.norm(moved.means[c] - atlas.means[c]) for c in new.means)
    assert after < 0.15 * before


def test_class_means_against_ridge_regression_of_another_library(
    clouds: tuple[Cloud, Cloud, Any],
) -> None:
    from sklearn.linear_model import Ridge

    from cellkin.decision.alignment import RIDGE, WITHIN

    new, atlas, _ = clouds
    names = sorted(new.means)
    found, wanted = (np.array([cloud.means[n] for n in names]) for cloud in (new, atlas))
    middle, target = found.mean(axis=0), wanted.mean(axis=0)
    owners = np.array([names.index(label) for label in new.labels])
    within = (new.vectors - found[owners]) * np.sqrt(WITHIN / np.bincount(owners)[owners])[:, None]
    X = np.concatenate([found - middle, within])
    D = np.concatenate([wanted - target - (found - middle), -within])
    known = Ridge(alpha=RIDGE * (X * X).sum() / 3, fit_intercept=False).fit(X, D)
    np.testing.assert_allclose(class_means(new, atlas).matrix, np.eye(6) + known.coef_, atol=1e-9)


def test_one_class_is_shifted_and_no_more(clouds: tuple[Cloud, Cloud, Any]) -> None:
    new, atlas, _ = clouds
    one = new.part([0])
    moved = class_means(one, atlas)
    np.testing.assert_allclose(moved.matrix, np.eye(6))
    np.testing.assert_allclose(moved.apply(one.vectors)[0], atlas.means["c0"])


def test_centred_and_coral_give_the_moments_of_the_atlas(rng: np.random.Generator) -> None:
    mixed = [np.eye(4) + 0.2 * rng.normal(size=(4, 4)) for _ in range(2)]
    new = Cloud(rng.normal(2.0, 3.0, size=(4000, 4)) @ mixed[0], ["c"] * 4000)
    atlas = Cloud(rng.normal(size=(4000, 4)) @ mixed[1], ["c"] * 4000)
    for fit in (centred, coral):
        moved = fit(new, atlas).apply(new.vectors)
        np.testing.assert_allclose(moved.mean(axis=0), atlas.mean, atol=1e-8)
        np.testing.assert_allclose(moved.std(axis=0), atlas.vectors.std(axis=0), rtol=0.02)
    shown = np.cov(coral(new, atlas).apply(new.vectors).T)
    np.testing.assert_allclose(shown, np.cov(atlas.vectors.T), atol=0.05 * np.abs(shown).max())


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("fit", [centred, coral, class_means])
def test_few_or_equal_cells_give_finite_alignments(
    fit: Any, n: int, clouds: tuple[Cloud, Cloud, Any]
) -> None:
    new, atlas, _ = clouds
    for some in (new.part(range(n)), Cloud(np.zeros((n, 6)), ["c0"] * n)):
        moved = fit(some, atlas)
        assert np.isfinite(moved.matrix).all()
        assert np.isfinite(moved.shift).all()
        assert np.abs(moved.apply(some.vectors)).max() < 1e3


def test_an_alignment_of_scaled_features_is_one_of_raw_features(rng: np.random.Generator) -> None:
    raw = rng.normal(size=(20, 5)) * [1.0, 10.0, 0.1, 3.0, 0.0]  # the last says nothing
    scale = MinMaxScale.fit(raw)
    after = Affine(rng.normal(size=(5, 5)), rng.normal(size=5))
    moved = scale.apply(after.before(scale).apply(raw))
    wanted = after.apply(scale.apply(raw))
    np.testing.assert_allclose(moved[:, :4], wanted[:, :4], atol=1e-4)
    maps = rng.normal(size=(3, 5, 2, 2)).astype(np.float32)
    means = after.on_maps(maps).mean(axis=(-2, -1))
    np.testing.assert_allclose(means, after.apply(maps.mean(axis=(-2, -1))), atol=1e-4)


# adopting -----------------------------------------------------------------------------------------


def test_its_own_place_decides_as_before(
    both: DecisionSupport, support: DecisionSupport, smears: Dataset
) -> None:
    own = support.atlas.places[0]
    paths = [sample.image.path for sample in smears.samples[:40]]
    before, after = support.decide(paths), both.decide(paths, place=own)
    assert [d.to_json() for d in before] == [d.to_json() for d in after]
    told = both.explain(paths[0], place=own).to_json()
    known = support.explain(paths[0]).to_json()
    for data in (told, known):
        del data["provenance"], data["atlas"]
    assert told == known


def test_cells_of_the_new_place_are_called_better(
    both: DecisionSupport, support: DecisionSupport, tmp_path: Path
) -> None:
    new = datasets.open(draw(tmp_path / "n", cells=80, subjects=4, size=64, seed=12))
    for sample in new:
        otherwise(sample.image.path)
    paths, truth = [s.image.path for s in new], [s.label for s in new]
    asked: list[Any] = [support.decide(paths), both.decide(paths, place=PLACE)]
    before, after = ([d.label for d in one] for one in asked)
    right = [
        np.mean([c == t for c, t in zip(called, truth, strict=True)]) for called in (before, after)
    ]
    assert right[1] > right[0] + 0.1
    assert np.mean(["quality" in d.reasons for d in asked[1]]) < 0.2
    assert np.mean(["quality" in d.reasons for d in asked[0]]) > 0.5


def test_evidence_of_an_aligned_cell_adds_up(both: DecisionSupport, others: Dataset) -> None:
    evidence = both.explain(others.samples[3].image, place=PLACE, subject=others.samples[3].subject)
    assert {p.reference for p in evidence.pairs} == {n.id for n in evidence.decision.neighbors}
    for made in (*evidence.pairs, *evidence.differences, *evidence.counter.pairs):  # type: ignore[union-attr]
        assert made.exact
        assert made.completeness < 1e-4
    assert evidence.provenance.place == PLACE


@pytest.mark.parametrize("alignment", [a for a in ALIGNMENTS if a.fit], ids=lambda a: a.name)
def test_evidence_adds_up_in_every_alignment(
    alignment: Any, both: DecisionSupport, others: Dataset
) -> None:
    (one,), atlas = both.atlas.adopted, both.atlas
    new = Cloud(atlas.scale.apply(one.vectors), one.cells.labels)
    home = Cloud(atlas.scaled, atlas.cells.labels)
    moved = replace(one, alignment=alignment.fit(new, home).before(atlas.scale), home=True)
    dss = DecisionSupport(replace(atlas, adopted=(moved,))).at(PLACE)
    evidence = dss.explain(others.samples[0].image)
    assert evidence.decision.neighbors[0].distance < 1e-9  # it is a reference, and is itself
    assert max(pair.completeness for pair in evidence.pairs) < 1e-4


def test_evidence_of_an_aligned_transformer(
    smears: Dataset, others: Dataset, tmp_path: Path
) -> None:
    """Its first-order terms are those of the features that voted: where the alignment turns them,
    the network is asked along the turned directions.
    """
    network, _ = initialize("test_vit", 2, "scratch", size=48, seed=0)
    (tmp_path / "vit").mkdir()
    seen = Preprocessor(size=48, mean=(127.0,) * 3, std=(64.0,) * 3)
    Encoder(network, seen, ("a", "b")).save(tmp_path / "vit")
    index(tmp_path / "vit", smears, out=tmp_path / "atlas", k=3)
    found = adopt(tmp_path / "atlas", others, out=tmp_path / "a", place=PLACE)
    whole = Atlas.open(found)
    double = Affine(2.0 * np.eye(network.width), np.zeros(network.width))
    (one,) = whole.adopted
    pairs = []
    for alignment in (None, double):
        atlas = replace(whole, adopted=(replace(one, alignment=alignment, home=False),))
        pairs.append(DecisionSupport(atlas).explain(others.samples[0].image, place=PLACE).pairs[0])
    plain, turned = (np.array(pair.on_query()) for pair in pairs)
    assert pairs[0].reference == pairs[1].reference
    scale, offset = whole.scale.scale, whole.scale.offset
    reference = one.vectors[one.cells.ids.index(pairs[0].reference)].astype(np.float64)
    assert np.abs(plain).max() > 0
    assert not np.allclose(turned, plain)
    images = load_prepared([others.samples[0].image], whole.encoder.preprocessor)
    for pair, factor in zip(pairs, (1.0, 2.0), strict=True):
        toward = factor * scale * (scale * factor * reference - offset)
        wanted = whole.encoder.token_products(images, toward[None, None])[0, 0]
        np.testing.assert_allclose(np.array(pair.on_query()), wanted, atol=1e-5)


def test_an_answer_does_not_depend_on_the_batch(both: DecisionSupport, others: Dataset) -> None:
    paths = [sample.image.path for sample in others.samples[:6]]
    together = both.decide(paths, place=PLACE)
    assert [both.decide(path, place=PLACE) for path in paths] == together


def test_the_place_must_be_named(both: DecisionSupport, adopted: Path, others: Dataset) -> None:
    path = others.samples[0].image.path
    for ask in (both.decide, both.explain, both.count, both.fits):
        with pytest.raises(DecisionError, match="which one") as caught:
            ask(path)
        assert PLACE in str(caught.value)
    with pytest.raises(DecisionError, match="no place") as caught:
        both.decide(path, place="St Marry")
    assert "did you mean" in caught.value.mend
    for verb in (["decide", adopted, path], ["explain", adopted, path, "--out", adopted / "x"]):
        assert isinstance(run(*verb).exception, DecisionError)


def test_a_plain_atlas_takes_its_own_place_alone(support: DecisionSupport, smears: Dataset) -> None:
    path = smears.samples[0].image.path
    own = support.atlas.places[0]
    assert support.decide(path, place=own) == support.decide(path)
    with pytest.raises(DecisionError, match="no place"):
        support.decide(path, place=PLACE)


def test_what_is_usual_is_new(both: DecisionSupport, support: DecisionSupport) -> None:
    here, own = both.at(PLACE).atlas, support.atlas
    assert here.calibration != own.calibration
    assert here.held_out_calls().counts.sum() == 36
    images = here.pictures([range(len(here.cells) - 36, len(here.cells))])[0]
    assert here.quality is not None
    assert own.quality is not None
    assert np.mean([bool(here.quality.reasons(measure(image))) for image in images]) < 0.1
    assert np.mean([bool(own.quality.reasons(measure(image))) for image in images]) > 0.5


@pytest.mark.parametrize("n", [3, 12, 30])
def test_the_gate_of_few_cells_lets_them_pass(n: int, both: DecisionSupport) -> None:
    atlas, (one,) = both.atlas, both.atlas.adopted
    assert atlas.quality is not None
    shown = both.at(PLACE).atlas.pngs(one.cells.ids[:n])
    measured = [measure(np.asarray(Image.open(BytesIO(png)).convert("RGB"))) for png in shown]
    moved = atlas.quality.moved(measured)
    assert sum(bool(moved.reasons(one)) for one in measured) <= n // 10


def test_it_is_told(both: DecisionSupport, adopted: Path, support: DecisionSupport) -> None:
    facts = both.facts()["adopted"][PLACE]
    assert facts["parent"] == support.atlas.id
    assert facts["cells"] == 36
    assert facts["unit"] == "subject"
    assert [one["name"] for one in facts["tried"]] == [a.name for a in ALIGNMENTS]
    votes = {one["name"]: one["votes"] for one in facts["tried"]}
    assert votes[facts["alignment"]] >= votes["class means"]
    assert both.atlas.id != support.atlas.id
    assert both.at(PLACE).atlas.provenance.atlas == both.atlas.id
    card = (adopted / "model_card.md").read_text()
    assert f"Adopted place {PLACE}" in card
    assert "says nothing of them" in card
    shown = run("inspect", adopted)
    assert PLACE in shown.stdout


def test_an_older_cellkin_refuses_it(adopted: Path, atlas_folder: Path) -> None:
    """It would call the new place's cells by the old place's rules."""
    schemas = [
        json.loads((f / "atlas.json").read_text())["schema"] for f in (atlas_folder, adopted)
    ]
    assert schemas == [1, 2]


def test_a_second_place_joins(
    adopted: Path, others: Dataset, both: DecisionSupport, tmp_path: Path
) -> None:
    third = datasets.open(draw(tmp_path / "third", cells=12, subjects=4, size=64, seed=21))
    made = DecisionSupport.open(adopt(adopted, third, out=tmp_path / "b", place="third"))
    assert made.atlas.places == (*both.atlas.places, "third")
    paths = [sample.image.path for sample in others.samples[:5]]
    before, after = both.decide(paths, place=PLACE), made.decide(paths, place=PLACE)
    assert before == after
    ids = made.at("third").atlas.cells.ids
    assert not any(name.startswith(PLACE) for name in ids)


def test_a_damaged_alignment_is_found(adopted: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(adopted, tmp_path / "copy")
    path = copy / "adopted.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError):
        Atlas.open(copy)


@pytest.mark.parametrize(
    ("gain", "chosen"), [(0.0, "class means"), (0.02, "class means"), (0.3, "centred")]
)
def test_what_is_clearly_better_is_chosen_else_the_class_means(
    gain: float, chosen: str, rng: np.random.Generator
) -> None:
    usual = np.clip(rng.normal(0.5, 0.2, 30), 0, 1)
    tried = []
    for alignment in ALIGNMENTS:
        more = {"centred": gain, "class means": 0.0}.get(alignment.name, -0.1)
        noise = 0.0 if alignment is CLASS_MEANS else rng.normal(0, 0.2, 30)
        right, rows = usual + more + noise - np.mean(noise), tuple(range(30))
        tried.append(Judged(alignment, rows, ("a",) * 30, right, right, right))
    assert best(tried).alignment.name == chosen
    assert best([replace(one, rows=(), right=np.array([])) for one in tried]).alignment is (
        CLASS_MEANS
    )


# refusals -----------------------------------------------------------------------------------------


def test_what_the_atlas_knows_is_refused(
    atlas_folder: Path, adopted: Path, smears: Dataset, others: Dataset, tmp_path: Path
) -> None:
    own = smears.name
    for folder, name in ((atlas_folder, own), (adopted, PLACE), (adopted, PLACE.lower())):
        with pytest.raises(DecisionError, match="already"):
            adopt(folder, others, out=tmp_path / "x", place=name)
    with pytest.raises(DecisionError, match="names no place"):
        adopt(atlas_folder, others, out=tmp_path / "x", place="n/a")
    with pytest.raises(DataError, match="in the atlas already"):
        adopt(atlas_folder, smears, out=tmp_path / "x", place="elsewhere")
    with pytest.raises(DataError, match="in the atlas already"):
        adopt(adopted, others, out=tmp_path / "x", place="elsewhere")
    assert not (tmp_path / "x").exists()


def test_the_same_picture_twice_is_refused(
    atlas_folder: Path, others: Dataset, tmp_path: Path
) -> None:
    first = others.samples[0]
    again = replace(others, samples=(*others.samples, replace(first, id="again")))
    with pytest.raises(DataError, match="twice"):
        adopt(atlas_folder, again, out=tmp_path / "x", place=PLACE)


def test_strange_classes_and_meanings_are_refused(
    atlas_folder: Path, others: Dataset, tmp_path: Path
) -> None:
    first, *rest = others.samples
    strange = replace(others, samples=(replace(first, labels=(("plasma cell",),)), *rest))
    with pytest.raises(LabelError, match="no cell of 'plasma cell'"):
        adopt(atlas_folder, strange, out=tmp_path / "x", place=PLACE)
    labels = others.labels
    turned = dict.fromkeys(labels.names, "no cell")
    other = replace(others, labels=replace(labels, clinical=turned))
    with pytest.raises(LabelError, match="means"):
        adopt(atlas_folder, other, out=tmp_path / "x", place=PLACE)


def test_the_column_place_names_it(others: Dataset, atlas_folder: Path, tmp_path: Path) -> None:
    some = tuple(replace(sample, place="Siriraj") for sample in others.samples[:4])
    made = adopt(atlas_folder, replace(others, samples=some), out=tmp_path / "a")
    (one,) = Atlas.open(made).adopted
    assert one.place == "Siriraj"
    assert set(one.cells.places) == {"Siriraj"}
    assert any("few" in note for note in one.facts["notes"])
    mixed = (*some[:2], replace(some[2], place=None))
    with pytest.raises(DataError, match="several places"):
        adopt(atlas_folder, replace(others, samples=mixed), out=tmp_path / "b")


def test_cells_of_one_unit_or_class_alone_can_be_adopted(
    others: Dataset, atlas_folder: Path, tmp_path: Path
) -> None:
    names = others.labels.names
    singles = [next(s for s in others if s.label == name) for name in names]
    made = adopt(
        atlas_folder, replace(others, samples=tuple(singles)), out=tmp_path / "a", place=PLACE
    )
    (one,) = Atlas.open(made).adopted
    assert one.facts["alignment"] == "class means"
    assert one.facts["judged"] is None
    with pytest.raises(DecisionError, match="does not know how it calls"):
        seen_from(Atlas.open(made), PLACE).held_out_calls()
    decision = DecisionSupport.open(made, place=PLACE).decide(singles[0].image)
    assert decision.distance_percentile is None


# the command line ---------------------------------------------------------------------------------


def test_the_verbs(others: Dataset, atlas_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "adopted"
    done = run("adopt", atlas_folder, others.root, "--out", out, "--place", PLACE, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["place"] == PLACE
    path = others.samples[0].image.path
    decided = run("decide", out, path, "--place", PLACE, "--json")
    assert json.loads(decided.stdout)["provenance"]["place"] == PLACE


# which cells first --------------------------------------------------------------------------------


def test_farthest_first_against_a_naive_loop(rng: np.random.Generator) -> None:
    points, known = rng.normal(size=(30, 3)), rng.normal(size=(4, 3))
    taken, chosen = [*known], []
    for _ in range(8):
        away = [min(np.linalg.norm(p - q) for q in taken) for p in points]
        chosen.append(int(np.argmax(away)))
        taken.append(points[chosen[-1]])
    start = np.linalg.norm(points[:, None] - known, axis=2).min(axis=1)
    assert farthest_first(points, start, 8)[0].tolist() == chosen
    same = farthest_first(np.zeros((3, 2)), np.zeros(3), 3)[0]
    assert sorted(same.tolist()) == [0, 1, 2]


def test_suggested_cells_are_listed(
    atlas_folder: Path, adopted: Path, others: Dataset, smears: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    for sample in (*others.samples[:6], *smears.samples[:6]):
        shutil.copy(sample.image.path, folder / f"{sample.label}-{sample.image.path.name}")
    (folder / "broken.png").write_bytes(b"no picture")
    out, sheet = tmp_path / "first.csv", tmp_path / "first.png"
    done = run("suggest", atlas_folder, folder, "--n", 4, "--out", out, "--sheet", sheet, "--json")
    assert "broken.png" in str(getattr(done.exception, "where", ""))
    cells = json.loads(done.stdout)["cells"]
    assert [cell["rank"] for cell in cells] == [1, 2, 3, 4]
    distances = [cell["distance"] for cell in cells]
    assert distances == sorted(distances, reverse=True)
    with out.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [cell["image"] for cell in cells]
    with Image.open(sheet) as shown:
        assert shown.width > 100
    assert isinstance(run("suggest", atlas_folder, folder, "--n", 13).exception, DecisionError)
    assert run("suggest", adopted, others.root, "--place", PLACE, "--n", 1).exit_code == 0


# unknown kinds -----------------------------------------------------------------------------------


def test_cells_of_an_adopted_place_are_not_refused_for_their_place(
    both: DecisionSupport, others: Dataset
) -> None:
    here = both.at(PLACE).atlas.frozen
    assert here is not None
    assert both.atlas.frozen is not None
    assert sum(here.scores.counts().values()) >= len(others) / 6
    assert here.scores.to_json() != both.atlas.frozen.scores.to_json()
    found = both.decide([s.image.path for s in others], place=PLACE, gate=False)
    told = [one.novelty for one in found]
    assert all(one is not None for one in told)
    refused = [one.unknown for one in told if one is not None]
    assert np.mean(refused) <= 0.1  # 5 % are allowed


def test_whether_it_fits_is_asked_of_one_place(both: DecisionSupport, others: Dataset) -> None:
    paths = [s.image.path for s in others]
    found = both.at(PLACE).fits(paths)
    assert found.expected is None
    assert "adopted place" in found.expected_absent
