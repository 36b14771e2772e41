"""Where the time of a verb went, said at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cellkin.cli.console import talk
from cellkin.core.stages import measured


@contextmanager
def profiled(asked: bool, images: int) -> Iterator[None]:
    """Say where the time of the block went, in milliseconds an image, where that is asked for."""
    if not asked:
        yield
        return
    with measured() as stages:
        yield
    talk(f"\n{'milliseconds an image':26} processor   clock")
    for name, (cpu, clock) in sorted(stages.seconds.items(), key=lambda one: -one[1][1]):
        talk(f"{name:26} {1e3 * cpu / images:9.2f} {1e3 * clock / images:7.2f}")
    talk(f"{'from the first to the last':26} {'':9} {1e3 * stages.elapsed / images:7.2f}")
    talk("stages overlap; what an engine computes is seen on the clock alone")
