"""Propose halving a class (section 3.2): evidence first, nothing applied unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cellkin
from cellkin import datasets, report
from cellkin.atlas.map import fit_map
from cellkin.core.arrays import Array, Bytes
from cellkin.core.artifacts import new_folder, refuse_existing, write_json
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Sample
from cellkin.datasets.injecting.imaging_groups import (
    AUTO,
    FEATURES,
    FIELD_SIZE,
    RULER,
    SIMPLE,
    Trial,
    Verdict,
    judge,
    listed,
    measured,
    tried,
)
from cellkin.datasets.injecting.injection import halved, require_class
from cellkin.datasets.injecting.origins import (
    Origins,
    by_field_size,
    is_places,
    read_places,
    reasons,
)
from cellkin.decision import Index, MinMaxScale
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.learning.encoder import Encoder
from cellkin.smear.field import Field as SmearField
from cellkin.smear.ruler import LEAST
from cellkin.smear.surveying import red_cells_of
from cellkin.system.runs import open_encoder, packaged_encoder

OTHERS = 600  # cells of other classes on the map, at most
SHOWN = 24  # cells of each half on the page
THUMB = 112


@dataclass(frozen=True, kw_only=True)
class HalvingOptions(Options):
    """How halves are looked for.

    Attributes:
        encoder: folder of an encoder or atlas; None for the packaged ImageNet network, which sees
            `size` pixels a side.
        fields: folder of the fields that the cells were cut from: their size and the red cells in
            them are asked before the features.
        apply: write `injected.json` where the halving is believed.
        device: "auto", "cpu", "cuda", ... overwrite: replace what is at `out`.
    """

    encoder: str | Path | None = None
    size: int = 224
    fields: str | Path | None = None
    apply: bool = False
    device: str = "auto"
    overwrite: bool = False
    progress: Progress = silent


@dataclass(frozen=True)
class HalvingProposal:
    """What `propose_halving` found and wrote.

    Attributes:
        name: of the class. verdict: the halving that is believed, or why none.
        halves: id -> 0 or 1.
        folder: with `split.html`, `split.png`, `split.json`, and `injected.json` where applied.
        applied: the description of the data set with both halves, None where it was not written.
    """

    name: str
    verdict: Verdict
    halves: Mapping[str, int]
    trials: Mapping[str, Trial]
    folder: Path
    applied: Path | None

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.verdict.halve,
            "by": self.verdict.trial.by,
            "why": list(self.verdict.why),
            "halves": dict(self.halves),
            "trials": {name: trial.to_json() for name, trial in self.trials.items()},
        }


def propose_halving(
    data: Dataset,
    name: str,
    *,
    out: str | Path,
    by: str | Path = AUTO,
    seed: int = 0,
    options: HalvingOptions = HalvingOptions(),
) -> HalvingProposal:
    """Look whether a class has two modes, and write the evidence as a page, a figure and JSON.

    Args:
        name: of the class. out: folder to write; it must not exist, or be empty.
        by: "auto", "features", "file-size", "field-size", "diameter", "ruler" (red cells of the
            fields), a CSV with the columns `file,half`, or a table of `cellkin locate`.

    Raises:
        LabelError: no such class. DataError: too few cells, or unreadable ones.
        CellkinError: of other kinds; see `cellkin.core.errors`.
    """
    out, tell = Path(out).expanduser(), options.progress
    if not options.overwrite:
        refuse_existing(out)
    require_class(data, name)
    cells = [s for s in data.samples if s.label == name]
    way, origins = _asked(by, data, cells, out, options)
    shown = [*cells, *_others(data, name, seed)]
    encoder = _encoder(options)
    images = load_prepared([s.image for s in shown], encoder.preprocessor, progress=tell)
    vectors = encoder.embed(images, [s.id for s in shown], progress=tell).vectors
    trials = _trials(cells, np.asarray(vectors[: len(cells)]), way, seed, tell)
    if origins is not None:
        trials |= _trials_by_fields(cells, origins, trials[FEATURES], seed)
    known = {} if origins is None else {w: reasons(trials[w], origins) for w in (FIELD_SIZE, RULER)}
    verdict = judge(trials, Path(way).name if way.endswith(".csv") else way, known)
    proposal = HalvingProposal(name, verdict, _by_id(cells, verdict.trial), trials, out, None)
    page = _page(data, proposal, shown, vectors, encoder, seed)
    applied = halved(data, name, proposal.halves) if options.apply and verdict.halve else None
    made_by = {"verb": "inject --halve", "class": name, "seed": seed, "encoder": encoder.space}
    with new_folder(out, overwrite=options.overwrite) as folder:
        report.save_halving(page, folder)
        write_json(folder / "split.json", {**made_by, **proposal.to_json()})
        if applied is not None:
            evidence = {**made_by, "by": verdict.trial.by, "why": list(verdict.why)}
            datasets.save(applied, folder / "injected.json", made_by=evidence)
    return replace(proposal, applied=out / "injected.json" if applied is not None else None)


def _asked(
    by: str | Path, data: Dataset, cells: Sequence[Sample], out: Path, options: HalvingOptions
) -> tuple[str, Origins | None]:
    """The way to halve, and where the cells come from, if that is told."""
    way, origins = _way(by), None
    if way.endswith(".csv") and is_places(Path(way)):
        way, origins = AUTO, read_places(Path(way), cells)
    elif options.fields is not None:
        notebook = out.with_name(f"{out.name}.partial")
        root = _common_folder(cells, data)
        located = datasets.locate(
            root, options.fields, notebook=notebook, progress=options.progress
        )
        origins = Origins.of(located, cells)
    if way == RULER and options.fields is None:
        raise RecipeError(
            "the ruler is the red cells of the fields, and no fields are given",
            where="--by ruler",
            mend="add --nothing-from FIELDS: the folder of the fields that the cells were cut from",
        )
    if origins is not None and options.fields is not None:
        origins = origins.with_red_cells(_red_cells(origins, options))
    return way, origins


def _common_folder(cells: Sequence[Sample], data: Dataset) -> Path:
    """The folder of the class's images, in which crops are then sought."""
    folders = {str(s.image.path.parent) for s in cells}
    return Path(os.path.commonpath(folders)) if folders else Path(data.root or ".")


