"""The workstation under load: clients that upload and decide at once, on loopback.

A real server process (`cellkin serve --accounts`), 16 clients with a token each, two to a case. A
client uploads cells, repeats some uploads with the same key, asks for evidence, opens and decides
cells; on 409 it reads the case again and sends the decision again. Afterwards the store is opened
and compared with what the clients were answered. The last line is one JSON object:

    requests, uploads, cells, reviews   what was answered with success
    conflicts                           decisions that were sent again since the case had changed
    errors                              other answers, and broken connections; must be 0
    lost, doubled                       cells or decisions missing from the store, or there twice
    log_faults, log_entries         of the hash chain
    backup                              of a store of 300 MB in use, see backing_up.py
    latency_ms                          kind of request -> 50th, 95th, 99th percentile and largest

With --hostile it is attacked instead, see `hostile.py` beside this file.

    python benchmarks/server.py [--seconds 60] [--clients 16] [--atlas ATLAS] [--hostile]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backing_up
import hostile
import numpy as np
from PIL import Image

from cellkin import datasets
from cellkin.drawing.drawn import draw
from cellkin.learning.recipes import Recipe
from cellkin.system import train
from cellkin.web.store import Actor, Store

SYSTEM = Actor("cellkin", "admin", "command line")
SCOPES = ("read", "upload", "review")
REVIEWED = ("cell confirmed", "cell reclassified")
LOOK = 1.0  # seconds that a person has cells open before deciding; the server asks for 0.8
UPLOAD = (1, 4)  # images in one upload, least and most


@dataclass
class Record:
    """What one client was answered."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cells: dict[str, str] = field(default_factory=dict)  # sha256 -> cell id
    reviews: list[str] = field(default_factory=list)  # cell ids, one for each success
    errors: list[str] = field(default_factory=list)
    conflicts: int = 0


