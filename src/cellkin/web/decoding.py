"""A pool of guarded processes that decode, and what happens when one of them does not answer."""

from __future__ import annotations

import io
import json
import os
import queue
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.preprocess import Prepared, Preprocessor
from cellkin.web.decoder import write_frame
from cellkin.web.settings import Settings

STARTING = 60.0  # seconds in which a process must be ready
PIECE = 1 << 20


class Unanswered(ImageError):
    """An image on which the process that decodes died, or was killed since it took too long."""


@dataclass(frozen=True, eq=False)
class Decoded(Prepared):
    """An uploaded picture as the network will see it.

    Attributes:
        png: the same, lossless.
        whole: (h, w, 3) uint8, what was uploaded, at a glimpse.
        file: kind, width, height and um_per_pixel of what was uploaded, see `Original`.
    """

    png: bytes
    whole: Bytes
    file: Mapping[str, Any]


class Decoders:
    """Decodes and prepares uploaded images, each in a process that can be killed.

    Args:
        preprocessor: of the atlas. settings: limits, seconds, number of processes.

    Threads may share it; a thread waits while all processes are busy.
    """

    def __init__(self, preprocessor: Preprocessor, settings: Settings) -> None:
        self._head = {
            "preprocessor": preprocessor.identity(),
            "limits": asdict(settings.image_limits),
        }
        self._seconds = settings.decode_seconds
        self._free: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        self._count = settings.workers
        for _ in range(self._count):
            self._free.put(None)  # started when it is first needed

    def prepare(self, data: bytes, name: str) -> Decoded:
        """Decode one image.

        Args:
            data: the uploaded bytes. name: what to call it, and whose extension is checked.

        Raises:
            ImageError: it cannot be decoded, or not without guessing.
            Unanswered: not in time, or the process died on it.
        """
        head, body = self._ask("prepared", data, name)
        png, whole = body[: head["png"]], np.frombuffer(body[head["png"] :], np.uint8)
        return Decoded(name, pixels(png), png, whole.reshape(head["whole"]), head["file"])

    def png(self, data: bytes, name: str) -> bytes:
        """All pixels of an image, upright, as lossless PNG; raises as `prepare` does."""
        return self._ask("png", data, name)[1]

    def _ask(self, want: str, data: bytes, name: str) -> tuple[dict[str, Any], bytes]:
        process = self._free.get()
        kept = None
        try:
            if process is not None and not process.alive():
                process.kill()
                process = None
            process = process or _Process()
            asked = {**self._head, "want": want, "name": name}
            head, body = process.ask(asked, data, self._seconds)
            kept = process
        except _Silent as silence:
            raise _refused(name, silence.timed_out, self._seconds) from None
        finally:
            if kept is None and process is not None:
                process.kill()
            self._free.put(kept)
        if "what" in head:
            raise ImageError(head["what"], where=head["where"] or name, mend=head["mend"])
        return head, body

    def close(self) -> None:
        """End the processes; waits for images that are being decoded."""
        for _ in range(self._count):
            process = self._free.get()
            if process is not None:
                process.kill()
        for _ in range(self._count):
            self._free.put(None)


def pixels(png: bytes) -> Bytes:
    """A prepared picture (S, S, 3) of the PNG that is kept of it."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _refused(name: str, timed_out: bool, seconds: float) -> Unanswered:
    what = (
        f"this image was not decoded within {seconds:g} seconds"
        if timed_out
        else "this image broke the process that decodes"
    )
    return Unanswered(what, where=name, mend="leave it out and upload the others again")


class _Silent(Exception):
    """A process that died, or did not answer in time."""

    def __init__(self, timed_out: bool) -> None:
        self.timed_out = timed_out
        super().__init__()


class _Process:
    """One decoding process. Its environment holds nothing but what Python needs."""

    def __init__(self) -> None:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "LANG")}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "cellkin.web.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C at the terminal is the server's to handle
        )
        self._pipes = [pipe for pipe in (self._popen.stdin, self._popen.stdout) if pipe]
        try:
            self._frame(time.monotonic() + STARTING)
        except _Silent:
            self.kill()
            raise

    def alive(self) -> bool:
        return self._popen.poll() is None

    def ask(
        self, head: dict[str, Any], body: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes]:
        try:
            write_frame(cast(BinaryIO, self._pipes[0]), head, body)
        except OSError:
            raise _Silent(timed_out=False) from None
        return self._frame(time.monotonic() + seconds)

    def _frame(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        """The next header and its bytes, waited for until the deadline."""
        got = bytearray()
        while (end := got.find(b"\n")) < 0:
            self._read(got, deadline)
        head: dict[str, Any] = json.loads(got[:end])
        while len(got) < end + 1 + head["size"]:
            self._read(got, deadline)
        return head, bytes(got[end + 1 :])

    def _read(self, got: bytearray, deadline: float) -> None:
        source = self._pipes[1].fileno()
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([source], [], [], left)[0]:
            raise _Silent(timed_out=True)
        piece = os.read(source, PIECE)
        if not piece:
            raise _Silent(timed_out=False)
        got += piece

    def kill(self) -> None:
        self._popen.kill()
        for pipe in self._pipes:
            with suppress(OSError):  # what it was still to be sent
                pipe.close()
        self._popen.wait()
