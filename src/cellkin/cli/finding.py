"""The verbs find and differential: where the white cells of fields and slides are, and what."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellkin.cli.cells import AtlasFolder, PlaceName, Subject
from cellkin.cli.console import print_json, progress, resumable, talk
from cellkin.cli.options import (
    Address,
    Device,
    Engine,
    Json,
    Overwrite,
    Resume,
    Trust,
    Workers,
    examples,
    files_of,
)
from cellkin.core.artifacts import refuse_existing, write_pieces
from cellkin.core.errors import DataError, ImageError, RecipeError
from cellkin.core.records import NOTICE

if TYPE_CHECKING:
    from cellkin.core.kept import Jobs
    from cellkin.smear.found import FoundField
    from cellkin.smear.window import Window

SHOWN = 8  # notes told one by one
UNREAD = "fields cannot be read"
Fields = Annotated[
    list[Path], typer.Argument(metavar="FIELDS...", help="Fields or slides, or folders of them.")
]
Mpp = Annotated[
    float | None,
    typer.Option("--mpp", help="Micrometres per pixel, where the files do not say it."),
]
Finder = Annotated[
    Path | None,
    typer.Option(metavar="FINDER", help="A finder fitted to your fields (fit-finder)."),
]


@examples("""
cellkin find field.jpg --out cells.json
cellkin find fields/ --out cells.json --crops cells --geojson qupath
cellkin find slide.svs --out cells.json --mpp 0.25
cellkin find fields/ --out cells.json --crops cells --like atlas
cellkin find fields/ --out cells.json --crops cells --window 30
cellkin find slides/ --out cells.json --workers 4
cellkin find slides/ --out cells.json --engine ray --resume
cellkin find fields/ --out cells.json --json | jq '.fields[].cells | length'
""")
def find(
    fields: Fields,
    out: Annotated[Path, typer.Option("--out", metavar="JSON", help="The file to write.")],
    crops: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also cut the white cells out, as a data set."),
    ] = None,
    geojson: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write outlines that QuPath opens, one file a field."
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="ATLAS", help="Cut the cells at the scale and in the light of this atlas."
        ),
    ] = None,
    window: Annotated[
        float | None, typer.Option(help="Cut squares of so many micrometres.")
    ] = None,
    mpp: Mpp = None,
    finder: Finder = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find the white cells of fields and slides, with smudges, platelets and artefacts.

    It says where cells are and how large, never what they are: that is decide. Fields that cannot
    be read are named at the end, with exit status 2.
    """
    from cellkin.imaging.loading import unusable
    from cellkin.smear.finding import searched
    from cellkin.smear.listing import require_once
    from cellkin.smear.writing import in_json, require_free, write_crops, write_geojson

    if not overwrite:
        refuse_existing(out)
    paths, tally = fields_of(fields), _Tally()
    require_once(paths)
    require_free(paths, crops=crops, geojson=geojson, overwrite=overwrite)
    square = _square(crops, like, window)
    jobs = _jobs((engine, address, workers), out, resume=resume)
    with (
        progress() as tell,
        resumable(out),
        searched(paths, um_per_pixel=mpp, finder=finder, jobs=jobs, progress=tell) as found,
    ):
        if found and geojson:
            write_geojson(found, geojson, overwrite=overwrite)
        if found and crops:
            write_crops(found, crops, window=square, progress=tell)
        if found:
            write_pieces(out, in_json(tally.counted(found)))
    if not found:
        raise unusable([*found.faults.values()], UNREAD)
    for line in tally.lines(resumed=resume):
        talk(line)
    if json:
        with out.open(encoding="utf-8") as written:
            sys.stdout.writelines(line.rstrip("\n") for line in written)
        typer.echo()
    else:
        talk(NOTICE)
        typer.echo(out)
    if found.faults:
        raise unusable([*found.faults.values()], UNREAD)


def _square(crops: Path | None, like: Path | None, um: float | None) -> Window | None:
    """How cells are cut: as the pictures of an atlas, at so many micrometres, or by their boxes.

    Raises:
        RecipeError: it is said twice, or of cells that are not cut.
    """
    from cellkin.smear.window import Window

    if (like and um is not None) or ((like or um is not None) and not crops):
        raise RecipeError(
            "--like and --window say how cells are cut, and exclude each other",
            where="--like, --window",
            mend="give --crops DIR with one of them, or leave them away",
        )
    if um is not None:
        return Window.given(um)
    if like is None:
        return None
    from cellkin.atlas import Atlas
    from cellkin.system.windows import atlas_window

    with progress() as tell:
        return atlas_window(Atlas.open(like), progress=tell)


