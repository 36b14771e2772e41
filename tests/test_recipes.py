"""Every field of a recipe changes what it says it changes; a new field without proof fails."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellkin.core.errors import RecipeError
from cellkin.core.records import LabelSet
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning import checkpoints, grounds, selection
from cellkin.learning.encoder import Encoder
from cellkin.learning.pretraining import TaggedData, pretrain_encoder
from cellkin.learning.recipes import CHOICES, ONLY, Recipe, load_recipe, recipe_names
from cellkin.learning.sampling import TrainingData
from cellkin.learning.training import Trained, train_encoder
from cellkin.learning.weights import initialize

DOCS = Path(__file__).resolve().parents[1] / "docs"
CLASSES = ("a", "b", "c")
BASE = Recipe(
    backbone="test_resnet",
    size=32,
    epochs=2,
    batch=6,
    lr=0.01,
    precision="fp32",
    rotation="none",
    flips=False,
    k=3,
)
PRETRAINING = Recipe(**{**BASE.to_json(), "task": "pretraining", "k": 5})


def pictures(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is their brightest channel; the classes are not balanced."""
    rng = np.random.default_rng(5)
    targets = np.array([0, 1, 2, 0, 1, 0] * n)[:n]
    images = rng.integers(0, 60, (n, size, size, 3), dtype=np.uint8)
    images[np.arange(n), :, : size // 2, targets] += 90
    return images, targets.astype(np.int64)


def cells(size: int) -> TrainingData:
    images, targets = pictures(24, size)
    return TrainingData(
        images=images,
        ids=tuple(f"cell {i}" for i in range(24)),
        targets=targets,
        train=np.arange(18),
        val=np.arange(18, 24),
        labels=LabelSet(CLASSES, dict.fromkeys(CLASSES, "other cell")),
    )


def tissues(size: int) -> TaggedData:
    images, targets = pictures(24, size)
    fine = np.eye(3, dtype=np.uint8)[targets]
    return TaggedData(
        images=images,
        ids=tuple(f"tile {i}" for i in range(24)),
        targets=np.hstack([fine[:, :1] | fine[:, 1:2], fine[:, 2:], fine]),
        levels=(("x", "y"), ("x.a", "x.b", "y.c")),
        train=np.arange(18),
        val=np.arange(18, 24),
    )


@dataclass(frozen=True)
class Run:
    """One training, seen from outside."""

    trained: Trained
    optimizer: dict[str, dict[str, torch.Tensor]]
    steps: int

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.trained.history]

    @property
    def weights(self) -> dict[str, np.ndarray]:
        state = self.trained.encoder.network.state_dict()
        return {k: v.numpy() for k, v in state.items()}


@functools.lru_cache
def run(recipe: Recipe) -> Run:
    seen: list[int] = []
    train: Any = train_encoder if recipe.task == "fine-tuning" else pretrain_encoder
    data = (cells if recipe.task == "fine-tuning" else tissues)(recipe.size)
    with tempfile.TemporaryDirectory() as name:
        trained = train(
            data, recipe, seed=0, run=Path(name), progress=lambda _, __, total: seen.append(total)
        )
        found = checkpoints.load_latest(Path(name) / "checkpoints")
    assert found is not None
    return Run(trained, {k: dict(v) for k, v in found.optimizer.items()}, seen[-1])


def weights_differ(base: Recipe, changed: Recipe) -> None:
    a, b = run(base).weights, run(changed).weights
    assert any(not np.array_equal(a[k], b[k]) for k in a)


def sees(look: Callable[[Recipe], Any], before: Any, after: Any) -> Callable[..., None]:
    def check(base: Recipe, changed: Recipe) -> None:
        assert look(base) == before
        assert look(changed) == after

    return check


def grows(look: Callable[[Recipe], float]) -> Callable[..., None]:
    def check(base: Recipe, changed: Recipe) -> None:
        assert look(changed) > look(base)

    return check


def column(name: str) -> Callable[[Recipe], list[Any]]:
    return lambda recipe: run(recipe).column(name)


def moments(recipe: Recipe) -> set[str]:
    return {key for values in run(recipe).optimizer.values() for key in values}


def size_of_weights(recipe: Recipe) -> float:
    return float(sum(np.square(v).sum() for k, v in run(recipe).weights.items() if "conv" in k))


