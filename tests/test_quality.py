"""The quality gate: what no atlas should speak about, by limits learned from its own cells."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellkin import datasets, report
from cellkin.cli.main import main
from cellkin.core.arrays import Bytes
from cellkin.core.errors import ArtifactError, DataError, ImageError
from cellkin.core.records import QUALITY, Dataset, ImageRef
from cellkin.drawing.drawn import draw
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.imaging.quality import QualityGate, measure
from cellkin.system import DecisionSupport

SIDE = 160


@pytest.fixture(scope="module")
def fine_smears(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn at a size at which every nucleus can be told."""
    folder = tmp_path_factory.mktemp("drawn") / "smears"
    return datasets.open(draw(folder, cells=120, subjects=10, size=160, seed=3))


@pytest.fixture(scope="module")
def cells(fine_smears: Dataset) -> Bytes:
    """Drawn pictures with one white cell in each, stained well enough to tell its nucleus."""
    chosen = [s.image for s in fine_smears if s.label != "nothing"]
    images = load_prepared(chosen, packaged_lite0(SIDE))
    return images[[len(measure(image).radii) == 1 for image in images]]


@pytest.fixture(scope="module")
def gate(cells: Bytes) -> QualityGate:
    return QualityGate.fit(cells)


def spoiled(cell: Bytes, how: str) -> Bytes:
    blank = np.full_like(cell, np.median(cell.reshape(-1, 3), axis=0).astype(np.uint8))
    if how == "empty":
        return blank
    if how == "out of focus":
        return np.asarray(cv2.GaussianBlur(cell, (0, 0), SIDE / 12))
    if how == "underexposed":
        return (cell * 0.35).astype(np.uint8)
    if how == "overexposed":
        return np.clip(cell.astype(float) * 1.1 + 45, 0, 255).astype(np.uint8)
    if how == "no cell in the middle":
        return np.roll(cell, (SIDE // 2, SIDE // 2), axis=(0, 1))
    if how == "several cells":
        edge = SIDE // 5
        middle = cell[edge:-edge, edge:-edge]
        one = cv2.resize(middle, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
        return np.asarray(np.tile(one, (2, 2, 1)))
    return np.random.default_rng(0).integers(0, 255, cell.shape, np.uint8)  # not like its smears


@pytest.mark.parametrize("how", QUALITY)
def test_each_fault_is_named(how: str, cells: Bytes, gate: QualityGate) -> None:
    """Most pictures spoiled in one way carry its name, and all fail."""
    found = [gate.reasons(measure(spoiled(cell, how))) for cell in cells[:24]]
    assert all(found)
    assert np.mean([how in reasons for reasons in found]) >= (
        0.6 if how == "several cells" else 0.9
    )


def test_the_atlas_s_own_cells_pass(cells: Bytes, gate: QualityGate) -> None:
    assert np.mean([bool(gate.reasons(measure(cell))) for cell in cells]) <= 0.03


def test_an_atlas_with_cell_free_pictures_does_not_ask_for_a_cell(fine_smears: Dataset) -> None:
    images = load_prepared([s.image for s in fine_smears], packaged_lite0(SIDE))
    free = [i for i, s in enumerate(fine_smears) if s.label == "nothing"]
    gate = QualityGate.fit(images)
    assert gate.nucleus is None
    assert not any("no cell in the middle" in gate.reasons(measure(images[i])) for i in free)


def test_survives_json(gate: QualityGate, cells: Bytes) -> None:
    again = QualityGate.from_json(json.loads(json.dumps(gate.to_json())))
    assert again == gate
    with pytest.raises(ArtifactError, match="quality gate"):
        QualityGate.from_json({**gate.to_json(), "spread": [[1.0]]})
    with pytest.raises(ArtifactError, match="quality gate"):
        QualityGate.from_json({"centre": []})


def test_refusals(cells: Bytes) -> None:
    with pytest.raises(DataError, match="too few"):
        QualityGate.fit(cells[:19])
    with pytest.raises(ImageError):
        measure(np.zeros((20, 20), np.uint8))


def test_measures_do_not_depend_on_the_cell_lying_in_black() -> None:
    """A black ground is no darkness: a cell cut out is as bright as before."""
    cell = np.full((64, 64, 3), (200, 150, 210), np.uint8)
    cut = np.zeros_like(cell)
    cut[16:48, 16:48] = cell[16:48, 16:48]
    assert measure(cut).brightness == measure(cell).brightness
    assert measure(np.zeros_like(cell)).brightness == 0


# in the system --------------------------------------------------------------------------------


def noise(folder: Path) -> Path:
    path = folder / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def test_a_picture_that_fails_abstains(atlas_folder: Path, tmp_path: Path) -> None:
    dss = DecisionSupport.open(atlas_folder)
    path = noise(tmp_path)
    plain, gated = dss.decide(path, gate=False), dss.decide(path)
    assert plain.quality is None
    assert gated.quality
    assert gated.state in ("abstained", "tied")
    assert gated.reasons[0] == "quality"
    assert (gated.label, gated.neighbors) == (plain.label, plain.neighbors)
    evidence = dss.explain(path)
    assert evidence.decision.quality == gated.quality
    page = report.save(evidence, tmp_path / "page.html").read_text()
    assert "Does not fit this atlas because" in page


def test_cells_of_the_atlas_pass_in_the_command(
    atlas_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dss = DecisionSupport.open(atlas_folder)
    cell = tmp_path / "cell.png"
    cv2.imwrite(str(cell), dss.atlas.image(3)[..., ::-1])
    command = ["decide", str(atlas_folder), str(cell), str(noise(tmp_path)), "--json"]
    monkeypatch.setattr("sys.argv", ["cellkin", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert good["quality"] == []
    assert bad["quality"]


@pytest.mark.real
def test_other_pictures_are_told_from_blood_cells(real_data: Path) -> None:
    """Tissue, cells cut out on black and photographs, at few false alarms on held-out cells."""
    import skimage.data

    data, size = datasets.open(real_data / "pbc"), packaged_lite0(128)
    split = datasets.single(data, seed=0)
    train = [s.image for s in data.select(split.train)[::3]]
    gate = QualityGate.fit(load_prepared(train, size))
    fresh = load_prepared([s.image for s in data.select(split.test)[::2]], size)
    assert np.mean([bool(gate.reasons(measure(cell))) for cell in fresh]) <= 0.05
    others = [ImageRef(p) for p in sorted((real_data / "nct_crc_he").rglob("*.jpg"))]
    others += [ImageRef(p) for p in sorted((real_data / "cnmc2019").rglob("*.png"))[:40]]
    strangers = list(load_prepared(others, size))
    strangers += [size.prepare(getattr(skimage.data, n)()) for n in ("astronaut", "chelsea")]
    strangers += [size.prepare(skimage.data.coffee()), size.prepare(skimage.data.rocket())]
    assert np.mean([bool(gate.reasons(measure(image))) for image in strangers]) >= 0.95
