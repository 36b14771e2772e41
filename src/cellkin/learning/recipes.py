"""Recipes: how an encoder learns, as data. Each is a TOML file beside `cellkin/recipes`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import digest
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.learning.augmentation import ROTATIONS

__all__ = ["Recipe", "load_recipe", "recipe_names"]

CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "rotation": ROTATIONS,
    "precision": ("auto", "bf16", "fp32"),
    "distance": ("euclidean", "cosine", "manhattan"),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how training goes; defaults are the paper's (section 5.2).

    Attributes:
        name: of the recipe; part of every provenance.
        backbone, init: see `cellkin.learning.networks` and `cellkin.learning.weights`.
        size: side of the network's input in pixels.
        unsharpen: sharpen every image by its measured blur (section 5.1).
        epochs, batch, lr, momentum, weight_decay, optimizer: of fine-tuning. `momentum` is SGD's.
        schedule: "step" (lr times `lr_factor` every `lr_every` epochs) or "cosine" (to zero, after
            a linear rise over the first 3 % of the steps).
        warmup_epochs, warmup_lr: epochs in which only the new head learns, with plain SGD.
        metric: factor of the triplet loss (Eq. 3). margin: its margin.
        orthogonality: lambda of Eq. 5; 0 leaves it out.
        class_weighted: cross-entropy weighted by N / count (Eq. 4).
        rotation, flips: augmentation, see `cellkin.learning.augmentation`.
        frozen_stages: -1 trains all layers; n >= 0 keeps the stem and the first n stages as
            they came, batch-norm statistics included.
        frozen_batch_norm: keep the statistics of every batch norm as they came.
        validate_every: epochs between two measurements of the validation vote.
        validate_from: the first epoch of fine-tuning that may be selected; the last one always may.
        precision: of training: "bf16" autocast, "fp32", or "auto" (bf16 where the hardware has it).
        k, distance: of the vote that decides (Eqs. 6-7).
        needs_pretraining: refuse to start from scratch.
    """

    name: str = "custom"
    backbone: str = "resnet18"
    init: str = "scratch"
    size: int = 224
    unsharpen: bool = False
    epochs: int = 90
    batch: int = 8
    optimizer: str = "sgd"
    lr: float = 2e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "step"
    lr_every: int = 20
    lr_factor: float = 0.5
    warmup_epochs: int = 0
    warmup_lr: float = 0.02
    metric: float = 1.0
    margin: float = 1.0
    orthogonality: float = 0.0
    class_weighted: bool = True
    rotation: str = "quarter"
    flips: bool = True
    frozen_stages: int = -1
    frozen_batch_norm: bool = False
    validate_every: int = 1
    validate_from: int = 1
    precision: str = "auto"
    k: int = 5
    distance: str = "euclidean"
    needs_pretraining: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        for key, allowed in CHOICES.items():
            if (value := getattr(self, key)) not in allowed:
                raise _bad(
                    key, value, did_you_mean(value, allowed) or f"use {' or '.join(allowed)}"
                )
        for key in ("size", "epochs", "k", "lr_every", "validate_every", "validate_from"):
            _at_least(self, key, 1)
        _at_least(self, "batch", 2)
        for key in ("lr", "warmup_lr", "lr_factor", "margin"):
            if getattr(self, key) <= 0:
                raise _bad(key, getattr(self, key), "give a number above 0")
        for key in ("metric", "orthogonality", "weight_decay", "momentum", "warmup_epochs"):
            _at_least(self, key, 0)
        if self.needs_pretraining and self.init == "scratch":
            raise RecipeError(
                f"the recipe {self.name!r} starts from a pretrained encoder, none was given",
                where="init = 'scratch'",
                mend="give the weights of a histopathology-pretrained network: --init FILE",
            )

    def with_changes(self, **changes: Any) -> Recipe:
        """A copy with some fields changed; None leaves a field as it is.

        Raises:
            RecipeError: an unknown field or an impossible value.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        _refuse_unknown(given, where="settings")
        return replace(self, **given)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

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
    _refuse_unknown(data, where=name_or_path)
    return Recipe(**data)


def _refuse_unknown(data: Mapping[str, Any], *, where: str) -> None:
    known = [field.name for field in fields(Recipe)]
    if unknown := [key for key in data if key not in known]:
        raise RecipeError(
            f"unknown key {unknown[0]!r} in a recipe",
            where=where,
            mend=did_you_mean(unknown[0], known) or f"known keys: {', '.join(known)}",
        )


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


def _at_least(recipe: Recipe, key: str, least: float) -> None:
    if getattr(recipe, key) < least:
        raise _bad(key, getattr(recipe, key), f"give {least} or more")


def _bad(key: str, value: object, mend: str) -> RecipeError:
    return RecipeError(f"{key} = {value!r} is not possible", where=f"recipe field {key}", mend=mend)
