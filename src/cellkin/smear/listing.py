"""The fields that lie in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellkin.core.errors import DataError
from cellkin.smear.dicom import one_of_each
from cellkin.smear.field import is_field

BESIDE = "._"  # what macOS writes beside a file of another file system


def fields_inside(folder: Path) -> list[Path]:
    """The photographs and slides in a folder and those below it, sorted; masks are none.

    Raises:
        DataError: there is none.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and is_field(p)]
    inside = [p for p in files if "masks" not in p.relative_to(folder).parts]
    fields = [p for p in inside if not p.name.startswith(BESIDE)]
    if not fields:
        raise DataError(
            "this folder holds no fields",
            where=folder,
            mend="give photographs (PNG, JPEG, BMP, TIFF), slides, or a folder of them",
        )
    return one_of_each(fields)


def require_once(fields: Sequence[Path]) -> None:
    """Refuse a field that is named twice, also by way of a link: its cells would count twice.

    Raises:
        DataError: it is.
    """
    known: dict[Path, Path] = {}
    for path in fields:
        if first := known.get(path.resolve()):
            raise given_twice(first, path)
        known[path.resolve()] = path


def given_twice(*fields: Path) -> DataError:
    """The error for one field under these names."""
    where = " and ".join(dict.fromkeys(map(str, fields)))
    return DataError("a field is given twice", where=where, mend="give each field once")
