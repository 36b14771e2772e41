"""The pictures of docs/workstation.md and docs/differential.md, made in a browser with the demo.

    cellkin demo --out demo && python docs/screenshots.py demo

Needs `pip install 'cellkin[dev]'` and Chromium. The cells are drawn: no real blood.
"""

from __future__ import annotations

import io
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from cellkin import datasets
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.report import CountAlbum, save_count
from cellkin.system import DecisionSupport
from cellkin.web.app import create_app
from cellkin.web.example import prepare_case
from cellkin.web.settings import Settings
from cellkin.web.store import Actor, Store

OUT = Path(__file__).parent / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PASSWORD = "only for pictures"
LARGEST = 150_000  # bytes of one picture
SIZE = {"width": 1280, "height": 800}


@contextmanager
def workstation(demo: Path) -> Iterator[tuple[str, Store, str, str]]:
    """The demo's workstation: its address, store, an open case and a signed one."""
    support = DecisionSupport.open(demo / "atlas", device="cpu")
    test = next(part for part in support.atlas.held_out if part.part == "test")
    samples = datasets.open(demo / "cells").select(test.ids)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store.sqlite")
        anna = Actor("anna", "admin", "command line")
        for name, role in (("anna", "admin"), ("ben", "reviewer"), ("vera", "viewer")):
            store.add_user(anna, name, PASSWORD, role)
        signed = _signed(store, prepare_case(support, store, samples).id, anna)
        opened = prepare_case(support, store, samples).id
        store.create_case(anna, "Demo 3", consecutive=True)
        app = create_app(support, store, Settings(accounts=True))
        with socket.create_server(("127.0.0.1", 0)) as door:
            server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
            thread.start()
            yield f"http://127.0.0.1:{door.getsockname()[1]}", store, opened, signed
            server.should_exit = True
            thread.join()
        store.close()


def _signed(store: Store, case: str, actor: Actor) -> str:
    """Review and sign a case as somebody would, and call it "Demo 2"."""
    found, _ = store.cells(case, limit=500)
    store.seen(actor, case, [cell.id for cell in found])
    for i, cell in enumerate(c for c in found if c.held):
        store.opened(actor, cell.id)
        version = store.case(case).version
        if i == 3:
            why = {"disposition": "artefact", "reason": "stain precipitate over the nucleus"}
            store.review(actor, cell.id, version, **why)
        else:
            store.review(actor, cell.id, version, label=cell.proposed)
    store.update_case(actor, case, store.case(case).version, pseudonym="Demo 2", consecutive=True)
    return store.sign(actor, case, store.case(case).version).id


def take(page: Any, name: str, of: str = "workstation") -> None:
    """Save what is on screen, as large as fits into `LARGEST`."""
    page.mouse.move(2, 2)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for width in (1280, 1120, 1000, 900, 800, 640):
        shown = picture
        if width < picture.width:
            height = round(picture.height * width / picture.width)
            shown = picture.resize((width, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small = shown.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        small.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            break
    (OUT / f"{of}-{name}.png").write_bytes(buffer.getvalue())
    print(f"{of}-{name}.png: {buffer.tell() // 1000} kB, {shown.width} pixels wide")


def at(page: Any, address: str, path: str, wanted: str) -> None:
    """Open a page and wait until it is whole."""
    page.goto("about:blank")
    page.goto(address + path)
    page.locator(wanted).first.wait_for()
    page.locator(".loading").first.wait_for(state="detached")
    page.wait_for_load_state("networkidle")
    time.sleep(0.8)


def tour(browser: Any, address: str, store: Store, cases: tuple[str, str]) -> None:
    """Every page once."""
    opened, signed = cases
    context = browser.new_context(viewport=SIZE, locale="en-GB", timezone_id="UTC")
    page = context.new_page()
    at(page, address, "/login", "#login")
    take(page, "login")
    answer = context.request.post(
        f"{address}/api/v1/session", data={"name": "anna", "password": PASSWORD}
    )
    assert answer.ok, answer.text()
    at(page, address, "/", "tbody tr")
    take(page, "worklist")
    at(page, address, f"/cases/{opened}", ".tile")
    take(page, "case")
    held = next(cell for cell in store.cells(opened, limit=500)[0] if cell.held)
    at(page, address, f"/cells/{held.id}", "#map canvas")
    take(page, "cell")
    page.keyboard.press("o")
    page.locator("dialog.viewing canvas").wait_for()
    page.keyboard.press("Escape")
    page.locator(".kin .closely").nth(1).dispatch_event("click")
    page.locator("dialog.viewing canvas").nth(1).wait_for()
    page.wait_for_load_state("networkidle")
    for _ in range(3):
        page.keyboard.press("+")
    take(page, "closely")
    page.keyboard.press("Escape")
    page.locator(".more-maps summary").click()
    page.locator("[data-mode=pair]").click()
    take(page, "alike")
    page.locator(".kin.query canvas").focus()
    page.keyboard.press("ArrowDown")
    take(page, "matching")
    at(page, address, f"/cases/{signed}/report", ".sheet")
    take(page, "report")
    at(page, address, "/atlas", ".refs img")
    take(page, "atlas")
    at(page, address, "/admin#log", ".log")
    take(page, "log")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 640, "height": 800})
    at(page, address, f"/cells/{held.id}", "#map canvas")
    take(page, "narrow-dark")


def draw_fields(folder: Path, count: int = 12) -> list[Path]:
    """Drawn fields of lymphoblasts among other white cells."""
    kinds = ("lymphoblast", "lymphocyte", "neutrophil", "monocyte", "eosinophil")
    paths = []
    for number in range(1, count + 1):
        rng = np.random.default_rng([35, number])
        style = subject_style(rng).in_field(rng, 1.0)
        chosen = rng.choice(kinds, 14, p=(0.3, 0.35, 0.2, 0.1, 0.05)).tolist()
        rgb, _, _ = draw_field(chosen, rng, style, Canvas((1080, 1440), 9.0), 0.3)
        paths.append(folder / f"field-{number:02d}.png")
        Image.fromarray(rgb).save(paths[-1])
    return paths


def differential(browser: Any, demo: Path) -> None:
    """The page of a count: its top, a field, and cells."""
    support = DecisionSupport.open(demo / "atlas", device="cpu")
    page = browser.new_context(viewport={"width": 1180, "height": 800}).new_page()
    with tempfile.TemporaryDirectory() as folder:
        paths = draw_fields(Path(folder))
        album = CountAlbum(len(paths))
        count = support.count(paths, album=album)
        written = save_count(count, folder, album, support.atlas.pngs)
        page.goto(written.as_uri())
        take(page, "page", "differential")
        for name in ("fields", "cells"):
            page.evaluate(f"document.getElementById('{name}').scrollIntoView()")
            time.sleep(0.8)
            take(page, name, "differential")


def main() -> None:
    """Make all pictures."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        differential(browser, demo)
        browser.close()
    with workstation(demo) as (address, store, opened, signed), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        tour(browser, address, store, (opened, signed))
        browser.close()


if __name__ == "__main__":
    main()
