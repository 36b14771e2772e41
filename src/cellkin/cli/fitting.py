"""The verb fit-finder: the packaged finder, fitted to a laboratory's own fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.finding import Mpp
from cellkin.cli.options import Json, Overwrite, examples
from cellkin.core.errors import RecipeError
from cellkin.core.numbers import percent, percent_range

if TYPE_CHECKING:
    from cellkin.measures.intervals import Share
    from cellkin.smear.fitting import Counts, Fit
    from cellkin.smear.marks import Marks

SHOWN = 5  # fields without marks that are named


@examples("""
cellkin fit-finder fields/ --out our-finder
cellkin fit-finder fields/ --out our-finder --class 'Blast=white cell' --class 'Rouleaux=unclear'
cellkin fit-finder fields/ --out our-finder --partial --groups slides.csv
cellkin find more/ --out cells.json --finder our-finder
""")
def fit_finder(
    fields: Annotated[
        list[Path],
        typer.Argument(
            metavar="FIELDS...", help="Folders of fields and of the marks made in them."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FINDER", help="The folder to write.")],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=KIND",
            help="What a class in the marks is: white cell, smudge, platelet, artefact, red cell, "
            "or unclear (neither learned nor counted). Repeatable; usual names are known.",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Not all cells are marked: unmarked ground is not known."),
    ] = False,
    groups: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Columns file,group: whole groups are held back."),
    ] = None,
    mpp: Mpp = None,
    steps: Annotated[int, typer.Option(help="Of training, each with 8 pictures.")] = 300,
    seed: Annotated[int, typer.Option(help="Of what is held back and of the training.")] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fit the packaged finder to your own fields, and measure it on a fifth that is held back.

    Marks are read from Pascal VOC, YOLO, COCO, QuPath's GeoJSON, or a table of middles or boxes.
    Stopped, the same command goes on where it was.
    """
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.smear.fitting import FitOptions, fit_finder
    from cellkin.smear.mark_files import read_groups
    from cellkin.smear.marks import read_marks

    keep_freed_memory()
    marks = read_marks(fields, read_groups(groups) if groups else None)
    _tell_marks(marks, grouped=groups is not None)
    options = FitOptions(
        kinds=_kinds(classes or []), partial=partial, um_per_pixel=mpp, steps=steps, seed=seed
    )
    try:
        with progress() as tell:
            fit = fit_finder(marks, out, options, overwrite=overwrite, progress=tell)
    except KeyboardInterrupt:
        talk(f"\nWhat was learned is kept beside {out}: the same command goes on with it.")
        raise
    _tell_fit(fit)
    if json:
        print_json(fit.to_json())
    else:
        typer.echo(out)


def _kinds(pairs: list[str]) -> dict[str, str]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise RecipeError(
            f"{wrong[0]!r} names no kind", where="--class", mend="write --class 'NAME=white cell'"
        )
    return dict(pair.rsplit("=", 1) for pair in pairs)


def _tell_marks(marks: Marks, *, grouped: bool) -> None:
    count = sum(len(field.marks) for field in marks.fields)
    talk(f"{count} marks in {len(marks.fields)} fields ({', '.join(marks.formats)})")
    alone = [field.path for field in marks.fields if grouped and field.group is None]
    _tell_fields(marks.unmarked, "have no marks and are left out")
    _tell_fields(alone, "have no group, each is held back or learned from by itself")


def _tell_fields(paths: Sequence[Path], what: str) -> None:
    names = ", ".join(path.name for path in paths[:SHOWN])
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    if paths:
        talk(f"note: {len(paths)} fields {what}: {names}{more}")


def _tell_fit(fit: Fit) -> None:
    kinds = ", ".join(f"{name} = {kind}" for name, kind in sorted(fit.kinds.items()))
    talk(f"learned from {len(fit.learned)} fields ({kinds}), measured on {len(fit.held_out)} more")
    for when, counts in (("before", fit.before), ("after", fit.after)):
        talk(f"  {when:<7} {_counts(counts)}")
    if fit.worse:
        talk("It got worse on the fields held back: think twice before you use it.")


def _counts(counts: Counts) -> str:
    right = "not known, as not all cells are marked"
    if counts.right is not None:
        right = _share(counts.right)
    return f"white cells found {_share(counts.found)}; of the found ones marked {right}"


def _share(share: Share) -> str:
    if share.share is None or share.interval.low is None:
        return "of none"
    span = percent_range(share.interval.low, share.interval.high)
    return f"{percent(share.share)} of {share.n} ({span})"
