"""The verb fits: before any call on new cells, does this atlas fit them?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellkin.cli.cells import AtlasFolder, Images, Mpp, PlaceName
from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Device, Json, Overwrite, Trust, examples, images_of
from cellkin.core.fits import UNFIT
from cellkin.core.records import NOTICE

if TYPE_CHECKING:
    from cellkin.core.fits import Fits


@examples("""
cellkin fits atlas new-cells/
cellkin fits atlas new-cells/ --out fit
cellkin fits adopted new-cells/ --place 'St Mary'
cellkin fits atlas new-cells/ --json --strict > fit.json
""")
def fits(
    atlas: AtlasFolder,
    images: Images,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write a page and the data here.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 where the atlas does not fit.")
    ] = False,
    mpp: Mpp = None,
    place: PlaceName = None,
    overwrite: Overwrite = False,
    trust: Trust = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say whether an atlas fits a batch of new cells, before any call on them.

    Compared are the distances to the kin, light, scale, stain and focus; and the accuracy that may
    be expected is told without a label. Give 20 cells or more from one place, as they come.
    """
    from cellkin.core.artifacts import refuse_existing
    from cellkin.report import save_fits
    from cellkin.report.fits_page import fits_lines
    from cellkin.system import DecisionSupport

    if out is not None and not overwrite:
        refuse_existing(out)
    paths = images_of(images)
    dss = DecisionSupport.open(atlas, device=device).at(place)
    with progress() as tell:
        found = dss.fits(paths, um_per_pixel=mpp, progress=tell)
    if out is not None:
        save_fits(found, dss.atlas.labels, dss.facts(), dss.atlas.provenance, out)
    if json:
        print_json(found.to_json())
    else:
        for line in fits_lines(found):
            typer.echo(line)
        talk(NOTICE if out is None else f"\nThe page: {out / 'fits.html'}\n{NOTICE}")
    _leave(found, strict)


def _leave(found: Fits, strict: bool) -> None:
    if strict and found.verdict == UNFIT:
        raise typer.Exit(2)
