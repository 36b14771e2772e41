"""From an experiment and its cells to the works to be done.

A work is one training (or none) on one fold, selected by what will decide; it gives a row of the
table, and one for each external test. The key of a row is a hash of all that decides it: cells,
split, injection, recipe and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import cellkin
from cellkin.core.artifacts import digest, file_sha256, read_json
from cellkin.core.errors import RecipeError, SplitError
from cellkin.core.records import Split
from cellkin.datasets.parts import splits
from cellkin.datasets.parts.places import PLACE
from cellkin.datasets.parts.seen import marked, seen_to_training
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.learning.weights import IMAGENET, PACKAGED_BACKBONE, pixels_seen_by
from cellkin.study.experiment_file import (
    GIVEN,
    METHODS,
    Experiment,
    External,
    Method,
    recipe_fields,
)
from cellkin.study.places import PLACES, Part, parts_by_place
from cellkin.study.predictions import Job
from cellkin.study.sources import Gathered

SEEING = ("size", "unsharpen", "window", "view", "alone", "k", "distance")
"""Fields of a recipe that matter where nothing is trained: the packaged network looks, or none."""

STARTING = ("backbone", "init", "norm", "zscore")
"""The further ones where the first weights look as they are."""

LOOK = 0.4  # what one look at a cell costs, in passes of a training

INJECTED = {
    "none": "none",
    "nothing": "nothing class",
    "halves": "classes in two",
    "both": "class injection",
}
"""Injections as the rows of a table say them."""


@dataclass(frozen=True)
class Row:
    """One row that a work gives, on which other data set it decides, if any, and how a left-out
    place is aligned before (see `Method`).
    """

    job: Job
    external: External | None = None
    aligned: str = ""


@dataclass(frozen=True)
class Work:
    """One training, or one look with a network that is not trained, in one fold.

    Attributes:
        key: hash of all that decides it. kind: see `Method`.
        data: name of the data set; its description is `data/NAME.json`.
        split: of the cells that take part. classes: of them; empty for all of the data set.
        halves: classes to look for two modes in, on training cells; empty for none.
        cost: about how much it takes, in passes of one cell through a training at 224 pixels.
    """

    key: str
    kind: str
    data: str
    split: Split
    classes: tuple[str, ...]
    halves: tuple[str, ...]
    recipe: Recipe
    seed: int
    rows: tuple[Row, ...]
    cost: float
    maps: bool = True

    def without(self, done: set[str]) -> Work:
        """The same work with only those rows that are not done."""
        return replace(self, rows=tuple(row for row in self.rows if row.job.key not in done))

    def also(self, other: Work | None) -> Work:
        """The same work, giving the rows of another of its key as well, each once: the other's."""
        rows = {row.job.key: row for work in (self, other) if work for row in work.rows}
        return replace(self, rows=tuple(rows.values()))


@dataclass(frozen=True)
class _Setting:
    """One combination of the lists of an experiment, but for the way to decide."""

    gathered: Gathered
    injection: str
    init: str
    recipe: Recipe
    part: Part
    seed: int
    fold: int
    folds: int

    @property
    def split(self) -> Split:
        return self.part.split


def plan(
    experiment: Experiment, gathered: Mapping[str, Gathered], inits: Mapping[str, Path]
) -> list[Work]:
    """All works of an experiment, fold by fold.

    Args:
        gathered: the data sets, as `gather` gives them.
        inits: backbone -> first weights, where the experiment says that they are given.

    Raises:
        RecipeError: weights that are not given. SplitError: parts that cannot be cut.
    """
    unique: dict[str, Work] = {}
    trained = [source.name for source in experiment.trained_on]
    recipes = _recipes(experiment, inits)
    _refuse_seen(experiment, gathered, recipes)
    for name in [PLACES] if experiment.across_places else trained:
        for setting in _settings(experiment, gathered[name], recipes):
            for work in _works(experiment, setting, gathered):  # one frozen look for all recipes
                known = unique.get(work.key)
                unique[work.key] = work if known is None else known.also(work)
    return list(unique.values())


def _settings(
    experiment: Experiment, own: Gathered, recipes: Sequence[tuple[str, Recipe]]
) -> Iterator[_Setting]:
    """Every combination, the folds of one seed and unit together."""
    marks, inits = _seen_by(recipes)
    known = marked(own.dataset) if marks else own.dataset
    for unit, seed in product(experiment.units, experiment.seeds):
        cut = _parts(experiment, own, unit, seed)
        unseen = seen_to_training([part.split for part in cut], known, marks, init=inits)
        parts = [part.of(split) for part, split in zip(cut, unseen, strict=True)]
        for fold, part in enumerate(parts, start=1):
            for injection, (init, recipe) in product(experiment.injections, recipes):
                own_part = _restricted(part, own, injection)
                yield _Setting(own, injection, init, recipe, own_part, seed, fold, len(parts))


