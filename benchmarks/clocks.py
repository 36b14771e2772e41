"""What work costs, on two clocks."""

from __future__ import annotations

import time
from collections.abc import Callable


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu
