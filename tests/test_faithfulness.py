"""Measures of evidence: each must see what was planted, and must not see what is not there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss

from cellkin.atlas import Atlas
from cellkin.atlas.map import place
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.contrast import coverage
from cellkin.core.errors import DataError, DecisionError
from cellkin.core.records import Dataset, Evidence
from cellkin.decision import Index, MinMaxScale
from cellkin.drawing.masks import NUCLEUS, cell_masks
from cellkin.evidence.attention import attention
from cellkin.evidence.contrasting import Comparing
from cellkin.evidence.faithfulness import blurred, covered, deletion, relevance_order
from cellkin.evidence.probing import Probe, Sides, method_maps, targets
from cellkin.evidence.randomisation import LIMIT, randomisation, rank_correlation
from cellkin.evidence.stability import CHANGES, map_stability
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.encoder import Encoder
from cellkin.learning.networks import Network
from cellkin.learning.untrained import untrained
from cellkin.measures.intervals import share_of
from cellkin.measures.ranking import auroc
from cellkin.measures.reliability import reliability
from cellkin.proving.verdicts import warnings
from cellkin.system import DecisionSupport

SIDE, POSITIONS = 28, 7


# --- deletion and insertion --------------------------------------------------------------------


def planted(rng: np.random.Generator, cells: int = 16) -> tuple[Bytes, Floats]:
    """Pictures of bright patches, and how much each position adds to their weighted brightness."""
    small = rng.integers(0, 256, (cells, POSITIONS, POSITIONS))
    side = SIDE // POSITIONS
    images = np.repeat(np.repeat(small, side, 1), side, 2)[..., None].repeat(3, -1).astype(np.uint8)
    return images, rng.normal(size=(POSITIONS, POSITIONS))


def weighted(images: Bytes, weights: Floats) -> Floats:
    """A network without a network: the sum of weight times mean brightness by position."""
    side = SIDE // POSITIONS
    means = images.astype(float).mean(-1).reshape(-1, POSITIONS, side, POSITIONS, side)
    return np.asarray((means.mean((2, 4)) * weights).sum((1, 2)))


def contributions(images: Bytes, weights: Floats) -> Floats:
    """By how much covering each position alone makes the target fall: the perfect map."""
    fill = blurred(images)
    full = weighted(images, weights)
    found = np.zeros((len(images), POSITIONS, POSITIONS))
    for i, j in np.ndindex(POSITIONS, POSITIONS):
        removed = np.zeros(found.shape, bool)
        removed[:, i, j] = True
        found[:, i, j] = full - weighted(covered(images, fill, removed), weights)
    return found


def test_a_perfect_map_wins_deletion_and_insertion_and_its_opposite_loses() -> None:
    rng = np.random.default_rng(0)
    images, weights = planted(rng)
    perfect = contributions(images, weights)
    maps = {"perfect": perfect, "opposite": -perfect, "noise": rng.normal(size=perfect.shape)}
    found = deletion(
        images, maps, lambda shown, _: dict.fromkeys(maps, weighted(shown, weights)), seed=1
    )
    for test in ("deletion", "insertion"):
        best, worst, noise = (getattr(found[name], test) for name in maps)
        assert best.interval.low is not None
        assert best.interval.low > 0
        assert worst.interval.high is not None
        assert worst.interval.high < 0
        assert noise.interval.low is not None
        assert noise.interval.high is not None
        assert noise.interval.low < 0 < noise.interval.high
    assert found["perfect"].deletion.mean == pytest.approx(-found["opposite"].insertion.mean)
    assert found["perfect"].covered[0] == 0
    assert found["perfect"].covered[-1] == 1
    ends = {(f.most[0], f.most[-1]) for f in found.values()}
    assert len(ends) == 1  # whatever the order, it starts whole and ends covered


def test_the_curve_of_deletion_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(2)
    images, weights = planted(rng, cells=2)
    maps = {"some": rng.normal(size=(2, POSITIONS, POSITIONS))}
    found = deletion(images, maps, lambda shown, _: {"some": weighted(shown, weights)})["some"]
    fill, expected = blurred(images), np.zeros((2, len(found.covered)))
    for m in range(2):
        order = np.argsort(-maps["some"][m].ravel(), kind="stable")
        for t, share in enumerate(found.covered):
            picture = images[m].copy()
            for p in order[: round(share * POSITIONS**2)]:
                i, j = divmod(int(p), POSITIONS)
                rows, columns = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
                picture[rows, columns] = fill[m][rows, columns]
            expected[m, t] = weighted(picture[None], weights)[0]
    assert found.most == pytest.approx(expected.mean(0))
    assert found.deletion.interval.low is None  # two cells make no interval
    assert "too few cells" in found.deletion.interval.note


def test_equal_positions_come_in_a_random_order() -> None:
    """An empty map must not profit from the order in which positions happen to lie."""
    flat = np.zeros((2, 3, 3))
    orders = {tuple(relevance_order(flat, np.random.default_rng(s))[0]) for s in range(5)}
    assert len(orders) > 1
    order = relevance_order(np.arange(9.0).reshape(1, 3, 3), np.random.default_rng(0))[0]
    assert order.tolist() == list(range(8, -1, -1))


# --- randomisation -------------------------------------------------------------------------------


def test_an_edge_detector_is_caught_by_randomisation() -> None:
    """It draws the same map whatever the network knows."""
    rng = np.random.default_rng(0)
    edges = np.abs(rng.normal(size=(20, 7, 7)))
    inside = np.ones((20, 7, 7), bool)
    caught = randomisation(edges, np.repeat(edges[None], 4, 0), inside)
    assert caught.told_apart is False
    assert caught.similarity is not None
    assert caught.similarity.mean == pytest.approx(1)
    assert caught.among == pytest.approx(1)
    upside_down = randomisation(edges, np.repeat(-edges[None], 4, 0), inside)
    assert upside_down.told_apart is False  # a sign is no knowledge
    free = randomisation(edges, rng.normal(size=(4, 20, 7, 7)), inside)
    assert free.told_apart is True
    assert free.similarity is not None
    assert free.chance == pytest.approx(free.similarity.mean, abs=0.02)


def test_the_rule_is_about_the_upper_end_of_the_interval() -> None:
    rng = np.random.default_rng(3)
    trained = rng.normal(size=(40, 7, 7))
    inside = np.ones((40, 7, 7), bool)
    for share in np.linspace(0.0, 1.5, 7):
        random = share * trained + rng.normal(size=(3, 40, 7, 7))
        found = randomisation(trained, random, inside)
        assert found.similarity is not None
        assert found.similarity.interval.high is not None
        assert found.told_apart is (found.similarity.interval.high < LIMIT)


def test_where_all_cells_agree_there_is_no_interval_and_only_the_worst_is_said() -> None:
    same = np.arange(49.0).reshape(1, 7, 7).repeat(12, 0)
    inside = np.ones(same.shape, bool)
    for random, told in ((same, False), (np.zeros_like(same), None)):
        found = randomisation(same, random[None], inside)
        assert found.similarity is not None
        assert found.similarity.interval.ends == (None, None)
        assert found.told_apart is told
        assert "score alike" in found.note
        said = warnings({"methods": {"grad-cam": found.to_json()}})
        assert list(said) == (["grad-cam"] if told is False else [])
        assert all("None" not in text and "score alike" in text for text in said.values())
    few = randomisation(same[:5], same[None, :5], inside[:5])
    assert few.told_apart is None


def test_cells_too_small_to_have_ranks_are_left_out() -> None:
    rng = np.random.default_rng(0)
    maps, inside = rng.normal(size=(12, 7, 7)), np.ones((12, 7, 7), bool)
    inside[0] = False
    assert randomisation(maps, maps[None], inside).left_out == 1
    nothing = randomisation(maps[:, :2, :2], maps[None, :, :2, :2], inside[:, :2, :2])
    assert nothing.told_apart is None
    assert nothing.similarity is None
    assert "2 x 2 positions" in nothing.note


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_rank_correlation_equals_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, (2, 5, 5)).astype(float)
    inside = rng.random((5, 5)) < 0.8
    inside[0, :3] = True
    a[0, 0], b[0, 0] = -1.0, -1.0  # never constant
    assert rank_correlation(a, b, inside) == pytest.approx(spearmanr(a[inside], b[inside])[0])


def test_a_map_that_is_the_same_everywhere_is_like_nothing() -> None:
    inside = np.ones((3, 3), bool)
    assert rank_correlation(np.zeros((3, 3)), np.arange(9.0).reshape(3, 3), inside) == 0.0


# --- where maps point, and stability -------------------------------------------------------------


def test_where_a_map_points() -> None:
    regions = np.zeros((12, SIDE, SIDE), bool)
    regions[:, 8:16, 8:16] = True
    uniform = np.ones((12, POSITIONS, POSITIONS))
    inside = coverage(regions, (POSITIONS, POSITIONS))
    assert inside.sum((1, 2)) == pytest.approx(4)  # two by two positions, fully covered
    flat, good = attention(uniform, regions), attention(inside, regions)
    assert flat is not None
    assert good is not None
    assert flat.share.mean == pytest.approx(regions[0].mean())
    assert flat.over_uniform.mean == pytest.approx(0, abs=1e-12)
    assert flat.pointing.mean == pytest.approx(4 / 49)
    assert good.share.mean == pytest.approx(1)
    assert good.pointing.mean == 1
    away = attention(np.where(inside > 0, -1.0, 1.0), regions)
    assert away is not None
    assert away.share.mean == 0
    assert away.pointing.mean == 0


def test_empty_maps_point_nowhere_and_are_counted() -> None:
    regions = np.ones((3, SIDE, SIDE), bool)
    maps = np.zeros((3, POSITIONS, POSITIONS))
    assert attention(maps, regions) is None
    maps[0, 3, 3] = 1
    found = attention(maps, regions)
    assert found is not None
    assert found.empty == 2


def test_changes_are_small_and_a_turn_is_undone() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64))
    disc = np.hypot(x - 24, y - 36) < 14
    images = np.where(disc[..., None], (120, 60, 150), (230, 220, 215)).astype(np.uint8)[None]
    for name, change in CHANGES.items():
        after = change.apply(images, rng)
        assert after.shape == images.shape
        assert after.dtype == np.uint8
        assert not np.array_equal(after, images)
        assert np.abs(after.astype(int) - images).mean() < 12, name
    maps = np.exp(-((x - 24) ** 2 + (y - 36) ** 2) / 200)[None].astype(float)
    turn = CHANGES["rotation"]
    turned = turn.apply((maps[..., None].repeat(3, -1) * 255).astype(np.uint8), rng)[..., 0]
    inside = np.ones((1, 64, 64), bool)
    straight = map_stability(maps, turn.undo(turned.astype(float)), inside)
    crooked = map_stability(maps, turned.astype(float), inside)
    assert straight is not None
    assert crooked is not None
    assert straight.mean > crooked.mean
    assert map_stability(maps, maps, inside[:, :1, :1].repeat(64, 1).repeat(64, 2) & False) is None


# --- the heatmaps that are tested are those of the page -----------------------------------------


@pytest.fixture(scope="module")
def dss(atlas_folder: Path) -> DecisionSupport:
    return DecisionSupport.open(atlas_folder)


def sides_of(atlas: Atlas, shown: list[Evidence]) -> Sides:
    """The sides of their contrasts among all reference cells."""
    found = [evidence.contrast for evidence in shown]
    row = atlas.cells.positions
    return Sides(
        np.stack([atlas.image(i) for i in range(len(atlas.cells))]),
        [[row[name] for name in one.kin] for one in found if one],
        [[row[name] for name in one.opponents] for one in found if one],
    )


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_probed_maps_and_targets_are_those_of_the_page(
    dss: DecisionSupport, smears: Dataset, distance: str
) -> None:
    atlas = replace(dss.atlas, distance=distance)
    asked = DecisionSupport(atlas)
    shown = asked.explain([s.image.path for s in smears.samples[:3]])
    kin = [atlas.cells.ids.index(e.decision.neighbors[0].id) for e in shown]
    probe = Probe(
        ["a", "b", "c"],
        np.stack([e.query_image for e in shown]),
        np.stack([e.reference_images[0] for e in shown]),
        [e.decision.label for e in shown],
        sides_of(atlas, shown),
    )
    space = Comparing(atlas.encoder, atlas.scale, distance)
    maps = method_maps(space, probe)
    found = targets(space, probe, atlas.vectors[kin], atlas.vectors)
    assert list(maps) == ["contrast", "grad-cam", "likeness", "difference"]
    for i, evidence in enumerate(shown):
        assert evidence.contrast is not None
        why = evidence.contrast.on_query
        assert maps["contrast"][i] == pytest.approx(why.values, rel=1e-3, abs=1e-3)
        assert found["contrast"][i] == pytest.approx(why.margin, rel=1e-3, abs=1e-4)
        assert evidence.heatmap is not None
        near, far = evidence.pairs[0], evidence.differences[0]
        assert maps["grad-cam"][i] == pytest.approx(evidence.heatmap.values, abs=1e-5)
        assert maps["likeness"][i] == pytest.approx(near.on_query(), rel=1e-3, abs=1e-4)
        assert maps["difference"][i] == pytest.approx(far.on_query, rel=1e-3, abs=1e-4)
        assert found["likeness"][i] == pytest.approx(near.similarity, rel=1e-4)
        assert found["difference"][i] == pytest.approx(far.total, rel=1e-4, abs=1e-6)
        logits = asked.look(evidence.query_image).logits
        best = atlas.encoder.classes.index(probe.labels[i])
        assert found["grad-cam"][i] == pytest.approx(logits[best], rel=1e-4, abs=1e-5)


def test_a_head_that_does_not_know_the_class_has_no_grad_cam(dss: DecisionSupport) -> None:
    images = np.stack([dss.atlas.image(i) for i in range(2)])
    probe = Probe(["a", "b"], images, images[::-1], ["foreign", "normal"])
    space = Comparing(dss.atlas.encoder, dss.atlas.scale, "euclidean")
    assert list(method_maps(space, probe)) == ["likeness", "difference"]
    assert "grad-cam" not in targets(space, probe, dss.atlas.vectors[:2])


def test_where_one_query_has_no_other_side_no_contrast_is_told(dss: DecisionSupport) -> None:
    images = np.stack([dss.atlas.image(i) for i in range(2)])
    sides = Sides(images, [[0], [1]], [[1], []])
    probe = Probe(["a", "b"], images, images[::-1], ["normal", "normal"], sides)
    space = Comparing(dss.atlas.encoder, dss.atlas.scale, "euclidean")
    assert "contrast" not in method_maps(space, probe)
    assert "contrast" in method_maps(space, probe.part([0]))


def test_a_transformer_is_probed_as_well() -> None:
    torch.manual_seed(0)
    network = Network("vit_tiny_patch16_224", 2, size=48)
    encoder = Encoder(
        network, Preprocessor(size=48, mean=(127.0,) * 3, std=(60.0,) * 3), ["a", "b"]
    )
    images = np.random.default_rng(0).integers(0, 255, (4, 48, 48, 3)).astype(np.uint8)
    scale = MinMaxScale.fit(encoder.vectors(images))
    probe = Probe(list("pq"), images[:2], images[2:], ["a", "b"])
    maps = method_maps(Comparing(encoder, scale, "euclidean"), probe)
    assert {name: values.shape for name, values in maps.items()} == dict.fromkeys(
        ("grad-cam", "likeness", "difference"), (2, 3, 3)
    )
    assert all(np.abs(values).max() > 0 for values in maps.values())


def test_untrained_networks_know_nothing_and_come_from_their_seed(dss: DecisionSupport) -> None:
    encoder = dss.atlas.encoder
    images = np.stack([dss.atlas.image(i) for i in range(10)])
    before = torch.random.get_rng_state()
    one, same, other = (untrained(encoder, images, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.space == same.space
    assert len({encoder.space, one.space, other.space}) == 3
    assert not one.network.training
    vectors = one.vectors(images)
    assert np.isfinite(vectors).all()
    assert (vectors.std(0) > 0).mean() > 0.5  # its signal did not die on the way
    scales = [m.weight for m in one.network.body.modules() if hasattr(m, "running_mean")]
    assert scales
    assert all(bool(w.any()) for w in scales)


# --- confidences, detection ---------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_reliability_equals_a_naive_loop_and_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    sure, right = [c for c, _ in rows], [r for _, r in rows]
    found = reliability(sure, right)
    assert found.brier == pytest.approx(brier_score_loss([*right, True, False], [*sure, 1, 0])
                                        * (len(rows) + 2) / len(rows))  # fmt: skip
    error = 0.0
    for i in range(10):
        own = [(c, r) for c, r in rows if (i / 10 + 1e-10 < c <= (i + 1) / 10 + 1e-10)
               or (i == 0 and c <= 1e-10)]  # fmt: skip
        if own:
            gap = np.mean([c for c, _ in own]) - np.mean([r for _, r in own])
            error += len(own) * abs(float(gap)) / len(rows)
    assert found.ece == pytest.approx(error)
    assert sum(b["n"] for b in found.bins) == len(rows)


def test_an_honest_confidence_has_no_error_and_an_impossible_one_is_refused() -> None:
    assert reliability([0.75] * 4, [True, True, True, False]).ece == 0
    assert reliability([1.0, 1.0], [False, False]).ece == 1
    for wrong in ([], [1.2]):
        with pytest.raises(DecisionError, match="no calibration"):
            reliability(wrong, [True] * len(wrong))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
@settings(max_examples=40, deadline=None)
def test_auroc_counts_pairs(inside: list[int], outside: list[int]) -> None:
    wins = [1.0 if o > i else 0.5 if o == i else 0.0 for i in inside for o in outside]
    assert auroc(inside, outside) == pytest.approx(np.mean(wins))


def test_nothing_to_tell_apart() -> None:
    with pytest.raises(DecisionError, match="told apart"):
        auroc([1.0], [])
    with pytest.raises(DecisionError, match="told apart"):
        auroc([1.0], [math.inf])
    assert share_of([]).share is None
    assert share_of([True, False, True, True]).share == 0.75


# --- masks, and the map --------------------------------------------------------------------------


def test_masks_lie_over_the_prepared_images(smears: Dataset, tmp_path: Path) -> None:
    nothing, cell = (
        next(s for s in smears if (s.label == "nothing") is wanted) for wanted in (True, False)
    )
    masks = cell_masks(smears, [nothing, cell], 48)
    assert masks[0] is not None
    assert not masks[0].any()
    assert masks[1] is not None
    assert masks[1].shape == (48, 48)
    nucleus = masks[1] == NUCLEUS
    assert 0.02 < nucleus.mean() < 0.5
    image = Preprocessor(size=48, mean=(127.0,) * 3, std=(60.0,) * 3).prepare(
        np.asarray(__import__("PIL.Image").Image.open(cell.image.path).convert("RGB"))
    )
    green = image[..., 1].astype(float)  # a stained nucleus takes green out of the light
    assert green[nucleus].mean() < green[masks[1] == 0].mean()
    assert cell_masks(replace(smears, root=tmp_path), [cell], 48) == [None]


def test_a_picture_that_is_no_mask_is_refused(smears: Dataset, tmp_path: Path) -> None:
    from PIL import Image

    sample = smears.samples[0]
    path = tmp_path / "masks" / Path(sample.id).with_suffix(".png")
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match="no mask of one cell"):
        cell_masks(replace(smears, root=tmp_path), [sample], 48)


def test_a_query_far_nearer_to_few_cells_is_placed() -> None:
    """The affinities to its other neighbours vanish; it has a place all the same."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(5, 3)) * 1e-3, rng.normal(size=(35, 3)) * 50 + 500
    index = Index(np.concatenate([near, far]), [f"{i:03d}" for i in range(40)], "euclidean")
    xy = rng.normal(size=(40, 2)) * 10
    found = place(np.zeros((2, 3)), index, xy)
    assert np.isfinite(found).all()
    assert found[0].tolist() == found[1].tolist()


def test_real_cells_without_masks_are_known_by_outline_and_stain() -> None:
    """A violet nucleus in a pale violet cell on white ground; a picture without a cell has none."""
    from cellkin.drawing.masks import CYTOPLASM, NUCLEUS
    from cellkin.proving.heatmaps import _outlined

    y, x = np.indices((96, 96))
    away = np.hypot(x - 48, y - 46)
    image = np.full((96, 96, 3), 235, np.uint8)
    image[away < 24] = (190, 175, 220)
    image[away < 16] = (90, 50, 140)
    found = _outlined(image)
    assert found is not None
    assert found[46, 48] == NUCLEUS
    assert found[2, 2] == 0
    assert {CYTOPLASM, NUCLEUS} <= set(np.unique(found).tolist())
    assert _outlined(np.full((96, 96, 3), 235, np.uint8)) is None
