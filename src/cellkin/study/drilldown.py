"""From a place of a confusion matrix to its cells: evidence pages of decisions of one training.

The pages are made while the network is still there, by the atlas that decided; a study that keeps
every one would be larger than its data, so some of each place are kept (section 4.2; Figs. 13-15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cellkin import report
from cellkin.atlas import Atlas, Cells, calibrated
from cellkin.core.arrays import Bytes
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Features, LabelSet
from cellkin.imaging.mapped import Rows
from cellkin.imaging.preprocess import Prepared
from cellkin.learning.recipes import Recipe
from cellkin.study.predictions import Prediction
from cellkin.system import DecisionSupport
from cellkin.system.atlases import PartedCells
from cellkin.system.cards import data_facts, made_now

__all__ = ["RIGHT", "WRONG", "chosen", "explaining", "save_pages"]

RIGHT, WRONG = 1, 3  # pages of one place of the confusion matrix of one training, 1 MB each
BACK = "../../index.html"  # from a page to that of the study
TOGETHER = 16  # images whose maps are in memory at once


def chosen(predictions: Sequence[Prediction]) -> list[int]:
    """Positions of the predictions that get a page: of every pair of true and called class the
    first by id, `RIGHT` or `WRONG` of them.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for position in sorted(range(len(predictions)), key=lambda i: predictions[i].id):
        found = predictions[position]
        places.setdefault((found.truth, found.label), []).append(position)
    kept = [
        position
        for (truth, label), positions in places.items()
        for position in positions[: RIGHT if LabelSet.exact(label, truth) else WRONG]
    ]
    return sorted(kept)


def explaining(
    atlas: Atlas, parted: PartedCells, held_out: tuple[Cells, Features], recipe: Recipe
) -> DecisionSupport:
    """The atlas of a training with all that its evidence says: where its cells come from, and
    percentiles and prediction sets from held-out cells. It decides as before.

    Args:
        held_out: the calibration cells (or those of the selection) with their features. They are
            measured as the test cells are: whom the split does not keep apart may be kin.
    """
    cells, features = held_out
    images = Rows(parted.images, parted.data.rows(atlas.cells.ids))
    facts = {
        **data_facts(parted.data, parted.split),
        "provenance": made_now(parted.data, atlas.encoder, recipe.id, parted.seed),
    }
    known = replace(atlas, facts=facts, images=images)
    return DecisionSupport(calibrated(known, [(cells, features)]))


def save_pages(
    dss: DecisionSupport,
    images: Bytes,
    asked: Sequence[Prediction],
    folder: Path,
    *,
    told: str = "",
    progress: Progress = silent,
) -> dict[str, str]:
    """Explain prepared images (N, S, S, 3) uint8 and write a page of each into a folder.

    Args:
        asked: what was decided on them, N. told: of which training the decisions are.

    Returns:
        id -> file name of its page.

    Raises:
        OutputError: a page cannot be written.
    """
    pages: dict[str, str] = {}
    labels = dss.atlas.labels
    for start in range(0, len(asked), TOGETHER):
        part = asked[start : start + TOGETHER]
        pictures = [Prepared(p.id, images[start + i]) for i, p in enumerate(part)]
        for made, evidence in zip(part, dss.explain(pictures, gate=False), strict=True):
            pages[made.id] = f"{len(pages) + 1:04d}.html"
            call = "right" if labels.right(made.label, made.truth) else "wrong"
            known = f"Known to be: {labels.title(made.truth)}. This call is {call}. {told}"
            report.save(evidence, folder / pages[made.id], known=known, back=BACK)
            progress("writing evidence", len(pages), len(asked))
    return pages
