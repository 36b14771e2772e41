"""Backbones: each works exactly or is refused by name; first weights from everywhere."""

from __future__ import annotations

import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from cellkin import datasets
from cellkin.cli.main import app
from cellkin.core.errors import ArtifactError, SplitError, WeightsError
from cellkin.core.records import Dataset
from cellkin.drawing.drawn import draw
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning import hub
from cellkin.learning.encoder import Encoder
from cellkin.learning.losses import batch_hard, covered_convolutions, triplet_margin
from cellkin.learning.networks import BACKBONES, Network, timm
from cellkin.learning.recipes import Recipe
from cellkin.learning.weights import initialize, seen_by
from cellkin.system import DecisionSupport, train
from cellkin.system.runs import open_encoder, starting_encoder

TINY = "test_resnet"


# the feature of a backbone ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("regnety_002", "average"),
        ("efficientnet_b0", "average"),
        ("resnet18d", "average"),
        ("swin_tiny_patch4_window7_224", "average"),
        ("vit_tiny_patch16_224", "token"),
        ("vit_tiny_r_s16_p8_224", "token"),
        ("test_nfnet", "average"),
    ],
)
def test_the_feature_is_exactly_the_pooled_map(name: str, pooling: str) -> None:
    network = Network(name, 2, size=64).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        A = network.feature_map(x)
        published = network.body(x)
    assert network.pooling == pooling
    assert A.shape[1 if pooling == "average" else 2] == network.width
    torch.testing.assert_close(network.pool(A), published, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("convnext_atto", "between the pooling and the head"),
        ("mobilenetv3_small_050", "layers after the pooling turn 288 channels"),
        ("deit_tiny_distilled_patch16_224", "a second token"),
        ("mixer_s32_224", "no feature map"),
        ("coat_tiny", "several feature maps"),
    ],
)
def test_what_cannot_be_explained_exactly_is_refused_with_the_reason(
    name: str, reason: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        Network(name, 2, size=64)
    assert name in caught.value.what
    assert reason in caught.value.what
    assert "resnet18" in caught.value.mend


def test_a_transformer_is_built_for_the_size_of_the_images(tmp_path: Path) -> None:
    network, _ = initialize("test_vit", 2, "scratch", size=48, seed=0)
    assert network.body.pos_embed.shape[1] == 1 + (48 // 16) ** 2
    pre = Preprocessor(size=48, mean=(1.0,) * 3, std=(2.0,) * 3)
    encoder = Encoder(network, pre, ("a", "b"))
    encoder.save(tmp_path)
    again = Encoder.open(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    assert again.space == encoder.space
    assert np.array_equal(again.view(images).features, encoder.view(images).features)
    with pytest.raises(WeightsError, match="patches of 16 pixels"):
        Network("test_vit", 2, size=50)


def test_an_encoder_of_before_opens_as_it_was(tmp_path: Path) -> None:
    """Folders written before norms, heads and documents were stored."""
    import json

    from cellkin.core.manifests import write_manifest

    network, _ = initialize(TINY, 2, "scratch", size=32, seed=0)
    pre = Preprocessor(size=32, mean=(1.0,) * 3, std=(2.0,) * 3)
    encoder = Encoder(network, pre, ("a", "b"))
    encoder.save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    for key in ("norm", "heads", "documents"):
        del settings[key]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    head = {"kind": "encoder", "schema": 1, "space": encoder.space}
    write_manifest(tmp_path, "encoder.json", head)
    assert Encoder.open(tmp_path).space == encoder.space


# group norm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [TINY, "test_efficientnet"])
def test_group_norm_replaces_every_batch_norm_and_knows_no_batch(name: str) -> None:
    plain = Network(name, 2, size=32)
    network = Network(name, 2, size=32, norm="group").train()
    before = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    after = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert len(before) == len(after) > 0
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert all(m.num_channels % m.num_groups == 0 for m in after)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone, together = network(x[:1])[0], network(x)[0][:1]
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)
    activations = [type(getattr(m, "act", None)) for m in before]
    assert activations == [type(getattr(m, "act", None)) for m in after]


def test_group_norm_is_recorded_and_a_transformer_has_none(tmp_path: Path) -> None:
    network, _ = initialize(TINY, 2, "scratch", size=32, seed=0, norm="group")
    pre = Preprocessor(size=32, mean=(1.0,) * 3, std=(2.0,) * 3)
    Encoder(network, pre, ("a", "b")).save(tmp_path)
    assert Encoder.open(tmp_path).network.norm == "group"
    with pytest.raises(WeightsError, match="no batch norm"):
        Network("test_vit", 2, size=32, norm="group")


def test_group_norm_takes_scale_and_shift_of_batch_norm_weights(tmp_path: Path) -> None:
    source, _ = initialize(TINY, 2, "scratch", size=32, seed=3)
    with torch.no_grad():
        source.body.bn1.weight.uniform_(1, 2)
    torch.save(source.body.state_dict(), tmp_path / "w.pth")
    network, _ = initialize(TINY, 2, str(tmp_path / "w.pth"), size=32, seed=0, norm="group")
    assert torch.equal(network.body.bn1.weight, source.body.bn1.weight)


# first weights ----------------------------------------------------------------------------------


def published_layout(backbone: str, wrapper: str | None, prefix: str) -> dict[str, object]:
    """A torchvision-layout ResNet with three heads, as published ADP checkpoints have it."""
    torch.manual_seed(4)
    body = timm.create_model(backbone, num_classes=0)
    state = dict(body.state_dict())
    for i, codes in enumerate((9, 26, 38), 1):
        layer = nn.Linear(body.num_features, codes)
        state |= {f"fc{i}.weight": layer.weight.data, f"fc{i}.bias": layer.bias.data}
    named = {f"{prefix}{name}": value for name, value in state.items()}
    return {wrapper: named, "epoch": 80} if wrapper else named


@pytest.mark.parametrize(
    ("backbone", "wrapper", "prefix"),
    [
        ("resnet18", None, ""),
        ("resnet34", "state_dict", "module."),
        ("resnet50", "model_state_dict", "module."),
    ],
)
def test_adp_checkpoints_load(
    backbone: str, wrapper: str | None, prefix: str, tmp_path: Path
) -> None:
    made = published_layout(backbone, wrapper, prefix)
    torch.save(made, tmp_path / "adp.pth")
    network, preprocessor = initialize(backbone, 4, str(tmp_path / "adp.pth"), size=64, seed=0)
    stored = made[wrapper] if wrapper else made
    for name, value in network.body.state_dict().items():
        if "tracked" not in name:
            assert torch.equal(value, stored[f"{prefix}{name}"]), name  # type: ignore[index]
    assert preprocessor is None
    assert network.head.out_features == 4


def test_a_foreign_layer_a_missing_one_and_another_shape_are_named(tmp_path: Path) -> None:
    state = published_layout(TINY, None, "")
    state["aux.weight"] = torch.zeros(3)
    del state["bn1.bias"]
    state["layer4.0.conv1.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        initialize(TINY, 2, str(tmp_path / "w.pth"), size=32, seed=0)
    for told in ("bn1.bias", "aux.weight", "layer4.0.conv1.weight", TINY):
        assert told in caught.value.what


def test_safetensors_and_wrapped_names(tmp_path: Path) -> None:
    source, _ = initialize(TINY, 2, "scratch", size=32, seed=5)
    named = {f"model.backbone.{k}": v for k, v in source.body.state_dict().items()}
    save_file(named, str(tmp_path / "w.safetensors"))
    network, _ = initialize(TINY, 2, str(tmp_path / "w.safetensors"), size=32, seed=0)
    assert torch.equal(network.body.bn1.running_var, source.body.bn1.running_var)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_malicious_file_is_refused_and_not_run(wrapped: bool, tmp_path: Path) -> None:
    flag = tmp_path / "ran"

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (flag,))

    state = {**published_layout(TINY, None, ""), "layer9.weight": Bad()}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="no file of weights"):
        initialize(TINY, 2, str(tmp_path / "bad.pth"), size=32, seed=0)
    assert not flag.exists()
    (tmp_path / "module.pth").write_bytes(pickle.dumps(nn.Linear(2, 2)))
    with pytest.raises(WeightsError, match="no file of weights"):
        initialize(TINY, 2, str(tmp_path / "module.pth"), size=32, seed=0)


def test_position_embeddings_follow_the_size(tmp_path: Path) -> None:
    source, _ = initialize("test_vit", 2, "scratch", size=64, seed=5)
    torch.save(source.body.state_dict(), tmp_path / "w.pth")
    network, _ = initialize("test_vit", 2, str(tmp_path / "w.pth"), size=32, seed=0)
    assert network.body.pos_embed.shape[1] == 1 + 4
    assert torch.equal(network.body.pos_embed[:, 0], source.body.pos_embed[:, 0])
    same, _ = initialize("test_vit", 2, str(tmp_path / "w.pth"), size=64, seed=0)
    assert torch.equal(same.body.pos_embed, source.body.pos_embed)


def dinov2_layout(backbone: str, *, tokens: int, chunked: bool) -> dict[str, torch.Tensor]:
    """Names and shapes of a DINOv2 transformer without registers; each tensor is one number of its
    own, which takes no room on the disk.
    """
    with torch.device("meta"):
        body = timm.create_model(backbone, num_classes=0)
    shapes = {k: v.shape for k, v in body.state_dict().items()}
    shapes |= {"mask_token": (1, body.num_features), "pos_embed": (1, tokens, body.num_features)}
    values = torch.linspace(-0.5, 0.5, len(shapes)).split(1)
    state = {k: v.expand(*shapes[k]) for k, v in zip(shapes, values, strict=True)}
    if chunked:
        return {re.sub(r"^blocks\.(\d+)", r"blocks.0.\1", k): v for k, v in state.items()}
    return state


@pytest.mark.parametrize(
    ("backbone", "wrapper", "tokens", "chunked"),
    [
        ("vit_small_patch14_dinov2", "teacher", 1 + 16 * 16, False),  # as DinoBloom is published
        ("vit_small_patch14_dinov2", None, 1 + 37 * 37, True),
        ("vit_base_patch14_dinov2", "model", 1 + 37 * 37, False),
    ],
)
def test_checkpoints_of_dinov2_load(
    backbone: str, wrapper: str | None, tokens: int, chunked: bool, tmp_path: Path
) -> None:
    state = dinov2_layout(backbone, tokens=tokens, chunked=chunked)
    prefixed = {f"backbone.{k}": v for k, v in state.items()}
    prefixed["dino_head.mlp.0.weight"] = torch.zeros(2, 2)
    torch.save({wrapper: prefixed, "student": {}} if wrapper else state, tmp_path / "w.pth")
    network, preprocessor = initialize(backbone, 2, str(tmp_path / "w.pth"), size=28, seed=0)
    stored = {k.replace("blocks.0.", "blocks.") if chunked else k: v for k, v in state.items()}
    for name, value in network.body.state_dict().items():
        one = float(stored[name].flatten()[0])
        torch.testing.assert_close(value, torch.full_like(value, one), msg=name)
    assert network.body.pos_embed.shape[1] == 1 + 2 * 2
    assert preprocessor is not None
    np.testing.assert_allclose(preprocessor.mean, 255 * np.array([0.485, 0.456, 0.406]))
    np.testing.assert_allclose(preprocessor.std, 255 * np.array([0.229, 0.224, 0.225]))
    assert network.pooling == "token"


def test_a_frozen_transformer_of_others_is_an_atlas_with_evidence(
    few_cells: Dataset, tmp_path: Path
) -> None:
    """`cellkin index FILE CELLS --backbone NAME`, then a decision and its evidence."""
    torch.manual_seed(3)
    body = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=28)
    named = {f"backbone.{k}": v.half() for k, v in body.state_dict().items()}
    torch.save({"teacher": named}, tmp_path / "bloom.pth")
    words = ["index", str(tmp_path / "bloom.pth"), str(few_cells.root)]
    words += ["--backbone", "vit_small_patch14_dinov2", "--size", "28"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "atlas")])
    assert done.exit_code == 0, done.output
    dss = DecisionSupport.open(tmp_path / "atlas")
    assert dss.atlas.encoder.pooling == "token"
    assert dss.atlas.encoder.recipe["name"] == "bloom.pth, frozen"
    evidence = dss.explain(few_cells.samples[0].image.path)
    assert len(evidence.reference_images) == 5
    assert evidence.heatmap is not None or "not available" in evidence.heatmap_absent
    with pytest.raises(ArtifactError) as caught:
        open_encoder(tmp_path / "bloom.pth", "cpu")
    assert "--backbone" in caught.value.mend
    torch.save(published_layout(TINY, None, ""), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="an encoder already"):
        starting_encoder(str(tmp_path / "atlas"), TINY, 32, "cpu")
    with pytest.raises(WeightsError, match="z-score"):
        starting_encoder(str(tmp_path / "w.pth"), TINY, 32, "cpu")


