"""Fixtures that several test files share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests compare bits with processes

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cellkin import datasets
from cellkin.core.records import Dataset
from cellkin.drawing.drawn import draw
from cellkin.learning.recipes import Recipe
from cellkin.system import DecisionSupport

if TYPE_CHECKING:
    from browsing import Desk
    from workstation import Workstation

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


@pytest.fixture(scope="session")
def support(atlas_folder: Path) -> DecisionSupport:
    """The small atlas, opened once."""
    return DecisionSupport.open(atlas_folder, device="cpu")


@pytest.fixture(scope="session")
def new_cells(support: DecisionSupport, smears: Dataset) -> list[tuple[str, bytes]]:
    """Held-out drawn cells to upload, (name, PNG bytes)."""
    from workstation import held_out

    return held_out(support, smears)


@pytest.fixture
def web(
    support: DecisionSupport, new_cells: list[tuple[str, bytes]], tmp_path: Path
) -> Iterator[Workstation]:
    """A workstation with people and an empty store."""
    from workstation import workstation

    with workstation(support, new_cells, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workstation]:
    """A workstation for tests of one file that change nothing that others of it look at."""
    from workstation import workstation

    with workstation(support, new_cells, tmp_path_factory.mktemp("web")) as opened:
        yield opened


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser of the page tests; they are skipped where there is none."""
    from browsing import chromium as opened

    with opened() as browser:
        yield browser


@pytest.fixture(scope="session")
def served(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workstation, str]]:
    """A workstation that runs, and its address; every page test makes cases of its own."""
    from workstation import running, workstation

    with (
        workstation(support, new_cells, tmp_path_factory.mktemp("served")) as opened,
        running(opened.app) as address,
    ):
        yield opened, address


@pytest.fixture
def desk(chromium: Any, served: tuple[Workstation, str]) -> Iterator[Desk]:
    """A running workstation with a browser in front of it; its pages must not complain."""
    from browsing import Desk

    here = Desk(chromium, served[1], served[0])
    yield here
    here.leave()
    assert here.faults == []
