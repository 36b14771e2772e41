"""Verbs about data sets as a whole: datasets, split, patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cellkin.cli.console import err, print_json, progress, talk
from cellkin.cli.options import Clinical, Data, Json, Overwrite, examples, opened
from cellkin.core.artifacts import refuse_existing
from cellkin.core.errors import RecipeError
from cellkin.core.units import plural


@examples("""
cellkin datasets
cellkin datasets --json
""")
def datasets(json: Json = False) -> None:
    """List the published data sets that are recognised: layout, counts, specimen, how to get it."""
    from cellkin.datasets.known import PUBLISHED

    if json:
        print_json({"datasets": [entry.to_json() for entry in PUBLISHED]})
        return
    for i, entry in enumerate(PUBLISHED):
        typer.echo(("\n" if i else "") + "\n".join(entry.lines()))


@examples("""
cellkin split ~/C-NMC --folds 5 --out splits.json
cellkin split ~/PBC --folds 1 --by image --seed 3 --json
cellkin split bloodmnist_224.npz --by official
cellkin split two-laboratories/ --by place --folds 2
""")
def split(
    data: Data,
    folds: Annotated[
        int | None,
        typer.Option(help="1: one split. n: n folds. Default 5, but 1 by official and place."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Unit: auto, subject, slide, field, image, official or place.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="The same seed cuts the same parts.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, for cellkin train --split.")
    ] = None,
    overwrite: Overwrite = False,
    clinical: Clinical = None,
    json: Json = False,
) -> None:
    """Cut training, validation, calibration and test parts, and say what is in each."""
    from cellkin.datasets.parts.leakage import hashed
    from cellkin.datasets.parts.split_files import part_table, save_splits
    from cellkin.datasets.parts.splits import cut

    if out is not None and not overwrite:
        refuse_existing(out)
    dataset = opened(data, clinical)
    with progress() as tell:
        dataset = hashed(dataset, progress=tell)
    count = folds if folds is not None else (1 if by in ("official", "place") else 5)
    parts = cut(dataset, n=count, seed=seed, unit=by)
    tables = [part_table(part, dataset) for part in parts]
    if out is not None:
        save_splits(parts, dataset, out)
    if json:
        print_json(
            {
                "dataset": dataset.name,
                "unit": parts[0].unit,
                "seed": seed,
                "splits": [
                    {"parts": table, "note": part.note}
                    for part, table in zip(parts, tables, strict=True)
                ],
            }
        )
    else:
        typer.echo(f"{dataset.name}: {len(dataset)} images, split by {parts[0].unit}, seed {seed}")
        for number, (part, table) in enumerate(zip(parts, tables, strict=True), start=1):
            _print_parts(f"fold {number}" if len(parts) > 1 else "split", part, table)
    if out is not None:
        talk(f"written: {out}   (cellkin train DATA --split {out})")


@dataclass(frozen=True)
class Asked:
    """Which splits are asked for: cut anew by `folds`, `by` and `seed`, or read from a `file`.

    Attributes:
        fold: the only one to take, from 1; None for all. leaky: take a file that leaks.
    """

    folds: int
    by: str
    seed: int
    file: Path | None
    fold: int | None
    leaky: bool


def planned(dataset: Any, asked: Asked) -> tuple[Any, ...]:
    """The splits to train on.

    Raises:
        RecipeError: a file beside --folds or --by, --fold without a file, or no such fold.
        SplitError: the splits cannot be cut, or are refused (see `open_splits`).
    """
    from cellkin.datasets.parts.split_files import open_splits
    from cellkin.datasets.parts.splits import cut

    file, fold = asked.file, asked.fold
    if file is None:
        if fold is not None or asked.leaky:
            raise RecipeError(
                f"--{'fold' if fold is not None else 'allow-leaks'} is about a saved split",
                where="--split",
                mend="give the file too: --split splits.json",
            )
        return cut(dataset, n=asked.folds, seed=asked.seed, unit=asked.by)
    if asked.folds != 1 or asked.by != "auto":
        raise RecipeError(
            "--folds and --by are given beside --split",
            where=file,
            mend="leave them away: the file says both",
        )
    splits = open_splits(file, dataset, leaky=asked.leaky)
    if fold is None:
        return splits
    if not 1 <= fold <= len(splits):
        raise RecipeError(
            f"there is no fold {fold}", where=file, mend=f"folds run from 1 to {len(splits)}"
        )
    return (splits[fold - 1],)


def _print_parts(title: str, part: Any, rows: dict[str, Any]) -> None:
    """One table on stdout: parts in rows, classes in columns, then the units."""
    names = list(rows["train"]["classes"])
    units = plural(part.unit)
    header = [title, *names, *(["images"] if units == "images" else ["images", units])]
    lines = [header]
    for name, row in rows.items():
        cells = [*row["classes"].values(), row["images"]]
        cells += [] if units == "images" else [row["units"]]
        lines.append([name, *map(str, cells)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    typer.echo("")
    for line in lines:
        first, *rest = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        typer.echo("  ".join([first, *rest]).rstrip())
    for note in filter(None, part.note.split("; ")):
        typer.echo(f"  {'warning' if note.startswith('LEAK') else 'note'}: {note}")


@examples("""
cellkin patches ~/ALL_IDB1 --others others.csv --out patches.json
cellkin patches ~/ALL_IDB1 --others others.csv --complete --window 256 --overlap 0.25
cellkin check patches.json
""")
def patches(
    fields: Annotated[
        Path, typer.Argument(metavar="FIELDS", help="ALL-IDB1: fields with the blasts in them.")
    ],
    others: Annotated[
        Path,
        typer.Option(
            help="A csv field,x,y of other white cells; a row without x and y names a field "
            "that has none; a column 'complete' (yes, no) says where all are listed."
        ),
    ],
    window: Annotated[int, typer.Option(help="Side of a window in pixels.")] = 256,
    overlap: Annotated[float, typer.Option(help="Share that neighbouring windows repeat.")] = 0.25,
    complete: Annotated[
        bool,
        typer.Option("--complete", help="All other white cells of the fields named are listed."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="The json file to write.")] = Path(
        "patches.json"
    ),
    json: Json = False,
) -> None:
    """Cut fields into windows labelled by the white cells inside (ALL-IDB Patches)."""
    from cellkin import datasets as sets
    from cellkin.datasets.injecting.centroids import read_others
    from cellkin.datasets.injecting.patches import cut_patches

    listed = read_others(others, complete=complete)
    with progress() as tell:
        dataset = cut_patches(
            sets.open(fields), listed, window=window, overlap=overlap, progress=tell
        )
    how = {
        "verb": "patches",
        "others": str(others),
        "complete": sorted(listed.complete),
        "window": window,
        "overlap": overlap,
    }
    sets.save(dataset, out, made_by=how)
    if json:
        print_json({"out": str(out), "counts": dataset.counts(), "notes": list(dataset.notes)})
        return
    table = Table("class", "windows", box=None, padding=(0, 2))
    for name, count in dataset.counts().items():
        table.add_row(name, str(count))
    err.print(table)
    for note in dataset.notes:
        talk(f"note: {note}")
    typer.echo(str(out))
