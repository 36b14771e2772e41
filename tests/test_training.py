"""Training that is fast, stopped, killed, resumed and shared: what must come out the same."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellkin.core.artifacts import write_arrays
from cellkin.core.errors import ImageError, OutputError, RecipeError, TrainingError
from cellkin.core.ranks import process_rank
from cellkin.core.records import Dataset, ImageRef, LabelSet
from cellkin.core.signals import interrupts_wait
from cellkin.imaging import loading, mapped
from cellkin.imaging.preprocess import Preprocessor
from cellkin.learning import checkpoints
from cellkin.learning.augmentation import draw_turns, normalized, turn
from cellkin.learning.keeping import Kept
from cellkin.learning.memory import peak_memory
from cellkin.learning.networks import Network
from cellkin.learning.orthogonality import NARROW_FROM, orthogonality
from cellkin.learning.recipes import Recipe
from cellkin.learning.sampling import TrainingData, batches, epoch_order
from cellkin.learning.training import Place, Trained, train_encoder

CLASSES = ("a", "b", "c")
TINY = Recipe(
    backbone="test_resnet",
    size=32,
    epochs=3,
    batch=7,
    lr=0.01,
    k=3,
    precision="fp32",
    warmup_epochs=1,
)


def tiny_data(n: int = 24) -> TrainingData:
    rng = np.random.default_rng(5)
    targets = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 32, 32, 3), dtype=np.uint8)
    images[np.arange(n), :, :, targets] += 90  # the class is the brightest channel
    return TrainingData(
        images=images,
        ids=tuple(f"cell {i}" for i in range(n)),
        targets=targets.astype(np.int64),
        train=np.arange(n - 6),
        val=np.arange(n - 6, n),
        labels=LabelSet(CLASSES, dict.fromkeys(CLASSES, "other cell")),
    )


def outcome(trained: Trained) -> tuple[list[dict[str, object]], dict[str, np.ndarray]]:
    """Everything that must be alike: the history but for the clock, and the weights."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trained.history]
    state = trained.encoder.network.state_dict()
    return rows, {k: v.numpy().copy() for k, v in state.items()}


def alike(a: Trained, b: Trained) -> bool:
    (rows, weights), (others, theirs) = outcome(a), outcome(b)
    return rows == others and all(np.array_equal(weights[k], theirs[k]) for k in weights)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_encoder(tiny_data(), TINY, seed=0, run=tmp_path_factory.mktemp("whole"))


# orthogonality --------------------------------------------------------------------------------


def naive_orthogonality(kernel: torch.Tensor, stride: int) -> torch.Tensor:
    """Gram matrices of a kernel with its own copies shifted by every multiple of the stride."""
    out, width, k, _ = kernel.shape
    if k == 1 and out > width:
        return naive_orthogonality(kernel.transpose(0, 1), stride)
    reach = (k - 1) // stride * stride
    total = torch.zeros((), dtype=torch.float64)
    for dy, dx in itertools.product(range(-reach, reach + 1, stride), repeat=2):
        gram = torch.zeros(out, out, dtype=torch.float64)
        for y, x in itertools.product(range(k), repeat=2):
            if 0 <= y + dy < k and 0 <= x + dx < k:
                gram = gram + kernel[:, :, y, x] @ kernel[:, :, y + dy, x + dx].T
        target = torch.eye(out) if dy == dx == 0 else torch.zeros(out, out)
        total = total + (gram - target).square().sum()
    return total.sqrt()


