"""Pretraining an encoder on images with several labels each (section 3.1)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkin import report
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import new_folder, refuse_existing, write_json
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Split
from cellkin.datasets.multilabel import hold_out, levels_of, target_matrix
from cellkin.imaging.fingerprints import fingerprints
from cellkin.learning.encoder import choose_device
from cellkin.learning.pretraining import TaggedData, pretrain_encoder
from cellkin.learning.recipes import PRETRAINING, Recipe, load_recipe
from cellkin.learning.training import Trained
from cellkin.learning.weights import pixels_seen_by, seen_by
from cellkin.system.cards import data_facts, documents, made_now, network_facts, recipe_facts
from cellkin.system.runs import load_images, open_run, run_folder, with_cells


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(Options):
    """How a pretraining is run.

    Attributes:
        device: "auto", "cpu", "cuda", ... resume: go on with an unfinished one.
        overwrite: replace what is at `out`.
    """

    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    progress: Progress = silent


def pretrain(
    data: Dataset,
    recipe: str | Recipe = "paper-pretrain-adp",
    *,
    seed: int = 0,
    out: str | Path = "encoder",
    split: Split | None = None,
    options: PretrainOptions = PretrainOptions(),
) -> Path:
    """Train an encoder on images that carry any number of labels on any number of levels.

    Args:
        data: tissue images with `levels`; cells with one class each count as one level.
        recipe: a shipped recipe's name, a TOML file, or a `Recipe` with task "pretraining".
        seed: of the parts, the weights, the order and the augmentation.
        out: the encoder folder to write; it appears when everything is done.
        split: parts made beforehand (`train` and `val`); by default one image in five validates,
            and images of one subject, slide or field stay together where that is known.

    Returns:
        the encoder folder, for `cellkin train --init`.

    Raises:
        CellkinError: of many kinds; see `cellkin.core.errors`.
    """
    out = Path(out).expanduser()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe.require_task(PRETRAINING, verb="train")
    device = choose_device(options.device)
    if not options.overwrite:
        refuse_existing(out)
    split = split or hold_out(data, seed=seed)
    progress = options.progress
    seen = seen_by(recipe.init)
    with open_run(run_folder(out), resume=options.resume) as run:
        images = load_images(data, recipe.geometry, progress)
        split = with_cells(split, data, images, recipe.geometry)
        tagged = _tagged(data, split, images)
        trained = pretrain_encoder(
            tagged, recipe, seed=seed, run=run, device=device, progress=progress
        )
        marks = fingerprints(tagged.images)
        trained.encoder.trained_on = tuple(dict.fromkeys((*seen, *marks)))
        trained.encoder.seen_pixels = pixels_seen_by(recipe.init, recipe.backbone)
        trained.encoder.documents = documents(_card(trained, data, split, tagged))
        report.pretraining_curve(trained.history, run / "training.png")
        with new_folder(out, overwrite=options.overwrite) as building:
            for name in ("log.jsonl", "training.png"):
                (building / name).write_bytes((run / name).read_bytes())
            write_json(building / "split.json", split.to_json())
            trained.encoder.save(building)
        shutil.rmtree(run, ignore_errors=True)
    return out


def _tagged(data: Dataset, split: Split, images: Bytes) -> TaggedData:
    return TaggedData(
        images=images,
        ids=tuple(sample.id for sample in data),
        targets=target_matrix(data),
        levels=levels_of(data),
        train=data.rows(split.train),
        val=data.rows(split.val),
    )


def _card(trained: Trained, data: Dataset, split: Split, tagged: TaggedData) -> dict[str, Any]:
    encoder, best = trained.encoder, trained.best
    recipe = Recipe(**encoder.recipe)
    facts = data_facts(data, split)
    counts = tagged.targets[tagged.train].sum(axis=0, dtype=np.int64)
    absent = [n for n, c in zip(tagged.head_names, counts, strict=True) if c == 0]
    return {
        "kind": "encoder",
        "data": {**{k: v for k, v in facts.items() if k != "split"}, "drawn": data.drawn},
        "split": facts["split"],
        "network": network_facts(encoder),
        "recipe": recipe_facts(encoder.recipe),
        "training": {
            "epochs": len(trained.history),
            "selected_epoch": best["epoch"],
            "validation_map": best["val_map"],
            "precision": recipe.precision,
        },
        "levels": [
            {"codes": len(codes), "scores": scores}
            for codes, scores in zip(tagged.levels, best["levels"], strict=True)
        ],
        "absent_codes": absent,
        "provenance": made_now(data, encoder, recipe.id, split.seed),
    }