def test_what_does_not_fit_a_checkpoint_of_dinov2_is_told(tmp_path: Path) -> None:
    state = dinov2_layout("vit_base_patch14_dinov2", tokens=257, chunked=False)
    torch.save({"teacher": state}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="do not fit") as caught:
        initialize(TINY, 2, str(tmp_path / "w.pth"), size=32, seed=0)
    assert "--backbone vit_base_patch14_dinov2" in caught.value.mend
    with pytest.raises(WeightsError, match="patches of 14") as caught:
        initialize("vit_small_patch14_dinov2", 2, str(tmp_path / "w.pth"), size=32, seed=0)
    assert "28" in caught.value.mend


def test_from_an_encoder_and_from_an_atlas(tmp_path: Path, atlas_folder: Path) -> None:
    network, _ = initialize(TINY, 5, "scratch", size=32, seed=5)
    pre = Preprocessor(size=32, mean=(10.0, 20.0, 30.0), std=(4.0, 5.0, 6.0))
    encoder = Encoder(network, pre, tuple("abcde"))
    encoder.trained_on = ("mark",)
    encoder.save(tmp_path)
    started, found = initialize(TINY, 2, str(tmp_path), size=48, seed=0)
    assert torch.equal(started.body.bn1.running_mean, network.body.bn1.running_mean)
    assert found == Preprocessor(size=48, mean=pre.mean, std=pre.std)
    assert seen_by(str(tmp_path)) == ("mark",)
    assert seen_by("scratch") == seen_by("packaged") == seen_by("hub") == ()
    with pytest.raises(WeightsError) as caught:
        initialize(TINY, 2, str(atlas_folder), size=32, seed=0)
    assert "--backbone resnet18" in caught.value.mend
    opened, _ = initialize("resnet18", 2, str(atlas_folder), size=48, seed=0)
    kept = Encoder.open(atlas_folder / "encoder").network.body.state_dict()
    assert torch.equal(opened.body.state_dict()["conv1.weight"], kept["conv1.weight"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ArtifactError, match="neither an encoder nor an atlas"):
        initialize(TINY, 2, str(tmp_path / "none"), size=32, seed=0)


def test_cells_that_the_first_weights_know_are_not_tested_on(
    smears: Dataset, atlas_folder: Path, tmp_path: Path
) -> None:
    """Another seed cuts another test part, out of cells that the encoder was trained on."""
    recipe = Recipe(size=48, epochs=1, init=str(atlas_folder), k=3, precision="fp32")
    with pytest.raises(SplitError, match="were trained on before"):
        train(smears, recipe, seed=1, out=tmp_path / "again")
    assert not list(tmp_path.iterdir()), "a run that failed at its start leaves nothing behind"


# the hub ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "told", "mend"),
    [
        ("hub:rsnet18", "no weights 'rsnet18'", "resnet18"),
        ("hub:resnet34.a1_in1k", "weights of 'resnet34'", "--backbone resnet34"),
        ("hub:resnet18.a9_in1k", "no weights", "resnet18.a"),
    ],
)
def test_a_wrong_hub_name_is_told_without_a_network(init: str, told: str, mend: str) -> None:
    with pytest.raises(WeightsError) as caught:
        initialize("resnet18", 2, init, size=64, seed=0)
    assert told in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize("init", ["hub", "hub:resnet18.a1_in1k", "hf-hub:nobody/resnet18"])
