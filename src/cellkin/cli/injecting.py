"""The verb inject: a class of cell-free windows, or a class in two halves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Clinical, Data, Device, Json, Overwrite, examples, opened
from cellkin.core.errors import RecipeError
from cellkin.core.records import NOTICE

WINDOWS = "Cell-free windows (--nothing-from)"
HALVES = "A class in two (--halve)"


@examples("""
cellkin inject ~/ALL-IDB2 --nothing-from ~/ALL-IDB1 --out injected.json
cellkin inject cells/ --nothing-from fields/ --count 130 --window 257 --seed 1 --out more.json
cellkin inject injected.json --halve lymphoblast --out evidence
cellkin inject ~/ALL-IDB2 --halve lymphoblast --nothing-from ~/ALL-IDB1 --out evidence
cellkin inject injected.json --halve lymphoblast --by places.csv --out evidence --apply
cellkin train injected.json --out atlas
""")
def inject(
    data: Data,
    nothing_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FIELDS",
            help="Field images to cut from. With --halve: the fields that the cells were cut from, "
            "whose size and red cells are asked first.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            help="Windows; the mean of the classes if not given.", rich_help_panel=WINDOWS
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels; that of the cells' images if not given.", rich_help_panel=WINDOWS
        ),
    ] = None,
    halve: Annotated[
        str | None,
        typer.Option(
            "--halve",
            "--split",
            metavar="CLASS",
            help="Look for two modes.",
            rich_help_panel=HALVES,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="auto, features, file-size, field-size, diameter, ruler, a CSV with file,half, "
            "or a table of cellkin locate.",
            rich_help_panel=HALVES,
        ),
    ] = "auto",
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="An encoder or atlas; the packaged ImageNet network if not given.",
            rich_help_panel=HALVES,
        ),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Write the data set with both halves, if believed.",
            rich_help_panel=HALVES,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="injected.json for windows; a folder of evidence for halves."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    clinical: Clinical = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Add a class of cell-free windows, or halve a class that has two modes (evidence first)."""

    if nothing_from is None and halve is None:
        raise RecipeError(
            "inject was told nothing to do",
            where="--nothing-from, --halve",
            mend="give --nothing-from FIELDS (windows without cells) or --halve CLASS",
        )
    dataset = opened(data, clinical)
    talk(f"{dataset.name}: {len(dataset)} cells, read as {dataset.layout}")
    if nothing_from is not None and halve is None:
        asked = {"count": count, "window": window, "overwrite": overwrite}
        result = _windows(dataset, nothing_from, out or Path("injected.json"), seed, **asked)
    else:
        told = {"encoder": encoder, "apply": apply, "device": device, "overwrite": overwrite}
        told |= {"fields": nothing_from}
        result = _halved(dataset, str(halve), by, out or Path("split"), seed, **told)
    talk(NOTICE)
    if json:
        print_json(result)


def _windows(dataset: Any, fields: Path, out: Path, seed: int, **asked: Any) -> dict[str, Any]:
    from cellkin.system import InjectOptions, inject_nothing

    with progress() as tell:
        options = InjectOptions(**asked, progress=tell)
        done = inject_nothing(dataset, fields, out=out, seed=seed, options=options)
    for note in done.notes:
        talk(f"  {note}")
    talk(f"\nThe data set: {done.path}   (cellkin train {done.path})")
    talk(f"Look through every window: {done.sheet}")
    counts = done.dataset.counts()
    talk("  " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return {"path": str(done.path), "sheet": str(done.sheet), "counts": counts, **done.facts}


def _halved(dataset: Any, name: str, by: str, out: Path, seed: int, **asked: Any) -> dict[str, Any]:
    from cellkin.system import HalvingOptions, propose_halving

    with progress() as tell:
        options = HalvingOptions(**asked, progress=tell)
        found = propose_halving(dataset, name, by=by, out=out, seed=seed, options=options)
    halves = list(found.halves.values())
    talk(
        f"{name}: two imaging groups of {halves.count(0)} and {halves.count(1)} cells"
        if found.verdict.halve
        else f"{name}: not halved"
    )
    for why in found.verdict.why:
        talk(f"  {why}")
    talk(f"\nThe evidence: {(found.folder / 'split.html').resolve()}")
    if found.applied is not None:
        talk(f"The data set: {found.applied}   (cellkin train {found.applied})")
    elif found.verdict.halve:
        talk("Nothing was applied: look at the page, then run again with --apply --overwrite")
    applied = None if found.applied is None else str(found.applied)
    return {**found.to_json(), "folder": str(found.folder), "applied": applied}
