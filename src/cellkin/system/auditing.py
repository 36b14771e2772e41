"""The audit of a data set as a folder: the page, all pairs, all numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import new_folder, refuse_existing, write_json, write_table
from cellkin.core.findings import AuditReport, DuplicatePair
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Split
from cellkin.datasets import auditing
from cellkin.imaging.decode import decode
from cellkin.report import save_audit

COLUMNS = (
    "first", "second", "kind", "relation", "score", "overlap", "difference", "crosses",
    "first_label", "second_label", "first_subject", "second_subject", "first_place",
    "second_place", "first_side", "second_side",
)  # fmt: skip


def audit(
    data: Dataset,
    *,
    out: str | Path,
    splits: Sequence[Split] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> AuditReport:
    """Audit a data set and write `audit.html`, `audit.json` and `audit.csv` into a new folder.

    Args:
        splits: whose parts no pair should cross; by default the one that training would make.

    Raises:
        OutputError: the folder exists and `overwrite` is off, or cannot be written.
        DataError: no image can be read, or the split does not belong to the data set.
    """
    out = Path(out).expanduser()
    if not overwrite:
        refuse_existing(out)
    report = auditing.audit(data, splits=splits, seed=seed, progress=progress)
    images = {sample.id: sample.image for sample in data}
    with new_folder(out, overwrite=overwrite) as folder:
        save_audit(report, lambda name: decode(images[name]), folder / "audit.html")
        write_json(folder / "audit.json", report.to_json())
        write_table(folder / "audit.csv", [COLUMNS, *map(_row, report.pairs)])
    return report


def _row(pair: DuplicatePair) -> tuple[Any, ...]:
    what = (pair.first, pair.second, pair.kind, pair.relation)
    how = (pair.score, pair.overlap, pair.difference, " ".join(pair.crosses))
    return (*what, *how, *pair.labels, *pair.subjects, *pair.places, *pair.sides)
