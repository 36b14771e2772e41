"""Several people, and sessions that end: nothing typed is ever lost, nothing is overwritten."""

from __future__ import annotations

from typing import Any

from browsing import Desk, decidable
from workstation import PASSWORD, upload

ASK = """async (paths) => {
  const script = document.querySelector("script[type=module]").src;
  const { api } = await import(new URL("api.js", script).href);
  window.answers = [];
  for (const path of paths) {
    api(path).then(() => "answered", String).then((told) => window.answers.push(told));
  }
}"""
"""Ask for several addresses at once, by the page's own module."""


def test_the_second_of_two_people_is_told_and_loses_nothing(desk: Desk) -> None:
    case = desk.case(3)
    cell = desk.cells(case.id)[0]
    rolf = desk.sit("rolf", f"/cells/{cell.id}")
    rita = desk.sit("rita", f"/cells/{cell.id}")
    decidable(rolf)
    rolf.locator("body").press("a")
    rolf.locator("#reason").fill("a stain precipitate")
    rita.locator("#confirm").click()
    rita.get_by_text(f"{cell.name}: ").wait_for()
    store = desk.workstation.store
    assert store.cell(cell.id).reviewed_by == "rita"

    rolf.locator("#save").click()
    rolf.get_by_text("rita decided on this cell meanwhile").wait_for()
    assert store.cell(cell.id).reviewed_by == "rita"  # nothing was written over it
    assert rolf.locator("#reason").input_value() == "a stain precipitate"
    assert (
        rolf.locator(".choices [aria-pressed=true]").inner_text().endswith("artefact, not a cell")
    )
    rolf.get_by_role("button", name="Save mine").click()
    rolf.get_by_text("artefact, not a cell.").wait_for()
    found = store.cell(cell.id)
    assert (found.reviewed_by, found.disposition) == ("rolf", "artefact")
    assert found.reason == "a stain precipitate"


def test_enter_after_a_reason_alone_confirms_nothing(desk: Desk) -> None:
    case = desk.case(2)
    cell = desk.cells(case.id)[0]
    page = desk.sit("rolf", f"/cells/{cell.id}")
    decidable(page)
    page.locator("#reason").fill("nucleus condensed")
    page.locator("#reason").press("Enter")
    page.get_by_text("Choose a class first").wait_for()
    assert desk.workstation.store.cell(cell.id).state == "proposed"
    assert page.locator("#reason").input_value() == "nucleus condensed"


def test_signing_what_somebody_changed_meanwhile_is_told(desk: Desk) -> None:
    case = desk.case(3)
    page = desk.sit("rolf", f"/cases/{case.id}")
    page.locator(".tile").first.wait_for()
    rita = desk.workstation.client("rita")
    body = {"version": case.version, "note": "a note of hers"}
    assert rita.patch(f"/api/v1/cases/{case.id}", json=body).status_code == 200
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Note").fill("a note of his")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Somebody else changed this case meanwhile").wait_for()
    assert desk.workstation.store.case(case.id).note == "a note of hers"
    page.get_by_text("a note of hers").wait_for()


def end_session(desk: Desk, page: Any) -> None:
    """End the session of a page that waits for nothing: its own requests are answered."""
    page.wait_for_load_state("networkidle")
    secret = next(c for c in page.context.cookies() if c["name"] == "cellkin")["value"]
    desk.workstation.store.end_session(secret)


def log_in_again(page: Any) -> None:
    dialog = page.get_by_role("dialog", name="Your session has ended")
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Log in").click()
    page.get_by_text("Logged in again").wait_for()


def test_a_refusal_that_arrives_after_the_new_login_asks_nobody_twice(desk: Desk) -> None:
    """Requests of one ended session are refused at any time, also after somebody logged in."""
    page = desk.sit("rolf", "/atlas")
    page.locator("#content *").first.wait_for()
    end_session(desk, page)
    refused: list[Any] = []
    late = "**/api/v1/cases?late"
    page.route(late, lambda route: refused.append((route, route.fetch())), times=1)
    page.evaluate(ASK, ["/cases?late", "/me"])
    log_in_again(page)
    [(route, answer)] = refused
    assert answer.status == 401
    route.fulfill(response=answer)
    page.wait_for_function("() => window.answers.length === 2")
    assert page.evaluate("window.answers") == ["answered", "answered"]
    assert page.get_by_role("dialog").count() == 0


