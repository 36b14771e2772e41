"""A data set as one JSON file over images that stay where they are.

What `inject`, `patches` and other preparations make: ids, labels, subjects, groups and the places
of the images (file, member, row, box), never copies of them. `datasets.open("injected.json")`
reads it like any other data set. Paths are written relative to `root`; a data set that was moved
is opened again by correcting that one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import read_json, write_json
from cellkin.core.errors import ArtifactError, LabelError, LayoutError
from cellkin.core.records import Dataset, ImageRef, LabelSet, Sample
from cellkin.datasets.listing import shown

KIND = "data set"
SCHEMA = 1
SUFFIX = ".json"
TEXTS = ("name", "citation", "licence", "layout")
OPTIONAL = ("specimen", "stain")
REFERRED = ("member", "row", "box", "um_per_pixel")  # of where its image lies, where it is
KNOWN = ("subject", "group", "place", "specimen", "fold", "sha256")  # of a sample, where it is


def save_dataset(
    dataset: Dataset, path: str | Path, *, made_by: Mapping[str, Any] | None = None
) -> Path:
    """Write a data set's description, atomically.

    Args:
        path: of the file to write, ending in `.json`.
        made_by: plain data that tells how it was made (verb, seed, evidence), kept as it is.

    Returns:
        the file.

    Raises:
        OutputError: it cannot be written.
        LayoutError: `path` does not end in `.json`.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != SUFFIX:
        raise LayoutError(
            "a data set's description is a .json file", where=path, mend=f"name it {path.name}.json"
        )
    root = dataset.root.expanduser().resolve()
    data: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        **{key: getattr(dataset, key) for key in (*TEXTS, *OPTIONAL)},
        "root": str(root),
        "drawn": dataset.drawn,
        "labels": dataset.labels.to_json(),
        "levels": [list(level) for level in dataset.levels],
        "notes": list(dataset.notes),
        "made_by": dict(made_by or {}),
        "samples": [_sample_json(sample, root) for sample in dataset.samples],
    }
    write_json(path, data)
    return path


def _sample_json(sample: Sample, root: Path) -> dict[str, Any]:
    file = sample.image.path.expanduser().resolve()
    place = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
    optional = {key: getattr(sample.image, key) for key in REFERRED}
    optional |= {key: getattr(sample, key) for key in KNOWN}
    optional["annotations"] = dict(sample.annotations) or None
    return {
        "id": sample.id,
        "path": place,
        "labels": [list(level) for level in sample.labels],
        **{key: value for key, value in optional.items() if value is not None},
    }


def open_saved(path: str | Path) -> Dataset:
    """Read a data set's description; no image is opened.

    Raises:
        LayoutError: the file is missing or no description, or its root or an image is gone.
        LabelError: an id twice, or a label that is none of its classes.
    """
    path = Path(path).expanduser()
    data = _description(path)
    root = Path(data["root"])
    if not root.is_dir():
        raise LayoutError(
            f"the images of this data set are gone: there is no folder {root}",
            where=path,
            mend='put them back, or correct "root" in this file to where they are now',
        )
    try:
        dataset = Dataset(
            samples=tuple(_sample(row, root) for row in data["samples"]),
            labels=LabelSet.from_json(data["labels"]),
            root=root,
            drawn=data["drawn"],
            levels=tuple(tuple(level) for level in data["levels"]),
            notes=tuple(data["notes"]),
            **{key: data[key] for key in (*TEXTS, *OPTIONAL)},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    _verify(dataset, path)
    return replace(dataset, notes=(*dataset.notes, f"described by {path.name}"))


def _description(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except ArtifactError as error:
        raise LayoutError(
            error.what, where=path, mend="give a data set's folder or .json"
        ) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise LayoutError(
            "this file describes no data set", where=path, mend="give a file that cellkin wrote"
        )
    if data.get("schema") != SCHEMA:
        raise LayoutError(
            f"this description has schema {data.get('schema')}, this cellkin reads {SCHEMA}",
            where=path,
            mend="make it again with this version",
        )
    needed = (*TEXTS, *OPTIONAL, "root", "drawn", "labels", "levels", "notes", "samples")
    if missing := [key for key in needed if key not in data]:
        raise _broken(path, f"missing: {', '.join(missing)}")
    return data


def _broken(path: Path, why: str) -> LayoutError:
    return LayoutError(
        f"this description of a data set is damaged ({why})",
        where=path,
        mend="restore it from a copy, or make it again",
    )


def _sample(row: Mapping[str, Any], root: Path) -> Sample:
    box: Any = tuple(map(int, row["box"])) if "box" in row else None
    if box is not None and len(box) != 4:
        raise ValueError(f"a box of {len(box)} numbers")
    referred: dict[str, Any] = {**{key: row.get(key) for key in REFERRED}, "box": box}
    return Sample(
        id=row["id"],
        image=ImageRef(root / row["path"], **referred),
        labels=tuple(tuple(level) for level in row["labels"]),
        annotations=row.get("annotations", {}),
        **{key: row.get(key) for key in KNOWN},
    )


def _verify(dataset: Dataset, path: Path) -> None:
    ids = [sample.id for sample in dataset.samples]
    known = set(dataset.labels.names) | {code for level in dataset.levels for code in level}
    checks: tuple[tuple[str, Callable[[Sample], bool]], ...] = (
        ("carry a label that is no class of it", lambda s: not _labels(s) <= known),
        ("are gone", lambda s: not s.image.path.is_file()),
    )
    if len(ids) != len(set(ids)):
        twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
        raise LabelError(
            f"{len(twice)} ids occur twice: {shown(twice)}", where=path, mend="make it again"
        )
    for what, wrong in checks:
        if bad := [sample.id for sample in dataset.samples if wrong(sample)]:
            raise (LayoutError if what == "are gone" else LabelError)(
                f"{len(bad)} of {len(ids)} images {what}: {shown(bad)}",
                where=path,
                mend='put the images back, correct "root", or make the description again',
            )


def _labels(sample: Sample) -> set[str]:
    return {label for level in sample.labels for label in level}
