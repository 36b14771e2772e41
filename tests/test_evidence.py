"""Heatmaps and pair maps: exact where they claim it, and equal to independent libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkin.atlas import Atlas, Cells, Settings, build
from cellkin.core.records import (
    LYMPHOBLAST,
    OTHER_CELL,
    Dataset,
    DifferenceMap,
    Evidence,
    LabelSet,
    PairMap,
    Provenance,
)
from cellkin.decision import MinMaxScale, pair_distances
from cellkin.evidence.explaining import Cases
from cellkin.evidence.explaining import pair_maps as pair_maps_of_cases
from cellkin.evidence.pairs import differences, likeness
from cellkin.evidence.saliency import grad_cam
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning.encoder import Encoder
from cellkin.learning.networks import Network
from cellkin.system import DecisionSupport, IndexOptions, index


@pytest.fixture(scope="module")
def dss(atlas_folder: Path) -> DecisionSupport:
    return DecisionSupport.open(atlas_folder)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_likeness_equals_a_naive_loop_and_adds_up(seed: int, h: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    Q, P = rng.normal(size=(6, h, w)), rng.normal(size=(3, 6, h, w))
    D = likeness(Q, P)
    for n, i, j, x, y in np.ndindex(3, h, w, h, w):
        expected = Q[:, i, j] @ P[n, :, x, y] / (h * w) ** 2
        assert D[n, i, j, x, y] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    sums = [Q.mean((1, 2)) @ p.mean((1, 2)) for p in P]
    assert D.sum((1, 2, 3, 4)) == pytest.approx(sums, rel=1e-4, abs=1e-5)


class Averaging:
    """Stands for an encoder with average pooling."""

    pooling = "average"


def random_cases(seed: int, distance: str, k: int = 2) -> tuple[Cases, MinMaxScale]:
    """Two queries with k references each, their features and their distances."""
    rng = np.random.default_rng(seed)
    maps = rng.gamma(1.0, size=(2, 8, 3, 3)), rng.gamma(1.0, size=(2, k, 8, 3, 3))
    scale = MinMaxScale(rng.gamma(1.0, size=8), rng.normal(size=8))
    vectors = [np.float32(m.mean((-2, -1))) for m in maps]
    names = list("abcdefgh")[: 2 * k]
    g_Q = scale.apply(vectors[0])
    distances = np.array(
        [pair_distances(g_Q[m], scale.apply(vectors[1][m]), distance) for m in range(2)]
    )
    cases = Cases(["q", "r"], [names[:k], names[k:]], *vectors, distances, *maps)
    return cases, scale


DISTANCES = st.sampled_from(["euclidean", "cosine", "manhattan"])


@given(st.integers(0, 10_000), DISTANCES)
@settings(max_examples=30, deadline=None)
def test_fault_07_the_pair_tensor_adds_up_to_the_similarity(seed: int, distance: str) -> None:
    cases, scale = random_cases(seed, distance)
    likes, _ = pair_maps_of_cases(Averaging(), cases, scale, distance)  # type: ignore[arg-type]
    for m, n in np.ndindex(2, 2):
        pair = likes[m][n]
        g_Q = scale.apply(cases.vectors)[m]
        g_P = scale.apply(cases.reference_vectors[m])[n]
        target = g_Q @ g_P
        if distance == "cosine":
            target /= np.linalg.norm(g_Q) * np.linalg.norm(g_P)
        assert pair.similarity == pytest.approx(target, rel=1e-6)
        assert pair.tensor is not None
        assert pair.tensor.sum() == pytest.approx(target, rel=1e-4, abs=1e-4)
        assert pair.completeness < 1e-4
        assert pair.refused == ""
        assert pair.on_query().sum() == pytest.approx(target, rel=1e-4, abs=1e-4)
        assert pair.on_reference().sum() == pytest.approx(target, rel=1e-4, abs=1e-4)
        assert pair.on_query() == pytest.approx(pair.tensor.sum((2, 3)), abs=1e-4)
        assert pair.matches(1, 2) == pytest.approx(pair.tensor[1, 2])


@given(st.integers(0, 10_000), DISTANCES)
@settings(max_examples=30, deadline=None)
def test_the_difference_adds_up_to_the_distance_that_voted(seed: int, distance: str) -> None:
    cases, scale = random_cases(seed, distance)
    _, differs = pair_maps_of_cases(Averaging(), cases, scale, distance)  # type: ignore[arg-type]
    for m, n in np.ndindex(2, 2):
        found = differs[m][n]
        far = cases.distances[m, n]
        assert found.total == pytest.approx(far**2 if distance == "euclidean" else far)
        whole = found.on_query.sum() + found.on_reference.sum()
        assert whole == pytest.approx(found.total, rel=1e-4, abs=1e-6)
        assert found.on_query.sum() == pytest.approx(found.total / 2, rel=1e-4, abs=1e-6)
        assert found.completeness < 1e-4


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_difference_marginals_equal_a_naive_loop(seed: int, h: int, w: int) -> None:
    """E[i, j, x, y] = <delta, B_Q[i, j] - B_P[x, y]> / n^2, summed over the other side."""
    rng = np.random.default_rng(seed)
    Q, P = rng.normal(size=(6, h, w)), rng.normal(size=(2, 6, h, w))
    g_Q, g_P = Q.mean((1, 2)), P.mean((2, 3))
    on_query, on_reference = differences(Q, P, (g_Q, g_P), "euclidean")
    n = h * w
    for p in range(2):
        delta = g_Q - g_P[p]
        E = np.zeros((h, w, h, w))
        for i, j, x, y in np.ndindex(h, w, h, w):
            E[i, j, x, y] = delta @ (Q[:, i, j] - P[p, :, x, y]) / n**2
        assert E.sum() == pytest.approx(delta @ delta, rel=1e-9, abs=1e-12)
        for ours, theirs in ((on_query[p], E.sum((2, 3))), (on_reference[p], E.sum((0, 1)))):
            assert ours - ours.mean() == pytest.approx(theirs - theirs.mean(), abs=1e-9)


def test_squared_differences_of_positions_do_not_add_up_to_it() -> None:
    """What the decomposition is not: pairwise squared differences of positions."""
    rng = np.random.default_rng(1)
    Q, P = rng.gamma(1.0, size=(6, 9)), rng.gamma(1.0, size=(6, 9))
    pairwise = ((Q[:, :, None] - P[:, None]) ** 2).sum() / 81
    delta = Q.mean(1) - P.mean(1)
    assert pairwise > 1.5 * (delta @ delta)


@pytest.mark.parametrize("error", [2e-4, np.inf, np.nan])
def test_a_map_that_does_not_add_up_is_refused(error: float) -> None:
    tensor = np.ones((2, 2, 2, 2), np.float32)
    pair = PairMap("q", "a", tensor, 16.0, error)
    assert pair.refused.startswith("refused")
    assert DifferenceMap("q", "a", tensor[0, 0], tensor[0, 0], 8.0, error).refused
    assert PairMap("q", "a", None, 1.0, error, exact=False).refused == ""  # a measured gap
    assert PairMap("q", "a", tensor, 16.0, 9e-5).refused == ""


def test_completeness_can_fail() -> None:
    """The measure sees a tensor that does not add up: the max-pooling formula, for one."""
    rng = np.random.default_rng(0)
    A_Q, A_P = rng.gamma(1.0, size=(8, 3, 3)), rng.gamma(1.0, size=(8, 3, 3))
    published = np.maximum(likeness(A_Q, A_P[None])[0], 0) * 9
    target = A_Q.mean((1, 2)) @ A_P.mean((1, 2))
    norms = np.linalg.norm(A_Q.mean((1, 2))) * np.linalg.norm(A_P.mean((1, 2)))
    assert abs(published.sum() - target) / norms > 1e-2


def test_a_cell_in_the_origin_is_like_nothing() -> None:
    """Its map is zero and adds up to zero; without exact zeros it is refused, not divided by 0."""
    cases, _ = random_cases(0, "euclidean")
    nothing = replace(cases, vectors=cases.vectors * 0, maps=np.zeros((2, 8, 3, 3)))
    flat = MinMaxScale(np.ones(8), np.zeros(8))
    likes, differs = pair_maps_of_cases(Averaging(), nothing, flat, "euclidean")  # type: ignore[arg-type]
    assert likes[0][0].similarity == 0.0
    assert not likes[0][0].on_query().any()
    assert likes[0][0].completeness == 0.0
    assert differs[0][0].refused  # the stored distances belong to another query


def test_fault_09_grad_cam_equals_pytorch_grad_cam(dss: DecisionSupport) -> None:
    """Eq. 8 in closed form against an independent library's gradients."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    encoder = dss.atlas.encoder
    images = np.stack([dss.atlas.image(i) for i in range(3)])

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder.network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)[1]

    model = Logits().eval()
    x = torch.from_numpy(encoder.preprocessor.normalize(images))
    with GradCAM(model=model, target_layers=[encoder.network.body.layer4]) as library:
        for k in range(len(encoder.classes)):
            library(input_tensor=x, targets=[ClassifierOutputTarget(k)] * 3)
            raw = library.get_cam_image(
                x,
                library.target_layers[0],
                [ClassifierOutputTarget(k)] * 3,
                library.activations_and_grads.activations[0].cpu().numpy(),
                library.activations_and_grads.gradients[0].cpu().numpy(),
                False,
            )
            ours = grad_cam(encoder.view(images).maps, encoder.head_weights()[k])
            assert ours == pytest.approx(np.maximum(raw, 0), rel=1e-3, abs=1e-6)


