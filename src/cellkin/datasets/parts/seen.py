"""Cells that the first weights have learned from already: they train, and are never tested on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cellkin.core.errors import ImageError, SplitError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Sample, Split
from cellkin.core.units import IMAGE, plural
from cellkin.datasets.parts.split_units import required_unit
from cellkin.imaging.decode import decode
from cellkin.imaging.fingerprints import pixels_sha256

MARK = 16  # hexadecimal digits of a hash of pixels that a cell is known again by


def marked(dataset: Dataset, *, progress: Progress = silent) -> Dataset:
    """The data set with the mark of every image's pixels, by which a cell is known again: the first
    16 digits of `pixels_sha256`. One that cannot be read gets none: reading them will say why.
    """
    samples = []
    for done, sample in enumerate(dataset, start=1):
        samples.append(replace(sample, pixels=sample.pixels or _mark(sample)))
        progress("looking for cells that were learned from", done, len(dataset))
    return replace(dataset, samples=tuple(samples))


def _mark(sample: Sample) -> str | None:
    try:
        return pixels_sha256(decode(sample.image))[:MARK]
    except ImageError:
        return None


def seen_to_training(
    parts: Sequence[Split],
    dataset: Dataset,
    marks: Collection[str],
    *,
    init: str,
    progress: Progress = silent,
) -> tuple[Split, ...]:
    """Splits whose validation, calibration and test cells the first weights do not know.

    What they know goes into training, with all cells of its subject, slide or field where the split
    is by that; the note of the split says how many.

    Args:
        marks: of the images that the first weights have learned from; where there are none, nothing
            is decoded. init: the first weights, for messages.

    Raises:
        SplitError: nothing is left to validate or to test on.
    """
    if not marks:
        return tuple(parts)
    known = set(marks)
    seen = {s.id for s in marked(dataset, progress=progress) if s.pixels in known}
    return tuple(_moved(split, dataset, seen, init) for split in parts) if seen else tuple(parts)


def _moved(split: Split, dataset: Dataset, seen: set[str], init: str) -> Split:
    unit = {sample.id: required_unit(sample, split.unit) for sample in dataset}
    known = {unit[i] for i in seen}
    before = split.parts()
    kept = {
        part: tuple(i for i in before[part] if unit[i] not in known)
        for part in ("val", "calibration", "test")
    }
    moved = [i for part, ids in kept.items() for i in before[part] if i not in set(ids)]
    for part in ("val", "test"):
        if before[part] and not kept[part]:
            raise SplitError(
                f"the first weights have learned from every cell of the {part} part"
                + (f", or from others of its {plural(split.unit)}" if split.unit != IMAGE else ""),
                where=f"init = {init}; {len(before[part])} cells, {dataset.root}",
                mend="start from weights that do not know them: --init imagenet",
            )
    note = f"{len(moved)} cells that the first weights know were moved to training"
    return replace(
        split,
        train=(*split.train, *moved),
        val=kept["val"],
        calibration=kept["calibration"],
        test=kept["test"],
    ).noted(note if moved else "")
