"""Checkpoints: the whole state of a training after an epoch, as plain tensors and JSON.

Each lies in a folder of its own that appears whole or not at all; the older one is removed only
after the newer is on the disk. A process killed at any moment leaves the last one intact; what it
had half written is swept away by the next one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellkin.core.artifacts import (
    guarded_writes,
    new_folder,
    read_arrays,
    read_json,
    write_arrays,
    write_bytes,
    write_json,
)
from cellkin.core.errors import OutputError, TrainingError
from cellkin.core.manifests import read_manifest, write_manifest
from cellkin.core.signals import interrupts_wait

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
    """Write a checkpoint, then remove the ones before it; Ctrl-C waits until that is done.

    Raises:
        OutputError: the disk is full, or not writable; the checkpoint before it stays.
    """
    target = folder / f"step-{checkpoint.step:05d}"
    try:
        with interrupts_wait():
            with new_folder(target, overwrite=True) as building:
                _write(building, checkpoint)
            for older in folder.iterdir():
                if NAME.match(older.name) and older.name < target.name:
                    shutil.rmtree(older)
    except OutputError as error:
        kept = sorted(p.name for p in folder.glob("step-*") if p != target)
        state = f"the state after epoch {int(kept[-1][5:])} is kept" if kept else "nothing is kept"
        raise OutputError(
            f"{error.what}: the state after epoch {checkpoint.step} could not be written",
            where=error.where,
            mend=f"{error.mend} with --resume; {state}",
        ) from error


def _write(building: Path, checkpoint: Checkpoint) -> None:
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


def sweep(folder: Path) -> None:
    """Remove what a killed process had half written, or had not yet removed.

    Raises:
        OutputError: the folder is not writable.
    """
    whole = sorted(p for p in folder.glob("step-*") if NAME.match(p.name))
    with guarded_writes(folder):
        for left in [*folder.glob(".step-*"), *whole[:-1]]:
            shutil.rmtree(left)


def write_log(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of all epochs as `log.jsonl`, whole or not at all.

    Raises:
        OutputError: the disk is full, or not writable; the log before it stays.
    """
    lines = [json.dumps(row, sort_keys=True) + "\n" for row in history]
    write_bytes(run / "log.jsonl", "".join(lines).encode())


def refuse_other(found: Mapping[str, Any], own: Mapping[str, Any], *, where: Path) -> None:
    """Refuse to go on with a training of other data, another recipe or another seed.

    Args:
        found: `recipe`, `seed` and `data` of the checkpoint; a mapping is compared key by key.
        own: the same of the training that was asked for.

    Raises:
        TrainingError: it names every difference.
    """
    told = []
    for key, value in own.items():
        before = found[key]
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            names = [n for n in {**before, **value} if before.get(n) != value.get(n)]
            if key == "data":
                told += [f"other {name}" for name in names]
            else:
                told += [f"{key} {n}: {before.get(n)!r} there, {value.get(n)!r} now" for n in names]
        elif before != value:
            told.append(f"{key}: {before!r} there, {value!r} now")
    if told:
        raise TrainingError(
            f"the unfinished training here is another one ({'; '.join(told)})",
            where=where,
            mend="give the same data, recipe and seed to go on, or remove that folder",
        )


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a folder, None where there is none.

    Raises:
        ArtifactError: it is damaged.
    """
    found = sorted(p for p in folder.glob("step-*") if NAME.match(p.name))
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