def test_grad_cam_equals_autograd(dss: DecisionSupport) -> None:
    encoder = dss.atlas.encoder
    views = encoder.view(dss.atlas.image(0)[None])
    A = torch.tensor(views.maps, requires_grad=True)
    encoder.network.classify(encoder.network.pool(A))[0, 1].backward()
    assert A.grad is not None
    weights = A.grad.mean((2, 3), keepdim=True)
    expected = torch.relu((weights * A).sum(1)).detach().numpy()
    ours = grad_cam(views.maps, encoder.head_weights()[1])
    assert ours == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_fault_08_maps_keep_their_sign_and_scale() -> None:
    """No division by a maximum: an empty map stays empty, a negative one is not flipped."""
    maps = np.ones((1, 4, 2, 2))
    assert not grad_cam(maps, np.full(4, -1.0)).any()
    assert np.isfinite(grad_cam(np.zeros((1, 4, 2, 2)), np.ones(4))).all()
    small, large = grad_cam(maps * 0.01, np.ones(4)), grad_cam(maps, np.ones(4))
    assert large == pytest.approx(small * 100)
    assert (likeness(maps[0], -maps).sum((-2, -1)) < 0).all()


def test_fault_06_the_explained_image_is_the_one_the_network_saw(
    dss: DecisionSupport, smears: Dataset
) -> None:
    path = smears.samples[0].image.path
    look = dss.look(path)
    evidence = dss.explain(path)
    assert np.array_equal(evidence.query_image, look.image)
    views = dss.atlas.encoder.view(evidence.query_image[None])
    assert np.array_equal(views.features[0], look.features.vectors[0])
    for image, neighbor in zip(evidence.reference_images, evidence.decision.neighbors, strict=True):
        stored = dss.atlas.vectors[dss.atlas.cells.ids.index(neighbor.id)]
        assert np.array_equal(dss.atlas.encoder.view(image[None]).features[0], stored)


