"""Chromium on a running workstation, for the tests of the pages."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from workstation import PASSWORD, Workstation, upload

from cellkin.web.store import Actor, Case

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
)
AXE = Path(sys.prefix) / "npm" / "node_modules" / "axe-core" / "axe.min.js"
WAIT = 20_000  # milliseconds until something that should be on a page counts as missing


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium; skips, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield opened
        opened.close()


@dataclass
class Desk:
    """A workstation that is running, and people in front of it.

    Attributes:
        faults: what the consoles of all pages complained about.
        asked: addresses of all requests, in order.
    """

    browser: Any
    address: str
    workstation: Workstation
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def sit(self, name: str | None = "rolf", path: str = "/", **options: Any) -> Any:
        """A page in a browser of its own, signed in as somebody (through the API)."""
        kept = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options}
        context = self.browser.new_context(base_url=self.address, **kept)
        context.set_default_timeout(WAIT)
        self.contexts.append(context)
        if name is not None:
            made = context.request.post(
                "/api/v1/session", data={"name": name, "password": PASSWORD}
            )
            assert made.ok, made.text()
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", lambda told: self._heard(told))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path)
        return page

    def _heard(self, told: Any) -> None:
        expected = "Failed to load resource"  # Chromium says so for each status above 399
        if told.type in ("error", "warning") and expected not in told.text:
            self.faults.append(told.text)

    def case(self, cells: int, pseudonym: str = "P-1", by: str = "rolf") -> Case:
        """A case of so many held-out cells, put in through the API."""
        client = self.workstation.client(by)  # not in a `with`: that would stop the app
        made = client.post("/api/v1/cases", json={"pseudonym": pseudonym}).json()
        if cells:
            added = upload(client, made["id"], self.workstation.cells[:cells])
            assert added.status_code == 201, added.text
        return self.workstation.store.case(made["id"])

    def cells(self, case: str) -> list[Any]:
        """The cells of a case, the most worrying first."""
        return self.workstation.store.cells(case, limit=500)[0]

    def finish(self, case: str, by: str = "rolf") -> Case:
        """Open and confirm every held cell, see the others, and sign."""
        store, actor = self.workstation.store, Actor(by, "reviewer", "page")
        found = self.cells(case)
        store.seen(actor, case, [cell.id for cell in found])
        for cell in found:
            if cell.held:
                store.opened(actor, cell.id)
                version = store.case(case).version
                store.review(actor, cell.id, version, label=cell.proposed)
        return store.sign(actor, case, store.case(case).version)

    def leave(self) -> None:
        """Close every browser that was opened here."""
        for context in self.contexts:
            context.close()


def files_in(folder: Path, cells: Sequence[tuple[str, bytes]]) -> list[str]:
    """Cells as files on the disk, to be chosen in a file dialog."""
    folder.mkdir(exist_ok=True)
    made = []
    for name, data in cells:
        path = folder / name
        path.write_bytes(data)
        made.append(str(path))
    return made


def decidable(page: Any) -> None:
    """Wait until a cell may be decided: its evidence is on screen."""
    page.locator("#confirm:enabled").wait_for()


def evidence_of(page: Any, cell: str) -> dict[str, Any]:
    """What the server says about a cell."""
    return dict(page.request.get(f"/api/v1/cells/{cell}/evidence").json())


__all__ = ["AXE", "WAIT", "Desk", "chromium", "decidable", "evidence_of", "files_in"]
