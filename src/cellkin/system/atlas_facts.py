"""What an atlas is and how good it is, as plain data (`cellkin inspect --json`)."""

from __future__ import annotations

from typing import Any

from cellkin.atlas import Atlas
from cellkin.decision import Conformal
from cellkin.measures.counting import HeldOutCalls

SHARPENED = "adaptive unsharpening: every image, by its own measured blur"


def atlas_facts(atlas: Atlas) -> dict[str, Any]:
    """Everything that it says about itself, in one plain record."""
    labels, sets = atlas.labels, atlas.conformal
    stored = {key: value for key, value in atlas.facts.items() if key != "provenance"}
    told = {
        **stored,
        "cells": len(atlas.cells),
        "classes": {name: atlas.cells.labels.count(name) for name in labels.names},
        "clinical": dict(labels.clinical) if labels.positive else None,
        "titles": {name: labels.title(name) for name in labels.names},
        "backbone": atlas.encoder.backbone,
        "space": atlas.space,
        "k": atlas.k,
        "distance": atlas.distance,
        "calibration": atlas.calibration.counts(),
        "conformal": None if sets is None else _sets(sets),
        "provenance": atlas.provenance.to_json(),
    }
    if atlas.encoder.preprocessor.unsharpen:
        told["sharpening"] = SHARPENED
    if atlas.adopted:
        told["adopted"] = {one.place: one.facts for one in atlas.adopted}
    if atlas.calls:
        told["held_out_calls"] = _held_out(atlas.calls)
    if atlas.verification:
        told["verified"] = _verified(atlas)
    return told


def _sets(sets: Conformal) -> dict[str, Any]:
    return {"unit": sets.unit, "units": sets.counts(), "note": sets.note}


def _held_out(calls: HeldOutCalls) -> dict[str, Any]:
    return {"unit": calls.unit, "units": calls.units, "note": calls.note}


def _verified(atlas: Atlas) -> str:
    """When and on what an atlas was verified, and what was found wrong with its heatmaps."""
    found = atlas.verification or {}
    wrong = ", ".join(atlas.warnings) or "none"
    return (
        f"{found['created']} on {found['held_out']} held-out cells of {found['dataset']}; "
        f"heatmaps not to be trusted: {wrong}"
    )
