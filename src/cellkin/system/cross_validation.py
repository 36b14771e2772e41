"""Cross-validation (section 5.2): one atlas per fold, scored out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas.opening import MANIFEST
from cellkin.core.artifacts import read_json, write_json
from cellkin.core.errors import OutputError
from cellkin.core.records import Dataset, LabelSet, Split
from cellkin.datasets.parts import splits
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.measures.scores import score_samples
from cellkin.system.atlases import refuse_early, train
from cellkin.system.runs import TrainOptions, run_folder, unfound_note, unseen_parts

SUMMARY = "out_of_fold.json"


def cross_validate(
    data: Dataset,
    recipe: str | Recipe = "quick",
    *,
    seed: int = 0,
    out: str | Path,
    parts: Sequence[Split] | None = None,
    options: TrainOptions = TrainOptions(),
) -> dict[str, Any]:
    """Train one atlas per fold and score every cell by the atlas that never saw it.

    Args:
        out: folder of the atlases `fold-1`, `fold-2`, ... and of `out_of_fold.json`.
        parts: the folds; by default `datasets.folds(data, seed=seed)`: five, by subject where
            every cell names one.

    Returns:
        the scores over all cells, with `folds` (one row per fold), and mean and population standard
        deviation (ddof = 0) of the accuracy over folds.

    Raises:
        CellkinError: as `cellkin.train`, for every fold before the first is trained; an existing
            folder without `resume`, or with finished folds of another split.
    """
    out = Path(out).expanduser()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise OutputError(
            "there is something here already",
            where=out,
            mend="choose another --out, or add --resume to go on with an unfinished run",
        )
    parts = parts or splits.folds(data, seed=seed)
    data, parts = unseen_parts(data, parts, recipe, options.progress)
    for number, split in enumerate(parts, start=1):
        refuse_early(data, split, recipe, options.maps)
        _refuse_other_split(out / f"fold-{number}", split)
    decided = []
    for number, split in enumerate(parts, start=1):
        told = _titled(options, f"fold {number}/{len(parts)}")
        decided.append(_fold(data, recipe, seed, out / f"fold-{number}", split, told))
    predictions = [{**row, "fold": i} for i, rows in enumerate(decided, start=1) for row in rows]
    samples = data.select([row["image"] for row in predictions])
    called = [row["label"] for row in predictions]
    scores = score_samples(samples, called, data.labels, unit=parts[0].unit, seed=seed)
    result = {**scores.to_json(), **_over_folds(parts, decided)}
    result |= {"seed": seed, "dataset": data.name}
    write_json(out / "predictions.json", predictions)
    write_json(out / SUMMARY, result)
    return result


def _refuse_other_split(finished: Path, split: Split) -> None:
    if not (finished / MANIFEST).is_file():
        return
    done = Split.from_json(read_json(finished / "split.json"))
    unfound = set(split.ids) - set(done.ids)
    if unfound:  # cells that were to be shown alone; its note says that they were these many
        split = split.without(unfound, unfound_note(len(unfound), split))
    if done != split:
        raise OutputError(
            "this fold was trained on other parts of the data set",
            where=finished,
            mend="resume with the seed, unit and folds of the first run, or choose another --out",
        )


def _fold(
    data: Dataset, recipe: Recipe, seed: int, out: Path, split: Split, options: TrainOptions
) -> list[dict[str, Any]]:
    """The decisions on the test cells of one fold, by the atlas that is there or trained now."""
    if not (out / MANIFEST).is_file():
        options = replace(options, resume=options.resume and run_folder(out).is_dir())
        train(data, recipe, seed=seed, out=out, split=split, options=options)
    return list(read_json(out / "predictions.json"))


def _over_folds(
    parts: Sequence[Split], decided: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    pairs = enumerate(zip(parts, decided, strict=True), start=1)
    rows = [_row(number, split, found) for number, (split, found) in pairs]
    accuracies = [row["accuracy"] for row in rows]
    return {
        "folds": rows,
        "mean_accuracy": float(np.mean(accuracies)),
        "std_accuracy": float(np.std(accuracies)),
        "std_definition": "population standard deviation over folds (ddof = 0)",
    }


def _row(number: int, split: Split, decided: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    correct = sum(LabelSet.exact(row["label"], row["truth"]) for row in decided)
    return {
        "fold": number,
        "n": len(decided),
        "correct": correct,
        "accuracy": correct / len(decided),
        "split": split.counts(),
        "note": split.note,
    }


def _titled(options: TrainOptions, title: str) -> TrainOptions:
    def tell(task: str, done: int, total: int) -> None:
        options.progress(f"{title}: {task}", done, total)

    return replace(options, progress=tell)
