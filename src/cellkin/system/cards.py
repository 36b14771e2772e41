"""The facts of a model card; the room `report` puts them into words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import cellkin
from cellkin import report
from cellkin.atlas import Atlas
from cellkin.core.records import Dataset, Provenance, Split
from cellkin.datasets.parts.places import cells_by_place, place_warnings
from cellkin.learning.compiled import CompiledEncoder
from cellkin.learning.encoder import Encoder
from cellkin.learning.recipes import FINE_TUNING, ONLY

__all__ = [
    "CARD",
    "CARD_DATA",
    "atlas_card",
    "data_facts",
    "documents",
    "made_now",
    "network_facts",
    "recipe_facts",
]

CARD, CARD_DATA = "model_card.md", "model_card.json"


def documents(card: Mapping[str, Any]) -> dict[str, str]:
    """File name -> text: the card for people, and its facts as JSON."""
    told = {**card, "notice": report.NOTICE}
    text = json.dumps(told, indent=1, sort_keys=True, allow_nan=False)
    return {CARD: report.model_card(card), CARD_DATA: text + "\n"}


def atlas_card(atlas: Atlas, kind: str) -> dict[str, Any]:
    """The facts of an atlas, or (`kind` = "encoder") of the encoder that was trained for it."""
    facts, labels = atlas.facts, atlas.labels
    known = ("dataset", "layout", "citation", "licence", "specimen", "stain", "notes")
    return {
        "kind": kind,
        "data": {
            **{key: facts.get(key) for key in known},
            "drawn": atlas.provenance.drawn,
            "classes": {labels.title(n): atlas.cells.labels.count(n) for n in labels.names},
        },
        **(
            {"adopted": {one.place: dict(one.facts) for one in atlas.adopted}}
            if atlas.adopted
            else {}
        ),
        "split": facts["split"],
        "vote": {"k": atlas.k, "distance": atlas.distance},
        "network": network_facts(atlas.encoder),
        "recipe": recipe_facts(atlas.encoder.recipe),
        "training": facts.get("training"),
        "test": facts.get("test"),
        **{key: facts[key] for key in ("places", "robustness", "surroundings") if key in facts},
        "calibration": atlas.calibration.counts(),
        "knows_lymphoblasts": labels.positive is not None,
        "labels": labels.to_json(),
        "provenance": atlas.provenance.to_json(),
    }


def network_facts(encoder: Encoder) -> dict[str, Any]:
    """What the network is, as plain data."""
    preprocessor = encoder.preprocessor.identity()
    return {
        "backbone": encoder.backbone,
        "norm": encoder.norm,
        "pooling": encoder.pooling,
        "width": encoder.width,
        "precision": encoder.precision,
        **({"engine": encoder.engine} if isinstance(encoder, CompiledEncoder) else {}),
        "preprocessor": preprocessor,
        "init": encoder.recipe.get("init", "not stated"),
        "space": encoder.space,
    }


def recipe_facts(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that say something in its task."""
    own = recipe.get("task", FINE_TUNING)
    silent = {key for task, keys in ONLY.items() if task != own for key in keys}
    return {key: value for key, value in recipe.items() if key not in silent}


def made_now(data: Dataset, encoder: Encoder, recipe: str, seed: int) -> dict[str, Any]:
    """Where what is made now by an encoder comes from, see `Provenance`; `recipe` is the recipe's
    id, or words for it.
    """
    return Provenance(
        version=cellkin.__version__,
        weights=encoder.weights_sha256,
        atlas="",
        recipe=recipe,
        seed=seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=data.name,
        drawn=data.drawn,
    ).to_json()


def data_facts(data: Dataset, split: Split) -> dict[str, Any]:
    """A data set and its parts, as plain data; its places where it names some."""
    cells = cells_by_place(data) if not data.levels else {}
    warnings = list(place_warnings(data))
    return {
        **({"places": {"cells": cells, "warnings": warnings}} if cells else {}),
        "dataset": data.name,
        "layout": data.layout,
        "citation": data.citation,
        "licence": data.licence,
        "specimen": data.specimen,
        "stain": data.stain,
        "notes": list(data.notes),
        "split": {"unit": split.unit, "seed": split.seed, **split.counts(), "note": split.note},
    }
