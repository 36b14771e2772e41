"""The verb describe: a cell in the words of morphology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellkin.cli.console import json_line, progress, talk
from cellkin.cli.options import Json, examples, images_of
from cellkin.core.numbers import percent
from cellkin.core.records import NOTICE, ImageRef

if TYPE_CHECKING:
    from cellkin.core.descriptions import Description, Geometry

Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files of one cell each, or folders.")
]


@examples("""
cellkin describe cell.png
cellkin describe cells/ --json > descriptions.jsonl
""")
def describe(images: Images, json: Json = False) -> None:
    """Say what a cell looks like: eleven learned attributes, and measured geometry."""
    from cellkin.core.descriptions import TRAINED_ON
    from cellkin.system.describing import describe as describe_cells

    with progress() as tell:
        found = describe_cells([ImageRef(path) for path in images_of(images)], progress=tell)
    for one in found:
        typer.echo(json_line(one.to_json()).rstrip() if json else said(one))
    talk(f"Learned on {TRAINED_ON}.\n{NOTICE}")


def said(one: Description) -> str:
    """One cell, a line for each attribute."""
    lines = [one.image, f"  {_measured(one.geometry)}"]
    for name, attribute in one.attributes.items():
        lines.append(
            f"  {name.replace('_', ' '):<28}{attribute.value} ({percent(attribute.share)})"
        )
    return "\n".join(lines)


def _measured(geometry: Geometry) -> str:
    if geometry.cell_area is None:
        return "measured: no cell is found in the middle of this picture"
    unit = "um^2" if geometry.unit == "um" else "pixels of the picture"
    if geometry.nucleus_share is None or geometry.nucleus_area is None:
        return f"measured: cell of {geometry.cell_area:.0f} {unit}; no nucleus is found"
    return (
        f"measured: cell of {geometry.cell_area:.0f}, nucleus of {geometry.nucleus_area:.0f} "
        f"{unit}; it fills {percent(geometry.nucleus_share)} of the cell, parts: {geometry.lobes}"
    )
