"""A day at the bench: sorting many cells, a held key, an upload that broke, a picture's pixels."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from browsing import Desk, decidable, files_in
from PIL import Image
from test_browser_flow import confirm_held, see_all

from cellkin.core.records import Decision
from cellkin.imaging.scale import png_of
from cellkin.web.store import Actor, Case, NewCell

ACTIONS = 90


class Hand:
    """What a person does, counted."""

    def __init__(self, page: Any) -> None:
        self.page, self.actions = page, 0

    def press(self, key: str) -> None:
        self.actions += 1
        self.page.keyboard.press(key)

    def pick(self, cell: str) -> None:
        self.actions += 1
        self.page.locator(f"[data-id='{cell}']").click(modifiers=["Control"])


def many(desk: Desk, count: int) -> list[tuple[str, bytes]]:
    """So many different cells: held-out ones, again and again, with one pixel changed."""
    made = []
    for i in range(count):
        _, data = desk.workstation.cells[i % len(desk.workstation.cells)]
        rgb = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        rgb[0, 0] = i
        made.append((f"cell-{i:02}.png", png_of(rgb)))
    return made


def fifty(desk: Desk) -> Case:
    """A case of some held cells, and of others of one class that nothing holds."""
    case, store = desk.case(4, "P-50"), desk.workstation.store
    found = desk.cells(case.id)
    labels = desk.workstation.app.state.station.support.atlas.labels
    name = next(name for name in labels.names if labels.clinical[name] == "other cell")
    told = {
        "label": name,
        "clinical": "other cell",
        "distance_percentile": 30.0,
        "state": "decided",
    }
    told |= {"reasons": [], "quality": [], "tie": None, "head": None, "prediction_set": None}
    new = []
    for i, (file, data) in enumerate(many(desk, 50 - len(found))):
        cell = found[i % len(found)]
        kin = [{**one, "label": name} for one in cell.decision["neighbors"]]
        decision = Decision.from_json({**cell.decision, **told, "neighbors": kin})
        sha256 = hashlib.sha256(data).hexdigest()
        image = store.image(cell.id)
        new.append(NewCell(file, sha256, image, None, decision, {}, cell.provenance))
    store.add_cells(Actor("rolf", "reviewer", "page"), case.id, new, None)
    return store.case(case.id)


def test_fifty_cells_ten_of_them_called_wrongly_are_signed_in_a_minute(desk: Desk) -> None:
    case = fifty(desk)
    found = desk.cells(case.id)
    held = [cell for cell in found if cell.held]
    page = desk.sit(path=f"/cases/{case.id}")
    page.locator(".tile").first.wait_for()
    see_all(page)
    hand = Hand(page)
    if held:
        hand.press("h")
        page.wait_for_url("**/cells/*")
        confirm_held(page, len(held), lambda: (decidable(page), hand.press("c")))
        hand.press("b")
        page.wait_for_url(f"**/cases/{case.id}")
        page.locator(".tile").first.wait_for()
    tiles = "[...document.querySelectorAll('.tile')].map((tile) => tile.dataset.id).slice(0, 10)"
    wrong = page.evaluate(tiles)
    for cell in wrong:
        hand.pick(cell)
    hand.press("1")
    page.get_by_role("dialog").wait_for()
    hand.press("Tab")
    hand.press("Enter")  # the first of the offered reasons
    page.locator(".toast.good").last.wait_for()
    page.locator("#sign-button[aria-disabled=false]").wait_for()
    hand.press("s")
    page.get_by_role("dialog").wait_for()
    hand.press("Enter")
    page.wait_for_url("**/report")
    assert len(found) == 50
    assert hand.actions <= ACTIONS
    store = desk.workstation.store
    assert store.case(case.id).status == "signed"
    first = desk.workstation.app.state.station.support.atlas.labels.names[0]
    assert {store.cell(cell).final for cell in wrong} == {first}


def test_a_held_key_confirms_one_cell_and_an_original_shows_its_pixels(desk: Desk) -> None:
    case = desk.case(4)
    page = desk.sit(path=f"/cells/{desk.cells(case.id)[0].id}")
    decidable(page)
    page.keyboard.down("c")
    for _ in range(12):
        page.keyboard.down("c")  # as a keyboard repeats a key that is held
        page.wait_for_timeout(60)
    page.keyboard.up("c")
    page.wait_for_timeout(300)
    assert sum(cell.state == "confirmed" for cell in desk.cells(case.id)) == 1
    page.keyboard.press("o")
    canvas = page.locator("dialog.viewing canvas")
    canvas.wait_for()
    page.wait_for_timeout(300)
    for _ in range(30):
        page.keyboard.press("+")
    assert float(canvas.get_attribute("data-scale")) == 64.0
    colours = canvas.evaluate(
        """canvas => {
          const [x, y] = [canvas.width / 2 - 40, canvas.height / 2];
          const found = canvas.getContext("2d").getImageData(x, y, 80, 1).data;
          const seen = new Set();
          for (let i = 0; i < found.length; i += 4) seen.add(found.slice(i, i + 3).join());
          return seen.size;
        }"""
    )
    assert 1 <= colours <= 3  # 80 points of the screen lie in at most three pixels of the picture


def test_an_upload_that_broke_is_told_and_gone_on_with(desk: Desk, tmp_path: Path) -> None:
    case = desk.case(0, "P-broken")
    files = files_in(tmp_path / "cells", many(desk, 30))
    notes = tmp_path / "notes.docx"
    notes.write_text("no picture")
    page = desk.sit(path=f"/cases/{case.id}")
    page.get_by_text("Drop the images").wait_for()
    asked = []

    def second(route: Any) -> None:
        asked.append(route)
        (route.continue_ if len(asked) == 1 else route.abort)()

    page.route("**/cells?part=*", second)
    page.set_input_files("#files", [*files, str(notes)])
    page.get_by_text("24 of 30 files received; the case waits for the others.").wait_for()
    page.get_by_text("notes.docx").wait_for()
    page.unroute("**/cells?part=*")
    page.reload()
    page.get_by_text("did not end: 24 of 30 files came").wait_for()
    assert "files are here" in " ".join(desk.workstation.store.missing(case.id, "rolf"))
    page.set_input_files("input[aria-label='Choose the missing files again']", files)
    page.get_by_text("6 cells added").wait_for()
    assert len(desk.cells(case.id)) == 30
    (batch,) = desk.workstation.store.uploads(case.id)
    assert batch.state == "complete"