def _red_cells(origins: Origins, options: HalvingOptions) -> dict[str, float]:
    """Mean diameter in pixels of the red cells of each field that has enough of them."""
    found = {}
    names = sorted({field for field in origins.fields if field is not None})
    for done, name in enumerate(names, start=1):
        with SmearField(Path(options.fields or ".") / name) as field:
            seen = red_cells_of(field)
        if len(seen) >= LEAST:
            found[name] = float(seen.mean)
        options.progress("measuring red cells", done, len(names))
    return found


def _trials_by_fields(
    cells: Sequence[Sample], origins: Origins, features: Trial, seed: int
) -> dict[str, Trial]:
    subjects = [s.subject for s in cells]
    size = by_field_size(origins, subjects, seed=seed)
    ruler = tried(RULER, origins.diameters, subjects, seed=seed)
    return {trial.by: _compared(trial, features) for trial in (size, ruler)}


def _way(by: str | Path) -> str:
    """`by` as it is known; a CSV as its path.

    Raises:
        RecipeError: neither a known way nor a CSV that is there.
    """
    ways = (AUTO, FEATURES, *SIMPLE, RULER)
    if str(by) in ways:
        return str(by)
    if str(by).lower().endswith(".csv") and Path(by).expanduser().is_file():
        return str(Path(by).expanduser())
    raise RecipeError(
        f"there is no way to halve by {str(by)!r}",
        where="--by",
        mend=did_you_mean(str(by), ways)
        or f"use {', '.join(ways)}, a CSV with file,half, or a table of cellkin locate",
    )


def _others(data: Dataset, name: str, seed: int) -> list[Sample]:
    """Cells of the other classes for the map: all of them, or as many as a map can show."""
    others = [s for s in data.samples if s.label != name]
    order = np.random.default_rng([seed, 5]).permutation(len(others))[:OTHERS]
    return [others[i] for i in sorted(order.tolist())]


def _encoder(options: HalvingOptions) -> Encoder:
    if options.encoder is not None:
        return open_encoder(Path(options.encoder).expanduser(), options.device)
    return packaged_encoder(options.size, options.device)


def _trials(
    cells: Sequence[Sample], vectors: Array, way: str, seed: int, tell: Progress
) -> dict[str, Trial]:
    """The features always, for comparison; the simple values where they could decide."""
    subjects = [s.subject for s in cells]
    features = tried(FEATURES, vectors, subjects, seed=seed, progress=tell)
    found = {FEATURES: features}
    for name in SIMPLE if way in (AUTO, FEATURES) else [n for n in SIMPLE if n == way]:
        values = measured(cells, name, progress=tell)
        found[name] = tried(name, values, subjects, seed=seed)
    if way.endswith(".csv"):
        found[Path(way).name] = listed(Path(way), cells, seed=seed)
    return {name: _compared(trial, features) for name, trial in found.items()}


def _compared(trial: Trial, features: Trial) -> Trial:
    if trial.halves is None or features.halves is None or trial.by == FEATURES:
        return trial
    same = float((trial.halves == features.halves).mean())
    return replace(trial, like_features=max(same, 1 - same))


def _by_id(cells: Sequence[Sample], trial: Trial) -> dict[str, int]:
    halves = np.zeros(len(cells), int) if trial.halves is None else trial.halves
    return {s.id: int(half) for s, half in zip(cells, halves, strict=True)}


def _page(
    data: Dataset,
    proposal: HalvingProposal,
    samples: Sequence[Sample],
    vectors: Array,
    encoder: Encoder,
    seed: int,
) -> report.HalvingReport:
    scaled = MinMaxScale.fit(vectors).apply(vectors)
    name, halves = proposal.name, proposal.halves
    pair = (f"{name} (1)", f"{name} (2)")
    return report.HalvingReport(
        data=data,
        name=name,
        found=proposal.to_json(),
        xy=fit_map(scaled, Index(scaled, [s.id for s in samples]), seed=seed),
        before=tuple(s.label for s in samples),
        after=tuple(pair[halves[s.id]] if s.id in halves else s.label for s in samples),
        labels=halved(data, name, halves).labels,
        montages=_montages([s for s in samples if s.id in halves], proposal.verdict.trial, seed),
        made_with={
            "cellkin": cellkin.__version__,
            "encoder": f"{encoder.backbone}, {encoder.preprocessor.size} pixels",
            "feature space": encoder.space[:16],
            "seed": str(seed),
        },
    )


def _montages(cells: Sequence[Sample], trial: Trial, seed: int) -> tuple[Bytes, Bytes]:
    """Cells of both halves, drawn by the seed, cropped to a square: two (n, S, S, 3) arrays."""
    halves = np.zeros(len(cells), int) if trial.halves is None else trial.halves
    parts = []
    for half in (0, 1):
        own = np.flatnonzero(halves == half)
        own = np.sort(np.random.default_rng([seed, 6, half]).permutation(own)[:SHOWN])
        parts.append(load_prepared([cells[i].image for i in own.tolist()], packaged_lite0(THUMB)))
    return parts[0], parts[1]
