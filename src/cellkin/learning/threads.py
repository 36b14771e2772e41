"""How many threads a network computes with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_COUNTS: list[int] = []  # of the blocks of `threads` that are open


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads in the block; another number may round otherwise in torch."""
    torch = sys.modules.get("torch")  # a network that needs it has imported it
    before = torch.get_num_threads() if torch else 0
    _COUNTS.append(count)
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        _COUNTS.pop()
        if torch:
            torch.set_num_threads(before)


def thread_count() -> int:
    """How many threads may compute here: those of `threads`, of OMP_NUM_THREADS, or every core."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if _COUNTS:
        return _COUNTS[-1]
    if told.isdecimal() and int(told):
        return int(told)
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
