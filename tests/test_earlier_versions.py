"""What earlier versions wrote opens and answers as it did: an atlas and a store of version 0.1.0.

`tests/earlier/` holds drawn cells only: an atlas of 60 references by a tiny network, verified, and
a store with a signed case of made-up cells and an open case of cells that this atlas decided.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellkin.system import DecisionSupport
from cellkin.web.store import Store

EARLIER = Path(__file__).parent / "earlier"
VERSIONS = sorted(p.stem for p in EARLIER.glob("*.zip"))


@pytest.fixture(scope="module", params=VERSIONS)
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / request.param
    shutil.unpack_archive(EARLIER / f"{request.param}.zip", folder)
    shutil.copy(EARLIER / f"{request.param}.json", folder / "answers.json")
    return folder


def test_the_atlas_answers_as_it_did(earlier: Path) -> None:
    dss = DecisionSupport.open(earlier / "atlas")
    answers = json.loads((earlier / "answers.json").read_text())
    assert answers
    for answer in answers:
        picture = np.ascontiguousarray(dss.atlas.image(answer["row"])[:, ::-1])
        found = dss.decide(picture)
        assert found.label == answer["label"]
        assert dict(found.votes) == answer["votes"]
        assert [n.id for n in found.neighbors] == [name for name, _ in answer["neighbors"]]
        wanted = [distance for _, distance in answer["neighbors"]]
        assert np.allclose([n.distance for n in found.neighbors], wanted, rtol=1e-3)


def test_the_atlas_knows_its_own_images(earlier: Path) -> None:
    """It kept no fingerprints of them."""
    dss = DecisionSupport.open(earlier / "atlas")
    assert dss.decide(dss.atlas.image(3)).twin == "same image"


def test_its_held_out_calls_are_the_decisions_on_its_test_part(earlier: Path) -> None:
    atlas = DecisionSupport.open(earlier / "atlas").atlas
    tested = json.loads((earlier / "atlas" / "predictions.json").read_text())
    known = atlas.held_out_calls()
    assert known.counts.sum() == len(tested) > 0
    right = sum(row["label"] == row["truth"] for row in tested)
    assert known.counts.sum(axis=0).trace() == right


def test_the_evidence_and_its_page_are_there(earlier: Path, tmp_path: Path) -> None:
    dss = DecisionSupport.open(earlier / "atlas")
    assert dss.atlas.verification is not None
    picture = tmp_path / "cell.png"
    Image.fromarray(dss.atlas.image(3)[:, ::-1]).save(picture)
    cellkin = [sys.executable, "-m", "cellkin"]
    atlas, out = str(earlier / "atlas"), tmp_path / "why"
    subprocess.run([*cellkin, "explain", atlas, picture, "--out", out], check=True)
    assert list(out.rglob("*.html"))
    subprocess.run([*cellkin, "inspect", atlas], check=True)


def test_the_store_holds_its_cases(earlier: Path, tmp_path: Path) -> None:
    path = shutil.copy(earlier / "store.sqlite", tmp_path / "store.sqlite")
    store = Store.open(path)
    try:
        assert store.verify_log().faults == ()
        cases = {case.pseudonym: case for case in store.cases()[0]}
        assert cases["P-1"].status == "signed"
        assert store.case_report(cases["P-1"].id) is not None
        cells, _ = store.cells(cases["Demo 1"].id)
        assert len(cells) == 6
    finally:
        store.close()
