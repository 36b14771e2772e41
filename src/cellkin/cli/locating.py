"""The verb locate: the field and the position that each crop was cut from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.console import progress, say, talk
from cellkin.cli.options import Clinical, Json, Overwrite, clinical_of, examples
from cellkin.core.artifacts import refuse_existing
from cellkin.core.errors import RecipeError

ORIENTATIONS = ("same", "all")


@examples("""
cellkin locate ALL-IDB2/img ALL-IDB1/im --out places.csv
cellkin locate crops/ fields/ --out places.csv --scales 1 --orientations same
cellkin locate ALL-IDB2 ALL-IDB1/im --out places.csv --labels labels.csv
""")
def locate(
    crops: Annotated[Path, typer.Argument(metavar="CROPS", help="Folder of crops of cells.")],
    fields: Annotated[
        Path, typer.Argument(metavar="FIELDS", help="Folder of whole fields of view.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="CSV", help="The table to write.")],
    scales: Annotated[
        str,
        typer.Option(help="Pixels of a crop per pixel of its field: a range, or 1 for the same."),
    ] = "0.8..1.25",
    orientations: Annotated[
        str, typer.Option(help="all: crops may be turned by quarters and mirrored; or same.")
    ] = "all",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Also write a labels.csv (file, label, group) of CROPS, to split by field.",
        ),
    ] = None,
    clinical: Clinical = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find the field and the position each crop was cut from, and fields that overlap.

    Crops are sought as they are first; those not found, at every scale and orientation allowed.
    Stopped with Ctrl-C, the same command goes on where it was.
    """
    from cellkin import datasets
    from cellkin.datasets.locating.located import rows, write_labels, write_table

    for target in (out, *([labels] if labels else [])):
        if not overwrite:
            refuse_existing(target)
    dataset = datasets.open(crops, clinical=clinical_of(clinical)) if labels else None
    with progress() as tell:
        located = datasets.locate(
            crops,
            fields,
            scales=_range(scales),
            all_orientations=_all(orientations),
            notebook=out.with_name(f"{out.name}.partial"),
            progress=tell,
        )
    write_table(located, out)
    if labels and dataset is not None:
        write_labels(located, dataset, labels)
    counts = located.counts()
    groups = len(set(located.groups.values()))
    merged = len(located.groups) - groups
    talk(
        f"{counts['found']} of {len(located.crops)} crops found, {counts['ambiguous']} ambiguous, "
        f"{counts['none']} in none of {len(located.groups)} fields"
        + f"; {merged} fields overlap others: {groups} groups"
        * (merged > 0)
    )
    alone = len(located.crops) - counts["found"]
    if labels and alone:
        talk(
            f"crops without a field: {alone}; each counts as one of its own, so what is measured "
            "by field is too sure (try --scales, or --orientations all)"
        )
    found = {"counts": counts, "crops": rows(located), "groups": dict(located.groups)}
    say(json, found, [str(out)])


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("..")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise RecipeError(
            f"{text!r} is no range of scales",
            where="--scales",
            mend="write --scales 0.8..1.25, or --scales 1",
        ) from None


def _all(text: str) -> bool:
    if text not in ORIENTATIONS:
        raise RecipeError(
            f"{text!r} names no orientations",
            where="--orientations",
            mend=f"use {' or '.join(ORIENTATIONS)}",
        )
    return text == "all"
