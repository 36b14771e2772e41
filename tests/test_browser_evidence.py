"""The evidence view: matching under the pointer, honest colours, and the map linked both ways."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from browsing import Desk, evidence_of

PADDING = 22  # of the map in its frame, as plot.js has it


@pytest.fixture
def opened(desk: Desk) -> tuple[Any, dict[str, Any]]:
    """The page of one cell, and its evidence."""
    case = desk.case(4)
    cell = desk.cells(case.id)[1]
    page = desk.sit(path=f"/cells/{cell.id}")
    page.locator("#map canvas").wait_for()
    return page, evidence_of(page, cell.id)


def tensors(evidence: dict[str, Any]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """(h, w, h, w) of the kin and of those against the verdict, in the order on the page."""
    h, w = evidence["grid"]
    pairs = [*evidence["pairs"], *evidence["counter"]["pairs"]]
    return [np.frombuffer(base64.b64decode(p["tensor"]), "<f4").reshape(h, w, h, w) for p in pairs]


def hover(page: Any, canvas: Any, spot: tuple[int, int], grid: list[int]) -> None:
    """Move the pointer to the middle of a position (row, column) of a picture."""
    box = canvas.bounding_box()
    x = box["x"] + (spot[1] + 0.5) * box["width"] / grid[1]
    page.mouse.move(x, box["y"] + (spot[0] + 0.5) * box["height"] / grid[0])


def best(values: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    i, j = np.unravel_index(int(values.argmax()), values.shape)
    return f"{i},{j}"


def test_a_spot_of_the_query_is_matched_in_every_neighbour_at_once(
    desk: Desk, opened: tuple[Any, dict[str, Any]]
) -> None:
    page, evidence = opened
    found = tensors(evidence)
    canvases = page.locator(".kin canvas")
    assert canvases.count() == 1 + len(found)
    page.wait_for_timeout(300)
    before = len(desk.asked)
    h, w = evidence["grid"]
    for spot in [(0, 0), (h // 2, w // 2), (h - 1, 1)]:
        hover(page, canvases.nth(0), spot, evidence["grid"])
        told = [canvases.nth(1 + i).get_attribute("data-match") for i in range(len(found))]
        assert told == [best(tensor[spot]) for tensor in found]
    asked = [url for url in desk.asked[before:] if "/image" not in url]
    assert asked == []  # not one round trip


def test_a_spot_of_a_neighbour_is_matched_in_the_query(
    opened: tuple[Any, dict[str, Any]],
) -> None:
    page, evidence = opened
    canvases = page.locator(".kin canvas")
    tensor = tensors(evidence)[1]
    spot = (1, evidence["grid"][1] - 1)
    hover(page, canvases.nth(2), spot, evidence["grid"])
    assert canvases.nth(0).get_attribute("data-match") == best(tensor[:, :, spot[0], spot[1]])
    assert canvases.nth(1).get_attribute("data-match") == ""


def test_the_matched_spot_moves_by_keyboard(opened: tuple[Any, dict[str, Any]]) -> None:
    page, evidence = opened
    page.locator("body").press("q")
    page.keyboard.press("ArrowDown")
    h, w = evidence["grid"]
    spot = (h // 2, w // 2)
    told = page.locator(".kin canvas").nth(1).get_attribute("data-match")
    assert told == best(tensors(evidence)[0][spot])
    assert page.locator("#spot-words").inner_text().startswith(f"Row {spot[0] + 1}, column")
    page.keyboard.press("Escape")
    assert page.locator(".kin canvas").nth(1).get_attribute("data-match") == ""


DRAWN = """async ([address, maps, limit]) => {
  const { overlay } = await import(address);
  return maps.map((map) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const ctx = canvas.getContext("2d", { willReadFrequently: true });
    overlay(ctx, Float32Array.from(map), [2, 2], limit);
    const data = ctx.getImageData(0, 0, 64, 64).data;
    let alpha = 0; let red = 0; let blue = 0;
    for (let i = 0; i < data.length; i += 4) {
      alpha += data[i + 3]; red += data[i] * data[i + 3]; blue += data[i + 2] * data[i + 3];
    }
    return [alpha / 4096, red > blue];
  });
}"""


def test_colours_are_never_normalised_map_by_map(opened: tuple[Any, dict[str, Any]]) -> None:
    page, _ = opened
    address = page.evaluate("document.querySelector('script[type=module]').src")
    heat = address.rsplit("/", 1)[0] + "/heat.js"
    maps = [[0.0] * 4, [0.05] * 4, [0.5] * 4, [1.0] * 4, [-1.0] * 4]
    (empty, _), (weak, _), (middle, _), (strong, warm), (against, cold) = page.evaluate(
        DRAWN, [heat, maps, 1.0]
    )
    assert empty == 0  # an empty map leaves the picture alone
    assert 0 < weak < middle < strong
    assert weak < 0.2 * strong
    assert strong == against  # zero is in the middle
    assert warm
    assert not cold
    assert strong < 0.5 * 255  # the cell shows through everywhere


def test_modes_share_one_scale_that_is_printed(opened: tuple[Any, dict[str, Any]]) -> None:
    page, evidence = opened
    page.locator("[data-mode=contrast][aria-pressed=true]").wait_for()  # the first and default map
    assert not page.locator("[data-mode=gradcam]").is_visible()
    told = page.locator(".kin .state-of").first.inner_text()
    assert told.endswith(evidence["contrast"]["query"]["inside"])
    page.locator("body").press("v")
    assert page.locator(".scale").is_hidden()
    page.locator("body").press("v")
    page.locator("[data-mode=gradcam][aria-pressed=true]").wait_for()
    for mode in ("contrast", "pair", "difference"):
        page.locator(f"[data-mode={mode}]").click()
        limit = evidence["limits"][mode]
        ticks = page.locator(".scale .ticks span").all_inner_texts()
        assert ticks[1] == "0"
        assert float(ticks[2]) == pytest.approx(limit, rel=0.06)
        assert ticks[0] == f"−{ticks[2]}"


def test_pictures_ring_their_points_and_points_their_pictures(
    opened: tuple[Any, dict[str, Any]],
) -> None:
    page, evidence = opened
    canvas = page.locator("#map canvas")
    canvas.scroll_into_view_if_needed()
    for i, kin in enumerate(evidence["neighbors"]):
        page.locator(".kin canvas").nth(1 + i).dispatch_event("pointerenter")
        assert canvas.get_attribute("data-linked") == kin["id"]
    points = page.request.get("/api/v1/atlas/map").json()["points"]
    last = evidence["neighbors"][-1]["id"]
    x, y = place(points, evidence["map"]["query_xy"], canvas.bounding_box(), last)
    page.mouse.move(x + 40, y + 40)
    page.mouse.move(x, y)
    ringed = canvas.get_attribute("data-linked")
    assert ringed, "no point under the pointer"
    near = place(points, evidence["map"]["query_xy"], canvas.bounding_box(), ringed)
    assert np.hypot(near[0] - x, near[1] - y) < 12
    kin_ids = [n["id"] for n in evidence["neighbors"]]
    canvas.focus()
    page.keyboard.press("0")
    seen = []
    for _ in kin_ids:
        page.keyboard.press("n")
        seen.append(page.locator(".kin.linked").get_attribute("data-id"))
        assert seen[-1] == canvas.get_attribute("data-linked")
    assert len(set(seen)) == len(kin_ids)


def place(
    points: list[dict[str, Any]], query: list[float], box: dict[str, float], wanted: str
) -> tuple[float, float]:
    """Where a point lies on the screen while the whole map is shown."""
    xy = np.array([[p["x"], p["y"]] for p in points] + [query])
    low, high = xy.min(axis=0), xy.max(axis=0)
    size = np.array([box["width"], box["height"]])
    scale = ((size - 2 * PADDING) / (high - low)).min()
    at = next(np.array([p["x"], p["y"]]) for p in points if p["id"] == wanted)
    found = (at - (low + high) / 2) * scale + size / 2 + np.array([box["x"], box["y"]])
    return float(found[0]), float(found[1])


def test_lasso_and_class_filter(desk: Desk) -> None:
    page = desk.sit(path="/atlas")
    page.locator(".refs img").first.wait_for()
    points = page.request.get("/api/v1/atlas/map").json()["points"]
    first = page.locator(".legend button").first
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    facts = page.request.get("/api/v1/atlas").json()
    shown = len(points) - next(c["count"] for c in facts["classes"] if c["count"])
    page.get_by_role("button", name="Lasso").click()
    box = page.locator(".plot canvas").bounding_box()
    corners = [(2, 2), (box["width"] - 44, 2), (box["width"] - 2, box["height"] / 2)]
    corners += [(box["width"] - 2, box["height"] - 2), (2, box["height"] - 2)]
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.mouse.up()
    page.get_by_text(f"{shown} cells in the lasso").wait_for()
    assert page.locator(".refs button").count() == min(shown, 120)
