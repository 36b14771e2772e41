"""Many images at once: decoded and prepared beside each other, in the order asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cellkin.core.errors import ImageError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef
from cellkin.imaging.decode import decode
from cellkin.imaging.preprocess import Preprocessor

__all__ = ["load_prepared", "prepared_blocks"]

Source = ImageRef | NDArray[np.uint8]

BLOCK = 32  # images handed on at once
SHOWN = 5  # unreadable images named in one error


def load_prepared(
    sources: Sequence[ImageRef],
    preprocessor: Preprocessor,
    *,
    progress: Progress = silent,
) -> NDArray[np.uint8]:
    """Decode and prepare N images: (N, S, S, 3) uint8.

    Raises:
        ImageError: some cannot be read; all are tried, and the error names them.
    """
    size = preprocessor.size
    prepared = np.empty((len(sources), size, size, 3), np.uint8)
    done = 0
    for block in prepared_blocks(sources, preprocessor, progress=progress):
        prepared[done : done + len(block)] = block
        done += len(block)
    return prepared


def prepared_blocks(
    sources: Sequence[Source],
    preprocessor: Preprocessor,
    *,
    progress: Progress = silent,
) -> Iterator[NDArray[np.uint8]]:
    """Decode and prepare images block by block, (n, S, S, 3) uint8 with n up to 32, in order.

    The images after a block are decoded in threads while the caller works on it. Arrays (H, W, 3)
    uint8 may stand among the sources; where all are arrays no thread is needed.

    Raises:
        ImageError: some cannot be read; from the first on no block is handed out any more, all
            are tried, and the error names them.
    """
    if not any(isinstance(source, ImageRef) for source in sources):
        for start in range(0, len(sources), BLOCK):
            yield preprocessor.prepare_many([x for x in sources[start : start + BLOCK]
                                             if not isinstance(x, ImageRef)])  # fmt: skip
        return
    faults: list[ImageError] = []
    waiting: list[NDArray[np.uint8]] = []
    for i, outcome in enumerate(_in_order(sources, preprocessor)):
        try:
            waiting.append(outcome.result())
        except ImageError as error:
            faults.append(error)
        progress("reading images", i + 1, len(sources))
        if not faults and len(waiting) == BLOCK:
            yield np.stack(waiting)
            waiting = []
    if faults:
        _refuse(faults)
    if waiting:
        yield np.stack(waiting)


def _refuse(faults: Sequence[ImageError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    told = [f"{fault.where}: {fault.what}" for fault in faults[:SHOWN]]
    more = f"\n         and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    raise ImageError(
        f"{len(faults)} images cannot be used",
        where="\n         ".join(told) + more,
        mend="mend or remove these files; cellkin check DATA lists every one",
    )


def _in_order(
    sources: Sequence[Source], preprocessor: Preprocessor
) -> Iterator[Future[NDArray[np.uint8]]]:
    """Futures in the order of the sources; only a few images wait in memory."""
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:

        def submit(source: Source) -> Future[NDArray[np.uint8]]:
            return pool.submit(
                lambda: preprocessor.prepare(
                    decode(source) if isinstance(source, ImageRef) else source
                )
            )

        rest = iter(sources)
        waiting = [submit(source) for source in islice(rest, max(BLOCK, 4 * workers))]
        try:
            while waiting:
                yield waiting.pop(0)
                waiting.extend(submit(source) for source in islice(rest, 1))
        finally:
            for future in waiting:
                future.cancel()
