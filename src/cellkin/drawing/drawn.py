"""Synthetic blood smear data sets, drawn from a seed: for demos and tests, never for evidence.

No pixel comes from a patient. `LAYOUTS` names the ways in which a data set can be laid on disk:
`folders` with a labels.csv, or as the publishers of ALL-IDB1, ALL-IDB2, C-NMC, PBC and ADP do.
Beside every image lies the exact mask of nucleus and cytoplasm under `masks/`, and
`masks/cells.csv` says what was drawn: kind, subject, field, magnification and centre of each cell.
The drawing itself is in `cellkin.drawing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from cellkin.core.artifacts import new_folder
from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.drawing.allidb import ALL_IDB1, ALL_IDB2
from cellkin.drawing.camera import SubjectStyle, subject_style
from cellkin.drawing.folders import CLASSES, FOLDERS, DrawnClass
from cellkin.drawing.plan import MAGNIFICATIONS, Layout, Order
from cellkin.drawing.scene import KINDS, draw_cell
from cellkin.drawing.single import CNMC, PBC
from cellkin.drawing.tissue import ADP

__all__ = [
    "CLASSES",
    "KINDS",
    "LAYOUTS",
    "MAGNIFICATIONS",
    "DrawnClass",
    "Order",
    "SubjectStyle",
    "draw",
    "draw_cell",
    "draw_layout",
    "layout_named",
    "subject_style",
]

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "folders": FOLDERS,
        "all-idb1": ALL_IDB1,
        "all-idb2": ALL_IDB2,
        "cnmc": CNMC,
        "pbc": PBC,
        "adp": ADP,
    }
)


def draw(
    out: Path,
    *,
    cells: int = 240,
    subjects: int = 12,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a data set of class folders with labels, subjects, fields and exact masks.

    Written: `<class>/*.png` (RGB), `masks/<class>/*.png` (8-bit grey, see `draw_cell`),
    `labels.csv` (file, label, subject, group = field), `masks/cells.csv` and `dataset.json`. The
    same arguments give the same bytes; each picture depends on the seed and its own number only.
    Every subject contributes to `nothing` and `normal` from three cells per subject on; half of
    the subjects are ill and contribute lymphoblasts.

    Args:
        out: folder to make; it must not exist, or be empty.
        cells, subjects: how many pictures in all, of how many people (4 to `cells` / 1.5).
        size: side of the square pictures in pixels.
        progress: called after each picture with (pictures done, pictures in all).

    Returns:
        `out`.

    Raises:
        RecipeError: a number that is too small, or more subjects than the cells can cover.
        OutputError: `out` is taken or cannot be written.
    """
    return draw_layout("folders", out, Order(cells, subjects, size, seed), progress)


def draw_layout(
    name: str,
    out: Path,
    order: Order,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a data set laid on disk as one of `LAYOUTS`.

    Args:
        out: folder to make; it must not exist, or be empty.
        order: how many, of how many people, how large; `LAYOUTS[name].size` is the publisher's.
        progress: called after each image with (images done, images in all).

    Returns:
        `out`.

    Raises:
        RecipeError: an unknown layout, a number that is too small for it, or more subjects than
            the cells can cover.
        OutputError: `out` is taken or cannot be written.
    """
    layout = layout_named(name)
    layout.check(order)
    with new_folder(Path(out)) as folder:
        (folder / "masks").mkdir()
        layout.write(folder, order, progress)
    return Path(out)


def layout_named(name: str) -> Layout:
    """The layout of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in LAYOUTS:
        raise RecipeError(
            f"unknown layout {name!r}",
            where=f"layouts {', '.join(LAYOUTS)}",
            mend=did_you_mean(name, LAYOUTS) or "use one of the layouts named here",
        )
    return LAYOUTS[name]
