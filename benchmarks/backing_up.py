"""Backup of a store in use: a store of 300 MB, quiet and under a commit every 50 ms.

The last line is one JSON object:

    megabytes           of the store
    quiet_s, busy_s     seconds of one backup, the median of three
    ratio               busy over quiet; must be 3 at most
    commits             while the busy ones ran

    python benchmarks/backing_up.py [--megabytes 300]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from cellkin.web.store import Actor, Store

SYSTEM = Actor("cellkin", "admin", "command line")
EVERY = 0.05  # seconds between two commits
TIMES = 3
PIECE = 60_000  # bytes of a picture


def filled(path: Path, megabytes: int) -> Store:
    """A store of so many bytes, all of it in originals."""
    store = Store.open(path)
    with closing(sqlite3.connect(path)) as base, base:
        number = megabytes * 10**6 // PIECE
        base.executemany(
            "INSERT INTO original_bytes VALUES (?, randomblob(?))",
            ((f"{i:064x}", PIECE) for i in range(number)),
        )
    return store


class Writer(threading.Thread):
    """Commits until it is told to stop."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.store, self.stop, self.commits = store, threading.Event(), 0

    def run(self) -> None:
        while not self.stop.wait(EVERY):
            self.store.create_case(SYSTEM, f"P-{self.commits}")
            self.commits += 1


def seconds(store: Store, folder: Path) -> float:
    """Of one backup, which is taken away again."""
    started = time.perf_counter()
    path = store.backup(folder / "backup")
    spent = time.perf_counter() - started
    path.unlink()
    return spent


def measured(folder: Path, megabytes: int = 300) -> dict[str, Any]:
    """The figures, in a folder with room for three times the store."""
    store = filled(folder / "large.sqlite", megabytes)
    seconds(store, folder)  # the first one waits for the disk
    quiet = statistics.median(seconds(store, folder) for _ in range(TIMES))
    writer = Writer(store)
    writer.start()
    busy = statistics.median(seconds(store, folder) for _ in range(TIMES))
    writer.stop.set()
    writer.join()
    size = (folder / "large.sqlite").stat().st_size
    store.close()
    return {
        "megabytes": round(size / 1e6),
        "quiet_s": round(quiet, 2),
        "busy_s": round(busy, 2),
        "ratio": round(busy / quiet, 2),
        "commits": writer.commits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measured(Path(name), asked.megabytes)))


if __name__ == "__main__":
    main()
