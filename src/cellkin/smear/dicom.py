"""DICOM whole-slide images that OpenSlide does not read, by wsidicom; each level is a file."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.checks import told
from cellkin.imaging.scale import likely

SUFFIX = ".dcm"
SERIES = "SeriesInstanceUID"


class DicomSlide:
    """A slide of which `path` is one file; the files of its other levels lie beside it.

    Raises:
        ImageError: wsidicom is not installed, or cannot read it.
    """

    def __init__(self, path: Path, where: str) -> None:
        wsidicom, self._where = _package("wsidicom", where), where
        with told("DICOM", where):
            own = _series(path)
            files = [p for p in sorted(path.parent.glob(f"*{SUFFIX}")) if _series(p) == own]
            self._slide = wsidicom.WsiDicom.open(files)
            levels = list(self._slide.pyramids[0])
        self._levels = [int(level.level) for level in levels]
        self.sizes = tuple((int(level.size.width), int(level.size.height)) for level in levels)
        self.um_per_pixel: float | None = likely(float(levels[0].mpp.width))

    def part(self, left: int, top: int, right: int, bottom: int, level: int) -> Bytes:
        size = (right - left, bottom - top)
        with told("DICOM", self._where):
            image = self._slide.read_region((left, top), self._levels[level], size, threads=1)
        return np.asarray(image.convert("RGB"), np.uint8)

    def close(self) -> None:
        self._slide.close()


def one_of_each(paths: Sequence[Path]) -> list[Path]:
    """Files without those that are further levels of a slide whose first file is there.

    Raises:
        ImageError: pydicom, which tells them apart, is not installed.
    """
    found, known = [], set()
    for path in paths:
        if path.suffix.lower() == SUFFIX:
            series = (path.parent, _series(path))
            if series[1] is not None and series in known:
                continue
            known.add(series)
        found.append(path)
    return found


def _series(path: Path) -> str | None:
    """Of which series a file is; None where it is no DICOM file."""
    pydicom = _package("pydicom", str(path))
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[SERIES])
        return str(header[SERIES].value)
    except (pydicom.errors.InvalidDicomError, KeyError, OSError, EOFError):
        return None  # it is said when it is read


def _package(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImageError(
            f"DICOM slides are read by {name}, which is not installed",
            where=where,
            mend="pip install 'cellkin[slides]'",
        ) from None
