"""The command `cellkin`: one error handler over all verbs.

Data goes to stdout, talk and progress to stderr. Exit status: 0 done, 2 a mistake of the user's,
1 ours, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import cellkin
from cellkin.cli import (
    adopting,
    auditing,
    cells,
    compiling,
    data,
    demo,
    describing,
    evaluating,
    finding,
    fits,
    fitting,
    focusing,
    injecting,
    locating,
    pretraining,
    serving,
    serving_http,
    sets,
    signing,
    tables,
    training,
    verifying,
)
from cellkin.cli.console import fail, talk
from cellkin.core.errors import CellkinError
from cellkin.core.records import NOTICE

STOPPED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Decision support for acute lymphoblastic leukemia: a call on a white blood cell, with "
    "the labelled cells that are its closest kin.",
    epilog=NOTICE,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"cellkin {cellkin.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for verb in (
    demo.demo,
    data.draw,
    data.check,
    auditing.audit,
    injecting.inject,
    pretraining.pretrain,
    focusing.focus,
    locating.locate,
    finding.find,
    finding.differential,
    fitting.fit_finder,
    training.train,
    training.index,
    adopting.adopt,
    adopting.suggest,
    compiling.compile_,
    evaluating.evaluate,
    fits.fits,
    cells.decide,
    cells.explain,
    describing.describe,
    cells.inspect,
    verifying.verify,
    signing.sign,
    serving_http.serve,
    serving.log,
    serving.backup,
    serving.restore,
    sets.datasets,
    sets.split,
    sets.patches,
    tables.check_table,
):
    name = verb.__name__.strip("_").replace("_", "-")
    app.command(name, epilog=getattr(verb, "examples", None))(verb)
app.add_typer(serving.users, name="users")
app.command("audit-table", hidden=True)(tables.check_table)  # its name in version 0.1
app.command("audit-log", hidden=True)(serving.log)


def main() -> None:
    """Entry point: every mistake is said with what, where and how to mend it."""
    try:
        status = app(standalone_mode=False)
    except KeyboardInterrupt:
        status = STOPPED
    except Exception as error:
        if os.environ.get("CELLKIN_DEBUG") == "1":
            raise
        status = _said(error)
    if status == STOPPED:
        talk("\nStopped. Nothing half-done was left; verbs that have --resume go on with it.")
    sys.exit(status if isinstance(status, int) else 0)


def _said(error: Exception) -> int:
    """Tell an error to a person, and give the exit status that belongs to it."""
    if isinstance(error, CellkinError):
        fail(error)
        return 2
    if isinstance(error, BrokenPipeError):  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, MemoryError):
        talk("This needs more memory than there is: use fewer or smaller images at once.")
        return 2
    show = getattr(error, "show", None)  # a mistake in the command's own words
    if callable(show):
        show()
        return 2
    talk(
        f"cellkin failed, and that is our fault: {type(error).__name__}: {error}\n"
        "  mend:  run again with CELLKIN_DEBUG=1 in the environment and report what it prints"
    )
    return 1


if __name__ == "__main__":
    main()