@examples("""
cellkin differential atlas field.jpg --out count
cellkin differential atlas fields/ --out count --subject P7
cellkin differential atlas slide.svs --out count --mpp 0.25
cellkin differential atlas fields/ --out count --reviewed count/cells.csv --overwrite
""")
def differential(
    atlas: AtlasFolder,
    fields: Fields,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the page, data and table.")
    ],
    mpp: Mpp = None,
    subject: Subject = None,
    reviewed: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="A cells.csv of the same fields whose column reviewed a person has filled in.",
        ),
    ] = None,
    place: PlaceName = None,
    every_field: Annotated[
        bool,
        typer.Option("--every-field", help="Count fields too that do not look like a blood smear."),
    ] = False,
    finder: Finder = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    trust: Trust = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Count the white cells of fields and slides by class: a page, the data, a row for each cell.

    Every white cell is found, cut out and decided by the atlas; what is left out is said with why.
    Fields that are left out are named at the end, with exit status 2.
    """
    from cellkin import report
    from cellkin.core.artifacts import new_folder
    from cellkin.datasets.reviewed import read_reviewed, refuse_losing
    from cellkin.smear.finding import searched
    from cellkin.system import DecisionSupport
    from cellkin.system.counting import left_out
    from cellkin.system.naming import names_of
    from cellkin.system.verdicts import classes_of, require_fields

    # mistakes are told before the fields are searched
    paths = fields_of(fields)
    verdicts = read_reviewed(reviewed) if reviewed else {}
    if not overwrite:
        refuse_existing(out)
    refuse_losing(out / "cells.csv", verdicts)
    require_fields(verdicts, names_of(paths))
    dss = DecisionSupport.open(atlas, device=device).at(place)
    classes_of(verdicts, dss.atlas.labels)
    album = report.CountAlbum(len(paths))
    jobs = _jobs((engine, address, workers), out, resume=resume)
    with (
        progress() as tell,
        resumable(out),
        searched(paths, um_per_pixel=mpp, finder=finder, jobs=jobs, progress=tell) as found,
    ):
        each = zip(paths, found.each(paths), strict=True)
        count = dss.count(
            [path if isinstance(one, ImageError) else one for path, one in each],
            um_per_pixel=mpp,
            subject=subject,
            reviewed=verdicts or None,
            every_field=every_field,
            album=album,
            progress=tell,
        )
        with new_folder(out, overwrite=overwrite) as building:
            report.save_count(count, building, album, dss.atlas.pngs)
    if json:
        print_json(count.to_json())
    talk(report.count_sentence(count))
    if not count.differential.n:
        raise DataError(
            "none of the white cells could be counted",
            where=out / "index.html",
            mend="see there why; an atlas of cells in the same stain, and fields in focus, help",
        )
    if not json:
        talk(NOTICE)
        typer.echo(out / "index.html")
    if error := left_out(count):
        raise error


def _jobs(crew: tuple[str, str | None, int], out: Path, *, resume: bool) -> Jobs:
    from cellkin.core.engine import Crew
    from cellkin.core.kept import Jobs
    from cellkin.smear.finding import WORTH

    return Jobs(Crew(*crew, worth=WORTH), out, resume)


class _Tally:
    """Counts what is written, to say so in the end."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.kinds: Counter[str] = Counter()
        self.fields = self.pixels = self.unmeasured = 0
        self.notes: list[str] = []

    def counted(self, fields: Iterable[FoundField]) -> Iterator[FoundField]:
        for field in fields:
            self.fields += 1
            self.pixels += field.width * field.height
            self.unmeasured += field.ruler is None
            self.notes += [f"note: {field.path}: {note}" for note in field.notes]
            self.kinds.update(cell.kind for cell in field.cells)
            yield field

    def lines(self, *, resumed: bool) -> Iterator[str]:
        yield from self.notes[:SHOWN]
        if len(self.notes) > SHOWN:
            yield f"and {len(self.notes) - SHOWN} more notes, in the file"
        counts = ", ".join(f"{n} {kind}" for kind, n in self.kinds.items()) or "nothing"
        unmeasured = f"; {self.unmeasured} without micrometres: fewer than 20 red cells, give --mpp"
        yield f"{self.fields} fields: {counts}" + unmeasured * (self.unmeasured > 0)
        if not resumed:
            seconds = time.monotonic() - self.started
            yield (
                f"{self.pixels / 1e6 / seconds:.1f} megapixels and "
                f"{self.kinds.total() / seconds:.1f} cells a second"
            )


def fields_of(paths: list[Path]) -> list[Path]:
    """The fields named, folders replaced by the fields in them, sorted.

    Raises:
        DataError: a path that is not there, or a folder without fields.
    """
    from cellkin.smear.listing import fields_inside

    return files_of(paths, fields_inside)
