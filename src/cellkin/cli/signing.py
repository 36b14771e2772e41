"""The verb sign: say with a key that an atlas is one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.console import talk
from cellkin.cli.options import examples
from cellkin.core.errors import RecipeError


@examples("""
cellkin sign --new-key lab.key                 # makes lab.key (keep it) and lab.key.pub (give it)
cellkin sign atlas --key lab.key
cellkin serve atlas --trust lab.key.pub
""")
def sign(
    atlas: Annotated[
        Path | None, typer.Argument(metavar="ATLAS", help="Folder of an atlas.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="KEY", help="The key to sign with.")] = None,
    new_key: Annotated[Path | None, typer.Option(metavar="KEY", help="Make a key.")] = None,
) -> None:
    """Sign an atlas, so that a laboratory opens only those that it answers for (--trust).

    The signature (Ed25519) lies beside the manifest, which holds the hash of every other file: a
    changed atlas is no longer signed.
    """
    from cellkin.atlas import Atlas, signed
    from cellkin.atlas.opening import MANIFEST

    if (new_key is None) == (atlas is None or key is None):
        raise RecipeError(
            "there is nothing to do, or too much",
            where="sign",
            mend="give --new-key KEY; or an atlas and --key KEY",
        )
    if new_key is not None:
        typer.echo(signed.new_key(new_key))
        return
    assert atlas is not None
    assert key is not None
    opened = Atlas.open(atlas)  # what is damaged is not signed
    typer.echo(signed.sign(atlas.expanduser() / MANIFEST, key))
    talk(f"signed: {opened.id[:12]}, {len(opened.cells)} reference cells")
