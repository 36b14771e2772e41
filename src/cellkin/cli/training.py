"""Verbs that make atlases: train, index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.console import print_json, progress, talk, tell_scores
from cellkin.cli.options import (
    Clinical,
    Data,
    Device,
    Field,
    Json,
    Overwrite,
    Resume,
    examples,
    opened,
)
from cellkin.core.artifacts import refuse_existing
from cellkin.core.errors import RecipeError
from cellkin.core.numbers import percent
from cellkin.core.ranks import process_rank

Out = Annotated[Path, typer.Option("--out", help="The atlas folder to write.")]
Seed = Annotated[int, typer.Option(help="Of split, weights, order and augmentation.")]
Maps = Annotated[
    str,
    typer.Option(help="none, or fp16: keep the references' feature maps; evidence is then faster."),
]

Novelty = Annotated[
    str,
    typer.Option(
        help="frozen, or off: whether unknown kinds of cells are told in a space that nobody "
        "trained; deciding then takes a second look."
    ),
]


@examples("""
cellkin train ~/PBC --out pbc-atlas
cellkin train ~/C-NMC --out cnmc --folds 5 --seed 1
cellkin train ~/C-NMC --out cnmc --recipe paper-cnmc --init adp-resnet18
cellkin train ~/PBC --out pbc-atlas --resume
cellkin train ~/C-NMC --out cnmc --split splits.json --fold 2
cellkin train ~/PBC --out pbc-atlas --devices 2 --tensorboard curves
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
        str, typer.Option(help="Unit: auto, subject, slide, field, image, official or place.")
    ] = "auto",
    split: Annotated[
        Path | None, typer.Option(help="Parts that cellkin split wrote, instead of --folds, --by.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="With --split: one of its folds, from 1; default all.")
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Take a --split that parts equal images.")
    ] = False,
    backbone: Annotated[str | None, Field] = None,
    init: Annotated[str | None, Field] = None,
    epochs: Annotated[int | None, Field] = None,
    size: Annotated[int | None, Field] = None,
    unsharpen: Annotated[
        bool | None,
        typer.Option(
            "--unsharpen/--no-unsharpen",
            help="Sharpen every image by its measured blur.",
            rich_help_panel="Fields of the recipe",
            show_default="as the recipe says",
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            help="Micrometres that the network sees; the pictures must say their scale.",
            rich_help_panel="Fields of the recipe",
            show_default="as the recipe says",
        ),
    ] = None,
    batch: Annotated[int | None, Field] = None,
    lr: Annotated[float | None, Field] = None,
    k: Annotated[int | None, Field] = None,
    distance: Annotated[str | None, Field] = None,
    clinical: Clinical = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="Processes here, one GPU (or CPU part) each.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; start the command on each.")] = 1,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's event files.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    maps: Maps = "none",
    novelty: Novelty = "frozen",
    json: Json = False,
) -> None:
    """Train on labelled cells, build the atlas, and measure it on an untouched test part."""
    from cellkin.cli.sets import Asked, planned
    from cellkin.datasets.parts.leakage import hashed
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.learning.recipes import load_recipe
    from cellkin.system import TrainOptions

    keep_freed_memory()
    fields = {"backbone": backbone, "init": init, "epochs": epochs, "size": size, "batch": batch}
    more = {"unsharpen": unsharpen, "window": window, "lr": lr, "k": k, "distance": distance}
    chosen = load_recipe(recipe, **fields, **more)
    if folds == 1 and split is None and not overwrite:
        refuse_existing(out)
    dataset = opened(data, clinical)
    dataset.require_cells()
    talk(f"{dataset.name}: {len(dataset)} cells, read as {dataset.layout}")
    with progress() as tell:
        dataset = hashed(dataset, progress=tell)
        parts = planned(dataset, Asked(folds, by, seed, split, fold, allow_leaks))
        options = TrainOptions(
            device=device,
            devices=devices,
            nodes=nodes,
            tensorboard=tensorboard,
            resume=resume,
            overwrite=overwrite,
            progress=tell,
            maps=maps,
            novelty=novelty,
        )
        if len(parts) > 1:
            _one_process_per_fold(devices * nodes)
            result = _cross_validated(dataset, chosen, seed, out, parts, options)
        else:
            result = _trained(dataset, chosen, seed, out, parts[0], options)
    if json:
        print_json(result)