def test_offline_is_said_at_once(
    init: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "_reachable", lambda endpoint: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for a network"))
    with pytest.raises(WeightsError) as caught:
        initialize("resnet18", 2, init, size=64, seed=0)
    assert "could not be fetched" in caught.value.what
    assert "--init PATH" in caught.value.mend
    assert constants.HF_HUB_OFFLINE is False


def test_the_door_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:1"})
    assert hub._reachable("https://hub.invalid") is True, "a proxy may know the way"
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert hub._reachable("http://127.0.0.1:9") is False


def test_weights_from_the_hub_bring_their_z_score(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []
    real = timm.create_model

    def create(name: str, pretrained: bool = False, **settings: object) -> object:
        if pretrained:
            asked.append((name, settings.get("img_size")))
        return real(name.split(".")[0], pretrained=False, **settings)

    monkeypatch.setattr(hub.timm, "create_model", create)
    monkeypatch.setattr(hub, "_reachable", lambda endpoint: True)
    _, pre = initialize("vit_tiny_patch16_224", 2, "hub:vit_tiny_patch16_224", size=32, seed=0)
    assert pre is not None
    assert pre.mean == pytest.approx((127.5,) * 3)
    assert asked == [("vit_tiny_patch16_224", 32)]
    assert hub._full_name("hub", "vit_base_patch16_224").endswith(".augreg_in21k_ft_in1k")


# the triplets of batch-hard mining --------------------------------------------------------------


def test_batch_hard_equals_a_naive_loop(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(10, 4)), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    losses = []
    for i in range(10):
        d = np.linalg.norm(x - x[i], axis=1)
        same = [d[j] for j in range(10) if y[j] == y[i] and j != i]
        other = [d[j] for j in range(10) if y[j] != y[i]]
        losses.append(max(max(same) - min(other) + 1.0, 0.0))
    features, labels = torch.tensor(x), torch.tensor(y)
    ours = float(triplet_margin(1.0)(features, labels, batch_hard()(features, labels)))
    assert ours == pytest.approx(np.mean([v for v in losses if v > 0]), rel=1e-5)


def test_pointwise_orthogonality_covers_what_residual_does_not() -> None:
    lite = Network("tf_efficientnet_lite0", 2).body
    assert covered_convolutions(lite) == []
    pointwise = covered_convolutions(lite, "pointwise")
    assert len(pointwise) == 32
    assert all(c.kernel_size == (1, 1) and c.groups == 1 for c in pointwise)


# the whole way with every backbone of the paper -------------------------------------------------


@pytest.fixture(scope="module")
def few_cells(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("few") / "cells"
    return datasets.open(draw(folder, cells=32, subjects=8, size=64, seed=3))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_trains_decides_and_explains(
    backbone: str, few_cells: Dataset, tmp_path: Path
) -> None:
    size = 32 if backbone.startswith("vit") else 48
    recipe = Recipe(backbone=backbone, size=size, epochs=1, batch=16, k=3, precision="fp32")
    dss = DecisionSupport.open(train(few_cells, recipe, out=tmp_path / "atlas"))
    evidence = dss.explain(few_cells.samples[0].image.path)
    assert evidence.decision.label in few_cells.labels.names
    assert len(evidence.reference_images) == 3
    if dss.atlas.encoder.pooling == "average":
        assert evidence.heatmap is not None
        assert max(pair.completeness for pair in evidence.pairs) < 1e-4
    else:
        assert evidence.heatmap is not None or "not available" in evidence.heatmap_absent
