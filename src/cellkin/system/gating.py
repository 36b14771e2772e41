"""What the quality gate measures of pictures, in threads beside the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from cellkin.core.arrays import Bytes
from cellkin.core.stages import stage
from cellkin.imaging.quality import Measures, measure
from cellkin.system.explainer import Look

BESIDE = 2
"""Threads that measure: a picture takes less than the network takes for it."""


@contextmanager
def measuring(images: Sequence[Bytes]) -> Iterator[list[Future[Measures]]]:
    """The measures of pictures to come, begun while the block does something else."""
    pool = ThreadPoolExecutor(BESIDE)
    try:
        yield [pool.submit(_measured, image) for image in images]
    finally:
        pool.shutdown(wait=False)


def measures_of(look: Look) -> Measures:
    """Those of a look's picture, measured now where nobody has begun it."""
    return _measured(look.image) if look.measures is None else look.measures.result()


def _measured(image: Bytes) -> Measures:
    with stage("quality gate"):
        return measure(image)
