"""A case of 5,000 cells: only what is near the screen is in the page, and nothing is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from browsing import Desk
from workstation import SYSTEM, Workstation, running, workstation

from cellkin.core.records import Decision
from cellkin.system import DecisionSupport
from cellkin.web.store import NewCell

CELLS = 5000
MOST_TILES = 260  # at 1280 x 800, with the rows just beyond both edges


@pytest.fixture(scope="module")
def crowded(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workstation, str]]:
    """A workstation with one case of 5,000 cells; the tests share its page, in their order."""
    with workstation(support, new_cells, tmp_path_factory.mktemp("crowded")) as opened:
        seed = opened.case(opened.client("rolf"), cells=6)
        found = opened.store.cells(seed["id"])[0]
        models = [
            NewCell(
                cell.name,
                "",
                opened.store.image(cell.id),
                None,
                Decision.from_json(cell.decision),
                cell.gate,
                cell.provenance,
            )
            for cell in found
        ]
        case = opened.store.create_case(SYSTEM, "P-5000")
        many = [
            replace(
                models[i % len(models)],
                name=f"cell-{i:04}.png",
                sha256=hashlib.sha256(str(i).encode()).hexdigest(),
            )
            for i in range(CELLS)
        ]
        opened.store.add_cells(SYSTEM, case.id, many, None)
        yield opened, case.id


@pytest.fixture(scope="module")
def page(chromium: Any, crowded: tuple[Workstation, str]) -> Iterator[Any]:
    with running(crowded[0].app) as address:
        here = Desk(chromium, address, crowded[0])
        opened = here.sit(path=f"/cases/{crowded[1]}")
        opened.get_by_text(f"all {CELLS:,}").wait_for()
        yield opened
        here.leave()
        assert here.faults == []


FILLED = """() => {
  const rows = [...document.querySelectorAll(".gallery .row")];
  const shown = rows.map((row) => row.getBoundingClientRect());
  const box = document.querySelector(".gallery").getBoundingClientRect();
  let blank = 0;
  for (let y = Math.max(0, box.top); y < Math.min(innerHeight, box.bottom); y += 10) {
    if (!shown.some((r) => r.top - 30 <= y && r.bottom + 30 >= y)) blank += 10;
  }
  return { blank, tiles: document.querySelectorAll(".tile").length, height: box.height };
}"""
SCROLL = """y => new Promise((done) => {
  scrollTo(0, y);
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def test_a_cell_counts_as_seen_only_once_it_was_on_screen(
    page: Any, crowded: tuple[Workstation, str]
) -> None:
    opened, case = crowded
    tiles = page.locator(".tile")
    tiles.first.wait_for()
    page.wait_for_timeout(1800)
    seen = [cell for cell in walk(opened, case) if cell.seen]
    assert 0 < len(seen) < 200  # the first screen, not the 5,000
    on_screen = set(page.evaluate("[...document.querySelectorAll('.tile')].map(t => t.dataset.id)"))
    assert {cell.id for cell in seen} <= on_screen


def test_every_place_of_5000_cells_is_filled_and_the_page_stays_small(page: Any) -> None:
    whole = page.evaluate(FILLED)["height"]
    assert whole > 50_000
    for share in (0.0, 0.13, 0.5, 0.51, 0.9, 1.0, 0.2):
        page.evaluate(SCROLL, whole * share)
        seen = page.evaluate(FILLED)
        assert seen["blank"] == 0, f"a gap at {share}"
        assert seen["tiles"] <= MOST_TILES


def test_the_keyboard_walks_through_rows_that_come_and_go(page: Any) -> None:
    page.evaluate(SCROLL, 0)
    page.locator(".tile").first.wait_for()
    page.locator("body").press("ArrowRight")
    first = page.locator(".tile:focus").get_attribute("data-id")
    seen = {first}
    for _ in range(30):
        page.keyboard.press("ArrowDown")
        seen.add(page.locator(".tile:focus").get_attribute("data-id"))
    assert len(seen) == 31
    box = page.locator(".tile:focus").bounding_box()
    assert 0 <= box["y"] < 800
    assert page.locator(".tile").count() <= MOST_TILES
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    assert page.locator(".tile:focus").get_attribute("data-id") == first


def walk(opened: Workstation, case: str) -> Iterator[Any]:
    cursor = None
    while True:
        found, cursor = opened.store.cells(case, limit=500, cursor=cursor)
        yield from found
        if cursor is None:
            return
