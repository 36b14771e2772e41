"""A small workstation for tests: one atlas, stores of their own, clients that are signed in."""

from __future__ import annotations

import io
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from cellkin.core.records import Dataset
from cellkin.system import DecisionSupport
from cellkin.web.app import create_app
from cellkin.web.settings import Settings, Traffic
from cellkin.web.store import Actor, Rules, Store
from cellkin.web.traffic import configured

PASSWORD = "a long enough one"
HOST = "http://localhost"
PEOPLE = {"vera": "viewer", "rolf": "reviewer", "rita": "reviewer", "anna": "admin"}
SYSTEM = Actor("cellkin", "admin", "command line")
SETTINGS = Settings(accounts=True, decode_seconds=10, workers=1, rules=Rules())


@dataclass
class Workstation:
    """An app, its store, and cells that can be uploaded: (name, bytes), no reference cell."""

    app: FastAPI
    store: Store
    cells: Sequence[tuple[str, bytes]]

    def client(self, name: str | None = None) -> TestClient:
        """A client of the app, signed in as somebody, with the CSRF token in its headers."""
        client = TestClient(self.app, base_url=HOST)
        if name is not None:  # without a password: hashing one takes a while, by design
            client.cookies.set("cellkin", self.store.start_session(name))
            client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
        return client

    def case(self, client: TestClient, cells: int = 0) -> dict[str, Any]:
        """A new case with so many cells."""
        made = client.post("/api/v1/cases", json={"pseudonym": "P-1"})
        assert made.status_code == 201, made.text
        if not cells:
            return dict(made.json())
        added = upload(client, made.json()["id"], self.cells[:cells])
        assert added.status_code == 201, added.text
        return dict(added.json()["case"])


def sign_in(client: TestClient, name: str) -> None:
    """Sign in by password; from now on the client's changes carry the CSRF token."""
    answer = client.post("/api/v1/session", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf"]


def upload(
    client: TestClient, case: str, cells: Sequence[tuple[str, bytes]], key: str | None = None
) -> Any:
    """Upload images to a case."""
    headers = {} if key is None else {"Idempotency-Key": key}
    files = [("files", (name, data, "image/png")) for name, data in cells]
    return client.post(f"/api/v1/cases/{case}/cells", files=files, headers=headers)


def add_people(store: Store) -> None:
    """The people of `PEOPLE`, all with one password."""
    for name, role in PEOPLE.items():
        store.add_user(SYSTEM, name, PASSWORD, role)


@cache
def _peopled() -> bytes:
    """An SQLite store with the people of `PEOPLE`: their passwords are hashed once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        store = Store.open(path)
        add_people(store)
        store.close()
        return path.read_bytes()


def held_out(support: DecisionSupport, dataset: Dataset) -> list[tuple[str, bytes]]:
    """Cells of the test part, as (name, PNG bytes)."""
    test = next(cells for cells in support.atlas.held_out if cells.part == "test")
    samples = dataset.select(test.ids)
    return [(s.image.path.name, s.image.path.read_bytes()) for s in samples]


@contextmanager
def workstation(
    support: DecisionSupport,
    cells: Sequence[tuple[str, bytes]],
    folder: Path,
    settings: Settings = SETTINGS,
) -> Iterator[Workstation]:
    """A workstation with a store of its own."""
    path = folder / "store.sqlite"
    if settings.accounts:
        path.write_bytes(_peopled())
    store = Store.open(path)
    try:
        app = create_app(support, store, settings)
        try:
            yield Workstation(app, store, cells)
        finally:
            app.state.station.close()
    finally:
        store.close()


@contextmanager
def running(app: Any, traffic: Traffic | None = None, *, proxied: bool = False) -> Iterator[str]:
    """The app behind a real port of the loopback interface; gives its address."""
    bounds = traffic or app.state.station.settings.traffic
    with socket.create_server(("127.0.0.1", 0)) as door:
        config = configured(app, bounds, proxied=proxied, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def png(width: int, height: int, color: tuple[int, int, int] = (200, 150, 180)) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()


__all__ = [
    "HOST",
    "PASSWORD",
    "PEOPLE",
    "SETTINGS",
    "SYSTEM",
    "Workstation",
    "add_people",
    "held_out",
    "png",
    "replace",
    "running",
    "sign_in",
    "upload",
    "workstation",
]
