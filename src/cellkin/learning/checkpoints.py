"""Checkpoints: the whole state of a training after an epoch, as plain tensors and JSON.

Each lies in a folder of its own that appears whole or not at all; the older one is removed only
after the newer is on the disk. A process killed at any moment leaves the last one intact.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellkin.core.artifacts import (
    new_folder,
    read_arrays,
    read_json,
    read_manifest,
    write_arrays,
    write_json,
    write_manifest,
)

__all__ = ["Checkpoint", "load_latest", "save"]

SCHEMA = 1
NAME = re.compile(r"step-(\d{5})$")


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` epochs (warm-up epochs count).

    Attributes:
        network: state dict. optimizer: parameter name -> its tensors by key.
        best: state dict of the selected epoch so far, None before the first selection.
        facts: plain data: recipe, seed, data, history, the selected epoch.
    """

    step: int
    network: Mapping[str, Tensor]
    optimizer: Mapping[str, Mapping[str, Tensor]]
    best: Mapping[str, Tensor] | None
    facts: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove the ones before it."""
    target = folder / f"step-{checkpoint.step:05d}"
    with new_folder(target, overwrite=True) as building:
        tensors = {f"network/{k}": v for k, v in checkpoint.network.items()}
        tensors |= {
            f"optimizer/{name}/{key}": value
            for name, state in checkpoint.optimizer.items()
            for key, value in state.items()
        }
        tensors |= {f"best/{k}": v for k, v in (checkpoint.best or {}).items()}
        write_arrays(
            building / "state.safetensors",
            {k: v.detach().cpu().numpy() for k, v in tensors.items()},
        )
        write_json(building / "facts.json", dict(checkpoint.facts))
        write_manifest(
            building,
            "checkpoint.json",
            {"kind": "checkpoint", "schema": SCHEMA, "step": checkpoint.step},
        )
    for older in folder.iterdir():
        if NAME.search(older.name) and older.name < target.name:
            shutil.rmtree(older)


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a folder, None where there is none.

    Raises:
        ArtifactError: it is damaged.
    """
    found = sorted(p for p in folder.glob("step-*") if NAME.search(p.name))
    if not found:
        return None
    manifest = read_manifest(found[-1], "checkpoint.json", kind="checkpoint", schema=SCHEMA)
    arrays = read_arrays(found[-1] / "state.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "best": {}}
    for name, array in arrays.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = torch.from_numpy(array.copy())
    optimizer: dict[str, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        parameter, key = name.rsplit("/", 1)
        optimizer.setdefault(parameter, {})[key] = tensor
    facts = read_json(found[-1] / "facts.json")
    return Checkpoint(manifest["step"], parts["network"], optimizer, parts["best"] or None, facts)
