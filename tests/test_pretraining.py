"""Multitask pretraining: Eqs. 1-2, parts, the loop, its encoder, mosaics and model cards."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellkin.cli import main as cli
from cellkin.core.artifacts import alone
from cellkin.core.errors import (
    DataError,
    LabelError,
    OutputError,
    RecipeError,
    SplitError,
    TrainingError,
)
from cellkin.core.manifests import read_manifest
from cellkin.core.records import NOTICE, Dataset, ImageRef, LabelSet, Sample
from cellkin.datasets.multilabel import hold_out, target_matrix
from cellkin.drawing.mosaics import TISSUES, levels_of_codes, make_mosaics
from cellkin.imaging.decode import decode
from cellkin.learning import checkpoints
from cellkin.learning.colour import BRIGHTNESS, CONTRAST, recolour
from cellkin.learning.encoder import Encoder
from cellkin.learning.losses import covered_convolutions, orthogonality
from cellkin.learning.multitask import (
    Level,
    PretrainingLoss,
    code_weights,
    level_scores,
    multilabel_soft_margin,
)
from cellkin.learning.networks import Network
from cellkin.learning.pretraining import TaggedData, pretrain_encoder
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.system import DecisionSupport, PretrainOptions, encoder_facts, index, pretrain, train

SMALL = Recipe(
    name="tiny",
    task="pretraining",
    backbone="test_resnet",
    size=32,
    epochs=3,
    batch=8,
    lr=0.02,
    precision="fp32",
)
LEVELS = (("C", "E"), ("C", "C.A", "E", "E.N", "E.T"))


# Eqs. 1 and 2 -----------------------------------------------------------------------------------


def naive_eq1(x: np.ndarray, y: np.ndarray, w: np.ndarray, positive_only: bool) -> float:
    """Eq. 1, image by image and code by code, in the paper's own terms."""
    total = 0.0
    for logits, labels in zip(x, y, strict=True):
        for i, (xi, yi) in enumerate(zip(logits, labels, strict=True)):
            present = yi * math.log(1 / (1 + math.exp(-xi)))
            absent = (1 - yi) * math.log(math.exp(-xi) / (1 + math.exp(-xi)))
            weight = 1.0 if positive_only else w[i]
            total -= (w[i] * present + weight * absent) / len(logits)
    return total / len(x)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_eq_1_equals_a_naive_loop_in_both_forms(seed: int, positive_only: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(0, 3, (5, 7)), rng.integers(0, 2, (5, 7)), rng.uniform(0.5, 30, 7)
    ours = multilabel_soft_margin(
        torch.tensor(x), torch.tensor(y), torch.tensor(w), positive_only=positive_only
    )
    assert float(ours) == pytest.approx(naive_eq1(x, y, w, positive_only), rel=1e-5)


def test_eq_1_is_torch_s_loss_and_stays_finite(rng: np.random.Generator) -> None:
    x = torch.tensor(rng.normal(0, 3, (6, 4)))
    y, w = torch.tensor(rng.integers(0, 2, (6, 4))).double(), torch.tensor([1.0, 2.0, 5.0, 9.0])
    torch.testing.assert_close(
        multilabel_soft_margin(x, y, w), torch.nn.MultiLabelSoftMarginLoss(weight=w)(x, y)
    )
    far = multilabel_soft_margin(torch.full((1, 2), 500.0), torch.zeros(1, 2), None)
    assert float(far) == pytest.approx(500.0)


def test_code_weights_have_a_floor() -> None:
    targets = np.zeros((100, 3), np.uint8)
    targets[:50, 0] = targets[:10, 1] = targets[:1, 2] = 1
    assert code_weights(targets).tolist() == pytest.approx([2.0, 10.0, 10.0])


def test_eq_2_is_the_mean_over_levels_and_lambda_times_orthogonality(
    rng: np.random.Generator,
) -> None:
    body = Network("test_resnet", 1).body
    sizes, weights = [2, 5, 3], torch.tensor(rng.uniform(1, 5, 10))
    loss = PretrainingLoss(body, [Level(n) for n in sizes], weights, lam=0.1)
    x, y = rng.normal(size=(4, 10)), rng.integers(0, 2, (4, 10))
    parts = loss(torch.tensor(x), torch.tensor(y))
    ends = np.cumsum([0, *sizes])
    levels = [
        naive_eq1(x[:, a:b], y[:, a:b], weights[a:b].numpy(), False)
        for a, b in itertools.pairwise(ends)
    ]
    assert [float(v) for v in parts.levels] == pytest.approx(levels, rel=1e-5)
    orth = float(orthogonality(covered_convolutions(body)).detach())
    assert float(parts.total.detach()) == pytest.approx(np.mean(levels) + 0.1 * orth, rel=1e-5)


def test_orthogonality_that_covers_nothing_is_an_error_unless_pointwise() -> None:
    lite = Network("test_efficientnet", 1).body
    with pytest.raises(RecipeError) as caught:
        PretrainingLoss(lite, [Level(2)], None, lam=0.1)
    assert "orthogonal = 'pointwise'" in caught.value.mend
    assert PretrainingLoss(lite, [Level(2)], None, lam=0.1, covers="pointwise").covered
    with pytest.raises(RecipeError, match="covers no convolution"):
        PretrainingLoss(Network("test_vit", 1).body, [Level(2)], None, lam=0.1, covers="pointwise")


def test_scores_of_a_level_by_hand() -> None:
    """Code 0 is ranked perfectly, code 1 worst; code 2 is on no image and is not scored."""
    logits = np.array([[3, -2, 1], [2, -1, 1], [-1, 5, 1], [-2, 6, 1]], np.float32)
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], np.uint8)
    scores = level_scores(logits, targets)
    assert scores["map"] == pytest.approx((1.0 + 1 / 4) / 2)
    assert scores["f1"] == pytest.approx((1.0 + 0.0) / 2)
    assert scores["frequency"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert scores["codes"] == 2
    assert level_scores(logits, np.zeros_like(targets))["map"] is None


# colour -----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.3, 0.3)]))
@settings(max_examples=20, deadline=None)
def test_recolouring_keeps_its_limits(seed: int, strength: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(30, 226, (4, 3, 6, 6), dtype=torch.uint8, generator=generator)
    changed = recolour(images, *strength, generator)
    assert changed.dtype == torch.uint8
    shift = (changed.float() - images.float()).abs()
    assert 0 < shift.max() <= 128, "of colours that no smear has"
    assert shift.mean((1, 2, 3)).max() <= 30
    grey = torch.full((3, 3, 4, 4), 128, dtype=torch.uint8)
    lit = recolour(grey, 1.0, 0.0, generator).float()
    assert (lit.amax(1) - lit.amin(1)).max() <= 1, "a turn of the hue leaves grey as it is"
    assert (lit / 128 - 1).abs().max() <= BRIGHTNESS + 0.01
    assert CONTRAST < 0.1


def test_recolouring_off_draws_nothing_and_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    assert recolour(images, 0.0, 0.0, generator) is images
    assert torch.equal(generator.get_state(), before)


# targets and parts ------------------------------------------------------------------------------


def tagged_dataset(folder: Path, n: int = 40, groups: int | None = 10) -> Dataset:
    """Red images carry C and C.A, green E and E.N, blue ones also E and E.T."""
    rng = np.random.default_rng(3)
    samples = []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        kind = int(rng.integers(3))
        picture = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        picture[..., kind] += 120
        Image.fromarray(picture).save(folder / f"{i}.png")
        codes = (("C", "C.A"), ("E", "E.N"), ("E", "E.T"))[kind]
        samples.append(
            Sample(
                id=f"{i}.png",
                image=ImageRef(folder / f"{i}.png"),
                labels=(codes[:1], codes),
                group=None if groups is None else f"slide {i % groups}",
            )
        )
    return Dataset("tissues", tuple(samples), LabelSet((), {}), levels=LEVELS)


@pytest.fixture(scope="module")
def tissues(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tagged_dataset(tmp_path_factory.mktemp("tissues") / "img")


def test_targets_stand_beside_each_other(tissues: Dataset, smears: Dataset) -> None:
    targets = target_matrix(tissues)
    names = [*LEVELS[0], *LEVELS[1]]
    for row, sample in zip(targets, tissues, strict=True):
        present = {names[i] for i in np.flatnonzero(row)}
        assert present == {code for codes in sample.labels for code in codes}
        assert row.sum() == sum(len(codes) for codes in sample.labels)
    assert (target_matrix(smears).sum(axis=1) == 1).all(), "cells: one level, one-hot"


def test_an_unknown_code_and_a_missing_level_are_named(tissues: Dataset) -> None:
    first = tissues.samples[0]
    with pytest.raises(LabelError, match="'X'") as caught:
        target_matrix(replace(tissues, samples=(replace(first, labels=(("X",), ())),)))
    assert caught.value.where == first.id
    with pytest.raises(LabelError, match="1 label levels"):
        target_matrix(replace(tissues, samples=(replace(first, labels=((),)),)))


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_parts_are_disjoint_keep_slides_together_and_share_the_codes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = Dataset(
        "t",
        tuple(
            Sample(
                id=str(i),
                image=ImageRef(Path(f"{i}.png")),
                labels=(tuple(c for c in "abc" if rng.random() < 0.4),),
                group=f"slide {i // 4}",
            )
            for i in range(160)
        ),
        LabelSet((), {}),
        levels=(("a", "b", "c"),),
    )
    split = hold_out(data, seed=seed)
    assert sorted((*split.train, *split.val), key=int) == [s.id for s in data]
    slides = {s.id: s.group for s in data}
    assert not {slides[i] for i in split.train} & {slides[i] for i in split.val}
    assert 0.1 <= len(split.val) / 160 <= 0.3
    targets = target_matrix(data)
    shares = targets[[int(i) for i in split.val]].sum(0) / targets.sum(0)
    assert ((shares > 0) & (shares < 0.4)).all()
    assert hold_out(data, seed=seed) == split


def test_one_slide_alone_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="cannot be in two parts"):
        hold_out(tagged_dataset(tmp_path, 4, groups=1), seed=0)
    few = hold_out(tagged_dataset(tmp_path, 3, groups=2), seed=0)
    assert few.train
    assert few.val


# the loop ---------------------------------------------------------------------------------------


def tagged_data(n: int = 40) -> TaggedData:
    rng = np.random.default_rng(5)
    kind = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    images[np.arange(n), :, :, kind] += 120
    fine = np.eye(3, dtype=np.uint8)[kind]
    return TaggedData(
        images=images,
        ids=tuple(map(str, range(n))),
        targets=np.hstack([fine[:, :1], fine[:, 1:2] | fine[:, 2:], fine]),
        levels=(("C", "E"), ("C.A", "E.N", "E.T")),
        train=np.arange(n - 10),
        val=np.arange(n - 10, n),
    )


def test_pretraining_learns_and_keeps_its_best_epoch(tmp_path: Path) -> None:
    recipe = SMALL.with_changes(epochs=5)
    trained = pretrain_encoder(tagged_data(), recipe, seed=0, run=tmp_path)
    rows = trained.history
    assert rows[-1]["loss"] < rows[0]["loss"]
    best = max(rows, key=lambda r: (r["val_map"], -r["val_loss"]))
    assert [r["epoch"] for r in rows if r["selected"]] == [best["epoch"]]
    assert best["val_map"] > 0.95 > best["levels"][0]["frequency"] + 0.2
    assert trained.encoder.heads == tagged_data().levels
    assert trained.encoder.classes[0] == "level 1: C"
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in logged] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("epoch", "kept"), [(1, "nothing was kept yet"), (2, "after epoch 1 is")])
def test_a_loss_that_is_no_number_says_what_is_kept(
    epoch: int, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = -(-30 // SMALL.batch)
    calls, original = itertools.count(1), PretrainingLoss.__call__

    def broken(self: PretrainingLoss, *args: Any) -> Any:
        parts = original(self, *args)
        bad = torch.is_grad_enabled() and next(calls) == (epoch - 1) * steps + 2
        return replace(parts, total=parts.total * np.nan) if bad else parts

    monkeypatch.setattr(PretrainingLoss, "__call__", broken)
    with pytest.raises(TrainingError, match=f"in epoch {epoch}, batch 2") as caught:
        pretrain_encoder(tagged_data(), SMALL, seed=0, run=tmp_path)
    assert kept in caught.value.mend


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_stopped_and_resumed_ends_as_undisturbed(optimizer: str, tmp_path: Path) -> None:
    recipe = SMALL.with_changes(
        optimizer=optimizer, schedule="cosine", colour_jitter=0.5, orthogonality=0.1
    )

    class Stop(Exception):
        pass

    def until(task: str, done: int, total: int) -> None:
        if done > total * 0.5:
            raise Stop

    whole = pretrain_encoder(tagged_data(), recipe, seed=4, run=tmp_path / "whole")
    with pytest.raises(Stop):
        pretrain_encoder(tagged_data(), recipe, seed=4, run=tmp_path / "two", progress=until)
    again = pretrain_encoder(tagged_data(), recipe, seed=4, run=tmp_path / "two")
    a, b = whole.encoder.network.state_dict(), again.encoder.network.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a if "tracked" not in k)
    for key in ("loss", "val_map", "val_loss", "lr"):
        assert [r[key] for r in whole.history] == [r[key] for r in again.history]
    with pytest.raises(TrainingError, match="seed: 4 there, 5 now"):
        pretrain_encoder(tagged_data(), recipe, seed=5, run=tmp_path / "two")


def test_a_loss_that_is_no_number_stops_and_names_the_level(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+ .*level 2") as caught:
        pretrain_encoder(tagged_data(), SMALL.with_changes(lr=1e30), seed=0, run=tmp_path)
    assert "smaller lr" in caught.value.mend


def test_a_validation_part_without_codes_is_said(tmp_path: Path) -> None:
    data = tagged_data()
    data.targets[data.val] = 0
    with pytest.raises(TrainingError, match="no code could be scored"):
        pretrain_encoder(data, SMALL, seed=0, run=tmp_path)


def test_a_recipe_for_the_other_task_is_refused(tissues: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is for fine-tuning"):
        pretrain(tissues, "quick", out=tmp_path / "e")
    with pytest.raises(RecipeError, match="is for pretraining"):
        train(tissues, "paper-pretrain-adp", out=tmp_path / "a")
    assert load_recipe("paper-pretrain-adp").orthogonality == 0.1


# the encoder it makes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder_folder(tissues: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tissues, SMALL, seed=1, out=tmp_path_factory.mktemp("enc") / "encoder")


def test_an_encoder_folder_holds_all_that_tells_how_it_was_made(
    encoder_folder: Path, tissues: Dataset
) -> None:
    names = {p.name for p in encoder_folder.iterdir()}
    assert names == {
        "encoder.json", "settings.json", "weights.safetensors", "model_card.md", "model_card.json",
        "log.jsonl", "training.png", "split.json",
    }  # fmt: skip
    manifest = read_manifest(encoder_folder, "encoder.json", kind="encoder", schema=1)
    assert set(manifest["files"]) == names - {"encoder.json"}
    encoder = Encoder.open(encoder_folder)
    assert encoder.heads == LEVELS
    assert encoder.network.head.out_features == 7
    assert len(encoder.trained_on) == len(tissues)
    assert not encoder_folder.with_name("encoder.training").exists()


def test_inspect_and_the_card(encoder_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.app(["inspect", str(encoder_folder)], standalone_mode=False) in (0, None)
    told = capsys.readouterr().out
    assert "label levels of 2, 5 codes" in told
    assert "model_card.md" in told
    assert NOTICE in told
    facts = encoder_facts(encoder_folder)
    card = json.loads((encoder_folder / "model_card.json").read_text())
    assert facts["card"] == card
    assert card["levels"][1]["codes"] == 5
    assert card["notice"] == NOTICE
    assert "margin" not in card["recipe"], "a field that says nothing here is not told"
    text = (encoder_folder / "model_card.md").read_text()
    for heading in ("Intended use", "Not for", "Data", "Numbers", "Limits", "Provenance"):
        assert f"\n## {heading}\n" in text
    assert f"{100 * card['levels'][0]['scores']['map']:.1f}" in text or "| 100 % |" in text
    assert text.rstrip().endswith(NOTICE)


def test_fine_tuning_starts_from_it_and_cells_can_be_indexed_with_it(
    encoder_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    recipe = load_recipe(
        "paper-allidb2", init=str(encoder_folder), backbone="test_resnet", size=32, epochs=1,
        warmup_epochs=0, batch=32, precision="fp32",
    )  # fmt: skip
    atlas = DecisionSupport.open(train(smears, recipe, out=tmp_path / "atlas")).atlas
    known = set(Encoder.open(encoder_folder).trained_on)
    assert known < set(atlas.encoder.trained_on)
    folder = index(encoder_folder, smears, out=tmp_path / "indexed")
    evidence = DecisionSupport.open(folder).explain(smears.samples[0].image.path)
    assert "not available" in evidence.heatmap_absent
    kept = (folder / "encoder" / "model_card.md").read_text()
    assert kept == (encoder_folder / "model_card.md").read_text()
    assert "# Model card: atlas of" in (folder / "model_card.md").read_text()


def test_the_card_of_an_atlas_tells_numbers_with_intervals_and_limits(
    atlas_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.app(["inspect", str(atlas_folder)], standalone_mode=False)
    assert f"card        {atlas_folder / 'model_card.md'}" in capsys.readouterr().out
    dss = DecisionSupport.open(atlas_folder)
    test = dss.facts()["test"]
    for folder, kind in ((atlas_folder, "atlas"), (atlas_folder / "encoder", "encoder")):
        text = (folder / "model_card.md").read_text()
        assert text.startswith(f"# Model card: {kind} of ")
        assert f"({test['correct']} of {test['n']} cells); too few subjects for an" in text
        assert "drawn cells: synthetic" in text
        for name in dss.atlas.labels.names:
            assert f"| {dss.atlas.labels.title(name)} |" in text
        card = json.loads((folder / "model_card.json").read_text())
        assert card["test"] == test
        assert card["recipe"]["margin"] == 1.0
        assert not re.search(r"\bNone\b|\bnan\b", text)


def test_a_changed_card_is_found(encoder_folder: Path, tmp_path: Path) -> None:
    import shutil

    from cellkin.core.errors import ArtifactError

    copy = Path(shutil.copytree(encoder_folder, tmp_path / "copy"))
    card = copy / "model_card.md"
    card.write_text(card.read_text().replace("No diagnosis", "A diagnosis"))
    with pytest.raises(ArtifactError, match="model_card"):
        read_manifest(copy, "encoder.json", kind="encoder", schema=1)


def test_a_name_cannot_break_the_table() -> None:
    from cellkin.report.card import _cell

    assert _cell("a | b\nc") == "a \\| b c"


def test_pretrain_by_command(
    smears: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells of one class each are one level; the recipe comes from a file."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'task = "pretraining"\nbackbone = "test_resnet"\nsize = 32\nepochs = 1\nbatch = 32\n'
        'precision = "fp32"\nlr = 0.01\n'
    )
    out = tmp_path / "encoder"
    command = ["pretrain", str(smears.root), "--out", str(out), "--recipe", str(recipe), "--json"]
    cli.app(command, standalone_mode=False)
    done = capsys.readouterr()
    facts = json.loads(done.out)
    assert facts["heads"] == [list(smears.labels.names)]
    assert facts["classes"] == list(smears.labels.names)
    assert "mAP" in done.err
    assert "cellkin train DATA --backbone test_resnet --size 32 --init" in done.err


def test_resume_by_option(
    tissues: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., Any] = checkpoints.save

    def killed(folder: Path, checkpoint: checkpoints.Checkpoint) -> None:
        original(folder, checkpoint)
        if checkpoint.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tissues, SMALL, seed=1, out=tmp_path / "e")
    monkeypatch.setattr(checkpoints, "save", original)
    assert (tmp_path / "e.training").is_dir()
    again = PretrainOptions(resume=True)
    with (
        alone(tmp_path / "e.training"),
        pytest.raises(OutputError, match="another run is at work"),
    ):
        pretrain(tissues, SMALL, seed=1, out=tmp_path / "e", options=again)
    folder = pretrain(tissues, SMALL, seed=1, out=tmp_path / "e", options=again)
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert not (tmp_path / "e.training").exists()


# mosaics ----------------------------------------------------------------------------------------


def plain_tiles(folder: Path, each: int = 4) -> dict[str, list[Path]]:
    """Tiles of one colour each, a different one for every tile."""
    tiles: dict[str, list[Path]] = {}
    for k, code in enumerate(("C.A", "C.S", "E.T")):
        for i in range(each):
            path = folder / f"{code}-{i}.png"
            Image.fromarray(np.full((40, 40, 3), (60 * k, 10 * i, 90), np.uint8)).save(path)
            tiles.setdefault(code, []).append(path)
    return tiles


def test_mosaics_carry_what_they_show_and_no_tile_is_in_two_pools(tmp_path: Path) -> None:
    settings = {"size": 24, "pools": 2}
    data = make_mosaics(plain_tiles(tmp_path), tmp_path / "m", count=30, seed=0, settings=settings)
    assert data.levels == (("C", "E"), ("C", "C.A", "C.S", "E", "E.T"))
    assert all(s.image.path.name.startswith(f"{s.group}_crop_") for s in data), "slides by name"
    codes = ("C.A", "C.S", "E.T")
    tiles_of: dict[str, set[tuple[int, ...]]] = {}
    for sample in data:
        colours = {tuple(c) for c in decode(sample.image).reshape(-1, 3).tolist()}
        shown = {codes[red // 60] for red, _, _ in colours}
        assert {c for c in sample.labels[1] if "." in c} == shown
        assert set(sample.labels[0]) == {c.split(".")[0] for c in shown}
        tiles_of.setdefault(str(sample.group), set()).update(colours)
    assert len(tiles_of) == 2
    assert not set.intersection(*tiles_of.values())
    assert target_matrix(data).sum() > 0


def test_mosaics_are_seeded_and_write_the_published_table(tmp_path: Path) -> None:
    tiles, small = plain_tiles(tmp_path), {"size": 16, "pools": 2}
    a, b, c = (
        make_mosaics(tiles, tmp_path / name, count=6, seed=seed, settings=small)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert [s.labels for s in a] == [s.labels for s in b]
    pixels = [np.stack([decode(s.image) for s in data]) for data in (a, b, c)]
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    head, *rows = (tmp_path / "a" / "labels.csv").read_text().splitlines()
    assert head == "Patch Names,C,C.A,C.S,E,E.T"
    present = [
        c for c, v in zip(head.split(",")[1:], rows[0].split(",")[1:], strict=True) if v == "1"
    ]
    assert tuple(present) == a.samples[0].labels[1]


def test_too_few_tiles_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 tiles of C\.A cannot be dealt into 5 pools"):
        make_mosaics(plain_tiles(tmp_path), tmp_path / "m", count=2, seed=0)
    with pytest.raises(DataError, match="unknown setting 'sice'"):
        make_mosaics(plain_tiles(tmp_path), tmp_path / "m", count=2, seed=0, settings={"sice": 2})


def test_levels_keep_the_codes_above() -> None:
    assert levels_of_codes(["E.M.S", "T"]) == (("E", "T"), ("E", "E.M", "T"),
                                              ("E", "E.M", "E.M.S", "T"))  # fmt: skip


@pytest.mark.real
def test_real_tissue_is_learned(real_data: Path, tmp_path: Path) -> None:
    """Tiles are dealt before mosaics are made; unseen tiles must be known above guessing."""
    tiles = {code: sorted((real_data / "nct_crc_he" / n).iterdir()) for n, code in TISSUES.items()}
    data = make_mosaics(tiles, tmp_path / "m", count=80, seed=0, settings={"size": 32, "pools": 5})
    recipe = SMALL.with_changes(epochs=6, schedule="cosine")
    folder = pretrain(data, recipe, out=tmp_path / "encoder")
    for level in encoder_facts(folder)["card"]["levels"]:
        assert level["scores"]["map"] > level["scores"]["frequency"] + 0.1