class Client(threading.Thread):
    """One person at work until the time is over."""

    def __init__(self, place: tuple[str, int], secret: str, case: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(*place, timeout=120)
        self.secret, self.case = secret, case
        self.cells = f"/cases/{case}/cells"
        self.until = 0.0
        self.record = Record()
        self.pixels = np.random.default_rng(seed)
        self.chance = random.Random(seed)
        self.bases: list[Any] = []

    def warm_up(self) -> None:
        """One decision that is not counted: processes start, the network sees its first cell."""
        self._upload([self._image()], "/decide", uuid.uuid4().hex)
        self.record = Record()

    def run(self) -> None:
        while time.monotonic() < self.until:
            try:
                self._round()
            except Exception as error:
                self.record.errors.append(f"{type(error).__name__}: {error}")
                self.connection.close()

    def _round(self) -> None:
        key = uuid.uuid4().hex
        images = [self._image() for _ in range(self.chance.randint(*UPLOAD))]
        added = self._upload(images, self.cells, key)["added"]
        if self.chance.random() < 0.25:
            again = self._upload(images, self.cells, key)
            if not again["replayed"] or [c["id"] for c in again["added"]] != [
                c["id"] for c in added
            ]:
                self.record.errors.append("a repeated upload was answered differently")
        for cell in added:
            self.record.cells[cell["sha256"]] = cell["id"]
        self._ask("evidence", "GET", f"/cells/{added[0]['id']}/evidence")
        for cell in added:
            self._ask("opened", "POST", f"/cells/{cell['id']}/opened", {})
        time.sleep(LOOK)
        for cell in added:
            self._review(cell)
        self._ask("list", "GET", f"{self.cells}?limit=50")

    def _review(self, cell: dict[str, Any]) -> None:
        version = self._ask("case", "GET", f"/cases/{self.case}")[1]["version"]
        while True:
            body = {"version": version, "label": cell["proposed"]}
            status, told = self._ask("review", "POST", f"/cells/{cell['id']}/review", body)
            if status == 200:
                self.record.reviews.append(cell["id"])
                return
            if status != 409 or "current" not in told:
                return
            self.record.conflicts += 1
            version = told["current"]["version"]

    def _image(self) -> bytes:
        """A drawn cell with some pixels changed: no two are the same."""
        image = self.chance.choice(self.bases).copy()
        image[0, :8] = self.pixels.integers(0, 256, (8, 3))
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def _upload(self, images: list[bytes], path: str, key: str) -> Any:
        edge = uuid.uuid4().hex
        head = '--{}\r\nContent-Disposition: form-data; name="files"; filename="{}.png"\r\n\r\n'
        parts = [head.format(edge, i).encode() + data + b"\r\n" for i, data in enumerate(images)]
        body = b"".join(parts) + f"--{edge}--\r\n".encode()
        kind = f"multipart/form-data; boundary={edge}"
        headers = {"Content-Type": kind, "Idempotency-Key": key}
        return self._sent("upload", "POST", path, body, headers)[1]

    def _ask(self, name: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        return self._sent(name, method, path, data, {"Content-Type": "application/json"})

    def _sent(
        self, name: str, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, Any]:
        started = time.perf_counter()
        token = {"Authorization": f"Bearer {self.secret}"}
        self.connection.request(method, f"/api/v1{path}", body, {**headers, **token})
        answer = self.connection.getresponse()
        told = json.loads(answer.read())
        self.record.times[name].append(time.perf_counter() - started)
        conflict = answer.status == 409 and "current" in told
        if answer.status >= 400 and not conflict:
            self.record.errors.append(f"{method} {path}: {answer.status} {told.get('detail')}")
        return answer.status, told


def started(atlas: Path, store: Path) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """A server process, and where it listens."""
    words = [sys.executable, "-m", "cellkin", "serve", str(atlas), "--store", str(store)]
    words += ["--accounts", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://(127\.0\.0\.1):(\d+)/", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, (found[1], int(found[2]))
    raise SystemExit("the server did not start")


def prepared(store: Path, clients: int) -> list[tuple[str, str]]:
    """A token and a case for each client, two clients to a case."""
    with_people = Store.open(store)
    made = []
    for i in range(clients):
        name = f"client {i}"
        with_people.add_user(SYSTEM, name, uuid.uuid4().hex, "reviewer")
        secret, _ = with_people.add_token(SYSTEM, name, SCOPES, days=1)
        if i % 2 == 0:
            case = with_people.create_case(SYSTEM, f"load {i // 2}").id
        made.append((secret, case))
    with_people.close()
    return made


def compared(store: Path, clients: list[Client]) -> dict[str, int]:
    """What the store holds against what the clients were answered."""
    opened = Store.open(store)
    held: Counter[str] = Counter()
    decided: set[str] = set()
    for case in {client.case for client in clients}:
        cursor: str | None = None
        while True:
            cells, cursor = opened.cells(case, limit=500, cursor=cursor)
            held.update(cell.sha256 for cell in cells)
            decided |= {cell.id for cell in cells if cell.state == "confirmed"}
            if cursor is None:
                break
    reviewed: Counter[str] = Counter()
    cursor = None
    while True:
        entries, cursor = opened.log(limit=500, cursor=cursor)
        reviewed.update(e.cell for e in entries if e.action in REVIEWED and e.cell)
        if cursor is None:
            break
    check = opened.verify_log()
    opened.close()
    sent = [sha for client in clients for sha in client.record.cells]
    answered = Counter(cell for client in clients for cell in client.record.reviews)
    return {
        "cells": sum(held.values()),
        "lost": sum(held[sha] == 0 for sha in sent)
        + sum(cell not in decided for cell in answered)
        + sum(max(0, count - reviewed[cell]) for cell, count in answered.items()),
        "doubled": sum(count > 1 for count in held.values())
        + sum(max(0, count - answered[cell]) for cell, count in reviewed.items()),
        "log_entries": check.entries,
        "log_faults": len(check.faults),
    }


def percentiles(times: dict[str, list[float]]) -> dict[str, list[float]]:
    return {
        name: [round(1000 * float(v), 1) for v in (*np.percentile(some, (50, 95, 99)), max(some))]
        for name, some in sorted(times.items())
    }


def measured(atlas: Path, store: Path, images: list[Any], asked: Any) -> dict[str, Any]:
    places = prepared(store, asked.clients)
    server, place = started(atlas, store)
    clients = [Client(place, *one, seed) for seed, one in enumerate(places)]
    for client in clients:
        client.bases = images
    clients[0].warm_up()
    until = time.monotonic() + asked.seconds
    for client in clients:
        client.until = until
        client.start()
    for client in clients:
        client.join()
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    records = [client.record for client in clients]
    times: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, some in record.times.items():
            times[name] += some
    errors = [error for record in records for error in record.errors]
    for error in errors[:5]:
        print(error)
    return {
        "clients": asked.clients,
        "seconds": asked.seconds,
        "requests": sum(map(len, times.values())),
        "uploads": len(times["upload"]),
        "reviews": sum(len(record.reviews) for record in records),
        "conflicts": sum(record.conflicts for record in records),
        "errors": len(errors),
        **compared(store, clients),
        "server_exit": server.returncode,
        "latency_ms": percentiles(times),
    }


def attacked(atlas: Path, store: Path, images: list[Any]) -> dict[str, Any]:
    """What an attack does to a server, and to those who use it meanwhile."""
    people = [(secret, case) for secret, case in prepared(store, 2 * hostile.PDFS)][::2]
    server, place = started(atlas, store)
    for seed, (secret, case) in enumerate(people):
        client = Client(place, secret, case, seed)
        client.bases = images
        client._upload([client._image() for _ in range(6)], client.cells, uuid.uuid4().hex)
    found = hostile.while_pdfs(place, people)
    found |= hostile.while_locked(place, store, people)
    found |= hostile.after_bodies(place, server.pid, people)
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    return {**found, "server_exit": server.returncode}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--atlas", type=Path, default=None)
    parser.add_argument("--hostile", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = datasets.open(draw(folder / "cells", cells=90, subjects=12, size=96, seed=0))
        images = [np.asarray(Image.open(s.image.path).convert("RGB")) for s in cells.samples]
        recipe = Recipe(backbone="resnet18", size=96, epochs=1, batch=16, k=5, precision="fp32")
        atlas = asked.atlas or train(cells, recipe, out=folder / "atlas")
        store = folder / "store.sqlite"
        if asked.hostile:
            result = attacked(atlas, store, images)
        else:
            result = measured(atlas, store, images, asked)
            result["backup"] = backing_up.measured(folder)
    for kind, found in result.get("latency_ms", {}).items():
        words = "{:8.1f} {:8.1f} {:8.1f} {:8.1f}".format(*found)
        print(f"{kind:10} 50/95/99 %, largest, ms: {words}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
