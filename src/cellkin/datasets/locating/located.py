"""Located crops as tables: where each lies, and groups for a data set to be split by."""

from __future__ import annotations

from pathlib import Path

from cellkin.core import artifacts
from cellkin.core.errors import DataError
from cellkin.core.records import Dataset
from cellkin.datasets.locating.locating import Located, Location

COLUMNS = (
    "crop", "field", "left", "top", "right", "bottom", "scale", "rotation", "mirrored", "score",
    "group", "state", "field_width", "field_height",
)  # fmt: skip


def rows(located: Located) -> list[dict[str, object]]:
    """One row per crop, in order: positions in pixels of the field, to a tenth; "" if unknown."""
    return [_row(location, located) for location in located.crops]


def _row(location: Location, located: Located) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {
        "crop": location.crop,
        "field": location.field or "none",
        "score": round(location.score, 3),
        "group": location.group,
        "state": location.state,
    }
    if location.field is not None:
        width, height = located.sizes[location.field]
        row |= {"field_width": width, "field_height": height}
    if (hit := location.hit) is not None:
        edges = {edge: round(getattr(hit, edge), 1) for edge in ("left", "top", "right", "bottom")}
        row |= edges | {
            "scale": round(hit.scale, 4),
            "rotation": hit.rotation,
            "mirrored": int(hit.mirrored),
        }
    return row


def write_table(located: Located, path: Path) -> Path:
    """Write the rows as a CSV file.

    Raises:
        OutputError: the file cannot be written.
    """
    return artifacts.write_table(path, [COLUMNS, *(row.values() for row in rows(located))])


def write_labels(located: Located, data: Dataset, path: Path) -> Path:
    """Write a `labels.csv` (file, label, group) of a data set whose images are the crops.

    Args:
        data: opened from the very folder of crops, so that ids are their paths.

    Raises:
        DataError: the data set holds an image that was not sought.
        OutputError: the file cannot be written.
    """
    groups = {location.crop: location.group for location in located.crops}
    if unknown := [sample.id for sample in data.samples if sample.id not in groups]:
        raise DataError(
            f"{len(unknown)} images of the data set were not among the crops, first: {unknown[0]}",
            where=data.root or data.name,
            mend="locate the folder that the data set lies in",
        )
    table = [(s.id, s.label, groups[s.id]) for s in data.samples]
    return artifacts.write_table(path, [("file", "label", "group"), *table])