def _seen_by(recipes: Sequence[tuple[str, Recipe]]) -> tuple[set[str], str]:
    """Marks of all cells that first weights of these recipes have learned from, and their names."""
    starts = {(recipe.init, recipe.backbone) for _, recipe in recipes}
    marks = {mark for init, backbone in starts for mark in pixels_seen_by(init, backbone)}
    return marks, " or ".join(sorted({init for init, _ in starts}))


def _refuse_seen(
    experiment: Experiment,
    gathered: Mapping[str, Gathered],
    recipes: Sequence[tuple[str, Recipe]],
) -> None:
    """Refuse external tests on cells that first weights have learned from.

    Raises:
        SplitError: some of them were.
    """
    marks, inits = _seen_by(recipes)
    if not marks or not {METHODS[name].kind for name in experiment.methods} & {"trained", "start"}:
        return
    for name in dict.fromkeys(external.test for external in experiment.external):
        tested = gathered[name].dataset
        if seen := sum(sample.pixels in marks for sample in marked(tested)):
            raise SplitError(
                f"{seen} of {len(tested)} cells of this external test were learned from before",
                where=f"[[external]] {name}, init = {inits}",
                mend='start from weights that do not know them: init = "imagenet"',
            )


def _parts(experiment: Experiment, own: Gathered, unit: str, seed: int) -> list[Part]:
    if unit == PLACE:
        return list(parts_by_place(own.dataset, seed))
    return [Part(s) for s in splits.cut(own.dataset, n=experiment.folds, seed=seed, unit=unit)]


def _recipes(experiment: Experiment, inits: Mapping[str, Path]) -> list[tuple[str, Recipe]]:
    """The recipes, each with the start that the experiment names."""
    found, asked = [], set[str]()
    for name in experiment.recipes:
        base = recipe_fields(name, experiment.changes)
        for backbone in experiment.backbones or (base.get("backbone"),):
            own = GIVEN if backbone in inits else base.get("init")
            for init in experiment.inits or (own,):
                fields = {"backbone": backbone, "init": _init(experiment, backbone, init, inits)}
                found.append((str(init), load_recipe(name, **{**experiment.changes, **fields})))
                asked |= {str(backbone)} if init == GIVEN else set()
    if unasked := sorted(set(inits) - asked):
        raise RecipeError(
            f"the experiment {experiment.name!r} does not ask for weights of {unasked[0]!r}",
            where=f"--init {unasked[0]}=...",
            mend=f"it asks for those of {', '.join(sorted(asked))}"
            if asked
            else 'leave it away, or write inits = ["given"] in the experiment',
        )
    return found


def _init(
    experiment: Experiment, backbone: Any, init: Any, inits: Mapping[str, Path]
) -> str | None:
    if init != GIVEN:
        return None if init is None else str(init)
    if backbone in inits:
        return str(inits[backbone].expanduser())
    raise RecipeError(
        f"the experiment {experiment.name!r} starts {backbone} from weights that are not given",
        where=f"init of {backbone}",
        mend=f"--init {backbone}=FILE_OR_ENCODER (cellkin pretrain makes an encoder)",
    )


def _restricted(part: Part, own: Gathered, injection: str) -> Part:
    """The part without the cell-free windows, where the injection has none.

    Raises:
        SplitError: nothing is left of a part, or windows are asked for where there are none.
    """
    if injection in ("nothing", "both"):
        if not own.nothing and injection == "nothing":
            raise SplitError(
                f"the data set {own.name!r} has no cell-free windows",
                where=f"injection {injection!r}",
                mend=f'add fields = "NAME" or nothing = "CLASS" to [data.{own.name}]',
            )
        return part
    if not own.nothing:
        return part
    split = part.split
    left_out = {s.id for s in own.dataset.samples if s.label == own.nothing}
    parts = {k: tuple(i for i in ids if i not in left_out) for k, ids in split.parts().items()}
    for name in ("train", "val", "test"):
        if not parts[name]:
            raise SplitError(
                f"the {name} part of a fold holds cell-free windows only",
                where=f"{own.name}, seed {split.seed}",
                mend="take fewer folds, or another seed",
            )
    classes = tuple(name for name in own.dataset.labels.names if name != own.nothing)
    kept = Split(**parts, unit=split.unit, seed=split.seed, note=split.note)
    return replace(part, split=kept, classes=classes)


def _works(
    experiment: Experiment, setting: _Setting, gathered: Mapping[str, Gathered]
) -> list[Work]:
    """The works of one setting, one for each method."""
    works = []
    for name in experiment.methods:
        method = METHODS[name]
        recipe = setting.recipe.with_changes(**method.changes)
        kind = _kind(method, recipe)
        key = _key(experiment, setting, kind, _deciding(kind, recipe))
        rows = _rows(experiment, setting, (key, replace(method, kind=kind)), gathered)
        works.append(_work(experiment, setting, (key, kind, recipe), rows))
    return works


