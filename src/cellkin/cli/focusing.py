"""The verb focus: how sharp the images of a data set are, and what sharpening does to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cellkin.cli.console import progress, say, talk
from cellkin.cli.options import Clinical, Data, Json, Overwrite, examples, opened

SHOWN = 9
SIZE = 224


@examples("""
cellkin focus ~/C-NMC --out focus.png
cellkin focus cells/ --out focus.png --json > focus.json
""")
def focus(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture to write.")],
    clinical: Clinical = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure the focus of every image, and show cells before and after sharpening.

    Scores are those of prepared images (224 pixels), from 0 (blurred) to 1 (no blur measured).
    """
    from cellkin.core.artifacts import refuse_existing
    from cellkin.imaging.focus import focus_score
    from cellkin.imaging.loading import load_prepared
    from cellkin.imaging.preprocess import packaged_lite0
    from cellkin.imaging.sharpening import unsharpen
    from cellkin.report.focus import focus_figure

    if not overwrite:
        refuse_existing(out)
    dataset = opened(data, clinical)
    with progress() as tell:
        images = load_prepared(
            [s.image for s in dataset.samples], packaged_lite0(SIZE), progress=tell
        )
        scores = np.zeros(len(images))
        for at, image in enumerate(images):
            scores[at] = focus_score(image)
            tell("measuring focus", at + 1, len(images))
    order = np.argsort(scores, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).astype(int))]
    cells = []
    for at in chosen.tolist():
        sharp = unsharpen(images[at])
        label = dataset.labels.title(dataset.samples[at].label)
        cells.append((label, images[at], float(scores[at]), sharp, focus_score(sharp)))
    labels = np.array([s.label for s in dataset.samples])
    by_class = {n: scores[labels == n].tolist() for n in dataset.labels.names}
    titled = {dataset.labels.title(name): values for name, values in by_class.items()}
    focus_figure(f"Focus of {dataset.name}: {len(images)} images", cells, titled, out)
    for name, values in titled.items():
        talk(f"{name}: median focus {np.median(values):.2f} of {len(values)} images")
    by_id = zip((s.id for s in dataset.samples), scores.tolist(), strict=True)
    say(json, dict(by_id), [str(out)])
