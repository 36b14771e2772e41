"""The fields that lie in a folder."""

from __future__ import annotations

from pathlib import Path

from cellkin.core.errors import DataError
from cellkin.smear.dicom import one_of_each
from cellkin.smear.field import is_field


def fields_inside(folder: Path) -> list[Path]:
    """The photographs and slides in a folder and those below it, sorted; masks are none.

    Raises:
        DataError: there is none.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and is_field(p)]
    fields = [p for p in files if "masks" not in p.parts]
    if not fields:
        raise DataError(
            "this folder holds no fields",
            where=folder,
            mend="give photographs (PNG, JPEG, BMP, TIFF), slides, or a folder of them",
        )
    return one_of_each(fields)