def _kind(method: Method, recipe: Recipe) -> str:
    """The kind of a method; where a start is the packaged network, it is that of "frozen"."""
    own = (recipe.backbone, recipe.norm, recipe.zscore) == (PACKAGED_BACKBONE, "batch", "weights")
    packaged = own and recipe.init in IMAGENET
    return "frozen" if method.kind == "start" and packaged else method.kind


def _deciding(kind: str, recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that matter for a kind of method."""
    fields = {**recipe.to_json(), "init": _mark(recipe.init)}
    seeing = (*SEEING, *(STARTING if kind == "start" else ()))
    return fields if kind == "trained" else {key: fields[key] for key in seeing if key in fields}


def _mark(init: str) -> str:
    """First weights by what they are, not by where they lie."""
    path = Path(init).expanduser()
    if path.is_file():
        return file_sha256(path)
    for manifest in (path / "encoder" / "encoder.json", path / "encoder.json"):
        if manifest.is_file():
            return str(read_json(manifest)["space"])
    return init


def _key(experiment: Experiment, setting: _Setting, kind: str, fields: Mapping[str, Any]) -> str:
    parts = {name: list(ids) for name, ids in setting.split.parts().items()}
    return digest(
        {
            "version": cellkin.__version__,
            "cells": setting.gathered.identity,
            "split": parts,
            "injection": setting.injection,
            "halves": list(_halves(experiment, setting)),
            "kind": kind,
            "recipe": dict(fields),
            "seed": setting.seed,
            "maps": experiment.maps,
        }
    )


def _halves(experiment: Experiment, setting: _Setting) -> tuple[str, ...]:
    if setting.injection not in ("halves", "both"):
        return ()
    labels = setting.gathered.dataset.labels
    named = experiment.source(setting.gathered.name).halves
    return named or tuple(name for name in labels.names if labels.is_positive(name))


def _rows(
    experiment: Experiment,
    setting: _Setting,
    decided: tuple[str, Method],
    gathered: Mapping[str, Gathered],
) -> list[Row]:
    key, method = decided
    own = setting.gathered.name
    if method.aligned:
        job = _job(setting, method, digest([key, method.aligned]))
        return [Row(job, aligned=method.aligned)]
    rows = [Row(_job(setting, method, key))]
    for external in experiment.external:
        if external.train == own and method.kind != "histogram":
            other = gathered[external.test]
            mapping = sorted(external.classes.items())
            outer = digest([key, other.identity, mapping])
            job = _job(setting, method, outer)
            rows.append(Row(replace(job, tested_on=external.test), external))
    return rows


def _job(setting: _Setting, method: Method, key: str) -> Job:
    recipe = setting.recipe
    given = setting.init == GIVEN
    backbone, init, name = {
        "trained": (recipe.backbone, "weights given" if given else recipe.init, recipe.name),
        "start": (recipe.backbone, "weights given" if given else recipe.init, ""),
        "frozen": (PACKAGED_BACKBONE, "packaged", ""),
        "histogram": ("", "", ""),
    }[method.kind]
    return Job(
        key=key,
        method=method.name,
        dataset=setting.gathered.name,
        injection=INJECTED[setting.injection],
        backbone=backbone,
        init=init,
        recipe=name,
        unit=PLACE if setting.part.place else setting.split.unit,
        seed=setting.seed,
        fold=setting.fold,
        folds=setting.folds,
        tested_on=setting.part.place,
    )


def _work(
    experiment: Experiment, setting: _Setting, made: tuple[str, str, Recipe], rows: Sequence[Row]
) -> Work:
    key, kind, recipe = made
    own, split = setting.gathered, setting.split
    return Work(
        key=key,
        kind=kind,
        data=own.name,
        split=split,
        classes=setting.part.classes,
        halves=_halves(experiment, setting),
        recipe=recipe,
        seed=setting.seed,
        rows=tuple(rows),
        cost=_cost(kind, recipe, split),
        maps=experiment.maps,
    )


def _cost(kind: str, recipe: Recipe, split: Split) -> float:
    """Passes of one cell at 224 pixels; no promise, but fair enough for an ETA."""
    cells = sum(split.counts().values())
    if kind == "histogram":
        return 0.01 * cells
    pixels = (recipe.size / 224) ** 2
    looks = LOOK * cells * pixels
    if kind in ("start", "frozen"):
        return looks
    epochs = recipe.epochs + recipe.warmup_epochs
    return looks + epochs * len(split.train) * pixels + LOOK * cells * pixels * epochs / 2
