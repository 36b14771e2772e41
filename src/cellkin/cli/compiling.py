"""The verb compile: an atlas that looks by an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellkin.cli.cells import AtlasFolder
from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Clinical, Json, Overwrite, examples, opened


@examples("""
cellkin compile atlas --out quick-atlas
cellkin compile atlas ~/PBC --out quick-atlas --precision quickest
cellkin compile atlas ~/PBC --out quick-atlas --precision int8 --most 0.005
""")
def compile_(
    atlas: AtlasFolder,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="The cells that it was made from: what changes is then measured on held-out ones.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The atlas folder to write.")] = Path(
        "compiled-atlas"
    ),
    engine: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    precision: Annotated[
        str,
        typer.Option(help="fp32, bf16, int8, or quickest: the quickest whose calls hold."),
    ] = "fp32",
    most: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the calls that may change.")
    ] = 0.01,
    clinical: Clinical = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Give an atlas a compiled network: the same answers in a fraction of the time on a processor.

    References are looked at again, and what changes is told. An atlas whose calls change by more
    than --most is not written. Needs pip install 'cellkin[fast]'.
    """
    from cellkin.report.engine import engine_lines
    from cellkin.system import DecisionSupport
    from cellkin.system.compiling import CompileOptions, compile_atlas

    dataset = None if data is None else opened(data, clinical)
    with progress() as tell:
        options = CompileOptions(
            engine=engine, precision=precision, most=most, overwrite=overwrite, progress=tell
        )
        folder = compile_atlas(atlas, dataset, out=out, options=options)
    facts = DecisionSupport.open(folder, device="cpu").facts()
    for line in engine_lines(facts["engine"]):
        talk(line)
    talk(f"\nThe atlas: {folder}")
    if json:
        print_json(facts["engine"])
