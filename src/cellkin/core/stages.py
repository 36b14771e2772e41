"""Where the time of a long work goes, stage by stage; nothing is measured where nobody asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_open: list[Stages] = []


class Stages:
    """Seconds by stage, of all threads together.

    Attributes:
        seconds: stage -> processor time of the threads that did it, and time on the clock. An
            engine computes in threads of its own: its work is seen on the clock alone.
        elapsed: seconds on the clock of the whole work.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self.elapsed = 0.0
        self._lock = Lock()

    def add(self, name: str, cpu: float, clock: float) -> None:
        with self._lock:
            before = self.seconds.get(name, (0.0, 0.0))
            self.seconds[name] = before[0] + cpu, before[1] + clock


@contextmanager
def measured() -> Iterator[Stages]:
    """Measure every `stage` of this process in the block."""
    stages, started = Stages(), time.perf_counter()
    _open.append(stages)
    try:
        yield stages
    finally:
        _open.remove(stages)
        stages.elapsed = time.perf_counter() - started


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What is done in the block belongs to this stage."""
    if not _open:
        yield
        return
    cpu, clock = time.thread_time(), time.perf_counter()
    try:
        yield
    finally:
        used = time.thread_time() - cpu, time.perf_counter() - clock
        for stages in list(_open):
            stages.add(name, *used)
