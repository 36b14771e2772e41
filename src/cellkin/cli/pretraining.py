"""The verb that makes encoders: pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.console import print_json, progress, talk
from cellkin.cli.options import Clinical, Device, Field, Json, Overwrite, Resume, examples, opened
from cellkin.core.numbers import percent

Images = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of labelled tissue or cells; its layout is known."),
]


@examples("""
cellkin pretrain ~/ADP --out adp-resnet18
cellkin pretrain ~/ADP --out adp-vit --backbone vit_base_patch16_224 --init hub --orthogonality 0
cellkin pretrain ~/ADP --out adp-resnet18 --resume
cellkin train ~/C-NMC --out cnmc --recipe paper-cnmc --init adp-resnet18
""")
def pretrain(
    data: Images,
    out: Annotated[Path, typer.Option("--out", help="The encoder folder to write.")] = Path(
        "encoder"
    ),
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe or a TOML file.")
    ] = "paper-pretrain-adp",
    seed: Annotated[int, typer.Option(help="Of parts, weights, order and augmentation.")] = 0,
    backbone: Annotated[str | None, Field] = None,
    init: Annotated[str | None, Field] = None,
    epochs: Annotated[int | None, Field] = None,
    size: Annotated[int | None, Field] = None,
    batch: Annotated[int | None, Field] = None,
    lr: Annotated[float | None, Field] = None,
    orthogonality: Annotated[float | None, Field] = None,
    clinical: Clinical = None,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pretrain an encoder on images with several labels each, for cellkin train --init."""
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.learning.recipes import load_recipe
    from cellkin.system import PretrainOptions, encoder_facts
    from cellkin.system import pretrain as pretrain_encoder

    keep_freed_memory()
    fields = {"backbone": backbone, "init": init, "epochs": epochs, "size": size, "batch": batch}
    chosen = load_recipe(recipe, **fields, lr=lr, orthogonality=orthogonality)
    dataset = opened(data, clinical)
    levels = dataset.levels or (dataset.labels.names,)
    sizes = ", ".join(str(len(codes)) for codes in levels)
    talk(f"{dataset.name}: {len(dataset)} images, label levels of {sizes} codes")
    with progress() as tell:
        options = PretrainOptions(device=device, resume=resume, overwrite=overwrite, progress=tell)
        folder = pretrain_encoder(dataset, chosen, seed=seed, out=out, options=options)
    facts = encoder_facts(folder)
    for line in level_lines(facts["card"]):
        talk(line)
    talk(f"\nThe encoder: {folder}   (training curve: {folder / 'training.png'})")
    same = f"--backbone {chosen.backbone} --size {chosen.size}"
    talk(f"Go on with: cellkin train DATA {same} --init {folder}")
    if json:
        print_json(facts)


def level_lines(card: dict[str, Any]) -> list[str]:
    """How well every label level was found on the validation part, a line each."""
    return [
        f"level {i}     {level['codes']} codes: validation mAP {percent(level['scores']['map'])} "
        f"(guessing {percent(level['scores']['frequency'])}), F1 {percent(level['scores']['f1'])}"
        for i, level in enumerate(card.get("levels") or (), 1)
    ]


def encoder_lines(facts: dict[str, Any]) -> list[str]:
    """What an encoder is, for `cellkin inspect`."""
    network, card = facts["network"], facts["card"]
    pre = network["preprocessor"]
    heads = ", ".join(str(len(codes)) for codes in facts["heads"])
    told = f"label levels of {heads} codes" if heads else f"{len(facts['classes'])} classes"
    lines = [
        f"encoder     {network['backbone']}, {network['width']} features, {told}",
        f"input       {pre['size']} x {pre['size']} pixels; first weights: {network['init']}",
        f"space       {network['space'][:8]}",
    ]
    if card:
        data, split, made = card["data"], card["split"], card["provenance"]
        lines += [
            f"data        {data['dataset']}; {data['specimen'] or 'specimen not stated'}; "
            f"{data['stain'] or 'stain not stated'}",
            f"split       by {split['unit']}, seed {split['seed']}: {split['train']} train, "
            f"{split['val']} val",
            *level_lines(card),
            f"made        {made['created']} by cellkin {made['version']}, {made['recipe']}",
        ]
    if facts["model_card"]:
        lines.append(f"card        {facts['model_card']}")
    return lines
