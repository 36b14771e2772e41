"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cellkin import datasets
from cellkin.core.records import Dataset
from cellkin.datasets.drawn import draw
from cellkin.learning.recipes import Recipe

SMALL = Recipe(
    name="small",
    backbone="resnet18",
    init="scratch",
    size=48,
    epochs=2,
    batch=8,
    lr=0.01,
    k=3,
    precision="fp32",
)
"""A recipe that trains in seconds; what it learns does not matter."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that ask for it are skipped where it is absent."""
    named = os.environ.get("CELLKIN_REAL_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "pbc").is_dir():
        pytest.skip(f"no real images at {folder}: set CELLKIN_REAL_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn cells, small and few."""
    folder = tmp_path_factory.mktemp("drawn") / "smears"
    return datasets.open(draw(folder, cells=120, subjects=10, size=64, seed=3))


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    return SMALL


@pytest.fixture(scope="session")
def atlas_folder(smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of drawn cells by `SMALL`; tests must not change it."""
    from cellkin.system import train

    return train(smears, SMALL, seed=0, out=tmp_path_factory.mktemp("atlas") / "atlas")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
