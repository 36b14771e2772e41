"""Verbs that make atlases: train, index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.console import percent, print_json, progress, talk, tell_scores
from cellkin.cli.options import Clinical, Data, Device, Json, Overwrite, clinical_of, examples

Out = Annotated[Path, typer.Option("--out", help="The atlas folder to write.")]
Seed = Annotated[int, typer.Option(help="Of split, weights, order and augmentation.")]
Maps = Annotated[
    str,
    typer.Option(help="none, or fp16: keep the references' feature maps; evidence is then faster."),
]
Field = typer.Option(rich_help_panel="Fields of the recipe", show_default="as the recipe says")


@examples("""
cellkin train ~/PBC --out pbc-atlas
cellkin train ~/C-NMC --out cnmc --folds 5 --seed 1
cellkin train ~/C-NMC --out cnmc --recipe paper-cnmc --init adp-resnet18.pth
cellkin train ~/PBC --out pbc-atlas --resume
""")
def train(
    data: Data,
    out: Out = Path("atlas"),
    recipe: Annotated[str, typer.Option(help="A shipped recipe or a TOML file.")] = "quick",
    seed: Seed = 0,
    folds: Annotated[
        int, typer.Option(help="1: one split, one atlas. n: n-fold cross-validation.")
    ] = 1,
    by: Annotated[
        str, typer.Option(help="Split unit: auto, subject, slide, field, image or official.")
    ] = "auto",
    backbone: Annotated[str | None, Field] = None,
    init: Annotated[str | None, Field] = None,
    epochs: Annotated[int | None, Field] = None,
    size: Annotated[int | None, Field] = None,
    batch: Annotated[int | None, Field] = None,
    lr: Annotated[float | None, Field] = None,
    k: Annotated[int | None, Field] = None,
    distance: Annotated[str | None, Field] = None,
    clinical: Clinical = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    overwrite: Overwrite = False,
    maps: Maps = "none",
    json: Json = False,
) -> None:
    """Train on labelled cells, build the atlas, and measure it on an untouched test part."""
    from cellkin import datasets
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.learning.recipes import load_recipe

    keep_freed_memory()

    fields = {
        "backbone": backbone,
        "init": init,
        "epochs": epochs,
        "size": size,
        "batch": batch,
        "lr": lr,
        "k": k,
        "distance": distance,
    }
    chosen = load_recipe(recipe, **fields)
    dataset = datasets.open(data, clinical=clinical_of(clinical))
    talk(f"{dataset.name}: {len(dataset)} cells, read as {dataset.layout}")
    with progress() as tell:
        options = {
            "device": device,
            "resume": resume,
            "overwrite": overwrite,
            "progress": tell,
            "maps": maps,
        }
        if folds > 1:
            result = _cross_validated(dataset, chosen, seed, out, (folds, by), options)
        else:
            result = _trained(dataset, chosen, seed, out, by, options)
    if json:
        print_json(result)


def _trained(
    dataset: Any, recipe: Any, seed: int, out: Path, by: str, options: dict[str, Any]
) -> dict[str, Any]:
    from cellkin.datasets import splits
    from cellkin.system import DecisionSupport
    from cellkin.system import train as train_atlas

    if by == "official":
        split = splits.official(dataset, seed=seed)
    else:
        split = splits.single(dataset, seed=seed, unit=by)
    talk(_said(split))
    folder = train_atlas(dataset, recipe, seed=seed, out=out, split=split, options=options)
    facts = DecisionSupport.open(folder, device="cpu").facts()
    if facts["test"]:
        tell_scores(facts["test"], f"On the untouched test part (by {split.unit}, seed {seed})")
    _tell_maps(facts)
    talk(f"\nThe atlas: {folder}   (training curve: {folder / 'training.png'})")
    return facts


def _tell_maps(facts: dict[str, Any]) -> None:
    if stored := facts["maps"]:
        size = f"{stored['bytes'] / 1e6:.1f} MB"
        talk(f"feature maps of the references: {size} ({stored['precision']})")


def _said(split: Any) -> str:
    counts = ", ".join(f"{n} {part}" for part, n in split.counts().items())
    note = f"; {split.note}" if split.note else ""
    return f"split by {split.unit}, seed {split.seed}: {counts}{note}"


def _cross_validated(
    dataset: Any,
    recipe: Any,
    seed: int,
    out: Path,
    parts: tuple[int, str],
    options: dict[str, Any],
) -> dict[str, Any]:
    from cellkin.datasets.splits import split_unit
    from cellkin.study import cross_validate

    folds, by = parts
    unit = split_unit(dataset) if by == "auto" else by
    talk(f"{folds} folds by {unit}, seed {seed}")
    result = cross_validate(
        dataset, recipe, seed=seed, out=out, folds=folds, options={**options, "unit": by}
    )
    tell_scores(result, f"Out of fold, {folds} folds by {result['unit']}, seed {seed}")
    talk(
        f"  over folds: {percent(result['mean_accuracy'])} +- {percent(result['std_accuracy'])} "
        f"({result['std_definition']})"
    )
    for note in sorted({row["note"] for row in result["folds"] if row["note"]}):
        talk(f"  note: {note}")
    talk(f"\nAtlases and predictions: {out}")
    return result


@examples("""
cellkin index pbc-atlas ~/other-cells --out other-atlas
cellkin index pbc-atlas ~/other-cells --out other-atlas --k 3 --distance cosine
""")
def index(
    source: Annotated[
        Path, typer.Argument(metavar="ENCODER_OR_ATLAS", help="Whose encoder is used.")
    ],
    data: Data,
    out: Out = Path("atlas"),
    k: Annotated[int, typer.Option(help="Neighbours that vote.")] = 5,
    distance: Annotated[str, typer.Option(help="euclidean, cosine or manhattan.")] = "euclidean",
    seed: Seed = 0,
    clinical: Clinical = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    maps: Maps = "none",
    json: Json = False,
) -> None:
    """Build an atlas over other cells with an encoder that is there; nothing is trained."""
    from cellkin import datasets
    from cellkin.system import DecisionSupport
    from cellkin.system import index as index_cells

    dataset = datasets.open(data, clinical=clinical_of(clinical))
    with progress() as tell:
        folder = index_cells(
            source,
            dataset,
            out=out,
            seed=seed,
            k=k,
            distance=distance,
            options={"device": device, "overwrite": overwrite, "progress": tell, "maps": maps},
        )
    facts = DecisionSupport.open(folder, device="cpu").facts()
    if facts["test"]:
        tell_scores(facts["test"], f"On cells held out (by {facts['split']['unit']}, seed {seed})")
    _tell_maps(facts)
    talk(f"\nThe atlas: {folder}")
    if json:
        print_json(facts)