def _trained(
    dataset: Any, recipe: Any, seed: int, out: Path, split: Any, options: Any
) -> dict[str, Any]:
    from cellkin.report.card import unbeaten_start
    from cellkin.system import DecisionSupport
    from cellkin.system import train as train_atlas

    talk(_said(split))
    folder = train_atlas(dataset, recipe, seed=seed, out=out, split=split, options=options)
    if process_rank() > 0:
        raise typer.Exit
    facts = DecisionSupport.open(folder, device="cpu").facts()
    if facts["test"]:
        told = f"On the untouched test part (by {split.unit}, seed {split.seed})"
        tell_scores(facts["test"], told)
    if told := unbeaten_start(facts.get("training") or {}):
        talk(f"  note: {told}")
    _tell_maps(facts)
    talk(f"\nThe atlas: {folder}   (training curve: {folder / 'training.png'})")
    talk(_peak(facts.get("training", {})))
    return facts


def _peak(training: Mapping[str, Any]) -> str:
    gpu = training.get("peak_gpu_memory_mib")
    more = f", {gpu} MiB on the GPU" if gpu is not None else ""
    return f"peak memory of the training: {training.get('peak_memory_mib')} MiB{more}"


def _one_process_per_fold(processes: int) -> None:
    if processes > 1:
        raise RecipeError(
            "folds and several processes for each training do not go together",
            where=f"--folds with {processes} processes",
            mend="train the folds with one process each, or leave --folds away",
        )


def _tell_maps(facts: dict[str, Any]) -> None:
    if stored := facts["maps"]:
        size = f"{stored['bytes'] / 1e6:.1f} MB"
        talk(f"feature maps of the references: {size} ({stored['precision']})")


def _said(split: Any) -> str:
    counts = ", ".join(f"{n} {part}" for part, n in split.counts().items())
    note = f"; {split.note}" if split.note else ""
    return f"split by {split.unit}, seed {split.seed}: {counts}{note}"


def _cross_validated(
    dataset: Any, recipe: Any, seed: int, out: Path, parts: Sequence[Any], options: Any
) -> dict[str, Any]:
    from cellkin.system import cross_validate

    folds = len(parts)
    talk(f"{folds} folds by {parts[0].unit}, seed {parts[0].seed}")
    result = cross_validate(dataset, recipe, seed=seed, out=out, parts=parts, options=options)
    tell_scores(result, f"Out of fold, {folds} folds by {result['unit']}, seed {parts[0].seed}")
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
cellkin index DinoBloom-S.pth CELLS --backbone vit_small_patch14_dinov2 --out atlas
""")
def index(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER_OR_ATLAS",
            help="Whose encoder is used; with --backbone, first weights as --init takes them.",
        ),
    ],
    data: Data,
    out: Out = Path("atlas"),
    backbone: Annotated[
        str | None, typer.Option(help="Take first weights of this backbone as they are.")
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels that they see; with --backbone.")] = 224,
    k: Annotated[int, typer.Option(help="Neighbours that vote.")] = 5,
    distance: Annotated[str, typer.Option(help="euclidean, cosine or manhattan.")] = "euclidean",
    seed: Seed = 0,
    clinical: Clinical = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    maps: Maps = "none",
    novelty: Novelty = "frozen",
    json: Json = False,
) -> None:
    """Build an atlas over other cells with an encoder that is there; nothing is trained."""
    from cellkin.system import DecisionSupport, IndexOptions
    from cellkin.system import index as index_cells
    from cellkin.system.runs import starting_encoder

    dataset = opened(data, clinical)
    with progress() as tell:
        folder = index_cells(
            source if backbone is None else starting_encoder(source, backbone, size, device),
            dataset,
            out=out,
            seed=seed,
            k=k,
            distance=distance,
            options=IndexOptions(
                device=device, overwrite=overwrite, progress=tell, maps=maps, novelty=novelty
            ),
        )
    facts = DecisionSupport.open(folder, device="cpu").facts()
    if facts["test"]:
        tell_scores(facts["test"], f"On cells held out (by {facts['split']['unit']}, seed {seed})")
    _tell_maps(facts)
    talk(f"\nThe atlas: {folder}")
    if json:
        print_json(facts)
