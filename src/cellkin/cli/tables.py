"""The verb check-table: whether printed numbers can co-exist."""

from __future__ import annotations

from typing import Annotated

import typer

from cellkin.cli.console import progress, say
from cellkin.cli.options import Json, examples


@examples("""
cellkin check-table paper-table-5
cellkin check-table paper-table-8 --json
cellkin check-table my-table.toml (or .csv)
cellkin check-table --class nothing=130 --class normal=130 --class blast=130 --positive blast
  --accuracy "99.74 +- 0.51" --specificity "99.26 +- 1.66"
""")
def check_table(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE]", help="A .toml or .csv file, or a table that comes with cellkin."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS=CELLS", help="Cells of a class; repeatable."),
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="A class that sensitivity is about; repeatable."),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(min=1, help="Test sets behind each number; 1: the cells are one test set."),
    ] = 5,
    accuracy: Annotated[
        str,
        typer.Option(metavar="MEAN[+-SD]", help="As printed: in percent, or all as shares of 1."),
    ] = "",
    sensitivity: Annotated[str, typer.Option(metavar="MEAN[+-SD]")] = "",
    specificity: Annotated[str, typer.Option(metavar="MEAN[+-SD]")] = "",
    json: Json = False,
) -> None:
    """Say whether the printed accuracy, sensitivity, specificity and deviations can co-exist.

    Every row is read as its caption says; where that is impossible, with swapped classes, with
    the recall of a part of the classes, with either definition of the standard deviation.
    """
    from cellkin.core.errors import DataError
    from cellkin.printed.judging import check_rows
    from cellkin.printed.tables import parse_row, read_table
    from cellkin.printed.words import check_json, check_lines

    printed = {"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity}
    if (table is None) == (not classes):
        raise DataError(
            "give either a table or a row",
            where="cellkin check-table",
            mend="name a TABLE, or describe a row with --class, --positive, --accuracy, ...",
        )
    if table is not None:
        title, rows = read_table(table)
    else:
        title, rows = "row", (parse_row(classes or [], positive or [], folds, printed),)
    with progress() as tell:
        checks = check_rows(rows, progress=tell)
    say(json, check_json(title, checks), (title, *check_lines(checks)))