def kernel_of(shape: tuple[int, ...], stride: int) -> torch.nn.Conv2d:
    conv = torch.nn.Conv2d(shape[1], shape[0], shape[2], stride=stride, bias=False)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    conv.weight.data = (0.3 * drawn).to(memory_format=torch.channels_last)
    return conv


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [(4, 3, 3, 3), (6, 8, 3, 3), (3, 2, 5, 5), (5, 3, 2, 2), (4, 7, 1, 1), (7, 4, 1, 1)],
    ids=str,
)
def test_orthogonality_and_its_gradient_equal_a_naive_gram(
    shape: tuple[int, ...], stride: int
) -> None:
    conv = kernel_of(shape, stride)
    exact = conv.weight.detach().double().requires_grad_()
    expected = naive_orthogonality(exact, stride)
    (0.1 * expected).backward()
    ours = orthogonality([conv])
    (0.1 * ours).backward()
    assert float(ours.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert conv.weight.grad is not None
    assert exact.grad is not None
    scale = float(exact.grad.abs().max())
    assert np.allclose(conv.weight.grad.numpy(), exact.grad.numpy(), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("stride", [1, 2])
def test_orthogonality_in_bfloat16_is_as_near_as_it_says(stride: int) -> None:
    conv = kernel_of((192, 160, 3, 3), stride)
    assert conv.weight.numel() >= NARROW_FROM
    conv.weight.data *= 0.1
    found = []
    for bf16 in (False, True):
        conv.weight.grad = None
        loss = orthogonality([conv], bf16=bf16)
        loss.backward()
        assert conv.weight.grad is not None
        found.append((float(loss.detach()), conv.weight.grad.clone()))
    (exact, gradient), (near, rounded) = found
    assert near == pytest.approx(exact, rel=1e-4)
    assert not torch.equal(rounded, gradient)
    assert float((rounded - gradient).norm() / gradient.norm()) < 6e-3


def test_an_orthogonal_kernel_has_no_gradient() -> None:
    conv = kernel_of((3, 3, 3, 3), 1)
    conv.weight.data.zero_()
    conv.weight.data[range(3), range(3), 1, 1] = 1.0
    loss = orthogonality([conv])
    loss.backward()
    assert conv.weight.grad is not None
    assert float(loss.detach()) < 1e-3
    assert torch.isfinite(conv.weight.grad).all()


# pixels ---------------------------------------------------------------------------------------


def test_normalizing_in_training_equals_the_preprocessor(rng: np.random.Generator) -> None:
    pre = Preprocessor(size=16, mean=(120.5, 110.0, 99.0), std=(50.3, 61.0, 7.0))
    images = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    ours = normalized(torch.from_numpy(images).permute(0, 3, 1, 2), pre)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert np.allclose(ours.numpy(), pre.normalize(images), rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize("rotation", ["none", "quarter", "any"])
def test_parts_of_a_batch_are_turned_as_the_whole_is(rotation: str) -> None:
    images = torch.randint(0, 256, (7, 3, 9, 9), dtype=torch.uint8)
    turns = draw_turns(7, rotation, True, torch.Generator().manual_seed(2))
    whole = turn(images, turns)
    parts = [turn(images[p], turns.part(p)) for p in (slice(0, 3), slice(3, 7))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> list[ImageRef]:
    (tmp_path / "cells").mkdir()
    for i in range(5):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "cells" / f"{i}.png")
    return [ImageRef(tmp_path / "cells" / f"{i}.png") for i in range(5)]


GEOMETRY = Preprocessor(size=12, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_images_that_do_not_fit_lie_in_a_mapped_file(
    files: list[ImageRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "prepared"
    expected = loading.load_prepared(files, GEOMETRY, cache=cache)
    assert not cache.exists(), "what fits stays in memory"
    monkeypatch.setattr(mapped, "free_memory", lambda: 2 * expected.size - 1)
    cache.mkdir()
    (cache / f"{mapped.PIXELS}.999999999").write_bytes(b"left by a killed process")
    first = loading.load_prepared(files, GEOMETRY, cache=cache)
    assert isinstance(first, np.memmap)
    assert np.array_equal(first, expected)
    assert sorted(p.name for p in cache.iterdir()) == [mapped.PIXELS, mapped.KEY]

    def never(source: ImageRef) -> None:
        raise AssertionError(f"{source} was decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "decode", never)
        assert np.array_equal(loading.load_prepared(files, GEOMETRY, cache=cache), expected)
    blue = np.zeros((20, 24, 3), np.uint8)
    blue[..., 2] = 200
    Image.fromarray(blue).save(files[2].path)
    assert loading.load_prepared(files, GEOMETRY, cache=cache)[2, ..., 0].max() == 0
    files[3].path.unlink()
    with pytest.raises(ImageError) as caught:
        loading.load_prepared(files, GEOMETRY, cache=cache)
    assert "3.png" in caught.value.where


def test_a_mapped_file_asks_for_its_room_at_once(
    files: list[ImageRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped, "free_memory", lambda: 1)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="the disk is full"):
        loading.load_prepared(files, GEOMETRY, cache=tmp_path / "prepared")
    assert list((tmp_path / "prepared").iterdir()) == []


# the order of an epoch ------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    together=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_an_epoch_deals_every_cell_once_and_a_class_in_groups(
    counts: list[int], together: int, seed: int
) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    data = replace(tiny_data(), targets=targets, train=np.arange(len(targets)))
    order = epoch_order(data, torch.Generator().manual_seed(seed), together=together)
    assert sorted(order.tolist()) == list(range(len(targets)))
    runs = [len(list(cells)) for _, cells in itertools.groupby(targets[order])]
    assert len(runs) <= sum(-(-count // together) for count in counts)


def test_a_rare_class_dealt_together_has_triplets_in_every_epoch() -> None:
    """Two cells among 64 rarely meet in a batch of 8 by chance."""
    targets = np.array([1] * 2 + [0] * 62)
    data = replace(tiny_data(), targets=targets, train=np.arange(64))

    def meets(together: int, seed: int) -> bool:
        generator = torch.Generator().manual_seed(seed)
        order = epoch_order(data, generator, together=together)
        return any(int(np.sum(targets[batch] == 1)) == 2 for batch in batches(order, 8))

    assert all(meets(2, seed) for seed in range(20))
    assert sum(meets(1, seed) for seed in range(20)) < 10


# accumulation ---------------------------------------------------------------------------------


def test_accumulated_batches_equal_one_batch_where_nothing_couples_them(tmp_path: Path) -> None:
    """Without triplets, weights and batch statistics, 2 x 9 cells to a step are one batch of 18."""
    plain = TINY.with_changes(
        epochs=2, warmup_epochs=0, frozen_batch_norm=True, metric=0.0, class_weighted=False
    )
    plain = plain.with_changes(rotation="none", flips=False)  # drawn batch by batch
    one = train_encoder(tiny_data(), plain.with_changes(batch=18), seed=0, run=tmp_path / "one")
    two = train_encoder(
        tiny_data(), plain.with_changes(batch=9, accumulate=2), seed=0, run=tmp_path / "two"
    )
    for a, b in zip(one.history, two.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert "2 batches to a step" in two.history[0]["triplets"]
    assert "triplets" not in one.history[0]


def test_a_last_batch_that_cannot_be_shared_joins_the_one_before() -> None:
    sizes = [[len(b) for b in batches(np.arange(n), 4, least=3)] for n in (8, 9, 10, 11)]
    assert sizes == [[4, 4], [4, 5], [4, 6], [4, 4, 3]]


# stopping and going on ------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_training import *
"""


def run_script(tmp_path: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)) + body)
    known = {k: v for k, v in os.environ.items() if "RANK" not in k and "MASTER" not in k}
    return subprocess.run(
        [sys.executable, str(script)],
        env={**known, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


KILLED = """
import random, time
run = Path({run!r})
kills = 0

def attempt(delay, prepare=None):
    # a forked process trains; it is killed after `delay` seconds, or where `prepare` says
    pid = os.fork()
    if pid == 0:
        if prepare:
            prepare()
        train_encoder(tiny_data(), TINY, seed=0, run=run)
        os._exit(0)
    end = time.monotonic() + delay
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WIFSIGNALED(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True

def dies(module, name, before, nth):
    original = getattr(module, name)
    count = [0]
    def deadly(*args, **kwargs):
        count[0] += 1
        if before and count[0] == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        value = original(*args, **kwargs)
        if count[0] == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    return lambda: setattr(module, name, deadly)

for module, name, before in (
    (os, "fsync", True), (os, "rename", True), (os, "rename", False), (shutil, "rmtree", True)
):
    nth = 2 if name == "rename" else 3
    kills += attempt(60, dies(module, name, before, nth))
moments = random.Random(7)
started = time.monotonic()
train_encoder(tiny_data(), TINY, seed=0, run=run.with_name("clock"))
whole = time.monotonic() - started
for _ in range(4):
    kills += attempt(moments.uniform(0, 0.6 * whole))
print(kills)
"""


def test_killed_at_random_moments_and_resumed_equals_undisturbed(
    tmp_path: Path, undisturbed: Trained
) -> None:
    """Killed before and after the renaming, in the middle of writing and removing, and anywhere."""
    done = run_script(tmp_path, KILLED.format(run=str(tmp_path / "run")))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 4
    resumed = train_encoder(tiny_data(), TINY, seed=0, run=tmp_path / "run")
    assert alike(resumed, undisturbed)
    left = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert left == ["step-00004"], "nothing half-written is left"


@pytest.mark.parametrize("worse", [(0.5, float("nan")), (float("nan"), 0.1), (0.5, 1.0)])
def test_what_is_no_number_is_never_the_best(worse: tuple[float, float]) -> None:
    kept = Kept(Network("test_resnet", 2, size=32))
    first = {"val_map": 0.5, "val_loss": 1.0, "selected": False}
    kept.offer(first, "val_map")
    kept.history.append(first)
    row = {"val_map": worse[0], "val_loss": worse[1], "selected": False}
    kept.offer(row, "val_map")
    assert (kept.best["val_map"], kept.best["val_loss"]) == (0.5, 1.0)
    assert (first["selected"], row["selected"]) == (True, False)


@pytest.mark.parametrize(
    ("gained", "lost", "left"), [(5, 0, False), (6, 0, True), (9, 3, False), (20, 5, True)]
)
def test_a_start_is_left_for_what_is_better_beyond_chance(
    gained: int, lost: int, left: bool
) -> None:
    """p is 0.062, 0.031, 0.146 and 0.004; after it the better of two epochs is taken as ever."""
    kept = Kept(Network("test_resnet", 2, size=32))
    start = [False] * gained + [True] * (lost + 10)
    kept.begin({"phase": "warm-up", "val_accuracy": 0.0, "val_loss": 9.0}, start)
    better = [True] * gained + [False] * lost + [True] * 10
    assert kept.beats_start(better) is left
    assert not kept.beats_start([not right for right in better])
    kept.offer({"phase": "fine-tuning", "val_accuracy": 0.9, "val_loss": 1.0}, "val_accuracy")
    assert kept.beats_start(start)


def test_a_start_that_competes_is_known_after_a_resume(tmp_path: Path) -> None:
    recipe = TINY.with_changes(warmup_epochs=1, keep_start=True, epochs=2)
    whole = train_encoder(tiny_data(), recipe, seed=0, run=tmp_path / "whole")

    def stop(task: str, done: int, total: int) -> None:
        if task.startswith("training, epoch 3/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(tiny_data(), recipe, seed=0, run=tmp_path / "run", progress=stop)
    resumed = train_encoder(tiny_data(), recipe, seed=0, run=tmp_path / "run")
    assert alike(resumed, whole)
    assert whole.selected_epoch == 0
    assert whole.history[0]["selected"]


def test_a_full_disk_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Trained
) -> None:
    original, calls = checkpoints.write_arrays, itertools.count(1)

    def full(path: Path, arrays: dict[str, np.ndarray]) -> None:
        if next(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, arrays)

    monkeypatch.setattr(checkpoints, "write_arrays", full)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        train_encoder(tiny_data(), TINY, seed=0, run=tmp_path)
    assert "step-00003" in caught.value.where
    assert "--resume" in caught.value.mend
    assert "state after epoch 2 is kept" in caught.value.mend
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00002"]
    assert alike(train_encoder(tiny_data(), TINY, seed=0, run=tmp_path), undisturbed)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_known_below_safetensors(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left (code: 28)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", full)
        with pytest.raises(OutputError, match="the disk is full"):
            write_arrays(tmp_path / "x.safetensors", {"x": np.zeros(3)})


def test_a_loss_that_is_no_number_is_told_with_all_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_data()
    original = torch.nn.functional.cross_entropy
    calls = itertools.count(1)

    def broken(logits: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        value = original(logits, *args, **kwargs)  # type: ignore[arg-type]
        return value * float("nan") if next(calls) == 3 + 1 + 3 + 2 else value

    monkeypatch.setattr("cellkin.learning.losses.F.cross_entropy", broken)
    with pytest.raises(TrainingError, match="the loss is not a number") as caught:
        train_encoder(data, TINY, seed=0, run=tmp_path)
    assert "epoch 3, step 2" in caught.value.what  # with the epoch of warm-up, as all else counts
    assert "lr 0.01" in caught.value.what
    named = caught.value.where.split("cells of that step: ")[1].split(", ")
    assert len(named) == TINY.batch
    assert set(named) <= set(data.ids)
    assert "the state after epoch 2 is kept" in caught.value.mend
    found = checkpoints.load_latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.step == 2
    assert all(torch.isfinite(v).all() for v in found.network.values())


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    data, short = tiny_data(), TINY.with_changes(epochs=1, warmup_epochs=0)
    train_encoder(data, short, seed=0, run=tmp_path)
    pixels = data.images.copy()
    pixels[0, 0, 0, 0] += 1
    other = TrainingData(pixels, data.ids, data.targets, data.train, data.val, data.labels)
    fewer = TrainingData(data.images, data.ids, data.targets, data.train[1:], data.val, data.labels)
    for asked, recipe, seed, told in (
        (data, short.with_changes(lr=0.5), 0, "recipe lr: 0.01 there, 0.5 now"),
        (data, short, 1, "seed: 0 there, 1 now"),
        (other, short, 0, "other images"),
        (fewer, short, 0, "other split"),
    ):
        with pytest.raises(TrainingError, match="is another one") as caught:
            train_encoder(asked, recipe, seed=seed, run=tmp_path)
        assert told in caught.value.what


def test_ctrl_c_waits_for_the_write_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Trained
) -> None:
    original = checkpoints._write

    def interrupted(building: Path, checkpoint: checkpoints.Checkpoint) -> None:
        if checkpoint.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        original(building, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(tiny_data(), TINY, seed=0, run=tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00002"]
    assert alike(train_encoder(tiny_data(), TINY, seed=0, run=tmp_path), undisturbed)


def test_interrupts_outside_a_write_are_not_held_back() -> None:
    # where tests run in the background of a shell, Ctrl-C is ignored from the start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with interrupts_wait():
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_a_vanished_file_is_named_at_resume(smears: Dataset, tmp_path: Path) -> None:
    from cellkin import datasets
    from cellkin.system import TrainOptions, run_folder, train

    shutil.copytree(smears.root, tmp_path / "cells")
    data = datasets.open(tmp_path / "cells")
    gone = data.samples[7].image.path
    gone.unlink()
    run_folder(tmp_path / "atlas").mkdir()
    with pytest.raises(ImageError) as caught:
        train(data, TINY, out=tmp_path / "atlas", options=TrainOptions(resume=True))
    assert gone.name in caught.value.where


# several processes ----------------------------------------------------------------------------

SHARED = TINY.with_changes(
    backbone="resnet10t", epochs=2, orthogonality=0.1, frozen_batch_norm=True
)
TWO = """
device = torch.device("cpu")
trained = train_encoder(
    tiny_data(), SHARED, seed=0, run=Path({run!r}), place=Place(device, devices=2)
)
if trained.first:
    print(json.dumps([dict(row) for row in trained.history]))
"""


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Losses agree to 1e-5: parts of 4 and 3, and of 2 and 2, in place of batches of 7 and 4."""
    alone = train_encoder(tiny_data(), SHARED, seed=0, run=tmp_path / "one")
    done = run_script(tmp_path, TWO.format(run=str(tmp_path / "two")))
    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)
    assert len(together) == len(alone.history) == 3
    for one, two in zip(alone.history, together, strict=True):
        for name in ("loss", "metric_loss", "cross_entropy", "orthogonality", "val_loss"):
            assert two[name] == (one[name] if not one[name] else pytest.approx(one[name], rel=1e-5))
        assert two["val_accuracy"] == one["val_accuracy"]
    assert [p.name for p in (tmp_path / "two" / "checkpoints").iterdir()] == ["step-00003"]


def test_batch_norms_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    place = Place(devices=2)
    with pytest.raises(TrainingError, match="cannot share the statistics") as caught:
        train_encoder(tiny_data(), TINY, seed=0, run=tmp_path, place=place)
    assert "frozen_batch_norm" in caught.value.mend
    few = SHARED.with_changes(batch=2)
    with pytest.raises(RecipeError, match="cannot be shared by 3 processes"):
        train_encoder(tiny_data(), few, seed=0, run=tmp_path, place=Place(devices=3))
    with pytest.raises(RecipeError, match="devices = 0"):
        train_encoder(tiny_data(), few, seed=0, run=tmp_path, place=Place(devices=0))


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, 1),
        ({"NODE_RANK": "1"}, 1),
        ({"SLURM_PROCID": "2"}, 0),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, 2),
    ],
    ids=str,
)
def test_the_first_process_is_known(
    environment: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == rank


# telling --------------------------------------------------------------------------------------


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = Place(tensorboard=tmp_path / "board")
    short = TINY.with_changes(epochs=2, warmup_epochs=0)
    history = train_encoder(tiny_data(), short, seed=0, run=tmp_path / "r", place=place).history
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    for tag, name in (("training/loss", "loss"), ("validation/accuracy", "val_accuracy")):
        points = events.Scalars(tag)
        assert [p.step for p in points] == [1, 2]
        assert [p.value for p in points] == pytest.approx([r[name] for r in history], rel=1e-6)


def test_peak_memory_is_measured(undisturbed: Trained) -> None:
    block = np.ones(64 << 20, np.uint8)
    peak = peak_memory(torch.device("cpu"))["peak_memory_mib"]
    assert peak >= block.nbytes >> 20
    assert 0 < undisturbed.memory["peak_memory_mib"] <= peak
