"""The verb inject: a class of cell-free windows, or a class split in two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Clinical, Data, Device, Json, Overwrite, examples, opened
from cellkin.core.errors import RecipeError
from cellkin.core.records import NOTICE

WINDOWS = "Cell-free windows (--nothing-from)"
SPLIT = "A class in two (--split)"


@examples("""
cellkin inject ~/ALL-IDB2 --nothing-from ~/ALL-IDB1 --out injected.json
cellkin inject cells/ --nothing-from fields/ --count 130 --window 257 --seed 1 --out more.json
cellkin inject injected.json --split lymphoblast --out evidence
cellkin inject injected.json --split lymphoblast --by halves.csv --out evidence --apply
cellkin train injected.json --out atlas
""")
def inject(
    data: Data,
    nothing_from: Annotated[
        Path | None,
        typer.Option(metavar="FIELDS", help="Field images to cut from.", rich_help_panel=WINDOWS),
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
    split: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Look for two modes.", rich_help_panel=SPLIT),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="auto, features, file-size, field-size, diameter, or a CSV with file,half.",
            rich_help_panel=SPLIT,
        ),
    ] = "auto",
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="An encoder or atlas; the packaged ImageNet network if not given.",
            rich_help_panel=SPLIT,
        ),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Write the split data set, if believed.", rich_help_panel=SPLIT
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="injected.json for windows; a folder of evidence for a split."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    clinical: Clinical = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Add a class of cell-free windows, or split a class that has two modes (evidence first)."""

    if (nothing_from is None) == (split is None):
        raise RecipeError(
            "inject does one thing at a time",
            where="--nothing-from, --split",
            mend="give --nothing-from FIELDS or --split CLASS; the second takes the json of the "
            "first as DATA",
        )
    dataset = opened(data, clinical)
    talk(f"{dataset.name}: {len(dataset)} cells, read as {dataset.layout}")
    if nothing_from is not None:
        options: dict[str, Any] = {"count": count, "window": window, "overwrite": overwrite}
        result = _windows(dataset, nothing_from, out or Path("injected.json"), seed, options)
    else:
        options = {"encoder": encoder, "apply": apply, "device": device, "overwrite": overwrite}
        result = _split(dataset, str(split), (by, out or Path("split")), seed, options)
    talk(NOTICE)
    if json:
        print_json(result)


def _windows(
    dataset: Any, fields: Path, out: Path, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    from cellkin.system import inject_nothing

    with progress() as tell:
        done = inject_nothing(
            dataset, fields, out=out, seed=seed, options={**options, "progress": tell}
        )
    for note in done.notes:
        talk(f"  {note}")
    talk(f"\nThe data set: {done.path}   (cellkin train {done.path})")
    talk(f"Look through every window: {done.sheet}")
    counts = done.dataset.counts()
    talk("  " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return {"path": str(done.path), "sheet": str(done.sheet), "counts": counts, **done.facts}


def _split(
    dataset: Any, name: str, place: tuple[str, Path], seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    from cellkin.system import propose_split

    by, out = place
    with progress() as tell:
        found = propose_split(
            dataset, name, by=by, out=out, seed=seed, options={**options, "progress": tell}
        )
    halves = list(found.halves.values())
    talk(
        f"{name}: two imaging groups of {halves.count(0)} and {halves.count(1)} cells"
        if found.verdict.split
        else f"{name}: not split"
    )
    for why in found.verdict.why:
        talk(f"  {why}")
    talk(f"\nThe evidence: {(found.folder / 'split.html').resolve()}")
    if found.applied is not None:
        talk(f"The data set: {found.applied}   (cellkin train {found.applied})")
    elif found.verdict.split:
        talk("Nothing was applied: look at the page, then run again with --apply --overwrite")
    applied = None if found.applied is None else str(found.applied)
    return {**found.to_json(), "folder": str(found.folder), "applied": applied}
