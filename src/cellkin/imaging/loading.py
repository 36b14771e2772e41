"""Many images at once: decoded and prepared beside each other, in the order asked for."""

from __future__ import annotations

import os
from collections import deque
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
from cellkin.imaging.series import Series, in_reading_order, is_shared

__all__ = ["load_prepared"]

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
    prepared = np.empty((len(sources), preprocessor.size, preprocessor.size, 3), np.uint8)
    order = in_reading_order(list(sources))
    faults: dict[int, ImageError] = {}
    outcomes = _outcomes([sources[i] for i in order], preprocessor)
    for done, (i, outcome) in enumerate(zip(order, outcomes, strict=True), start=1):
        try:
            prepared[i] = outcome.result()
        except ImageError as error:
            faults[i] = error
        progress("reading images", done, len(sources))
    _raise([faults[i] for i in sorted(faults)])
    return prepared


def _raise(faults: Sequence[ImageError]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        told = [f"{fault.where}: {fault.what}" for fault in faults[:SHOWN]]
        more = f"\n         and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ImageError(
            f"{len(faults)} images cannot be used",
            where="\n         ".join(told) + more,
            mend="mend or remove these files; cellkin check DATA lists every one",
        )


def _outcomes(
    sources: Sequence[ImageRef], preprocessor: Preprocessor
) -> Iterator[Future[NDArray[np.uint8]]]:
    """Futures in the order of the sources; only a few images wait in memory at any time.

    Whole files are decoded beside each other. Parts of a container or field are decoded in this
    thread, one after another, so that the file is opened once; only their preparation is shared.
    """
    workers = min(8, os.cpu_count() or 1)
    with Series() as series, ThreadPoolExecutor(workers) as pool:

        def submit(source: ImageRef) -> Future[NDArray[np.uint8]]:
            if not is_shared(source):
                return pool.submit(lambda: preprocessor.prepare(decode(source)))
            try:
                rgb = series.decode(source)
            except ImageError as error:
                return _failed(error)
            return pool.submit(preprocessor.prepare, rgb)

        rest = iter(sources)
        waiting = deque(submit(source) for source in islice(rest, 4 * workers))
        try:
            while waiting:
                yield waiting.popleft()
                waiting.extend(submit(source) for source in islice(rest, 1))
        finally:
            for future in waiting:
                future.cancel()


def _failed(error: ImageError) -> Future[NDArray[np.uint8]]:
    future: Future[NDArray[np.uint8]] = Future()
    future.set_exception(error)
    return future
