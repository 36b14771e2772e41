"""Running times (section 5.3.4), as ratios to the bare network, measured in the same run.

The paper trains 90 epochs of 234 images, decides on 78, and decides again with the data set
replicated three times. Here each is compared with the bare network doing the same passes: for
training, forward, backward and step of a cross-entropy alone; for deciding, a forward pass over the
same images. A machine's own speed cancels out. The bare training is timed before and after, the
decisions in turn, so that a machine that slows down slows both.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cellkin.atlas import Atlas, Cells, decide
from cellkin.core.artifacts import (
    digest,
    read_json,
    refuse_existing,
    write_bytes,
    write_json,
    write_table,
)
from cellkin.core.progress import Progress
from cellkin.core.records import Features
from cellkin.imaging.loading import load_prepared
from cellkin.learning.encoder import CHUNK, Encoder
from cellkin.learning.threads import threads
from cellkin.learning.training import resolved_precision
from cellkin.learning.weights import initialize, seen_by
from cellkin.study.evaluate import environment
from cellkin.study.experiment_file import Experiment
from cellkin.study.fold_cells import (
    FoldCells,
    Place,
    WorkOptions,
    cells_in_fold,
    prepare,
    run_folder,
)
from cellkin.study.jobs import atlas_of, trained_on
from cellkin.study.plan import Work, plan
from cellkin.study.predictions import PROPOSED
from cellkin.study.sources import gather

FILE = "timing.json"
TIMES = 3  # the data set replicated, as in the paper
COLUMNS = (
    ("backbone", "backbone"),
    ("train_images", "images trained on"),
    ("epochs", "epochs"),
    ("train_seconds", "training, s"),
    ("train_ratio", "x bare network"),
    ("test_images", "images decided on"),
    ("decide_seconds", "deciding, s"),
    ("decide_ratio", "x bare network"),
    ("decide_replicated_ratio", f"with {TIMES} x references"),
    ("read_seconds", "reading, s"),
)


def measure(
    experiment: Experiment, out: str | Path, *, options: WorkOptions = WorkOptions()
) -> dict[str, Any]:
    """Measure every backbone of a timing experiment on the first fold of its cells.

    Args:
        out: folder; `timing.json`, `timing.csv` and `timing.md` are written there, after every
            backbone.

    Returns:
        plain data: `rows`, one for each backbone, `environment`, `out`.

    Raises:
        OutputError: something is there, without `resume`.
        CellkinError: of other kinds, while the cells are gathered.
    """
    out = Path(out).expanduser().resolve()
    if not options.resume:
        refuse_existing(out)
    place, progress = options.place(out), options.progress
    gathered = gather(experiment, options.data, out, progress)
    works = plan(experiment, gathered, options.inits)
    works = [w for w in works if (w.rows[0].job.fold, w.rows[0].job.method) == (1, PROPOSED)]
    prepare(works, place, progress)
    known = read_json(out / FILE)["rows"] if (out / FILE).is_file() else []
    rows = {row["key"]: row for row in known}
    result: dict[str, Any] = {}
    for number, work in enumerate(works):
        if work.key not in rows:
            rows[work.key] = _measured(work, place, experiment.timing.repeats, progress)
        told = [rows[w.key] for w in works if w.key in rows]
        result = {"rows": told, "threads": place.threads, "device": place.device, "out": str(out)}
        _write(out, experiment, result)
        progress("backbones", number + 1, len(works))
    for name in ("prepared", "work"):
        shutil.rmtree(out / name, ignore_errors=True)
    return result


def timing_table(rows: list[Mapping[str, Any]]) -> list[list[str]]:
    """The rows in words, the heading first."""
    table = [[title for _, title in COLUMNS]]
    for row in rows:
        table.append([_shown(row[key]) for key, _ in COLUMNS])
    return table


# one backbone ----------------------------------------------------------------------------------


def _measured(work: Work, place: Place, repeats: int, progress: Progress) -> dict[str, Any]:
    cells, _ = cells_in_fold(work, place, progress)
    with threads(place.threads):
        before = _bare_training(work, cells, place, progress)
        shutil.rmtree(run_folder(place.out, work), ignore_errors=True)
        started = time.perf_counter()
        trained = trained_on(work, cells, place, seen_by(work.recipe.init), progress)
        seconds = time.perf_counter() - started
        bare = (before + _bare_training(work, cells, place, progress)) / 2
        atlas = atlas_of(replace(work, maps=False), cells, trained.encoder, progress)
        deciding = _deciding(work, cells, atlas, repeats, progress)
    shutil.rmtree(run_folder(place.out, work), ignore_errors=True)
    recipe = work.recipe
    return {
        "key": work.key,
        "backbone": recipe.backbone,
        "recipe": recipe.to_json(),
        "recipe_sha256": digest(recipe.to_json()),
        "train_images": len(work.split.train),
        "epochs": recipe.epochs + recipe.warmup_epochs,
        "train_seconds": seconds,
        "bare_train_seconds": bare,
        "train_ratio": seconds / bare,
        **deciding,
    }


def _bare_training(work: Work, cells: FoldCells, place: Place, progress: Progress) -> float:
    """Seconds of as many passes of the bare network: cross-entropy, backward, SGD, no more."""
    recipe, labels = work.recipe, cells.data.labels
    device = torch.device(place.device)
    network, _ = initialize(
        recipe.backbone, len(labels.names), "scratch", size=recipe.size, seed=work.seed
    )
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    rows = cells.rows(work.split.train)
    targets = torch.tensor([labels.index(s.label) for s in cells.data.select(work.split.train)])
    epochs = recipe.epochs + recipe.warmup_epochs
    bf16 = resolved_precision(recipe.precision, device) == "bf16"
    started = time.perf_counter()
    for epoch in range(epochs):
        for start in range(0, len(rows) - 1, recipe.batch):
            chosen = slice(start, start + recipe.batch)
            _step(network, optimizer, (cells.images[rows[chosen]], targets[chosen]), device, bf16)
        progress("training the bare network", epoch + 1, epochs)
    return time.perf_counter() - started


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Any, torch.Tensor],
    device: torch.device,
    bf16: bool,
) -> None:
    images, targets = batch
    x = torch.from_numpy(np.asarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        maps: Any = network.feature_map(x)  # type: ignore[operator]
    logits: Any = network.classify(network.pool(maps))  # type: ignore[operator]
    F.cross_entropy(logits, targets.to(device)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _deciding(
    work: Work, cells: FoldCells, atlas: Atlas, repeats: int, progress: Progress
) -> dict[str, Any]:
    """Deciding on the test cells against looking at them, in turn; medians over the repeats."""
    ids = work.split.test
    images = np.asarray(cells.images[cells.rows(ids)])
    many = _replicated(atlas)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: _look(atlas.encoder, images),
        "decide": lambda: decide(atlas, _features(atlas, ids, images)),
        "replicated": lambda: decide(many, _features(many, ids, images)),
    }
    for way in ways.values():  # what is made once (index, sizes) is not measured
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
        progress("deciding", repeat + 1, repeats)
    started = time.perf_counter()
    samples = cells.data.select(ids)
    load_prepared([s.image for s in samples], replace(atlas.encoder.preprocessor))
    reading = time.perf_counter() - started
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "test_images": len(ids),
        "references": len(atlas.cells),
        "bare_look_seconds": medians["bare"],
        "decide_seconds": medians["decide"],
        "decide_ratio": statistics.median(
            a / b for a, b in zip(times["decide"], times["bare"], strict=True)
        ),
        "decide_replicated_seconds": medians["replicated"],
        "decide_replicated_ratio": statistics.median(
            a / b for a, b in zip(times["replicated"], times["bare"], strict=True)
        ),
        "read_seconds": reading,
    }


def _features(atlas: Atlas, ids: tuple[str, ...], images: Any) -> Features:
    return Features(ids, atlas.encoder.vectors(images), atlas.space)


def _look(encoder: Encoder, images: Any) -> None:
    """The bare network's forward passes, class head included, in the encoder's chunks."""
    with torch.inference_mode():
        for start in range(0, len(images), CHUNK):
            x = torch.from_numpy(encoder.preprocessor.normalize(images[start : start + CHUNK]))
            x = x.to(encoder.device, memory_format=torch.channels_last)
            maps = encoder.network.feature_map(x)
            encoder.network.classify(encoder.network.pool(maps))


def _replicated(atlas: Atlas) -> Atlas:
    """The same atlas with every reference three times, as the paper's dummy replication."""
    cells = atlas.cells
    ids = tuple(f"{id_}#{copy}" for copy in range(TIMES) for id_ in cells.ids)
    return replace(
        atlas,
        cells=Cells(
            cells.part, ids, cells.labels * TIMES, cells.subjects * TIMES, cells.groups * TIMES
        ),
        vectors=np.tile(atlas.vectors, (TIMES, 1)),
        xy=np.tile(atlas.xy, (TIMES, 1)),
    )


# writing ---------------------------------------------------------------------------------------


def _write(out: Path, experiment: Experiment, result: Mapping[str, Any]) -> None:
    told = {
        **result,
        "experiment": experiment.name,
        "title": experiment.title,
        "environment": environment(result["device"], result["threads"]),
    }
    write_json(out / FILE, {key: value for key, value in told.items() if key != "out"})
    table = timing_table(result["rows"])
    write_table(out / "timing.csv", table)
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines.insert(1, "|" + "---|" * len(COLUMNS))
    write_bytes(out / "timing.md", ("\n".join(lines) + "\n").encode())


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
