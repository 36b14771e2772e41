"""Cross-validation (section 5.2): one atlas per fold, scored out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas.atlas import MANIFEST
from cellkin.core.artifacts import read_json, write_json
from cellkin.core.errors import OutputError
from cellkin.core.records import Dataset, Split
from cellkin.datasets.parts import splits
from cellkin.learning.recipes import Recipe
from cellkin.measures.scores import score
from cellkin.system import run_folder, train

__all__ = ["cross_validate"]

SUMMARY = "out_of_fold.json"


def cross_validate(
    data: Dataset,
    recipe: str | Recipe = "quick",
    *,
    seed: int = 0,
    out: str | Path,
    folds: int = 5,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one atlas per fold and score every cell by the atlas that never saw it.

    Args:
        out: folder of the atlases `fold-1`, `fold-2`, ... and of `out_of_fold.json`.
        options: as for `cellkin.train`, and `unit` ("auto", "subject", "image", ...), or `splits`:
            folds cut beforehand, instead of `folds` and `unit`. With `resume` finished folds are
            kept as they are and the unfinished one goes on.

    Returns:
        the scores over all cells, with `folds` (one row per fold), and mean and population standard
        deviation (ddof = 0) of the accuracy over folds.

    Raises:
        CellkinError: as `cellkin.train`; an existing folder without `resume`.
    """
    options = dict(options or {})
    unit = options.pop("unit", "auto")
    given: Sequence[Split] | None = options.pop("splits", None)
    out = Path(out).expanduser()
    if out.exists() and any(out.iterdir()) and not options.get("resume"):
        raise OutputError(
            "there is something here already",
            where=out,
            mend="choose another --out, or add --resume to go on with an unfinished run",
        )
    parts = given or splits.folds(data, n=folds, seed=seed, unit=unit)
    rows: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for number, split in enumerate(parts, start=1):
        target = out / f"fold-{number}"
        if not (target / MANIFEST).is_file():
            resume = bool(options.get("resume")) and run_folder(target).is_dir()
            own = {**options, "resume": resume, "progress": _titled(options, number, len(parts))}
            train(data, recipe, seed=seed, out=target, split=split, options=own)
        decided = read_json(target / "predictions.json")
        predictions += [{**row, "fold": number} for row in decided]
        rows.append(_fold_row(number, decided, split.counts(), split.note))
    scores = score(
        [p["truth"] for p in predictions],
        [p["label"] for p in predictions],
        data.labels,
        subjects=[p["subject"] for p in predictions],
        unit=parts[0].unit,
        seed=seed,
    )
    accuracies = [row["accuracy"] for row in rows]
    result = {
        **scores.to_json(),
        "folds": rows,
        "mean_accuracy": float(np.mean(accuracies)),
        "std_accuracy": float(np.std(accuracies)),
        "std_definition": "population standard deviation over folds (ddof = 0)",
        "seed": seed,
        "dataset": data.name,
    }
    write_json(out / "predictions.json", predictions)
    write_json(out / SUMMARY, result)
    return result


def _fold_row(
    number: int, decided: list[dict[str, Any]], counts: Mapping[str, int], note: str
) -> dict[str, Any]:
    correct = sum(row["label"] == row["truth"] for row in decided)
    return {
        "fold": number,
        "n": len(decided),
        "correct": correct,
        "accuracy": correct / len(decided),
        "split": dict(counts),
        "note": note,
    }


def _titled(options: Mapping[str, Any], number: int, folds: int) -> Any:
    inner = options.get("progress")
    if inner is None:
        return lambda task, done, total: None
    return lambda task, done, total: inner(f"fold {number}/{folds}: {task}", done, total)
