"""The verb verify: what the evidence of an atlas is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellkin.cli.cells import AtlasFolder
from cellkin.cli.console import progress, say, talk
from cellkin.cli.options import (
    Clinical,
    Data,
    Device,
    Json,
    Overwrite,
    examples,
    images_of,
    opened,
    pairs_of,
)
from cellkin.core.records import NOTICE

if TYPE_CHECKING:
    from cellkin.core.records import ImageRef

STATES = {"bad": "FAILS  ", "warn": "to know", "good": "holds  "}


@examples("""
cellkin verify atlas ~/PBC --out verified
cellkin verify atlas ~/PBC --out verified --outside tissue=~/NCT-CRC-HE --outside marrow=~/C-NMC
cellkin verify atlas smears --out verified --cells 100 --networks 10 --into-atlas
cellkin verify atlas smears --out verified --json > verification.json
""")
def verify(
    atlas: AtlasFolder,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    outside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Pictures that the atlas should call unlike itself; repeatable. scikit-image's "
            "photographs, where it is installed, are always asked about.",
        ),
    ] = None,
    cells: Annotated[
        int, typer.Option(min=1, help="Held-out cells whose heatmaps are put to the test.")
    ] = 60,
    networks: Annotated[int, typer.Option(min=2, help="Random networks to compare with.")] = 5,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="What the prediction sets promise.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(help="Of what is drawn, and of the intervals.")] = 0,
    into_atlas: Annotated[
        bool,
        typer.Option(
            "--into-atlas",
            help="Keep the result in the atlas: maps of methods that failed then carry a warning.",
        ),
    ] = False,
    clinical: Clinical = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure the evidence of an atlas on cells that it has never seen, and write a page.

    Cells of DATA that the atlas has seen are left out. Stopped with Ctrl-C and called again alike,
    it goes on where it was.
    """
    from cellkin.proving.proving import Verifying, VerifyOptions
    from cellkin.proving.proving import verify as verify_evidence

    with progress() as tell:
        result = verify_evidence(
            atlas,
            opened(data, clinical),
            out,
            outside=_outside(outside or []),
            settings=Verifying(cells=cells, networks=networks, coverage=coverage, seed=seed),
            options=VerifyOptions(
                device=device, overwrite=overwrite, into_atlas=into_atlas, progress=tell
            ),
        )
    say(json, result, (f"{STATES[v['state']]}  {v['text']}" for v in result["verdicts"]))
    for warning in result["warnings"].values():
        kept = "kept in the atlas" if into_atlas else "not kept in the atlas: add --into-atlas"
        talk(f"warning: {warning} ({kept})")
    talk(f"\nThe page: {out / 'verification.html'}\n{NOTICE}")


def _outside(pairs: list[str]) -> dict[str, list[ImageRef]]:
    """`["tissue=folder"]` as a mapping to the images in the folders."""
    from cellkin.core.records import ImageRef

    named = pairs_of(pairs, "--outside NAME=FOLDER")
    return {name: [ImageRef(path) for path in images_of([at])] for name, at in named.items()}
