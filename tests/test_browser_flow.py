"""The whole way in a browser: from images to a signed PDF, with the mouse and without it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browsing import Desk, decidable, files_in
from workstation import PASSWORD


def make_case(page: Any, pseudonym: str) -> str:
    """Make a case by its dialog; gives its id."""
    page.get_by_role("button", name="New case").first.click()
    page.get_by_label("Pseudonym").fill(pseudonym)
    page.get_by_role("button", name="Make the case").click()
    page.wait_for_url("**/cases/*")
    return str(page.url.rsplit("/", 1)[1])


def see_all(page: Any) -> None:
    """Scroll through the gallery until no cell is left that was not on screen."""
    for _ in range(60):
        if page.get_by_text("all other cells were on screen").count():
            return
        page.mouse.wheel(0, 150)  # less than what lies free between the bars, beyond a row
        page.wait_for_timeout(650)  # longer than the half second that counts as seen
        if page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
            page.evaluate("scrollTo(0, 0)")  # a row went by too quickly
    raise AssertionError("some cells never counted as seen")


def confirm_held(page: Any, count: int, confirm: Callable[[], Any]) -> None:
    """Confirm held cells one after the other, beginning with the one that is open."""
    done: set[str] = set()
    for _ in range(count):
        heading = page.locator("h1").filter(has_not_text=re.compile("|".join(done) or "^$"))
        name = heading.inner_text()
        page.locator(".kin.query canvas").wait_for()
        page.locator("#map canvas").wait_for()
        confirm()
        page.get_by_text(f"{name}: ").wait_for()
        done.add(re.escape(name))


def test_from_upload_to_signed_pdf(desk: Desk, tmp_path: Path) -> None:
    cells = desk.workstation.cells[:8]
    broken = tmp_path / "notes.png"
    broken.write_text("no picture at all")
    page = desk.sit(None)
    page.get_by_label("Name").fill("rolf")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Worklist").wait_for()
    case = make_case(page, "P-77")

    page.get_by_text("Drop the images of this case here").wait_for()
    page.set_input_files("#files", [*files_in(tmp_path / "cells", cells), str(broken)])
    page.get_by_text("8 cells added, 1 file refused.").wait_for()
    assert page.get_by_text("notes.png").count() == 1
    page.set_input_files("#files", files_in(tmp_path / "cells", cells[:2]))
    page.get_by_text("0 cells added, 2 duplicates noticed.").wait_for()
    store = desk.workstation.store
    assert len(desk.cells(case)) == 8

    page.locator("#sign-button").dispatch_event("click")
    page.get_by_text("Not yet:").wait_for()
    assert store.case(case).status == "open"

    held = store.case(case).held
    assert held, "this test needs held cells"
    page.get_by_role("button", name="Open the first held cell").click()
    page.wait_for_url("**/cells/*")
    confirm_held(page, held, lambda: page.locator("#confirm").click())
    page.get_by_role("link", name="P-77").click()
    page.locator(".tile").first.wait_for()
    see_all(page)
    page.locator("#sign-button[aria-disabled=false]").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign", exact=True).click()
    page.wait_for_url("**/report")
    page.get_by_text("signed by rolf").first.wait_for()
    with page.expect_download(timeout=120_000) as saved:  # the first PDF loads its fonts
        page.locator("#pdf").click()
    assert Path(saved.value.path()).read_bytes().startswith(b"%PDF-")
    signed = store.case(case)
    assert (signed.status, signed.signed_by, signed.cells) == ("signed", "rolf", 8)
    assert all(cell.state == "confirmed" for cell in desk.cells(case))


def test_by_keyboard_alone(desk: Desk, tmp_path: Path) -> None:
    files = files_in(tmp_path / "cells", desk.workstation.cells[:5])
    page = desk.sit(None)
    page.on("filechooser", lambda _: None)  # from now on the driver takes dialogs of files
    keys = page.keyboard
    page.locator("[name=name]:focus").wait_for()  # the first field has the focus
    keys.type("rolf")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    page.locator("#new:visible").wait_for()
    keys.press("n")
    page.locator("[name=pseudonym]:focus").wait_for()
    keys.type("P-keys")
    keys.press("Enter")
    page.wait_for_url("**/cases/*")
    case = page.url.rsplit("/", 1)[1]
    page.get_by_text("Drop the images").wait_for()
    with page.expect_file_chooser() as chooser:
        keys.press("u")
    chooser.value.set_files(files)
    page.get_by_text("5 cells added").wait_for()

    keys.press("ArrowRight")  # into the gallery, to its end, and open that cell
    page.locator(".tile:focus").wait_for()
    for _ in range(4):
        keys.press("ArrowRight")
    last = page.locator(".tile:focus").get_attribute("data-id")
    keys.press("Enter")
    page.wait_for_url(f"**/cells/{last}")
    page.locator("#confirm:enabled").wait_for()  # its evidence is on screen
    keys.press("x")  # a smudge cell, with its reason
    page.locator("#reason:focus").wait_for()
    keys.type("broken cell")
    keys.press("Enter")
    page.get_by_text("smudge cell.").wait_for()
    store = desk.workstation.store
    assert store.cell(last).disposition == "smudge cell"
    keys.press("z")
    page.get_by_text("Taken back:").wait_for()
    assert store.cell(last).state == "proposed"
    keys.press("b")
    page.wait_for_url(f"**/cases/{case}")
    page.locator(".tile").first.wait_for()

    page.get_by_text("all other cells were on screen").wait_for()
    if todo := store.case(case).to_confirm:
        keys.press("h")
        page.wait_for_url("**/cells/*")
        confirm_held(page, todo, lambda: (decidable(page), keys.press("c")))
        keys.press("b")
        page.wait_for_url(f"**/cases/{case}")
    page.locator("#sign-button[aria-disabled=false]").wait_for()
    keys.press("s")
    page.get_by_role("dialog").wait_for()
    keys.press("Enter")
    page.wait_for_url("**/report")
    assert store.case(case).status == "signed"


def test_another_class_needs_a_reason_and_can_be_undone(desk: Desk) -> None:
    case = desk.case(4)
    cell = desk.cells(case.id)[0]
    names = desk.workstation.app.state.station.support.atlas.labels.names
    other = next(i for i, name in enumerate(names) if name != cell.proposed)
    page = desk.sit(path=f"/cells/{cell.id}")
    decidable(page)
    page.get_by_text("then the next cell").click()
    page.locator("body").press(str(other + 1))
    page.locator("#reason:focus").press("Enter")
    page.get_by_text("A change needs a reason").wait_for()
    store = desk.workstation.store
    assert store.cell(cell.id).state == "proposed"
    page.locator("#reason").fill("open chromatin")
    page.locator("#comment").fill("compare with the slide")
    page.locator("#save").click()
    page.get_by_text("“open chromatin”").wait_for()
    found = store.cell(cell.id)
    assert (found.state, found.final) == ("reclassified", names[other])
    assert (found.reason, found.comment) == ("open chromatin", "compare with the slide")
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Taken back").wait_for()
    assert store.cell(cell.id).state == "proposed"


def test_nobody_decides_before_the_evidence_is_there(desk: Desk) -> None:
    case = desk.case(1)
    (cell,) = desk.cells(case.id)
    page = desk.sit(path=f"/cases/{case.id}")
    held: list[Any] = []
    page.route("**/evidence", lambda route: held.append(route))
    page.goto(f"/cells/{cell.id}")
    page.locator("#confirm:disabled").wait_for()
    page.locator("body").press("c")
    page.get_by_text("Not yet: the evidence of this cell is still on its way.").wait_for()
    store = desk.workstation.store
    assert store.cell(cell.id).state == "proposed"
    held.pop().abort()  # no evidence at all: still nothing to decide on
    again = page.get_by_role("button", name="Try again")
    again.click()
    again.wait_for(state="detached")  # the cell is drawn anew
    page.locator("#confirm:disabled").wait_for()
    assert not store.cell(cell.id).opened
    while not held:
        page.wait_for_timeout(50)
    page.locator("#comment").fill("looked at first")
    held.pop().continue_()
    decidable(page)
    assert page.locator("#comment:focus").input_value() == "looked at first"
    page.locator("#confirm").click()
    page.locator("#back.main").click()  # the last cell of its list: the way on leads back
    page.wait_for_url(f"**/cases/{case.id}")
    found = store.cell(cell.id)
    assert (found.state, found.comment) == ("confirmed", "looked at first")


def test_bulk_confirmation_never_touches_held_cells(desk: Desk) -> None:
    case = desk.case(10)
    page = desk.sit(path=f"/cases/{case.id}")
    page.locator(".tile").first.wait_for()
    sent: list[list[str]] = []

    def note(request: Any) -> None:
        if request.url.endswith("/confirm"):
            sent.append(json.loads(request.post_data)["cells"])

    page.on("request", note)
    see_all(page)
    for _ in range(page.get_by_role("button", name="seen, not held").count()):
        page.get_by_role("button", name="seen, not held").first.click()
        page.wait_for_timeout(300)
    held = {cell.id for cell in desk.cells(case.id) if cell.held}
    free = {cell.id for cell in desk.cells(case.id) if not cell.held}
    assert held, "this test needs held cells"
    assert {one for batch in sent for one in batch} == free
    for cell in desk.cells(case.id):
        assert cell.state == ("proposed" if cell.held else "confirmed")


def test_a_signed_case_is_read_only_and_an_amendment_opens_a_new_version(desk: Desk) -> None:
    case = desk.case(3)
    desk.finish(case.id)
    cell = desk.cells(case.id)[0]
    page = desk.sit(path=f"/cells/{cell.id}")
    page.get_by_text("read-only").wait_for()
    assert page.locator("#confirm").count() == 0
    page.goto(f"/cases/{case.id}")
    page.get_by_role("button", name="Amend").click()
    page.get_by_label("Reason").fill("second look")
    page.get_by_role("button", name="Open a new version").click()
    page.get_by_text("version 2").wait_for()
    assert desk.workstation.store.case(case.id).status == "amended"
