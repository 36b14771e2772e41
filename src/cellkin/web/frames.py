"""How the workstation and its helping processes talk: frames of a line of JSON and bytes.

A frame is a line of JSON with a `size`, then so many bytes; nothing is unpickled. `Companion` is
the workstation's end, with deadlines for writing and reading; `answer_all` is the process's end.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from cellkin.core.errors import CellkinError

STARTING = 60.0  # seconds in which a process must be ready
PIECE = 1 << 20
LONGEST = 64 * 1024  # of a header line
LARGEST = 512 * PIECE  # of the bytes of a frame
KEPT = ("PATH", "PYTHONPATH", "LANG")  # of the environment: nothing but what Python needs

Frame = tuple[dict[str, Any], bytes]


def write_frame(stream: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    """Send a header and its bytes."""
    stream.write(_line(head, body))
    stream.write(body)
    stream.flush()


def _line(head: dict[str, Any], body: bytes) -> bytes:
    return json.dumps({**head, "size": len(body)}).encode() + b"\n"


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next header and its bytes; None at the end of the stream."""
    line = stream.readline(LONGEST)
    if not line.endswith(b"\n"):
        return None
    head: dict[str, Any] = json.loads(line)
    body = stream.read(head["size"])
    return (head, body) if len(body) == head["size"] else None


def answer_all(answer: Callable[[dict[str, Any], bytes], Frame]) -> None:
    """Say that this process is ready, then answer frame after frame until stdin ends.

    Args:
        answer: may raise `CellkinError` and `MemoryError`; both are told.
    """
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    write_frame(outgoing, {})
    while (frame := read_frame(incoming)) is not None:
        try:
            told, body = answer(*frame)
        except CellkinError as error:
            told, body = {"what": error.what, "where": error.where, "mend": error.mend}, b""
        except MemoryError:
            told, body = {"what": "this needs too much memory", "where": "", "mend": ""}, b""
        write_frame(outgoing, told, body)


class Silent(Exception):
    """A process that died, talks nonsense, or did not answer in time."""

    def __init__(self, timed_out: bool) -> None:
        self.timed_out = timed_out
        super().__init__()


class Companion:
    """A process of our own that answers frames, and can be killed.

    Args:
        module: the program, run by `python -m`; it calls `answer_all`.

    Raises:
        Silent: it was not ready in time.
    """

    def __init__(self, module: str) -> None:
        kept = {k: v for k, v in os.environ.items() if k in KEPT}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C at the terminal is the server's to handle
        )
        self._pipes = [pipe for pipe in (self._popen.stdin, self._popen.stdout) if pipe]
        os.set_blocking(self._pipes[0].fileno(), False)
        try:
            self._frame(time.monotonic() + STARTING)
        except Silent:
            self.kill()
            raise

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._popen.poll() is None

    def ask(self, head: dict[str, Any], body: bytes, seconds: float) -> Frame:
        """Send a frame and wait for the answer.

        Raises:
            Silent: it did not come in so many seconds, or is none; the process is good for
                nothing then.
        """
        deadline = time.monotonic() + seconds
        self._write(_line(head, body), deadline)
        self._write(body, deadline)
        return self._frame(deadline)

    def _write(self, data: bytes, deadline: float) -> None:
        target, rest = self._pipes[0].fileno(), memoryview(data)
        while rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [target], [], left)[1]:
                raise Silent(timed_out=True)
            try:
                rest = rest[os.write(target, rest[:PIECE]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Silent(timed_out=False) from None

    def _frame(self, deadline: float) -> Frame:
        """The next header and its bytes, waited for until the deadline."""
        got = bytearray()
        while (end := got.find(b"\n")) < 0:
            if len(got) > LONGEST:
                raise Silent(timed_out=False)
            self._read(got, deadline)
        head, size = _head(bytes(got[:end]))
        while len(got) < end + 1 + size:
            self._read(got, deadline)
        return head, bytes(got[end + 1 :])

    def _read(self, got: bytearray, deadline: float) -> None:
        source = self._pipes[1].fileno()
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([source], [], [], left)[0]:
            raise Silent(timed_out=True)
        piece = os.read(source, PIECE)
        if not piece:
            raise Silent(timed_out=False)
        got += piece

    def kill(self) -> None:
        """End the process."""
        self._popen.kill()
        for pipe in self._pipes:
            with suppress(OSError):  # what it was still to be sent
                pipe.close()
        self._popen.wait()


def _head(line: bytes) -> tuple[dict[str, Any], int]:
    try:
        head = json.loads(line)
        size = head["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Silent(timed_out=False) from None
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise Silent(timed_out=False)
    return head, size
