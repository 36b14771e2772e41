"""A running workstation under attack: quick answers beside slow work, and memory after bad bodies.

Used by `benchmarks/server.py`, which starts the server. Each function returns what it adds to the
result:

    me_while_pdfs_ms, pdfs      percentiles 50, 95, 99 and largest of GET /me while 41 reports are
                                made PDFs; how many of these were made
    read_while_locked_ms        the same of GET /me and /cases, while another process holds SQLite's
                                lock and 51 people want to write; writes: their statuses
    above_rest_mb               memory of the server and its processes after 50 hostile bodies, and
                                the largest meanwhile, above what it had before them
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Place = tuple[str, int]
PDFS, WRITERS, BODIES = 41, 51, 50
LOCKED = 20.0  # seconds
SENT = 40 * 2**20  # bytes that one hostile body tries to send


def asked(place: Place, secret: str, method: str, path: str, body: Any = None) -> tuple[int, float]:
    """Status and seconds of one request."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(*place, timeout=120)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, f"/api/v1{path}", data, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, time.perf_counter() - started


@contextmanager
def polled(ask: Callable[[], tuple[int, float]]) -> Iterator[list[float]]:
    """Ask again and again, ten times a second, while the block runs."""
    times: list[float] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.wait(0.1):
            status, took = ask()
            times.append(took if status == 200 else float("inf"))

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def percentiles(times: list[float]) -> list[float]:
    """50, 95 and 99 %, and the largest, in milliseconds."""
    return [round(1000 * float(v), 1) for v in (*np.percentile(times, (50, 95, 99)), max(times))]


def while_pdfs(place: Place, people: list[tuple[str, str]]) -> dict[str, Any]:
    """One report for each of 41 people, all at once."""
    secret = people[0][0]
    with (
        ThreadPoolExecutor(PDFS) as pool,
        polled(lambda: asked(place, secret, "GET", "/me")) as times,
    ):
        made = list(
            pool.map(lambda one: asked(place, one[0], "GET", f"/cases/{one[1]}/report.pdf"), people)
        )
    return {
        "me_while_pdfs_ms": percentiles(times),
        "pdfs": dict(Counter(str(status) for status, _ in made)),
        "pdf_seconds": round(max(took for _, took in made), 1),
    }


def while_locked(place: Place, store: Path, people: list[tuple[str, str]]) -> dict[str, Any]:
    """51 changes at once, of all people in turn, while nothing can be written."""
    lock = sqlite3.connect(store, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    secret = people[0][0]
    turns = itertools.cycle(("/me", "/cases"))
    who = list(itertools.islice(itertools.cycle(people), WRITERS))
    with (
        ThreadPoolExecutor(WRITERS) as pool,
        polled(lambda: asked(place, secret, "GET", next(turns))) as times,
    ):
        writes = [
            pool.submit(asked, place, one[0], "POST", "/cases", {"pseudonym": "x"}) for one in who
        ]
        time.sleep(LOCKED)
        lock.execute("ROLLBACK")
        statuses = Counter(str(one.result()[0]) for one in writes)
    lock.close()
    return {"read_while_locked_ms": percentiles(times), "writes": dict(statuses)}


def memory(process: int) -> float:
    """MB of a process and those that it started."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            parent = int(status.split("PPid:")[1].split()[0])
            if process in (int(folder.name), parent):
                total += int(status.split("VmRSS:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total * 1024 / 1e6


def hostile(place: Place, person: tuple[str, str], turn: int) -> None:
    """One body that should not be: for anybody, or of somebody with an account."""
    secret, case = person
    token = f"Authorization: Bearer {secret}"
    form = "Content-Type: multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    heads, start, piece = [
        (("POST /api/v1/session", form), part, b"a" * 2**16),
        (("POST /api/v1/session", "Content-Type: application/json"), b"", b"[" * 2**16),
        ((f"POST /api/v1/cases/{case}/cells", token, form), part, os.urandom(2**16)),
        (("POST /api/v1/decide", token, form), b"", part + bytes(2**16) + b"\r\n"),
        (("POST /api/v1/cases", token, "Content-Type: application/json"), b"", b"[" * 2**16),
    ][turn % 5]
    line, *headers = heads
    long = f"Content-Length: {SENT}" if turn % 2 else "Transfer-Encoding: chunked"
    head = "\r\n".join((f"{line} HTTP/1.1", f"Host: {place[0]}", *headers, long, "", "")).encode()
    with socket.create_connection(place, timeout=30) as one:
        try:
            one.sendall(head)
            for sent in range(0, SENT, len(piece)):
                body = piece if sent else start + piece
                framed = body if turn % 2 else b"%x\r\n%b\r\n" % (len(body), body)
                one.sendall(framed)
        except OSError:
            return  # it was cut off, as it should be


def _settled(process: int) -> None:
    """Wait, for a minute at most, until memory stays as it is: what was begun is over."""
    last, same = memory(process), 0
    for _ in range(60):
        time.sleep(1)
        now = memory(process)
        same = same + 1 if abs(now - last) < 1 else 0
        last = now
        if same == 5:
            return


def after_bodies(place: Place, process: int, people: list[tuple[str, str]]) -> dict[str, Any]:
    """50 hostile bodies, all at once."""
    rest, most = memory(process), 0.0
    with ThreadPoolExecutor(BODIES) as pool:
        sent = [
            pool.submit(hostile, place, people[turn % len(people)], turn) for turn in range(BODIES)
        ]
        while not all(one.done() for one in sent):
            most = max(most, memory(process))
            time.sleep(0.1)
    for one in sent:
        one.result()
    _settled(process)
    found = {"after": memory(process) - rest, "most": most - rest}
    return {"above_rest_mb": {name: round(value) for name, value in found.items()}}
