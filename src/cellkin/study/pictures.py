"""The pictures of a study's cells, read again from where its descriptions say they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes
from cellkin.core.errors import CellkinError
from cellkin.core.records import Sample
from cellkin.imaging.decode import decode


class Pictures:
    """Gives the picture of a cell by data set and id; None where it cannot be had any more.

    A page that is made again without the images stays whole: it names the cells, and shows none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._samples: dict[str, dict[str, Sample]] = {}

    def __call__(self, dataset: str, name: str) -> Bytes | None:
        """(H, W, 3) uint8 RGB, or None."""
        sample = self._of(dataset).get(name)
        if sample is None:
            return None
        try:
            return np.asarray(decode(sample.image))
        except CellkinError:
            return None

    def _of(self, dataset: str) -> dict[str, Sample]:
        if dataset not in self._samples:
            path = self.folder / "data" / f"{dataset}.json"
            try:
                found = {s.id: s for s in datasets.open(path)} if path.is_file() else {}
            except CellkinError:
                found = {}
            self._samples[dataset] = found
        return self._samples[dataset]