def test_explain_is_complete_and_agrees_with_decide(dss: DecisionSupport, smears: Dataset) -> None:
    path = smears.samples[7].image.path
    evidence = dss.explain(path)
    assert evidence.decision == dss.decide(path)
    assert len(evidence.pairs) == len(evidence.reference_heatmaps) == dss.atlas.k
    g_Q = dss.atlas.scale.apply(dss.look(path).features.vectors)[0]
    for pair, neighbor in zip(evidence.pairs, evidence.decision.neighbors, strict=True):
        g_P = dss.atlas.scaled[dss.atlas.cells.ids.index(neighbor.id)]
        assert pair.reference == neighbor.id
        assert pair.similarity == pytest.approx(float(g_Q @ g_P), rel=1e-5)
        assert pair.completeness < 1e-4
    assert evidence.query_xy == pytest.approx(dss.atlas.place(dss.look(path).features)[0])


def test_fault_13_one_new_image_can_be_looked_at(dss: DecisionSupport) -> None:
    look = dss.look(np.full((70, 90, 3), 128, np.uint8))
    decision = dss.decide(look)
    assert decision.query == "image 1"
    assert dss.explain(look).decision == decision


# --- the whole ---------------------------------------------------------------------------------


def same(a: Evidence, b: Evidence) -> bool:
    return json.dumps(a.to_json(), sort_keys=True) == json.dumps(b.to_json(), sort_keys=True)


def test_explained_together_is_explained_alone(dss: DecisionSupport, smears: Dataset) -> None:
    paths = [s.image.path for s in smears.samples[:5]]
    subjects = [s.subject for s in smears.samples[:5]]
    together = dss.explain(paths, subject=subjects)
    for path, subject, evidence in zip(paths, subjects, together, strict=True):
        assert same(dss.explain(path, subject=subject), evidence)
        assert evidence.decision == dss.decide(path, subject=subject)


