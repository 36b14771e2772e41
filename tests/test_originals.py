"""Uploaded files are kept as they came: in the store or on a shelf, within a quota, in backups."""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from storing import ANNA, fresh, new_cell
from workstation import Workstation, upload

from cellkin.core.errors import ArtifactError, RecipeError
from cellkin.web.store import Keeping, NewCell, NotFound, Original, Refused, Shelf, Store


def with_file(i: int, size: int = 900) -> NewCell:
    """A made-up cell that was uploaded as these bytes."""
    data = np.random.default_rng(i).bytes(size)
    sha256 = hashlib.sha256(data).hexdigest()
    file = Original(sha256, len(data), "PNG", 70, 60, 0.1)
    return replace(new_cell(i), sha256=sha256, original=(file, data))


def opened(folder: Path, shelf: Shelf | None, quota: int = 10_000) -> Store:
    store = fresh(folder / "s")
    store.keeping = Keeping(shelf, quota)
    return store


@pytest.mark.parametrize("kind", ["store", "folder", "url"])
def test_originals_come_back_from_wherever_they_are_kept_and_from_a_backup(
    kind: str, tmp_path: Path
) -> None:
    places = {"folder": str(tmp_path / "shelf"), "url": "memory://bench/originals"}
    store = opened(tmp_path, Shelf(places[kind]) if kind in places else None)
    case = store.create_case(ANNA, "P")
    wanted = [with_file(i) for i in range(3)]
    cells = store.add_cells(ANNA, case.id, wanted, None).cells
    again = store.create_case(ANNA, "Q")  # the same file in another case is kept once
    store.add_cells(ANNA, again.id, wanted[:1], None)
    assert store.verify_log().intact
    backup = store.backup(tmp_path / "b")
    store.close()
    for kept in (Store.open(tmp_path / "s"), Store.restore(backup, tmp_path / "new")):
        for cell, new in zip(cells, wanted, strict=True):
            assert new.original is not None
            assert kept.original(cell.id) == new.original[0]
            assert kept.original_bytes(cell.sha256) == new.original[1]
        assert kept.verify_log().intact
        kept.close()
    rows = sqlite3.connect(backup).execute("SELECT count(*) FROM original_bytes").fetchone()
    assert rows == (3,)


def test_a_full_quota_refuses_the_upload_and_keeps_no_cell_without_its_original(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path, None, quota=1000)
    case = store.create_case(ANNA, "P")
    store.add_cells(ANNA, case.id, [with_file(0)], None)
    with pytest.raises(Refused, match="no room for these originals"):
        store.add_cells(ANNA, case.id, [with_file(1)], None)
    assert store.case(case.id).cells == 1
    store.close()


def test_what_was_changed_or_lost_outside_is_said(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "shelf"))
    store = opened(tmp_path, shelf)
    case = store.create_case(ANNA, "P")
    cell = store.add_cells(ANNA, case.id, [with_file(0)], None).cells[0]
    (path,) = (p for p in (tmp_path / "shelf").rglob("*") if p.is_file())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "shelf").stat().st_mode & 0o777 == 0o700
    path.write_bytes(b"another picture")
    with pytest.raises(ArtifactError, match="no longer what was uploaded"):
        store.original_bytes(cell.sha256)
    os.unlink(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.original_bytes(cell.sha256)
    other = store.add_cells(ANNA, case.id, [new_cell(5)], None).cells[0]
    for missing in (other.id, "nothing"):
        with pytest.raises(NotFound):
            store.original(missing)
    store.close()


def test_an_original_in_the_store_that_was_changed_is_found(tmp_path: Path) -> None:
    store = opened(tmp_path, None)
    case = store.create_case(ANNA, "P")
    store.add_cells(ANNA, case.id, [with_file(0)], None)
    base = sqlite3.connect(tmp_path / "s")
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        base.execute("UPDATE original_bytes SET data = x'00'")
    base.execute("DROP TRIGGER original_bytes_no_update")
    base.execute("UPDATE original_bytes SET data = x'00'")
    base.commit()
    assert any("original" in fault for fault in store.verify_log().faults)
    store.close()


def test_a_place_that_nothing_reaches_is_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be reached"):
        Shelf("nowhere://bucket")


def test_an_uploaded_picture_is_shown_with_every_pixel_and_saved_byte_for_byte(
    web: Workstation,
) -> None:
    client = web.client("rolf")
    rgb = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    buffer = io.BytesIO()
    dots = 25_400 / 0.1  # a tenth of a micrometre per pixel
    Image.fromarray(rgb).save(buffer, "TIFF", dpi=(dots, dots))
    case = web.case(client)
    added = upload(client, case["id"], [("noise.tif", buffer.getvalue())]).json()["added"]
    address = f"/api/v1/cells/{added[0]['id']}/original"
    told = client.get(address).json()
    assert (told["width"], told["height"], told["kind"]) == (120, 90, "TIFF")
    assert told["um_per_pixel"] == pytest.approx(0.1, rel=1e-3)
    assert told["square"] == [15, 0, 90]
    shown = client.get(told["picture"])
    assert shown.headers["content-type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.content))), rgb)
    saved = client.get(told["file"])
    assert saved.content == buffer.getvalue()
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.headers["content-type"] == "application/octet-stream"