def norms(recipe: Recipe) -> set[type]:
    network, _ = initialize(
        recipe.backbone, 3, recipe.init, size=recipe.size, seed=0, norm=recipe.norm
    )
    return {type(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)}


def unmoved(recipe: Recipe) -> set[str]:
    """Weights and statistics of the backbone that a training left as they came."""
    start, _ = initialize(recipe.backbone, 3, "scratch", size=recipe.size, seed=0)
    after = run(recipe).weights
    before = {k: v.numpy() for k, v in start.state_dict().items() if "tracked" not in k}
    return {k for k in before if np.array_equal(before[k], after[k])}


def frozen_stem(base: Recipe, changed: Recipe) -> None:
    assert unmoved(base) == set()
    early = unmoved(changed)
    assert {k.split(".")[1] for k in early} == {"conv1", "bn1", "layer1"}
    assert "body.bn1.running_mean" in early


def frozen_statistics(base: Recipe, changed: Recipe) -> None:
    assert all("running" in k for k in unmoved(changed))
    assert unmoved(changed) == {k for k in run(base).weights if "running" in k}


def measured_epochs(recipe: Recipe) -> list[int]:
    return [r["epoch"] for r in run(recipe).trained.history if r["val_accuracy"] is not None]


def vote_settings(recipe: Recipe) -> tuple[int, str]:
    asked: list[tuple[int, str]] = []
    original = selection.nearest

    def spy(*args: Any, **settings: Any) -> Any:
        asked.append((settings["k"], settings["distance"]))
        return original(*args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "nearest", spy)
        selection.validated(run(recipe).trained.encoder, cells(recipe.size), recipe, torch.ones(3))
    return asked[0]


def start_kept(base: Recipe, changed: Recipe) -> None:
    """Six validation cells show nothing beyond chance: the weights are those of the start."""
    assert run(base).trained.selected_epoch > 0
    assert run(changed).trained.selected_epoch == 0
    learned = {k for k in run(changed).weights if "head" not in k and "tracked" not in k}
    assert unmoved(changed) == learned != unmoved(base)


def votes_of_validation(recipe: Recipe) -> bool:
    """Whether neighbours are asked at all to measure an epoch."""
    try:
        return bool(vote_settings(recipe))
    except IndexError:
        return False


def accepted_by(recipe: Recipe) -> list[str]:
    taken = []
    for verb, data, train in (
        ("train", cells(32), train_encoder),
        ("pretrain", tissues(32), pretrain_encoder),
    ):
        with tempfile.TemporaryDirectory() as name:
            try:
                train(data, recipe, seed=0, run=Path(name))  # type: ignore[operator]
                taken.append(verb)
            except RecipeError as error:
                assert "is for" in error.what  # noqa: PT017
    return taken


def swapped(base: Recipe, changed: Recipe) -> None:
    """Cells stand among the surroundings of others; those without an outline are counted."""

    def outline(image: np.ndarray) -> np.ndarray | None:
        middle = np.zeros(image.shape[:2], bool)
        middle[8:24, 8:24] = True
        return middle if image[0, 0, 0] % 8 else None

    found = [outline(image) is None for image in cells(base.size).images[:18]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grounds, "cell_mask", outline)
        weights_differ(base, changed)
    assert run(changed).column("without_outline") == [sum(found)] * 2
    assert 0 < sum(found) < 9
    assert "without_outline" not in run(base).trained.history[0]


def first_weights(base: Recipe, changed: Recipe) -> None:
    """Weights of a file are those that training starts from."""
    with tempfile.TemporaryDirectory() as name:
        source, _ = initialize("test_resnet", 3, "scratch", size=32, seed=77)
        file = Path(name) / "w.pth"
        torch.save(source.body.state_dict(), file)
        for recipe, same in ((base, False), (changed.with_changes(init=str(file)), True)):
            network, _ = initialize(recipe.backbone, 3, recipe.init, size=32, seed=0)
            assert torch.equal(network.body.conv1[0].weight, source.body.conv1[0].weight) is same


