"""Verbs for a new place: adopt, suggest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.cells import AtlasFolder, Images, PlaceName
from cellkin.cli.console import print_json, progress, say, talk
from cellkin.cli.options import (
    Clinical,
    Data,
    Device,
    Json,
    Overwrite,
    Trust,
    examples,
    images_of,
    opened,
)
from cellkin.core.artifacts import csv_line, refuse_existing, write_pieces
from cellkin.core.records import NOTICE

SHOWN = ("rank", "image", "distance")


@examples("""
cellkin adopt atlas ~/our-cells --out adopted --place 'St Mary'
cellkin adopt atlas ~/our-cells --out adopted && cellkin decide adopted cell.png --place our-cells
""")
def adopt(
    atlas: AtlasFolder,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The atlas folder to write.")],
    place: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the new place is called; by default as the column place says, or the data "
            "set's name.",
        ),
    ] = None,
    clinical: Clinical = None,
    trust: Trust = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Take labelled cells of another laboratory into an atlas; nothing is trained.

    5 to 100 cells, of several slides or people, with --place named when it decides. On cells of its
    own place the new atlas decides as the old one.
    """
    from cellkin.system import AdoptOptions, DecisionSupport
    from cellkin.system import adopt as adopt_cells

    if not overwrite:
        refuse_existing(out)
    dataset = opened(data, clinical)
    with progress() as tell:
        options = AdoptOptions(device=device, overwrite=overwrite, progress=tell)
        folder = adopt_cells(atlas, dataset, out=out, place=place, options=options)
    made = DecisionSupport.open(folder, device="cpu").atlas.adopted[-1]
    _tell(made.place, made.facts)
    if json:
        print_json({"place": made.place, **made.facts})
    else:
        typer.echo(folder)


def _tell(place: str, told: Mapping[str, Any]) -> None:
    from cellkin.report import tried_lines

    talk(f"\n{place}: {told['cells']} cells. What was tried, each cell without its own slide:")
    for line in tried_lines(told):
        talk(f"  {line}")
    for note in told["notes"]:
        talk(f"note: {note}")
    talk(f"Name the place with every cell from now on: --place {place!r}\n{NOTICE}")


@examples("""
cellkin suggest atlas unlabelled/ --n 20
cellkin suggest atlas unlabelled/ --n 20 --out first.csv --sheet first.png
cellkin suggest adopted unlabelled/ --place 'St Mary' --json
""")
def suggest(
    atlas: AtlasFolder,
    images: Images,
    n: Annotated[int, typer.Option("--n", min=1, help="How many cells.")] = 20,
    place: PlaceName = None,
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Also write the list here.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also write a sheet of their pictures.")
    ] = None,
    overwrite: Overwrite = False,
    trust: Trust = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say which unlabelled cells to label first: those farthest from everything that is known."""
    from cellkin.imaging.loading import unusable
    from cellkin.report.contact_sheet import contact_sheet
    from cellkin.system import DecisionSupport
    from cellkin.system.suggesting import suggest as suggest_cells

    for path in (out, sheet):
        if path is not None and not overwrite:
            refuse_existing(path)
    paths = images_of(images)
    dss = DecisionSupport.open(atlas, device=device)
    with progress() as tell:
        found = suggest_cells(dss if place is None else dss.at(place), paths, n=n, progress=tell)
    rows = [cell.to_json() for cell in found.cells]
    if out is not None:
        write_pieces(out, [csv_line(SHOWN), *(csv_line([r[k] for k in SHOWN]) for r in rows)])
    if sheet is not None:
        captions = [f"{cell.rank}. {Path(cell.image).name}" for cell in found.cells]
        contact_sheet(found.pictures, captions, sheet, title=f"{len(rows)} cells to label first")
    say(json, {"cells": rows}, (f"{r['rank']:>4}  {r['distance']:.3f}  {r['image']}" for r in rows))
    if found.faults:
        raise unusable(list(found.faults))
