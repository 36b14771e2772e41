"""The course of a training as TensorBoard scalars, written while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import guarded_writes
from cellkin.core.errors import OutputError


class Scalars:
    """Event files in one folder, one step per epoch.

    Args:
        folder: for TensorBoard, made if missing.
        done: epochs that an earlier run has finished; what it wrote beyond them is superseded.

    Raises:
        OutputError: TensorBoard's package is not installed, or the folder is not writable.
    """

    def __init__(self, folder: Path, *, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise OutputError(
                "TensorBoard's event files need a package that is not installed",
                where="--tensorboard",
                mend="pip install 'cellkin[tensorboard]', or leave the option away",
            ) from None
        self.folder = folder
        with guarded_writes(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Every number of an epoch's row of the history, under `training` or `validation`."""
        with guarded_writes(self.folder):
            for name, value in row.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    group = "validation" if name.startswith("val_") else "training"
                    self._writer.add_scalar(f"{group}/{name.removeprefix('val_')}", value, step)
            self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
