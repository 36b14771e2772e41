"""The verbs find and differential: where the white cells of fields and slides are, and what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.cells import AtlasFolder, Subject
from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Device, Json, Overwrite, examples, files_of
from cellkin.core.artifacts import refuse_existing, write_json
from cellkin.core.errors import DataError
from cellkin.core.records import NOTICE

Fields = Annotated[
    list[Path], typer.Argument(metavar="FIELDS...", help="Fields or slides, or folders of them.")
]
Mpp = Annotated[
    float | None,
    typer.Option("--mpp", help="Micrometres per pixel, where the files do not say it."),
]


@examples("""
cellkin find field.jpg --out cells.json
cellkin find fields/ --out cells.json --crops cells --geojson qupath
cellkin find slide.svs --out cells.json --mpp 0.25
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
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find the white cells of fields and slides, with smudges, platelets and artefacts.

    It says where cells are and how large, never what they are: that is decide.
    """
    from cellkin.smear.finding import find_all
    from cellkin.smear.writing import to_json, write_crops, write_geojson

    for target in (out, *([crops] if crops else [])):
        if not overwrite or target is crops:
            refuse_existing(target)
    paths = fields_of(fields)
    with progress() as tell:
        found = find_all(paths, um_per_pixel=mpp, progress=tell)
        written = to_json(found)
        write_json(out, written)
        if geojson:
            write_geojson(found, geojson)
        if crops:
            write_crops(found, crops, progress=tell)
    kinds = [cell.kind for field in found for cell in field.cells]
    counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds)) or "nothing"
    unmeasured = sum(field.ruler is None for field in found)
    talk(
        f"{len(found)} fields: {counts}"
        + f"; {unmeasured} without micrometres: fewer than 20 red cells, give --mpp"
        * (unmeasured > 0)
    )
    if json:
        print_json(written)
    else:
        talk(NOTICE)
        typer.echo(out)


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
    overwrite: Overwrite = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Count the white cells of fields and slides by class: a page, the data, a row for each cell.

    Every white cell is found, cut out and decided by the atlas; what is left out is said with why.
    """
    from cellkin import report
    from cellkin.core.artifacts import new_folder
    from cellkin.datasets.reviewed import read_reviewed
    from cellkin.system import DecisionSupport

    paths = fields_of(fields)
    if not overwrite:
        refuse_existing(out)
    verdicts = read_reviewed(reviewed) if reviewed else None
    dss = DecisionSupport.open(atlas, device=device)
    album = report.CountAlbum(len(paths))
    with progress() as tell:
        count = dss.count(
            paths,
            um_per_pixel=mpp,
            subject=subject,
            reviewed=verdicts,
            album=album,
            progress=tell,
        )
        with new_folder(out, overwrite=overwrite) as building:
            report.save_count(count, building, album, dss.atlas.pngs)
    if json:
        print_json(count.to_json())
    talk(report.count_sentence(count))
    if not count.counted:
        raise DataError(
            "none of the white cells could be counted",
            where=out / "index.html",
            mend="see there why; an atlas of cells in the same stain, and fields in focus, help",
        )
    if not json:
        talk(NOTICE)
        typer.echo(out / "index.html")


def fields_of(paths: list[Path]) -> list[Path]:
    """The fields named, folders replaced by the fields in them, sorted.

    Raises:
        DataError: a path that is not there, or a folder without fields.
    """
    from cellkin.smear.field import is_field

    def inside(folder: Path) -> list[Path]:
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and is_field(p)]
        fields = [p for p in files if "masks" not in p.parts]
        if not fields:
            raise DataError(
                "this folder holds no fields",
                where=folder,
                mend="give photographs (PNG, JPEG, BMP, TIFF), slides, or a folder of them",
            )
        return fields

    return files_of(paths, inside)