def own_or_fitted(base: Recipe, changed: Recipe) -> None:
    """The z-score of an encoder that training starts from, or of the training part."""
    with tempfile.TemporaryDirectory() as name:
        network, _ = initialize("test_resnet", 3, "scratch", size=32, seed=0)
        pre = Preprocessor(size=32, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
        Encoder(network, pre, CLASSES).save(Path(name))
        means = []
        for recipe in (base, changed):
            started = recipe.with_changes(init=name, epochs=1)
            means.append(run(started).trained.encoder.preprocessor.mean)
    assert means[0] == (1.0, 2.0, 3.0)
    assert means[1] == Preprocessor.fit(cells(32).images[:18], size=32).mean


def refused_from_scratch(recipe: Recipe) -> bool:
    started = {**recipe.to_json(), "init": "scratch"}
    try:
        Recipe(**started)
    except RecipeError as error:
        assert "starts from a pretrained encoder" in error.what  # noqa: PT017
        return True
    return False


@dataclass(frozen=True)
class Proof:
    """A change of one field, and a check that base and changed recipe differ as it says."""

    change: Any
    check: Callable[[Recipe, Recipe], None]
    base: dict[str, Any] = field(default_factory=dict)
    of: Recipe = BASE


def metric_loss(recipe: Recipe) -> float:
    return float(run(recipe).column("metric_loss")[0])


PROOFS = {
    "name": Proof("mine", sees(lambda r: r.id.split("-")[0], "custom", "mine")),
    "task": Proof("pretraining", sees(accepted_by, ["train"], ["pretrain"]),
                  {"k": 5, "epochs": 1}),
    "backbone": Proof("test_efficientnet", sees(
        lambda r: run(r).trained.encoder.backbone, "test_resnet", "test_efficientnet")),
    "init": Proof("a file", first_weights),
    "norm": Proof("group", sees(norms, {nn.BatchNorm2d}, {nn.GroupNorm})),
    "size": Proof(48, sees(lambda r: run(r).trained.encoder.preprocessor.size, 32, 48)),
    "unsharpen": Proof(True, sees(
        lambda r: run(r).trained.encoder.preprocessor.unsharpen, False, True)),
    "window": Proof(40.0, sees(
        lambda r: run(r).trained.encoder.preprocessor.window, None, 40.0)),
    "view": Proof("density", sees(
        lambda r: run(r).trained.encoder.preprocessor.view, "raw", "density")),
    "alone": Proof(True, sees(lambda r: r.geometry.alone, False, True)),
    "zscore": Proof("training", own_or_fitted),
    "epochs": Proof(3, sees(column("epoch"), [1, 2], [1, 2, 3])),
    "batch": Proof(9, sees(lambda r: run(r).steps, 2 * 3, 2 * 2)),
    "together": Proof(2, weights_differ),
    "accumulate": Proof(2, weights_differ),
    "optimizer": Proof("adamw", sees(
        moments, {"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"})),
    "lr": Proof(0.02, sees(column("lr"), [0.01, 0.01], [0.02, 0.02])),
    "momentum": Proof(0.0, sees(moments, {"momentum_buffer"}, set())),
    "weight_decay": Proof(0.0, grows(size_of_weights), {"weight_decay": 0.5}),
    "schedule": Proof("cosine", grows(lambda r: run(r).column("lr")[0] - run(r).column("lr")[1])),
    "lr_every": Proof(1, sees(column("lr"), [0.01, 0.01], [0.01, 0.005])),
    "lr_factor": Proof(0.1, sees(column("lr"), [0.01, 0.005], [0.01, 0.001]), {"lr_every": 1}),
    "warmup_epochs": Proof(1, sees(
        column("phase"), ["fine-tuning"] * 2, ["warm-up", *["fine-tuning"] * 2])),
    "warmup_lr": Proof(0.5, sees(
        lambda r: run(r).column("lr")[0], 0.02, 0.5), {"warmup_epochs": 1, "epochs": 1}),
    "keep_start": Proof(True, start_kept, {"warmup_epochs": 1}),
    "metric": Proof(0.0, sees(
        lambda r: bool(sum(run(r).column("metric_loss")) > 0), True, False), {"margin": 20.0}),
    "margin": Proof(5.0, grows(metric_loss)),
    "mining": Proof("batch-hard", grows(metric_loss), {"margin": 20.0}),
    "orthogonality": Proof(0.1, sees(
        lambda r: bool(min(run(r).column("orthogonality")) > 0), False, True)),
    "orthogonal": Proof("pointwise", sees(
        lambda r: len(set(run(r).column("orthogonality"))), 2, 2), {"orthogonality": 0.1}),
    "class_weighted": Proof(False, weights_differ),
    "positive_only": Proof(True, grows(lambda r: -run(r).column("loss")[0]), of=PRETRAINING),
    "rotation": Proof("quarter", weights_differ),
    "flips": Proof(True, weights_differ),
    "colour_jitter": Proof(1.0, weights_differ),
    "stain_jitter": Proof(1.0, weights_differ),
    "laboratory_jitter": Proof(1.0, weights_differ),
    "zoom": Proof(0.5, weights_differ),
    "swap_grounds": Proof(1.0, swapped),
    "frozen_stages": Proof(1, frozen_stem),
    "frozen_batch_norm": Proof(True, frozen_statistics),
    "validate_every": Proof(2, sees(measured_epochs, [1, 2, 3], [2, 3]), {"epochs": 3}),
    "validate_from": Proof(2, sees(measured_epochs, [1, 2, 3], [2, 3]), {"epochs": 3}),
    "precision": Proof("bf16", weights_differ),
    "k": Proof(1, sees(lambda r: vote_settings(r)[0], 3, 1)),
    "distance": Proof("cosine", sees(lambda r: vote_settings(r)[1], "euclidean", "cosine")),
    "select_by": Proof("head", sees(votes_of_validation, True, False)),
    "needs_pretraining": Proof(
        True, sees(refused_from_scratch, False, True), {"init": "weights.pth"}),
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe)])
def test_every_field_changes_what_it_says(name: str) -> None:
    assert name in PROOFS, f"the new field {name!r} needs a proof in PROOFS"
    proof = PROOFS[name]
    base = proof.of.with_changes(**proof.base)
    changed = base.with_changes(**{name: proof.change})
    assert getattr(base, name) != getattr(changed, name)
    assert base.id != changed.id
    proof.check(base, changed)


