"""The parts of an atlas, read from its folder: what its manifest names, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cellkin.atlas.adopted import ARRAYS, read_adopted
from cellkin.atlas.cells import REFERENCE, read_cells
from cellkin.atlas.foreign import check_parts
from cellkin.atlas.frozen import FOLDER, Frozen
from cellkin.atlas.limits import read_limits
from cellkin.atlas.portrait import Portrait
from cellkin.core.artifacts import map_array, read_arrays, read_json
from cellkin.core.errors import ArtifactError
from cellkin.core.manifests import read_manifest
from cellkin.core.records import LabelSet
from cellkin.decision import MinMaxScale
from cellkin.learning.opening import encoder_in

SCHEMA = 2  # 1 where no place was adopted
MANIFEST = "atlas.json"
MAPS = "maps.safetensors"
PICTURES = "cells.sqlite"
VERIFICATION = "verification.json"
PREDICTIONS = "predictions.json"
NEEDED = ("facts.json", "features.safetensors", PICTURES, "encoder/encoder.json")


def parts_of(folder: Path, device: str | None) -> dict[str, Any]:
    """The fields of the atlas in a folder.

    Raises:
        ArtifactError: no atlas, damaged, of another schema, or its encoder makes another space.
    """
    manifest = read_manifest(folder, MANIFEST, kind="atlas", schema=SCHEMA, needs=NEEDED)
    told, named = read_json(folder / "facts.json"), manifest["files"]
    encoder = encoder_in(folder / "encoder", device)
    if encoder.space != manifest["space"]:
        raise ArtifactError(
            "the encoder in this atlas is not the one its vectors were made with",
            where=folder / "encoder",
            mend="cellkin index ENCODER DATA --out ATLAS",
        )
    arrays = read_arrays(folder / "features.safetensors")
    labels = LabelSet.from_json(told["labels"])
    side = encoder.preprocessor.size
    parts = {cells.part: cells for cells in read_cells(folder / PICTURES, side)}
    adopted = _named(told.get("adopted", ()), ARRAYS, named, folder)
    _named((folder / PREDICTIONS).is_file(), PREDICTIONS, named, folder)
    _named((folder / FOLDER).is_dir(), f"{FOLDER}/encoder.json", named, folder)
    found = {
        "encoder": encoder,
        "labels": labels,
        "cells": parts[REFERENCE],
        "scale": MinMaxScale(arrays["scale"], arrays["offset"]),
        "held_out": tuple(parts[name] for name in told["held_out_parts"]),
        **{name: arrays[name] for name in ("vectors", "xy", "held_out_xy")},
        **{name: told[name] for name in ("k", "distance", "facts")},
        "space": manifest["space"],
        "folder": folder,
        "maps": map_array(folder / MAPS, "maps") if MAPS in named else None,
        "verification": read_json(folder / VERIFICATION) if VERIFICATION in named else None,
        "adopted": read_adopted(folder, adopted, parts, labels.names),
        **read_limits(told, arrays.get("calls"), labels.names),
        "frozen": Frozen.read(told.get("frozen"), arrays.get("frozen"), folder),
        "portrait": Portrait.read(told.get("portrait"), arrays),
    }
    check_parts(found, folder)
    return found


def _named(told: Any, file: str, named: Iterable[str], folder: Path) -> Any:
    """What is told, if the manifest names the file that it needs."""
    if told and file not in named:
        raise ArtifactError(
            f"the manifest does not name {file}: what it does not name is not read",
            where=folder / MANIFEST,
            mend="restore the folder from a copy, or make it again",
        )
    return told
