"""Is the query itself among its kin? By its pixels, on every machine; near copies by a gap."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cellkin import report
from cellkin.atlas import Atlas, decide
from cellkin.atlas.recognising import NEAR, recognised
from cellkin.cli.main import app
from cellkin.core.arrays import Bytes
from cellkin.core.decisions import NEAR_COPY, SAME_IMAGE, Decision
from cellkin.core.records import Dataset, Features
from cellkin.imaging.fingerprints import fingerprint
from cellkin.system import DecisionSupport

ROW = 3


def rounded_otherwise(atlas: Atlas, by: float) -> Atlas:
    """The atlas as if its vectors had been made by another machine."""
    noise = np.random.default_rng(0).normal(1, by, atlas.vectors.shape)
    return replace(atlas, vectors=(atlas.vectors * noise).astype(np.float32))


@pytest.mark.parametrize("by", [0.0, 1e-7, 1e-5, 1e-3])
def test_a_reference_knows_itself_however_its_vectors_were_rounded(
    support: DecisionSupport, by: float
) -> None:
    moved = rounded_otherwise(support.atlas, by)
    decision = DecisionSupport(moved).decide(support.atlas.image(ROW))
    assert (decision.neighbors[0].distance > 0) == (by > 0)
    assert decision.twin == decision.neighbors[0].twin == SAME_IMAGE
    assert decision.neighbors[0].id == support.atlas.cells.ids[ROW]
    assert decision.neighbors[0].to_json()["twin"] == SAME_IMAGE
    evidence = DecisionSupport(moved).explain(support.atlas.image(ROW), gate=False)
    assert evidence.decision.twin == SAME_IMAGE


def test_an_own_image_that_does_not_vote_is_none(support: DecisionSupport) -> None:
    subject = support.atlas.cells.subjects[ROW]
    assert support.decide(support.atlas.image(ROW), subject=subject).twin == ""


def test_new_cells_are_no_twins(support: DecisionSupport, smears: Dataset) -> None:
    new = [i for part in support.atlas.held_out for i in part.ids]
    decisions = support.decide([s.image for s in smears.select(new)])
    assert [d.twin for d in decisions] == [""] * len(new)
    assert "twin" not in decisions[0].neighbors[0].to_json()


def test_an_atlas_that_kept_no_marks_computes_them(atlas_folder: Path, tmp_path: Path) -> None:
    """The table of version 0.1.0 has no such column."""
    folder = shutil.copytree(atlas_folder, tmp_path / "atlas")
    with closing(sqlite3.connect(folder / "cells.sqlite")) as base, base:
        (kept,) = base.execute("SELECT mark FROM cells WHERE part = 'reference' LIMIT 1").fetchone()
        base.execute("ALTER TABLE cells DROP COLUMN mark")
    atlas = replace(Atlas.open(atlas_folder), folder=folder)
    assert atlas.mark(0) == kept == fingerprint(atlas.image(0))
    assert DecisionSupport(atlas).decide(atlas.image(ROW)).twin == SAME_IMAGE


def asked(atlas: Atlas, distances: list[float]) -> Decision:
    """A decision on a picture that no reference shows, its neighbours at these distances."""
    space = Features(("query",), atlas.vectors[:1], atlas.space)
    (decision,) = decide(atlas, space)
    (kin,) = decision.neighbors[:1]
    return replace(decision, neighbors=tuple(replace(kin, distance=d) for d in distances))


def picture(atlas: Atlas) -> Bytes:
    return np.zeros_like(atlas.image(0))


@pytest.mark.parametrize(
    ("distances", "copies"),
    [
        ([1.0, 1.1, 1.2], 0),
        ([NEAR * 1.01, 1.0, 1.2], 0),
        ([NEAR * 0.99, 1.0, 1.2], 1),
        ([1e-9, 1e-7, 1.0], 2),
        ([0.0, 0.0, 0.0], 0),
        ([0.0, 0.0, 1.0], 2),
        ([0.01, 0.2, 1.0], 2),
        ([1.0], 0),
    ],
)
def test_near_copies_lie_before_a_gap(
    support: DecisionSupport, distances: list[float], copies: int
) -> None:
    expected = [NEAR_COPY] * copies + [""] * (len(distances) - copies)
    for distance, told in (("euclidean", distances), ("cosine", [d * d for d in distances])):
        atlas = replace(support.atlas, distance=distance)
        found = recognised(atlas, asked(support.atlas, told), picture(atlas))
        assert [kin.twin for kin in found.neighbors] == expected
        assert found.twin == (NEAR_COPY if copies else "")


def test_a_picture_changed_by_a_hair_is_a_near_copy(support: DecisionSupport) -> None:
    changed = np.array(support.atlas.image(ROW))
    changed[0, 0, 0] ^= 1
    decision = support.decide(changed)
    assert decision.neighbors[0].id == support.atlas.cells.ids[ROW]
    assert decision.twin == decision.neighbors[0].twin == NEAR_COPY


def test_command_and_page_say_so(
    support: DecisionSupport, atlas_folder: Path, tmp_path: Path
) -> None:
    changed = np.array(support.atlas.image(ROW))
    changed[0, 0, 0] ^= 1
    said = {
        "same.png": (support.atlas.image(ROW), "this very image", True),
        "near.png": (changed, "a near copy of this image", False),
    }
    for name, (image, words, known) in said.items():
        Image.fromarray(image).save(tmp_path / name)
        told = CliRunner().invoke(app, ["decide", str(atlas_folder), str(tmp_path / name)])
        assert "its own label voted" in told.stdout
        line = (
            CliRunner()
            .invoke(app, ["decide", str(atlas_folder), str(tmp_path / name), "--json"])
            .stdout
        )
        assert json.loads(line)["in_atlas"] is known
        page = tmp_path / f"{name}.html"
        report.save(support.explain(image), page)
        assert f"{words}: its own label voted" in page.read_text()
