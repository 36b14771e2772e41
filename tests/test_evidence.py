"""Heatmaps and pair maps: exact where they claim it, and equal to independent libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkin.core.records import Dataset
from cellkin.evidence.pairs import likeness, pair_maps
from cellkin.evidence.saliency import grad_cam
from cellkin.system import DecisionSupport


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


@given(st.integers(0, 10_000), st.sampled_from(["euclidean", "cosine"]))
@settings(max_examples=20, deadline=None)
def test_fault_07_the_pair_tensor_adds_up_to_the_similarity(seed: int, distance: str) -> None:
    rng = np.random.default_rng(seed)
    A_Q, A_P = rng.gamma(1.0, size=(8, 3, 3)), rng.gamma(1.0, size=(2, 8, 3, 3))
    S, o = rng.gamma(1.0, size=8), rng.normal(size=8)
    for n, pair in enumerate(pair_maps(("q", A_Q), (["a", "b"], A_P), S, o, distance=distance)):
        g_Q, g_P = S * A_Q.mean((1, 2)) - o, S * A_P[n].mean((1, 2)) - o
        target = g_Q @ g_P
        if distance == "cosine":
            target /= np.linalg.norm(g_Q) * np.linalg.norm(g_P)
        assert pair.similarity == pytest.approx(target, rel=1e-6)
        assert pair.tensor.sum() == pytest.approx(target, rel=1e-4, abs=1e-4)
        assert pair.completeness < 1e-4
        assert pair.on_query().sum() == pytest.approx(target, rel=1e-4, abs=1e-4)
        assert pair.on_reference().sum() == pytest.approx(target, rel=1e-4, abs=1e-4)


def test_completeness_can_fail() -> None:
    """The measure sees a tensor that does not add up: the max-pooling formula, for one."""
    rng = np.random.default_rng(0)
    A_Q, A_P = rng.gamma(1.0, size=(8, 3, 3)), rng.gamma(1.0, size=(8, 3, 3))
    published = np.maximum(likeness(A_Q, A_P[None])[0], 0) * 9
    target = A_Q.mean((1, 2)) @ A_P.mean((1, 2))
    norms = np.linalg.norm(A_Q.mean((1, 2))) * np.linalg.norm(A_P.mean((1, 2)))
    assert abs(published.sum() - target) / norms > 1e-2


def test_a_cell_in_the_origin_has_no_likeness() -> None:
    zero = np.zeros((4, 2, 2))
    (pair,) = pair_maps(("q", zero), (["a"], zero[None]), np.ones(4), np.zeros(4))
    assert pair.similarity == 0.0
    assert not pair.tensor.any()


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
    (pair,) = pair_maps(("q", maps[0]), (["a"], -maps), np.ones(4), np.zeros(4))
    assert (pair.on_query() < 0).all()


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
