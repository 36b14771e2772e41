"""Pretraining with labels of several data sets, the packaged encoders, and what they have seen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cellkin import datasets
from cellkin.core.errors import SplitError, WeightsError
from cellkin.core.records import Dataset
from cellkin.datasets.parts import splits
from cellkin.datasets.parts.seen import marked, seen_to_training
from cellkin.imaging.decode import decode
from cellkin.imaging.fingerprints import pixels_sha256
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.learning import packaged
from cellkin.learning.encoder import Encoder
from cellkin.learning.multitask import UNKNOWN, Level, PretrainingLoss, code_weights, level_scores
from cellkin.learning.networks import Network
from cellkin.learning.packaged import FOLDERS, PACKAGED, write_packaged
from cellkin.learning.pretraining import TaggedData
from cellkin.learning.weights import initialize, pixels_seen_by
from cellkin.report.card import unbeaten_start

MOST_BYTES = 32_000_000


def test_a_level_that_is_not_known_teaches_nothing() -> None:
    body = Network("test_resnet", 1).body
    loss = PretrainingLoss(body, [Level(3, single=True), Level(2)], None, lam=0.0)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 255, 255], [255, 255, 255, 0, 1], [0, 0, 1, 0, 0]])
    parts = loss(x, y.float())
    known = torch.tensor([0, 1, 3])
    wanted = F.cross_entropy(x[known, :3], y[known, :3].float().argmax(1), label_smoothing=0.05)
    assert torch.isclose(parts.levels[0], wanted * 3 / 4)
    (grown,) = torch.autograd.grad(parts.total, x)
    assert (grown[2, :3] == 0).all()
    assert (grown[1, 3:] == 0).all()
    assert (grown[2, 3:] != 0).all()


def test_a_batch_without_a_level_has_no_loss_of_it() -> None:
    loss = PretrainingLoss(Network("test_resnet", 1).body, [Level(2, single=True)], None, lam=0.0)
    x = torch.zeros(3, 2, requires_grad=True)
    parts = loss(x, torch.full((3, 2), float(UNKNOWN)))
    parts.total.backward()  # type: ignore[no-untyped-call]
    assert float(parts.total.detach()) == 0
    assert (x.grad == 0).all()


def test_importance_weighs_levels_and_equal_ones_are_the_mean() -> None:
    body = Network("test_resnet", 1).body
    x, y = torch.randn(6, 4), torch.eye(2).repeat(3, 2)
    even = PretrainingLoss(body, [Level(2), Level(2)], None, lam=0.0)(x, y)
    assert torch.isclose(even.total, torch.stack(even.levels).mean())
    first = PretrainingLoss(body, [Level(2, importance=3.0), Level(2)], None, lam=0.0)(x, y)
    assert torch.isclose(first.total, (3 * even.levels[0] + even.levels[1]) / 4)


def test_what_is_not_known_counts_nowhere() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 0], [UNKNOWN, UNKNOWN]], np.uint8)
    assert code_weights(targets).tolist() == pytest.approx([3 / 10, 3 / 10])
    logits = np.array([[2, -2], [-2, 2], [2, -2], [9, 9]], np.float32)
    assert level_scores(logits, targets)["map"] == 1
    assert level_scores(logits[3:], targets[3:])["map"] is None


def test_rare_places_are_drawn_by_their_chance() -> None:
    data = TaggedData(
        images=np.zeros((100, 8, 8, 3), np.uint8),
        ids=tuple(map(str, range(100))),
        targets=np.ones((100, 1), np.uint8),
        levels=(("x",),),
        train=np.arange(90),
        val=np.arange(90, 100),
        chances=np.where(np.arange(100) < 80, 0.5 / 80, 0.5 / 10),
    )
    drawn = np.concatenate([data.order(torch.Generator().manual_seed(s)) for s in range(20)])
    assert len(drawn) == 20 * 90
    assert drawn.max() < 90
    assert (drawn >= 80).mean() == pytest.approx(0.5, abs=0.05)
    assert data.id != replace(data, chances=None).id


# what an encoder has seen ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 drawn cells of two classes, lossless."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    for label in ("lymphocyte", "monocyte"):
        (folder / label).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{label}-{i:02}.png")
    return datasets.open(folder)


def marks_of(data: Dataset, ids: set[str]) -> tuple[str, ...]:
    return tuple(pixels_sha256(decode(s.image))[:16] for s in data if s.id in ids)


def test_cells_that_were_learned_from_train_and_are_never_tested(cells: Dataset) -> None:
    parts = splits.folds(cells, seed=0)
    seen = {i for split in parts for i in split.test[:4]}
    moved = seen_to_training(parts, cells, marks_of(cells, seen), init="haematology")
    for before, after in zip(parts, moved, strict=True):
        assert not seen & {*after.test, *after.val, *after.calibration}
        assert seen <= set(after.train)
        assert {*before.test} - seen == {*after.test}
        splits.verify_split(after, cells)
        assert "the first weights know" in after.note
    assert seen_to_training(parts, cells, (), init="x") == parts


def test_a_cell_is_known_again_in_another_file(cells: Dataset, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(cells.root, other)
    for path in other.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    copied = datasets.open(other)
    assert {s.pixels for s in marked(copied)} == {s.pixels for s in marked(cells)}


def test_a_subject_of_which_one_cell_is_known_trains_as_a_whole(cells: Dataset) -> None:
    samples = tuple(replace(s, subject=f"S{i % 10}") for i, s in enumerate(cells))
    data = replace(cells, samples=samples)
    (split,) = splits.cut(data, seed=0, n=1)
    tested = data.select(split.test)[0]
    (moved,) = seen_to_training((split,), data, marks_of(data, {tested.id}), init="x")
    same = {s.id for s in samples if s.subject == tested.subject}
    assert same <= set(moved.train)
    splits.verify_split(moved, data)


def test_weights_that_know_every_cell_are_refused_with_a_way_on(cells: Dataset) -> None:
    parts = splits.folds(cells, seed=0)
    every = marks_of(cells, {s.id for s in cells})
    with pytest.raises(SplitError, match="learned from every cell") as refused:
        seen_to_training(parts, cells, every, init="haematology")
    assert "--init imagenet" in str(refused.value.mend)


def test_a_packaged_encoder_keeps_its_space_and_what_it_has_seen(
    cells: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = initialize("test_resnet", 2, "scratch", size=32, seed=0)
    encoder = Encoder(network, packaged_lite0(32), ("a", "b"))
    seen = marks_of(cells, {s.id for s in list(cells)[:5]})
    folder = write_packaged(encoder, seen, tmp_path / "tiny")
    again = Encoder.open(folder)
    assert again.space == encoder.space
    assert set(again.seen_pixels) == set(seen)
    monkeypatch.setattr(packaged, "PACKAGED", tmp_path)
    monkeypatch.setattr(packaged, "FOLDERS", {"test_resnet": "tiny"})
    assert set(pixels_seen_by("haematology", "test_resnet")) == set(seen)
    started, score = initialize("test_resnet", 3, "haematology", size=32, seed=1)
    assert score == packaged_lite0(32)
    own = started.body.state_dict()
    assert all(torch.equal(own[k], v) for k, v in network.body.state_dict().items())
    with pytest.raises(WeightsError, match="no haematology encoder for 'resnet18'"):
        initialize("resnet18", 3, "haematology", size=32, seed=1)


def test_what_ships_is_small_whole_and_has_a_card() -> None:
    folders = [PACKAGED / name for name in FOLDERS.values()]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    finder = [path for path in PACKAGED.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in (*files, *finder)) <= MOST_BYTES
    for folder in folders:
        encoder = Encoder.open(folder)
        assert len(encoder.seen_pixels) > 1000
        card = (folder / "model_card.md").read_text(encoding="utf-8")
        for word in ("CC BY 4.0", "MIT", "research use", "held", "%"):
            assert word in card, (folder, word)


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [(0.9, 0.9, True), (0.9, 0.8, True), (0.8, 0.9, False), (None, 0.9, False)],
)
def test_a_training_that_does_not_beat_its_start_says_so(
    start: float | None, end: float, told: bool
) -> None:
    sentence = unbeaten_start({"start_accuracy": start, "validation_accuracy": end})
    assert bool(sentence) == told
    assert not told or "did not beat its frozen start" in sentence


def test_the_fifth_that_is_held_out_was_never_learned_from(real_data: Path) -> None:
    known = {mark for name in FOLDERS for mark in pixels_seen_by("haematology", name)}
    files = sorted((real_data / "pbc_large").glob("*/*.jpg"))[::40]
    marks = [pixels_sha256(decode(path))[:16] for path in files]
    held = [mark for mark in marks if int(mark[:8], 16) % 5 == 0]
    assert len(held) > 10
    assert not known & set(held)
    assert set(marks) - set(held) <= known
