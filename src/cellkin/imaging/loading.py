"""Many images at once: decoded and prepared beside each other, in the order asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError, NoCellError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef
from cellkin.core.stages import stage
from cellkin.imaging import mapped
from cellkin.imaging.decode import decode
from cellkin.imaging.outline import empty
from cellkin.imaging.preprocess import Prepared, Preprocessor
from cellkin.imaging.scale import um_per_pixel as scale_of
from cellkin.imaging.series import Series, in_reading_order, is_shared

Source = ImageRef | Prepared | Bytes
Check = Callable[[Bytes, str], None]
"""Refuses a whole picture, named by the second, by an `ImageError`."""

BLOCK = 32  # images handed on at once
SHOWN = 5  # unreadable images named in one error


def load_prepared(
    sources: Sequence[ImageRef],
    preprocessor: Preprocessor,
    *,
    progress: Progress = silent,
    cache: Path | None = None,
    keep: bool = False,
    unfound: bool = False,
) -> Bytes:
    """Decode and prepare N images: (N, S, S, 3) uint8.

    Args:
        cache: folder for a memory-mapped file, used where the images would take more than half of
            the memory that is free; a later call on the same images takes it as it is. None keeps
            them in memory whatever they take.
        unfound: where the cell is to be shown alone and none is found, empty ground stands for it
            (`outline.is_empty`) in place of an error.

    Raises:
        ImageError: some cannot be read; all are tried, and the error names them.
        OutputError: there is no room on the disk for the file.
    """
    shape = (len(sources), preprocessor.size, preprocessor.size, 3)
    if cache is None or (mapped.fits(shape) and not keep):
        prepared = np.empty(shape, np.uint8)
        _fill(prepared, sources, preprocessor, progress, unfound)
        return prepared
    key = mapped.key(sources, preprocessor.identity())
    if (stored := mapped.stored(cache, shape, key)) is not None:
        return stored
    with mapped.new(cache, shape, key) as prepared:
        _fill(prepared, sources, preprocessor, progress, unfound)
    return prepared


def _fill(
    prepared: Bytes,
    sources: Sequence[ImageRef],
    preprocessor: Preprocessor,
    progress: Progress,
    unfound: bool,
) -> None:
    order = in_reading_order(sources)
    done, ordered = 0, [sources[i] for i in order]
    for block in prepared_blocks(ordered, preprocessor, progress=progress, unfound=unfound):
        prepared[order[done : done + len(block)]] = block
        done += len(block)


def prepared_blocks(
    sources: Sequence[Source],
    preprocessor: Preprocessor,
    *,
    progress: Progress = silent,
    unfound: bool = False,
) -> Iterator[Bytes]:
    """`each_prepared` block by block, (n, S, S, 3) uint8 with n up to 32, in order; `unfound` as in
    `load_prepared`.

    Raises:
        ImageError: some cannot be read; from the first on no block is handed out any more, all
            are tried, and the error names them.
    """
    faults: list[ImageError] = []
    waiting: list[Bytes] = []
    for found in each_prepared(sources, preprocessor, progress=progress):
        if unfound and isinstance(found, NoCellError):
            found = empty(preprocessor.size)
        if isinstance(found, ImageError):
            faults.append(found)
            continue
        waiting.append(found)
        if not faults and len(waiting) == BLOCK:
            yield np.stack(waiting)
            waiting = []
    if faults:
        raise unusable(faults)
    if waiting:
        yield np.stack(waiting)


def each_prepared(
    sources: Sequence[Source],
    preprocessor: Preprocessor,
    *,
    um_per_pixel: float | None = None,
    progress: Progress = silent,
    check: Check | None = None,
) -> Iterator[Bytes | ImageError]:
    """Decode and prepare images in order, (S, S, 3) uint8 each; in the place of one that cannot be
    read stands its error.

    The next images are decoded in threads while the caller works on those before them. Arrays
    (H, W, 3) uint8 may stand among the sources, and pictures that are prepared already.

    Args:
        um_per_pixel: of all images, where it is known better than by their files; asked for where
            the preprocessor has a window.
        check: is shown each whole picture before it is prepared, and refuses it by an `ImageError`.
    """

    def prepare(rgb: Bytes, source: ImageRef | None) -> Bytes:
        if check is not None:
            with stage("refusing fields"):
                check(rgb, "the array that was given" if source is None else str(source))
        with stage("preparing"):
            if source is None:
                return preprocessor.prepare(rgb, um_per_pixel)
            return prepared(rgb, source, preprocessor, um_per_pixel)

    for i, outcome in enumerate(_in_order(sources, prepare)):
        try:
            found: Bytes | ImageError = outcome.result()
        except ImageError as error:
            found = error
        progress("reading images", i + 1, len(sources))
        yield found


def unusable(faults: Sequence[ImageError], what: str = "images cannot be used") -> ImageError:
    """The one error to raise for these, one or more: it names them, the first five in full."""
    if len(faults) == 1:
        return faults[0]
    told = [f"{fault.where}: {fault.what}" for fault in faults[:SHOWN]]
    more = f"\n         and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    mends = [*dict.fromkeys(fault.mend for fault in faults)]
    return ImageError(
        f"{len(faults)} {what}",
        where="\n         ".join(told) + more,
        mend=mends[0] if len(mends) == 1 else "mend or remove these files; " + "; ".join(mends[:3]),
    )


def prepared(
    rgb: Bytes, source: ImageRef, preprocessor: Preprocessor, um_per_pixel: float | None = None
) -> Bytes:
    """One image (H, W, 3), decoded from `source`, as the network sees it: (S, S, 3) uint8.

    Raises:
        ImageError: its scale is asked for, and not known or too small.
    """
    um = um_per_pixel
    if preprocessor.window is not None and um is None:
        um = scale_of(source)
    return preprocessor.prepare(rgb, um, where=str(source))


def _in_order(
    sources: Sequence[Source], prepare: Callable[[Bytes, ImageRef | None], Bytes]
) -> Iterator[Future[Bytes]]:
    """Futures in the order of the sources; only a few images wait in memory.

    Whole files are decoded beside each other. Parts of a container or field are decoded in this
    thread, one after another, so that the file is opened once; only their preparation is shared.
    """
    workers = min(8, os.cpu_count() or 1)
    with Series() as series, ThreadPoolExecutor(workers) as pool:

        def submit(source: Source) -> Future[Bytes]:
            if isinstance(source, Prepared):
                return _done(source.image)
            if not isinstance(source, ImageRef):
                return pool.submit(prepare, source, None)
            if not is_shared(source):
                return pool.submit(lambda: prepare(_decoded(source), source))
            try:
                rgb = series.decode(source)
            except ImageError as error:
                return _done(error)
            return pool.submit(prepare, rgb, source)

        rest = iter(sources)
        waiting = [submit(source) for source in islice(rest, max(BLOCK, 4 * workers))]
        try:
            while waiting:
                yield waiting.pop(0)
                waiting.extend(submit(source) for source in islice(rest, 1))
        finally:
            for future in waiting:
                future.cancel()


def _decoded(source: ImageRef) -> Bytes:
    with stage("decoding"):
        return decode(source)


def _done(found: Bytes | ImageError) -> Future[Bytes]:
    future: Future[Bytes] = Future()
    if isinstance(found, ImageError):
        future.set_exception(found)
    else:
        future.set_result(found)
    return future
