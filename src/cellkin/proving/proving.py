"""`verify`: measure the evidence of an atlas on cells that it has never seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cellkin
from cellkin import report
from cellkin.atlas import Atlas
from cellkin.atlas.verified import keep_verification
from cellkin.core.artifacts import digest, new_folder, read_json, refuse_existing, write_json
from cellkin.core.errors import ArtifactError, RecipeError
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import NOTICE, Dataset, ImageRef
from cellkin.core.units import SUBJECT
from cellkin.decision import COVERAGE, units_needed
from cellkin.proving import heatmaps
from cellkin.proving.held_out import TWINS, HeldOut, held_out, nothing_left, spread_by_class
from cellkin.proving.outside import (
    Answers,
    answers,
    outside_row,
    photographs,
    readable,
    says_unlike,
    shares,
)
from cellkin.proving.promises import calibration_tables, set_tables
from cellkin.proving.verdicts import verdicts, warnings
from cellkin.system import DecisionSupport

SCHEMA = 1
Outside = Mapping[str, Sequence[ImageRef]]


@dataclass(frozen=True, kw_only=True)
class Verifying(Options):
    """How much is measured: what the result depends on.

    Attributes:
        cells: held-out cells whose heatmaps are put to the test, spread over the classes; sets,
            calibration and false alarms are measured on all held-out cells.
        networks: random networks that the heatmaps are compared with.
        coverage: of the prediction sets. seed: of what is drawn, and of the intervals.

    Raises:
        RecipeError: fewer than one cell or two networks.
        DecisionError: an impossible coverage.
    """

    cells: int = 60
    networks: int = 5
    coverage: float = COVERAGE
    seed: int = 0

    def __post_init__(self) -> None:
        units_needed(self.coverage)
        for name, least in (("cells", 1), ("networks", 2)):
            if getattr(self, name) < least:
                raise RecipeError(
                    f"{name} = {getattr(self, name)} proves nothing",
                    where=f"--{name}",
                    mend=f"give {least} or more",
                )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Options):
    """How `verify` works.

    Attributes:
        device: "auto", "cpu", "cuda", ... overwrite: replace what is at `out`.
        into_atlas: also keep the result in the atlas, whose maps then carry its warnings.
    """

    device: str = "auto"
    overwrite: bool = False
    into_atlas: bool = False
    progress: Progress = silent


def verify(
    atlas: str | Path,
    data: Dataset,
    out: str | Path,
    *,
    outside: Outside | None = None,
    settings: Verifying = Verifying(),
    options: VerifyOptions = VerifyOptions(),
) -> dict[str, Any]:
    """Measure an atlas's evidence and write `verification.html`, `verification.json` and
    `held_out.json` (every decision) into a new folder.

    Args:
        atlas: its folder. data: labelled cells; those that the atlas has seen are left out.
        outside: name -> pictures that it should refuse, besides scikit-image's photographs.

    Finished parts are kept beside `out`, in `OUT.verifying`, until all is done: stopped with Ctrl-C
    and called again with the same arguments, it goes on.

    Raises:
        DataError: no cell of `data` is held out. OutputError: `out` exists, or cannot be written.
    """
    out = Path(out).expanduser()
    if not options.overwrite:
        refuse_existing(out)
    dss = DecisionSupport.open(atlas, device=options.device)
    held = held_out(dss.atlas, data, progress=options.progress)
    others = {**photographs(), **(outside or {})}
    parts = _Parts(out, _key(dss.atlas, held, others, settings), options.progress)
    result = _measured(dss, data, held, others, settings, parts)
    with new_folder(out, overwrite=options.overwrite) as folder:
        write_json(folder / "held_out.json", result.pop("decisions"))
        write_json(folder / "verification.json", result)
        report.save_verification(result, dss.atlas.labels, dss.atlas.provenance,
                                 folder / "verification.html", dss.facts())  # fmt: skip
    if options.into_atlas:
        keep_verification(atlas, result)
    shutil.rmtree(parts.folder, ignore_errors=True)
    return result


class _Parts:
    """Finished parts of the work, each a file that counts only for the very same question."""

    def __init__(self, out: Path, key: str, progress: Progress) -> None:
        self.folder, self.key, self.progress = out.parent / f"{out.name}.verifying", key, progress

    def get(self, name: str, make: Callable[[Progress], Any]) -> Any:
        """The part of this name: from the file where there is one, else made and kept."""
        path = self.folder / f"{name}.json"
        if path.is_file():
            try:
                kept = read_json(path)
            except ArtifactError:  # half a file after a power cut: made again
                kept = {}
            if kept.get("key") == self.key:
                return kept["part"]
        write_json(path, {"key": self.key, "part": make(self.progress)})
        return read_json(path)["part"]


def _key(atlas: Atlas, held: HeldOut, others: Outside, settings: Verifying) -> str:
    pictures = {name: [str(source) for source in sources] for name, sources in others.items()}
    return digest(
        {
            "atlas": atlas.id,
            "cells": [sample.id for sample in held.samples],
            "outside": pictures,
            "settings": asdict(settings),
            "version": cellkin.__version__,
            "schema": SCHEMA,
        }
    )


def _measured(
    dss: DecisionSupport,
    data: Dataset,
    held: HeldOut,
    others: Outside,
    settings: Verifying,
    parts: _Parts,
) -> dict[str, Any]:
    atlas = dss.atlas
    inside = answers(
        atlas,
        held.images,
        [s.id for s in held.samples],
        owners=held.owners(atlas.unit),
        coverage=settings.coverage,
        progress=parts.progress,
    )
    held, inside = _without_twins(data, held, inside)
    truth = [s.label for s in held.samples]
    chosen = spread_by_class(held.samples, settings.cells, settings.seed)
    trial = heatmaps.Trial(dss, data, held, inside.decisions, chosen, settings.seed)
    kept: dict[str, Callable[..., Any]] = {
        "completeness": heatmaps.completeness,
        "randomisation": partial(heatmaps.randomised, settings.networks),
        "deletion": heatmaps.deleted,
        "stability": heatmaps.stable,
    }
    result = {
        **_head(dss, data, held, settings, chosen),
        "sets": set_tables(inside.decisions, truth, held.owners(atlas.unit), atlas.labels),
        "calibration": calibration_tables(inside.decisions, truth, atlas.labels),
        "outside": _outside(atlas, inside, others, settings, parts),
        **{name: parts.get(name, partial(make, trial)) for name, make in kept.items()},
        "attention": heatmaps.pointed(trial),
        "decisions": [
            {**d.to_json(), "truth": s.label, "subject": s.subject, "unlike": says_unlike(d)}
            for d, s in zip(inside.decisions, held.samples, strict=True)
        ],
    }
    result["warnings"] = warnings(result["randomisation"])
    result["verdicts"] = verdicts(result)
    return result


def _without_twins(data: Dataset, held: HeldOut, inside: Answers) -> tuple[HeldOut, Answers]:
    """The held-out cells that are no reference cell, pixel for pixel or nearly."""
    fresh = [i for i, d in enumerate(inside.decisions) if not d.twin]
    if len(fresh) == len(held):
        return held, inside
    if not fresh:
        raise nothing_left(data, {**held.left_out, TWINS: len(held)})
    return held.part(fresh, TWINS), inside.part(fresh)


def _head(
    dss: DecisionSupport, data: Dataset, held: HeldOut, settings: Verifying, chosen: list[int]
) -> dict[str, Any]:
    counts = dict.fromkeys(dss.atlas.labels.names, 0)
    for sample in held.samples:
        counts[sample.label] += 1
    people = {*held.owners(SUBJECT).names} - {None}
    return {
        "schema": SCHEMA,
        "atlas": dss.atlas.id,
        "space": dss.atlas.space,
        "version": cellkin.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "dataset": data.name,
        "drawn": data.drawn,
        "held_out": len(held),
        "classes": counts,
        "subjects": len(people),
        "left_out": dict(held.left_out),
        "tested": len(chosen),
        "notice": NOTICE,
    }


def _outside(
    atlas: Atlas, inside: Answers, others: Outside, settings: Verifying, parts: _Parts
) -> dict[str, Any]:
    """False alarms on held-out cells, and a row for every kind of pictures from outside."""
    coverage = settings.coverage

    def row(sources: Sequence[ImageRef], tell: Progress) -> dict[str, Any]:
        images, names, refused = readable(sources, atlas.encoder.preprocessor, progress=tell)
        if not names:
            return {"n": 0, "unreadable": refused}
        found = answers(atlas, images, names, coverage=coverage, progress=tell)
        return {**outside_row(atlas, inside, found, coverage), "unreadable": refused}

    return {
        **shares(inside.decisions, coverage),
        "allowed": float(np.round(1 - coverage, 9)),
        "sets": any(d.prediction_set is not None for d in inside.decisions),
        "gate": atlas.quality is not None,
        "kinds": {
            name: parts.get(f"outside-{i}", partial(row, sources))
            for i, (name, sources) in enumerate(others.items())
        },
    }
