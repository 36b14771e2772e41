"""Fresh held-out cells get percentiles that are about uniform, on an atlas of real cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from cellkin import datasets
from cellkin.learning.encoder import Encoder
from cellkin.learning.weights import initialize
from cellkin.system import DecisionSupport, IndexOptions, index

COMMON = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
SIZE = 64


@pytest.fixture(scope="module")
def indexed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas over 1,500 PBC cells with untrained (ImageNet) features: nothing was pulled."""
    folder = tmp_path_factory.mktemp("percentiles")
    whole = datasets.open(real_data / "pbc")
    data = replace(whole, samples=tuple(s for s in whole if s.label in COMMON))
    data = replace(data, labels=replace(data.labels, names=COMMON))
    network, preprocessor = initialize(
        "tf_efficientnet_lite0", len(COMMON), "packaged", size=SIZE, seed=0
    )
    assert preprocessor is not None
    (folder / "encoder").mkdir()
    Encoder(network, preprocessor, COMMON).save(folder / "encoder")
    options = IndexOptions(novelty="off")
    return index(folder / "encoder", data, out=folder / "atlas", seed=0, options=options)


@pytest.mark.real
def test_percentiles_of_fresh_real_cells_are_about_uniform(indexed: Path) -> None:
    """By true class, as the calibration cells are; the band counts both samples' chance."""
    atlas = DecisionSupport.open(indexed).atlas
    predictions = json.loads((indexed / "predictions.json").read_text())
    found = [
        atlas.calibration.percentile(row["truth"], row["mean_distance"])[0] for row in predictions
    ]
    shares = np.array([value for value in found if value is not None]) / 100
    held_out = sum(atlas.calibration.counts().values())
    assert len(shares) > 250
    assert held_out > 100
    effective = len(shares) * held_out / (len(shares) + held_out)
    assert abs(shares.mean() - 0.5) < 3 * np.sqrt(1 / 12 / effective)
    assert kstest(shares, "uniform").statistic < 1.95 / np.sqrt(effective)  # p = 0.001
