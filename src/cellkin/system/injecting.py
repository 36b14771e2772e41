"""Class injection as a user asks for it (section 3.2): windows without cells, or a class in two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellkin import datasets, report
from cellkin.core.artifacts import refuse_existing
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import NOTICE, Dataset
from cellkin.datasets.injecting.injection import NOTHING, add_class, find_windows, open_fields
from cellkin.imaging.decode import decode
from cellkin.imaging.preprocess import packaged_lite0

SHOWN = 112  # side of a window on the contact sheet, in pixels


@dataclass(frozen=True, kw_only=True)
class InjectOptions(Options):
    """How cell-free windows are added.

    Attributes:
        count: of the windows; None for as many as the classes have on average. window: side in
            pixels; None for that of the cells' images. name: of their class.
        overwrite: replace what is at `out`.
    """

    count: int | None = None
    window: int | None = None
    name: str = NOTHING
    overwrite: bool = False
    progress: Progress = silent


@dataclass(frozen=True)
class Injected:
    """What `inject_nothing` made: the data set, its description, the contact sheet."""

    dataset: Dataset
    path: Path
    sheet: Path
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def inject_nothing(
    cells: Dataset,
    fields: str | Path | Dataset,
    *,
    out: str | Path,
    seed: int = 0,
    options: InjectOptions = InjectOptions(),
) -> Injected:
    """Add a class of cell-free windows to a data set, and write its description and a contact
    sheet of all windows beside it, which a person should look through.

    Args:
        fields: field images, see `cellkin.datasets.injecting.injection.open_fields`.
        out: the description to write, `.json`; the sheet is named after it.

    Raises:
        CellkinError: of many kinds; fewer windows than asked for among them.
    """
    out = Path(out).expanduser()
    if not options.overwrite:
        refuse_existing(out)
    fields = fields if isinstance(fields, Dataset) else open_fields(fields)
    found = find_windows(
        cells,
        fields,
        seed=seed,
        count=options.count,
        side=options.window,
        progress=options.progress,
    )
    dataset = add_class(cells, found, name=options.name)
    made_by = {"verb": "inject --nothing-from", "seed": seed, **found.facts}
    path = datasets.save(dataset, out, made_by=made_by)
    sheet = _sheet(dataset, len(found.samples), out, options.progress)
    return Injected(dataset, path, sheet, found.facts, found.notes)


def _sheet(dataset: Dataset, count: int, out: Path, progress: Progress) -> Path:
    """All windows, as they will be prepared."""
    samples = dataset.samples[-count:]
    prepare = packaged_lite0(SHOWN).prepare
    images = []
    for done, sample in enumerate(samples, start=1):
        images.append(prepare(decode(sample.image)))
        progress("drawing the contact sheet", done, count)
    return report.contact_sheet(
        images,
        [sample.id.split("/", 1)[1] for sample in samples],
        out.with_name(f"{out.stem}-windows.png"),
        title=f"{count} windows taken as free of white cells: look for a nucleus in any of them. "
        f"{NOTICE}",
    )