def test_counter_evidence_is_the_nearest_of_the_other_side(
    dss: DecisionSupport, smears: Dataset
) -> None:
    sample = smears.samples[3]
    evidence = dss.explain(sample.image.path, subject=sample.subject)
    labels, counter = dss.atlas.labels, evidence.counter
    assert counter is not None
    own = labels.is_positive(evidence.decision.label)
    g = dss.atlas.scale.apply(dss.look(sample.image.path).features.vectors)[0]
    allowed = [
        i
        for i, (label, subject) in enumerate(
            zip(dss.atlas.cells.labels, dss.atlas.cells.subjects, strict=True)
        )
        if labels.is_positive(label) is not own and subject != sample.subject
    ]
    far = pair_distances(g, dss.atlas.scaled[allowed], "euclidean")
    ids, portrait = dss.atlas.cells.ids, dss.atlas.portrait
    assert portrait is not None
    taken = {portrait.group(ids.index(n.id)) for n in evidence.decision.neighbors}
    nearest: list[tuple[float, str]] = []
    for distance, position in sorted(zip(far.tolist(), allowed, strict=True)):
        if (group := portrait.group(position)) not in taken:  # no near copy of what is shown
            taken.add(group)
            nearest.append((distance, ids[position]))
    nearest = nearest[:2]
    assert [n.id for n in counter.neighbors] == [name for _, name in nearest]
    assert [n.distance for n in counter.neighbors] == pytest.approx([d for d, _ in nearest])
    assert len(counter.pairs) == len(counter.differences) == len(counter.images) == 2
    for pair, neighbor in zip(counter.pairs, counter.neighbors, strict=True):
        assert pair.reference == neighbor.id
        assert pair.completeness < 1e-4


def test_own_subject_is_counted_as_left_out(dss: DecisionSupport) -> None:
    subject = dss.atlas.cells.subjects[0]
    image = dss.atlas.image(0)
    evidence = dss.explain(image, subject=subject)
    assert evidence.decision.left_out == dss.atlas.cells.subjects.count(subject)
    assert dss.explain(image).decision.left_out == 0
    assert evidence.counter is not None
    seen = (*evidence.decision.neighbors, *evidence.counter.neighbors)
    assert subject not in {n.subject for n in seen}


def test_shares_and_flips_of_an_evidence(dss: DecisionSupport, smears: Dataset) -> None:
    sample = smears.samples[11]
    evidence = dss.explain(sample.image.path, subject=sample.subject)
    found = evidence.influence
    assert found is not None
    total = sum(found.shares) + found.other_shares
    assert total == pytest.approx(evidence.decision.agreement, abs=1e-9)
    assert found.relabellings == len(found.relabelled) >= 1
    assert set(found.relabelled) <= {n.id for n in evidence.decision.neighbors}


def test_images_are_decoded_when_looked_at(dss: DecisionSupport, smears: Dataset) -> None:
    evidence = dss.explain(smears.samples[2].image.path)
    for image, neighbor in zip(evidence.reference_images, evidence.decision.neighbors, strict=True):
        assert np.array_equal(image, dss.atlas.image(dss.atlas.cells.ids.index(neighbor.id)))
    assert evidence.reference_images[0] is evidence.reference_images[0]


def test_stored_maps_tell_the_same(
    smears: Dataset, atlas_folder: Path, tmp_path: Path, dss: DecisionSupport
) -> None:
    """float16 maps close to 1e-4 and differ from computed ones by their rounding alone."""
    stored = DecisionSupport.open(
        index(atlas_folder, smears, out=tmp_path / "maps", k=3, options=IndexOptions(maps="fp16"))
    )
    bare = DecisionSupport(replace(stored.atlas, maps=None))
    assert stored.atlas.maps is not None
    assert stored.facts()["maps"]["bytes"] == stored.atlas.maps.nbytes
    paths = [s.image.path for s in smears.samples[:6]]
    for a, b in zip(stored.explain(paths), bare.explain(paths), strict=True):
        assert a.decision == b.decision
        assert b.counter is not None
        for ours, theirs in zip(
            (*a.pairs, *a.differences), (*b.pairs, *b.differences), strict=True
        ):
            assert ours.completeness < 1e-4
            assert ours.refused == ""
            assert theirs.completeness < 1e-5
        for p, q in zip(a.pairs, b.pairs, strict=True):
            assert p.on_query() == pytest.approx(
                q.on_query(), rel=1e-2, abs=1e-2 * abs(q.similarity)
            )


