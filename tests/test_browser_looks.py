"""Every page, light and dark, wide and narrow: accessible, within its window, from here alone."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import AXE, Desk

SERIOUS = {"serious", "critical"}


def addresses(desk: Desk) -> dict[str, str]:
    """One address of every page."""
    case = desk.case(6)
    signed = desk.case(2, "P-2")
    desk.finish(signed.id)
    empty = desk.case(0, "P-3")
    return {
        "worklist": "/",
        "case": f"/cases/{case.id}",
        "empty case": f"/cases/{empty.id}",
        "signed case": f"/cases/{signed.id}",
        "cell": f"/cells/{desk.cells(case.id)[0].id}",
        "report": f"/cases/{signed.id}/report",
        "atlas": "/atlas",
        "drift": "/drift",
        "users": "/admin#users",
        "tokens": "/admin#tokens",
        "log": "/admin#log",
        "help": "/help",
        "nothing": "/cases/no-such-case",
    }


def settle(page: Any) -> None:
    page.locator(".loading").first.wait_for(state="detached")
    page.wait_for_load_state("networkidle")


def test_axe_finds_nothing_serious(desk: Desk) -> None:
    if not AXE.is_file():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core")
    source = AXE.read_text(encoding="utf-8")
    page = desk.sit("anna")
    found: dict[str, list[str]] = {}
    for name, path in addresses(desk).items():
        page.goto("about:blank")  # or a change of the hash alone would load nothing
        page.goto(path)
        settle(page)
        page.evaluate(source)
        for scheme, rules in (("light", ""), ("dark", "runOnly: ['color-contrast'], ")):
            page.emulate_media(color_scheme=scheme)
            told = page.evaluate(f"axe.run({{ {rules}resultTypes: ['violations'] }})")
            for fault in told["violations"]:
                if fault["impact"] in SERIOUS:
                    nodes = [node["html"][:160] for node in fault["nodes"][:3]]
                    found[f"{name}, {scheme}: {fault['id']}"] = nodes
    assert found == {}


def test_pages_fit_their_window_say_the_notice_and_ask_nobody_else(desk: Desk) -> None:
    page = desk.sit("anna")
    for name, path in addresses(desk).items():
        page.goto("about:blank")
        page.goto(path)
        settle(page)
        notice = page.get_by_role("note").first.inner_text()
        assert "Morphology alone establishes neither lineage nor malignancy" in notice
        for width, height in ((640, 400), (1280, 800)):  # the first is the second at 200 % zoom
            page.set_viewport_size({"width": width, "height": height})
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"{name} is {over} pixels too wide at {width}"
    elsewhere = [u for u in desk.asked if not u.startswith((desk.address, "data:", "blob:"))]
    assert elsewhere == []


def test_an_error_is_said_and_the_way_out_is_shown(desk: Desk) -> None:
    page = desk.sit(path="/cells/no-such-cell")
    page.get_by_text("Nothing is here").wait_for()
    page.get_by_role("link", name="To the worklist").click()
    page.get_by_role("heading", name="Worklist").wait_for()
    page.goto("/?search=nobody+is+called+that")
    page.get_by_text("No case fits").wait_for()
    page.route("**/api/v1/cases?*", lambda route: route.abort())
    page.reload()
    page.get_by_text("The server cannot be reached.").wait_for()
    page.unroute("**/api/v1/cases?*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("No case fits").wait_for()


def test_colours_are_chosen_and_kept(desk: Desk) -> None:
    page = desk.sit(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()  # light, then dark
    assert page.evaluate(ground) == light
    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_every_key_is_told_and_single_keys_can_be_switched_off(desk: Desk) -> None:
    page = desk.sit()
    page.locator("#new:visible").wait_for()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys on this page")
    dialog.wait_for()
    assert "new case" in dialog.inner_text()
    dialog.get_by_text("Single letters and digits act as keys").click()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert page.get_by_role("dialog").count() == 0
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
