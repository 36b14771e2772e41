"""Options that several verbs share, and what their words mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cellkin.cli.console import talk
from cellkin.core.artifacts import TRUST
from cellkin.core.errors import DataError, RecipeError

if TYPE_CHECKING:
    from cellkin.core.records import Dataset
    from cellkin.datasets.listing import Files

HERE = Path(".")


def _trust_alone(keys: list[Path] | None) -> list[Path] | None:
    """Trust these keys alone, in this process and those that it starts."""
    if keys:
        os.environ[TRUST] = os.pathsep.join(str(key.expanduser().absolute()) for key in keys)
    return keys


Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of labelled cells; its layout is recognised.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Trust = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust",
        metavar="KEY.pub",
        help="Open only atlases that this key signed (cellkin sign); repeatable. For every verb: "
        "the environment variable CELLKIN_TRUST.",
        callback=_trust_alone,
    ),
]
Profile = Annotated[bool, typer.Option("--profile", help="Say at the end where the time went.")]
Json = Annotated[bool, typer.Option("--json", help="Print data as JSON on stdout.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
Field = typer.Option(rich_help_panel="Fields of the recipe", show_default="as the recipe says")
ENGINE = "Where the jobs run"
Engine = Annotated[str, typer.Option(help="local or ray.", rich_help_panel=ENGINE)]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster.", rich_help_panel=ENGINE)]
Workers = Annotated[
    int, typer.Option(help="Jobs at once; 0: one for each core.", rich_help_panel=ENGINE)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what lies at --out.")]
Clinical = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=MEANING",
        help="What a class of your own means: lymphoblast, 'other cell' or 'no cell'; repeatable.",
    ),
]

Verb = TypeVar("Verb", bound=Callable[..., Any])


def examples(text: str) -> Callable[[Verb], Verb]:
    """Attach the examples that `--help` ends with."""

    def attach(verb: Verb) -> Verb:
        verb.examples = "Examples:\n\n" + "\n\n".join(text.strip().splitlines())  # type: ignore[attr-defined]
        return verb

    return attach


def clinical_of(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """`["mine=other cell"]` as a mapping.

    Raises:
        RecipeError: no `=` in one of them.
    """
    if not pairs:
        return None
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise RecipeError(
            f"{wrong[0]!r} names no meaning",
            where="--clinical",
            mend="write --clinical 'CLASS=other cell' (or =lymphoblast, ='no cell')",
        )
    return dict(pair.rsplit("=", 1) for pair in pairs)


def opened(data: Path, clinical: Sequence[str] | None) -> Dataset:
    """A data set; what its reader noted is said.

    Raises:
        DataError, RecipeError: see `cellkin.datasets.open` and `clinical_of`.
    """
    from cellkin import datasets

    dataset = datasets.open(data, clinical=clinical_of(clinical))
    for note in dataset.notes:
        talk(f"note: {note}")
    return dataset


def pairs_of(given: Sequence[str] | None, option: str) -> dict[str, Path]:
    """`["name=folder"]` as a mapping; `option` as it is written, "--data NAME=FOLDER".

    Raises:
        RecipeError: no name, nothing behind it, or one name twice.
    """
    found: dict[str, Path] = {}
    for pair in given or ():
        name, _, path = pair.partition("=")
        if not (name and path):
            raise RecipeError(f"{pair!r} names nothing", where=option, mend=f"write {option}")
        if name in found:
            raise RecipeError(f"{name!r} is given twice", where=option, mend="give each name once")
        found[name] = Path(path).expanduser()
    return found


def files_of(paths: Sequence[Path], inside: Callable[[Path], Sequence[Path]]) -> list[Path]:
    """The files named, folders replaced by what `inside` gives of them.

    Raises:
        DataError: a path that is not there.
    """
    found: list[Path] = []
    for path in paths:
        path = path.expanduser()
        if not path.exists():
            raise DataError("there is no such file", where=path, mend="check the path")
        found += inside(path) if path.is_dir() else [path]
    return found


def image_files(paths: Sequence[Path]) -> list[Files]:
    """The image files named, and those in the folders named, sorted; what is passed over is said.

    Raises:
        DataError: a path that is not there, or a folder without images.
    """
    from cellkin.datasets.listing import Files, list_folder, no_images

    found: list[Files] = []
    for path in map(Path.expanduser, paths):
        if not path.exists():
            raise DataError("there is no such file", where=path, mend="check the path")
        if not path.is_dir():
            alone = found.pop().names if found and found[-1].root == HERE else ()
            found.append(Files(HERE, (*alone, str(path))))
            continue
        listing = list_folder(path)
        if not listing.images:
            raise no_images(listing)
        for note in listing.notes():
            talk(f"note: {note}")
        found.append(Files(path, listing.images))
    return found


def images_of(paths: Sequence[Path]) -> list[Path]:
    """`image_files`, as paths.

    Raises:
        DataError: as `image_files`.
    """
    return [path for files in image_files(paths) for path in files.paths]


def page_name(path: Path, position: int) -> str:
    """A folder name for an image's evidence, free of what a file name may smuggle in."""
    return f"{position + 1:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', path.stem)[:60]}"