def test_the_pointwise_convolutions_are_others_than_the_residual_ones() -> None:
    values = [
        run(BASE.with_changes(orthogonality=0.1, orthogonal=which)).column("orthogonality")
        for which in CHOICES["orthogonal"]
    ]
    assert values[0] != values[1]


def test_no_proof_of_a_field_that_is_gone() -> None:
    assert set(PROOFS) == {f.name for f in fields(Recipe)}


@pytest.mark.parametrize("name", sorted({key for keys in ONLY.values() for key in keys}))
def test_a_field_that_says_nothing_in_a_task_is_refused(name: str) -> None:
    mine = next(task for task, keys in ONLY.items() if name in keys)
    other = next(task for task in ONLY if task != mine)
    with pytest.raises(RecipeError) as caught:
        Recipe(task=other, **{name: PROOFS[name].change})
    assert "says nothing" in caught.value.mend


def test_contradictions_are_refused() -> None:
    with pytest.raises(RecipeError, match="frozen_batch_norm"):
        Recipe(norm="group", frozen_batch_norm=True)
    for strength in (-0.1, 1.5):
        with pytest.raises(RecipeError, match="colour_jitter"):
            Recipe(colour_jitter=strength)


def test_everything_beyond_the_paper_is_off_by_default_and_in_its_recipes() -> None:
    off = {"colour_jitter": 0.0, "stain_jitter": 0.0, "laboratory_jitter": 0.0, "zoom": 0.0,
           "view": "raw", "alone": False, "swap_grounds": 0.0, "mining": "all", "norm": "batch",
           "orthogonal": "residual", "frozen_batch_norm": False, "positive_only": False,
           "schedule": "step"}  # fmt: skip
    papers = [load_recipe(n, init="weights.pth") for n in recipe_names() if n.startswith("paper")]
    assert len(papers) == 5
    for recipe in (Recipe(), *papers):
        assert {key: getattr(recipe, key) for key in off} == off
    assert all(recipe.zscore == "training" for recipe in papers)


def test_every_field_is_documented_with_its_default() -> None:
    page = (DOCS / "recipes.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, flags=re.M))
    defaults = {f.name: str(f.default).lower() if f.type == "bool" else str(f.default)
                for f in fields(Recipe)}  # fmt: skip
    assert {k: v.strip('"') for k, v in rows.items()} == defaults
    assert Recipe.__doc__ is not None
    for name in defaults:
        assert re.search(rf"^        {name}: ", Recipe.__doc__, flags=re.M), name
    for name in recipe_names():
        assert f"`{name}`" in page
