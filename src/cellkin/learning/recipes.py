"""Recipes: how an encoder learns, as data. Each is a TOML file beside `cellkin/recipes`."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import digest
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.core.options import refuse_unknown
from cellkin.imaging.canonical import VIEWS
from cellkin.imaging.preprocess import WINDOWS, Preprocessor

ROTATIONS = ("none", "quarter", "any")
PRETRAINING, FINE_TUNING = "pretraining", "fine-tuning"
CHOICES = {
    "task": (FINE_TUNING, PRETRAINING),
    "norm": ("batch", "group"),
    "view": VIEWS,
    "zscore": ("weights", "training"),
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "orthogonal": ("residual", "pointwise"),
    "mining": ("all", "batch-hard"),
    "rotation": ROTATIONS,
    "precision": ("auto", "bf16", "fp32"),
    "distance": ("euclidean", "cosine", "manhattan"),
    "select_by": ("vote", "head"),
}
ONLY = {
    FINE_TUNING: (
        "together",
        "accumulate",
        "warmup_epochs",
        "warmup_lr",
        "keep_start",
        "metric",
        "margin",
        "mining",
        "k",
        "distance",
        "select_by",
    ),
    PRETRAINING: ("positive_only",),
}
"""Fields that say something in one task alone; set in the other they are refused."""

NEWER = {
    "window": 0.0,
    "view": "raw",
    "alone": False,
    "laboratory_jitter": 0.0,
    "zoom": 0.0,
    "swap_grounds": 0.0,
    "keep_start": False,
}
"""Fields that older recipes do not have, and the value that they had without saying so."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how training goes; defaults are the paper's (section 5.2).

    Attributes:
        name: of the recipe; part of every provenance.
        task: "fine-tuning" on cells (`cellkin train`) or multitask "pretraining" (section 3.1).
        backbone: a timm model, see `cellkin.learning.networks`.
        init: first weights, see `cellkin.learning.weights`.
        norm: "batch", or "group": every batch norm is replaced by a group norm.
        size: side of the network's input in pixels.
        unsharpen: sharpen every image by its measured blur (section 5.1).
        window: micrometres along the square that the network sees, by each picture's own scale; 0
            takes every picture whole (beyond the paper).
        view: what the network sees: the picture as it is ("raw"), in one white ("white"), or in one
            white and one strength of stain ("density"), see `cellkin.imaging.canonical` (beyond the
            paper).
        alone: the cell alone on a neutral ground, see `cellkin.imaging.outline` (beyond the paper).
        zscore: "weights": mean and standard deviation that the first weights were made with, where
            they say so; "training": always those of the training part, as in the paper.
        epochs: passes over the training part, warm-up not counted.
        batch: images of one step.
        together: cells of a class are dealt to the batches in groups of this many, every cell once
            an epoch, so that rare classes have triplets too (beyond the paper); 1 leaves it to
            chance.
        accumulate: batches whose mean gradient makes one step; triplets are formed within each.
        optimizer: "sgd" or "adamw".
        lr: learning rate.
        momentum: of SGD.
        weight_decay: of either optimiser.
        schedule: "step" (lr times `lr_factor` every `lr_every` epochs) or "cosine" (to zero, after
            a linear rise over the first 3 % of the steps).
        lr_every: epochs from one step of the schedule to the next.
        lr_factor: by which each step multiplies the learning rate.
        warmup_epochs: epochs in which only the new head learns, with plain SGD.
        warmup_lr: their learning rate.
        keep_start: the first weights are kept, with the head of the warm-up, unless an epoch has
            more of the validation part right, beyond chance (McNemar's test, p at most 0.05): first
            weights that know other laboratories are not given away for nothing (beyond the paper).
        metric: factor of the triplet loss (Eq. 3); 0 leaves it out.
        margin: of the triplet loss.
        mining: "all" valid triplets of the batch, or "batch-hard": per cell the farthest of its
            class and the nearest of another (beyond the paper).
        orthogonality: lambda of Eqs. 2 and 5; 0 leaves it out.
        orthogonal: what it covers: "residual" (first 3 x 3 and shortcut convolutions of residual
            blocks), or "pointwise": every 1 x 1 convolution that is not grouped, for networks
            without residual blocks (beyond the paper).
        class_weighted: losses weighted by N / count (Eq. 4; Eq. 1: N / max(count, 10)).
        positive_only: Eq. 1 as printed: the weight on the positive term alone.
        rotation: "none", "quarter" or "any", see `cellkin.learning.augmentation`.
        flips: mirror images at random.
        colour_jitter: brightness, contrast and hue, 0 (off) to 1, the limits that
            `cellkin.learning.colour` states (beyond the paper).
        stain_jitter: strength of each stain, 0 (off) to 1, limits there (beyond the paper).
        laboratory_jitter: as far as laboratories differ in stain, lamp, focus, noise and JPEG, 0
            (off) to 1, see `cellkin.learning.laboratories` (beyond the paper).
        zoom: of the logarithm of a zoom, to either side, 0 (off) to 1 (beyond the paper).
        swap_grounds: share of the pictures that stand among the surroundings of another training
            cell, 0 (off) to 1, see `cellkin.learning.grounds` (beyond the paper).
        frozen_stages: -1 trains all layers; n >= 0 keeps the stem and the first n stages as
            they came, batch-norm statistics included.
        frozen_batch_norm: keep the statistics of every batch norm as they came.
        validate_every: epochs between two measurements of the validation part.
        validate_from: the first epoch that may be selected; the last one always may.
        precision: of training: "bf16" autocast, "fp32", or "auto" (bf16 where the hardware has it).
        k: neighbours that vote (Eq. 6).
        distance: of the vote: "euclidean", "cosine" or "manhattan" (Eq. 7).
        select_by: whose accuracy on the validation part selects the epoch: that of the neighbour
            "vote", which an atlas decides by, or that of the class "head" (section 5.2; for a plain
            classifier to compare with).
        needs_pretraining: refuse to start from scratch.
    """

    name: str = "custom"
    task: str = FINE_TUNING
    backbone: str = "resnet18"
    init: str = "scratch"
    norm: str = "batch"
    size: int = 224
    unsharpen: bool = False
    window: float = 0.0
    view: str = "raw"
    alone: bool = False
    zscore: str = "weights"
    epochs: int = 90
    batch: int = 8
    together: int = 1
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float = 2e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    lr_every: int = 20
    lr_factor: float = 0.5
    warmup_epochs: int = 0
    warmup_lr: float = 0.02
    keep_start: bool = False
    metric: float = 1.0
    margin: float = 1.0
    mining: str = "all"
    orthogonality: float = 0.0
    orthogonal: str = "residual"
    class_weighted: bool = True
    positive_only: bool = False
    rotation: str = "quarter"
    flips: bool = True
    colour_jitter: float = 0.0
    stain_jitter: float = 0.0
    laboratory_jitter: float = 0.0
    zoom: float = 0.0
    swap_grounds: float = 0.0
    frozen_stages: int = -1
    frozen_batch_norm: bool = False
    validate_every: int = 1
    validate_from: int = 1
    precision: str = "auto"
    k: int = 5
    distance: str = "euclidean"
    select_by: str = "vote"
    needs_pretraining: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        for key, allowed in CHOICES.items():
            if (value := getattr(self, key)) not in allowed:
                raise _bad(
                    key, value, did_you_mean(value, allowed) or f"use {' or '.join(allowed)}"
                )
        whole = ("size", "epochs", "k", "lr_every", "validate_every", "validate_from")
        for key in (*whole, "accumulate", "together"):
            _at_least(self, key, 1)
        _at_least(self, "batch", 2)
        _at_least(self, "size", 16)  # smaller pictures tell no focus
        for key in ("lr", "warmup_lr", "lr_factor", "margin"):
            if getattr(self, key) <= 0:
                raise _bad(key, getattr(self, key), "give a number above 0")
        for key in ("metric", "orthogonality", "weight_decay", "momentum", "warmup_epochs"):
            _at_least(self, key, 0)
        if self.window and not WINDOWS[0] <= self.window <= WINDOWS[1]:
            raise _bad("window", self.window, "give micrometres, or 0 for the whole picture")
        for key in ("colour_jitter", "stain_jitter", "laboratory_jitter", "zoom", "swap_grounds"):
            if not 0 <= getattr(self, key) <= 1:
                raise _bad(key, getattr(self, key), "give a number from 0 (off) to 1")
        _check_together(self)
        if self.needs_pretraining and self.init == "scratch":
            raise RecipeError(
                f"the recipe {self.name!r} starts from a pretrained encoder, none was given",
                where="init = 'scratch'",
                mend="give the weights of a histopathology-pretrained network: --init FILE",
            )

    def require_task(self, task: str, *, verb: str) -> None:
        """Refuse a recipe that was made for the other kind of training.

        Raises:
            RecipeError: its task is another one.
        """
        if self.task != task:
            raise RecipeError(
                f"the recipe {self.name!r} is for {self.task}, not for {task}",
                where="recipe field task",
                mend=f"use cellkin {verb}, or a recipe for {task}",
            )

    def with_changes(self, **changes: Any) -> Recipe:
        """A copy with some fields changed; None leaves a field as it is.

        Raises:
            RecipeError: an unknown field or an impossible value.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        refuse_unknown(given, [f.name for f in fields(Recipe)], "key", where="settings")
        return replace(self, **given)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data; those of `NEWER` only where they say something: older recipes
        keep their ids.
        """
        return {k: v for k, v in asdict(self).items() if k not in NEWER or v != NEWER[k]}

    @property
    def geometry(self) -> Preprocessor:
        """How images are prepared for this recipe, before any z-score is known."""
        return Preprocessor(
            size=self.size,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            unsharpen=self.unsharpen,
            window=self.window or None,
            view=self.view,
            alone=self.alone,
        )

    @property
    def id(self) -> str:
        """Name and a hash of all fields: two recipes with one id train alike."""
        return f"{self.name}-{digest(self.to_json())[:8]}"


def recipe_names() -> list[str]:
    """The recipes that cellkin ships, by name."""
    folder = resources.files("cellkin") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_recipe(name_or_path: str, **changes: Any) -> Recipe:
    """A shipped recipe by name, or one from a TOML file; `changes` replace single fields.

    Raises:
        RecipeError: no such recipe, broken TOML, an unknown key or an impossible value.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path in recipe_names():
        text = (resources.files("cellkin") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_text("utf-8")
    else:
        raise RecipeError(
            f"there is no recipe {name_or_path!r}",
            where=f"shipped: {', '.join(recipe_names())}",
            mend=did_you_mean(name_or_path, recipe_names()) or "name one of these, or a .toml file",
        )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"broken TOML: {error}", where=path, mend="mend that line") from error
    data.setdefault("name", path.stem)
    data.update({key: value for key, value in changes.items() if value is not None})
    refuse_unknown(data, [field.name for field in fields(Recipe)], "key", where=name_or_path)
    return Recipe(**data)


def _check_types(recipe: Recipe) -> None:
    for field in fields(recipe):
        value, kind = getattr(recipe, field.name), str(field.type)
        fits = {
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "str": isinstance(value, str),
        }[kind]
        if not fits:
            raise _bad(field.name, value, f"give a value of type {kind}")
        if kind == "float":
            object.__setattr__(recipe, field.name, float(value))


def _check_together(recipe: Recipe) -> None:
    """Refuse fields that contradict each other or say nothing in this task."""
    defaults = {field.name: field.default for field in fields(recipe)}
    for task, keys in ONLY.items():
        for key in keys if task != recipe.task else ():
            if (value := getattr(recipe, key)) != defaults[key]:
                raise _bad(key, value, f"leave it away: it says nothing in {recipe.task}")
    if recipe.alone and recipe.swap_grounds:
        raise _bad("swap_grounds", recipe.swap_grounds, "a cell alone has none: leave one away")
    if recipe.keep_start and not recipe.warmup_epochs:
        raise _bad("keep_start", True, "the head of the start learns in the warm-up: give epochs")
    if recipe.norm == "group" and recipe.frozen_batch_norm:
        raise _bad("frozen_batch_norm", True, "a group norm keeps no statistics: leave one away")


def _at_least(recipe: Recipe, key: str, least: float) -> None:
    if getattr(recipe, key) < least:
        raise _bad(key, getattr(recipe, key), f"give {least} or more")


def _bad(key: str, value: object, mend: str) -> RecipeError:
    return RecipeError(f"{key} = {value!r} is not possible", where=f"recipe field {key}", mend=mend)
