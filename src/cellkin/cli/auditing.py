"""The verb audit: what is wrong with a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.console import progress, say, talk
from cellkin.cli.options import Clinical, Data, Json, Overwrite, examples, opened


@examples("""
cellkin audit ~/C-NMC --out audit
cellkin audit cells/ --out audit --split atlas/
cellkin audit cells/ --out audit --groups merged.json, then cellkin train merged.json --out atlas
cellkin audit cells/ --out audit --json
""")
def audit(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("audit"),
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="SPLIT|ATLAS",
            help="A file of cellkin split, or an atlas; by default the split of train.",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the data set with duplicates joined in one subject or group: a .json "
            "that cellkin opens, or a labels.csv for the data set's folder.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the default split and the shortcut meter.")] = 0,
    clinical: Clinical = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find duplicates, conflicting labels, leakage and shortcuts in any folder of crops."""
    from cellkin.datasets.auditing import read_split, write_merged
    from cellkin.report import headlines
    from cellkin.system import audit as audit_cells

    dataset = opened(data, clinical)
    parts = () if split is None else read_split(split)
    with progress() as tell:
        report = audit_cells(
            dataset, out=out, splits=parts, seed=seed, overwrite=overwrite, progress=tell
        )
    if groups is not None:
        talk(f"duplicates joined: {write_merged(dataset, report.groups, groups)}")
    talk(f"\nThe audit: {out / 'audit.html'}")
    say(json, report.to_json(), (head["text"] for head in headlines(report)))