@pytest.mark.parametrize(
    ("backbone", "k", "distance"),
    [
        ("resnet18", 1, "euclidean"),
        ("resnet34", 4, "manhattan"),
        ("resnet50", 3, "cosine"),
        ("tf_efficientnet_lite0", 5, "euclidean"),
        ("resnet50", 2, "euclidean"),
    ],
)
def test_fault_10_both_decompositions_close_on_every_backbone_for_any_k(
    backbone: str, k: int, distance: str, rng: np.random.Generator
) -> None:
    dss = DecisionSupport(small_atlas(backbone, k, distance, rng))
    images = list(rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    for evidence in dss.explain(images):
        assert len(evidence.pairs) == len(evidence.differences) == k
        assert evidence.counter is not None
        counter = (*evidence.counter.pairs, *evidence.counter.differences)
        for found in (*evidence.pairs, *evidence.differences, *counter):
            assert found.completeness < 1e-4
            assert found.exact
            assert found.refused == ""


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "manhattan"])
def test_a_transformer_reports_its_gap_and_no_map_is_zero(
    distance: str, rng: np.random.Generator
) -> None:
    dss = DecisionSupport(small_atlas("vit_tiny_patch16_224", 3, distance, rng, size=224, cells=8))
    (evidence,) = dss.explain([rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)])
    for found in (*evidence.pairs, *evidence.differences):
        assert not found.exact
        assert np.isfinite(found.completeness)
        assert found.refused == ""
    for pair, difference in zip(evidence.pairs, evidence.differences, strict=True):
        assert pair.tensor is None
        assert pair.matches(0, 0) is None
        for values in (
            pair.on_query(),
            pair.on_reference(),
            difference.on_query,
            difference.on_reference,
        ):
            assert values.shape == (14, 14)
            assert np.abs(values).max() > 0
    assert evidence.heatmap is not None
    assert evidence.heatmap.signed
    assert np.abs(evidence.heatmap.values).max() > 0


def test_on_the_output_of_the_last_block_the_patches_have_no_gradient(
    rng: np.random.Generator,
) -> None:
    """Why the tokens that enter it are read; and captum agrees on gradient x activation."""
    encoder = small_atlas("vit_tiny_patch16_224", 1, "euclidean", rng, size=224, cells=4).encoder
    images = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    network = encoder.network
    x = torch.from_numpy(encoder.preprocessor.normalize(images))
    entering = network.entering_last_block(x)
    assert network.from_last_block(entering).detach() == pytest.approx(
        encoder.view(images).features, abs=1e-4
    )
    leaving = network.body.blocks[-1](entering).detach().requires_grad_()
    network.pool(network.body.norm(leaving)).sum().backward()
    assert leaving.grad is not None
    assert not leaving.grad[:, 1:].any()
    direction = rng.normal(size=network.width)

    def target(tokens: torch.Tensor) -> torch.Tensor:
        return network.from_last_block(tokens) @ torch.tensor(direction, dtype=torch.float32)

    expected = InputXGradient(target).attribute(entering.clone().requires_grad_())
    ours = encoder.token_products(images, np.repeat(direction[None, None], 2, axis=0))
    theirs = expected.sum(2)[:, 1:].detach().reshape(2, 1, 14, 14).numpy()
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_the_likeness_is_captums_input_x_gradient(rng: np.random.Generator) -> None:
    """<g_Q, g_P> is linear in A_Q up to the offset, so captum's products are its query map."""
    A_Q, A_P = rng.gamma(1.0, size=(6, 3, 3)), rng.gamma(1.0, size=(1, 6, 3, 3))
    g_P = torch.tensor(A_P[0].mean((1, 2)))
    products = InputXGradient(lambda a: a.mean((2, 3)) @ g_P).attribute(
        torch.tensor(A_Q[None], requires_grad=True)
    )
    ours = likeness(A_Q, A_P)[0].sum((2, 3))
    assert ours == pytest.approx(products.sum(1)[0].detach().numpy(), rel=1e-4)


def small_atlas(
    backbone: str,
    k: int,
    distance: str,
    rng: np.random.Generator,
    size: int = 64,
    cells: int = 12,
) -> Atlas:
    """An atlas of noise by an untrained network."""
    torch.manual_seed(0)
    labels = LabelSet(
        ("normal", "blast", "eosinophil"),
        {"normal": OTHER_CELL, "blast": LYMPHOBLAST, "eosinophil": OTHER_CELL},
    )
    preprocessor = Preprocessor(size=size, mean=(127.0,) * 3, std=(64.0,) * 3)
    encoder = Encoder(Network(backbone, 3), preprocessor, labels.names)
    ids = tuple(f"{i:02d}" for i in range(cells))
    named = tuple(labels.names[i % 3] for i in range(cells))
    references = Cells("reference", ids, named, (None,) * cells, (None,) * cells)
    images = rng.integers(0, 256, (cells, size, size, 3), dtype=np.uint8)
    provenance = Provenance("0", "w", "", "none", 0, "2026-01-01T00:00:00Z").to_json()
    settings = Settings(k, distance, seed=0, facts={"provenance": provenance})
    return build(encoder, (references, images), [], labels=labels, settings=settings)