def test_a_session_that_ends_in_the_middle_of_an_edit(desk: Desk) -> None:
    case = desk.case(2)
    cell = desk.cells(case.id)[0]
    page = desk.sit("rolf", f"/cells/{cell.id}")
    decidable(page)
    page.locator("body").press("u")
    page.locator("#reason").fill("out of focus at the nucleus")
    page.locator("#comment").fill("ask for another field")
    end_session(desk, page)

    page.locator("#save").click()
    dialog = page.get_by_role("dialog", name="Your session has ended")
    dialog.wait_for()
    dialog.get_by_label("Password").fill("not the password")
    dialog.get_by_role("button", name="Log in").click()
    dialog.get_by_role("alert").wait_for()
    log_in_again(page)
    page.get_by_text(": unidentifiable.").wait_for()
    found = desk.workstation.store.cell(cell.id)
    assert (found.disposition, found.reason) == ("unidentifiable", "out of focus at the nucleus")
    assert found.comment == "ask for another field"


def test_what_is_typed_outlives_a_reload(desk: Desk) -> None:
    case = desk.case(2)
    page = desk.sit("rolf", f"/cells/{desk.cells(case.id)[0].id}")
    decidable(page)
    page.locator("body").press("a")
    page.locator("#reason").fill("half a sentence")
    page.reload()
    page.locator("#reason").wait_for()
    assert page.locator("#reason").input_value() == "half a sentence"


def test_a_viewer_looks_and_changes_nothing(desk: Desk) -> None:
    case = desk.case(2)
    cell = desk.cells(case.id)[0]
    page = desk.sit("vera", f"/cells/{cell.id}")
    page.get_by_text("You may look, not review.").wait_for()
    page.locator("#map canvas").wait_for()
    page.locator("body").press("c")
    page.goto("/")
    page.get_by_role("link", name="P-1").first.wait_for()
    assert page.get_by_role("button", name="New case").count() == 0
    found = desk.workstation.store.cell(cell.id)
    assert (found.state, found.opened) == ("proposed", False)


def test_strangers_see_the_login_and_nothing_else(desk: Desk) -> None:
    case = desk.case(1, "P-secret")
    page = desk.sit(None)
    for path in ("/", f"/cases/{case.id}", "/atlas", "/admin", "/help"):
        page.goto(path)
        page.get_by_label("Password").wait_for()
        assert page.url.split("?")[0].endswith("/login")
        assert "P-secret" not in page.content()


def test_login_goes_on_to_the_page_that_was_asked_for_and_never_elsewhere(desk: Desk) -> None:
    for asked, reached in (
        ("/atlas", "/atlas"),
        ("https://evil.example/", "/"),
        ("/.//evil.example/", "//evil.example/"),  # a path of this very server
    ):
        page = desk.sit(None, f"/login?next={asked}")
        page.get_by_label("Name").fill("vera")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda url: "/login" not in url)
        assert page.url == desk.address + reached


def test_script_in_names_and_comments_stays_text(desk: Desk) -> None:
    evil = "<img src=x onerror=alert(1)>"
    client = desk.workstation.client("rolf")
    made = client.post("/api/v1/cases", json={"pseudonym": evil, "note": evil}).json()
    added = upload(client, made["id"], [(f"{evil}.png", desk.workstation.cells[0][1])])
    assert added.status_code == 201
    cell = desk.cells(made["id"])[0]
    page = desk.sit()
    alarms: list[str] = []
    page.on("dialog", lambda dialog: alarms.append(dialog.message))
    page.get_by_role("link", name=evil).click()
    page.locator(".tile").first.wait_for()
    page.locator(".tile").first.click()
    page.get_by_role("heading", name=cell.name).wait_for()
    decidable(page)
    page.locator("body").press("a")
    page.locator("#reason").fill(evil)
    page.get_by_text("then the next cell").click()
    page.locator("#save").click()
    page.get_by_text(f"“{evil}”").wait_for()
    assert page.locator("main img[src=x]").count() == 0
    assert alarms == []
