"""The registry of published data sets: what every reader knows of its own."""

from __future__ import annotations

from cellkin.core.records import Dataset
from cellkin.datasets.injecting import patches
from cellkin.datasets.published import Published
from cellkin.datasets.readers import adp, allidb1, allidb2, bloodmnist, cnmc, cnmc_test, pbc

PUBLISHED: tuple[Published, ...] = (
    *allidb2.PUBLISHED,
    *allidb1.PUBLISHED,
    *patches.PUBLISHED,
    *cnmc.PUBLISHED,
    *cnmc_test.PUBLISHED,
    *pbc.PUBLISHED,
    *bloodmnist.PUBLISHED,
    *adp.PUBLISHED,
)
"""In the order of section 5.1 of the paper, relatives beside each other."""


def published_as(dataset: Dataset) -> Published | None:
    """The published data set that this one is, or is a part of; None where it is none of them."""
    return next((entry for entry in PUBLISHED if entry.describes(dataset)), None)
