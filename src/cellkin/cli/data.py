"""Verbs about data: draw, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.console import progress, say, talk
from cellkin.cli.options import Clinical, Data, Json, clinical_of, examples


@examples("""
cellkin draw smears
cellkin draw smears --cells 390 --subjects 20 --seed 7
cellkin draw fields --layout all-idb1 --cells 120
cellkin draw cells --layout cnmc --cells 600 --subjects 30
""")
def draw(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    layout: Annotated[
        str, typer.Option(help="folders, all-idb1, all-idb2, cnmc, pbc or adp.")
    ] = "folders",
    cells: Annotated[int, typer.Option(help="Number of white cells, or of images of one.")] = 240,
    subjects: Annotated[int, typer.Option(help="Number of persons (or slides) drawn.")] = 12,
    size: Annotated[
        int | None,
        typer.Option(help="Side of a cell's image in pixels; the publisher's if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same cells.")] = 0,
) -> None:
    """Draw a synthetic smear data set, plainly labelled as drawn, with exact masks."""
    from cellkin.drawing.drawn import Order, draw_layout, layout_named

    order = Order(cells, subjects, layout_named(layout).size if size is None else size, seed)
    with progress() as tell:
        folder = draw_layout(
            layout, out, order, lambda done, total: tell("drawing cells", done, total)
        )
    talk(f"{cells} drawn cells of {subjects} drawn persons, laid out as {layout}: {folder}")


@examples("""
cellkin check ~/C-NMC
cellkin check cells/ --json
""")
def check(data: Data, clinical: Clinical = None, json: Json = False) -> None:
    """Read a data set whole and say what is in it, and what is wrong with it."""
    from cellkin import datasets

    dataset = datasets.open(data, clinical=clinical_of(clinical))
    with progress() as tell:
        report = datasets.check(
            dataset, progress=lambda done, total: tell("reading images", done, total)
        )
    say(json, report.to_json(), report.lines())
