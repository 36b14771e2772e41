"""Floor 2: data sets on disk to lists of labelled samples, their parts, and a look through them.

data = datasets.open("~/C-NMC")      the layout is recognised, and said in `data.layout`
report = datasets.check(data)        every image decoded, duplicates, what depends on what
for split in datasets.folds(data):   seeded, stratified, by subject where subjects are known
    ...
"""

from __future__ import annotations

from cellkin.datasets.checking import CheckReport, check
from cellkin.datasets.injecting.patches import cut_patches
from cellkin.datasets.known import PUBLISHED
from cellkin.datasets.locating.locating import locate
from cellkin.datasets.opening import READERS, Reader
from cellkin.datasets.opening import open_dataset as open  # noqa: A004
from cellkin.datasets.parts.split_files import open_splits, save_splits
from cellkin.datasets.parts.splits import folds, official, single, split_unit, verify_split
from cellkin.datasets.saved import save_dataset as save

__all__ = [
    "PUBLISHED",
    "READERS",
    "CheckReport",
    "Reader",
    "check",
    "cut_patches",
    "folds",
    "locate",
    "official",
    "open",
    "open_splits",
    "save",
    "save_splits",
    "single",
    "split_unit",
    "verify_split",
]
