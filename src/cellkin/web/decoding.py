"""The processes that decode, shared out fairly, and what happens when one does not answer."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.imaging.preprocess import Prepared, Preprocessor
from cellkin.web.frames import Companion, Frame, Silent
from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings

PROGRAM = "cellkin.web.decoder"


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


@dataclass(eq=False)
class Batch:
    """Images that somebody wants decoded: whose they are, and how many seconds of work all of them
    together may take.
    """

    person: str = ""
    seconds: float = float("inf")

    def require_time(self, name: str) -> None:
        """Refuse the next image where the seconds are used up.

        Raises:
            ProblemError: 422.
        """
        if self.seconds <= 0:
            raise ProblemError(
                422,
                "too-slow",
                "these images take too long to decode together",
                where=name,
                mend="upload them in several parts",
            )


@dataclass(frozen=True, eq=False)
class _Asked:
    head: dict[str, Any]
    data: bytes
    batch: Batch
    answer: Future[Frame]


class Decoders:
    """Decodes and prepares uploaded images, each in a process that can be killed.

    Of the people who wait, whoever has least in work comes next; where there are accounts, nobody
    has all processes to himself.

    Args:
        preprocessor: of the atlas. settings: limits, seconds, number of processes.

    Threads may share it.
    """

    def __init__(self, preprocessor: Preprocessor, settings: Settings) -> None:
        self._head = {
            "preprocessor": preprocessor.identity(),
            "limits": asdict(settings.image_limits),
        }
        self.seconds = settings.decode_seconds
        self._share = max(1, settings.workers - settings.accounts)
        self._waiting: dict[str, deque[_Asked]] = {}
        self._working: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._work, name=f"decoding {i}", daemon=True)
            for i in range(settings.workers)
        ]
        for thread in self._threads:
            thread.start()

    def prepare(self, data: bytes, name: str) -> Decoded:
        """Decode one image and wait for it; see `submit`."""
        return decoded(name, self.submit(data, name, Batch()).result())

    def png(self, data: bytes, name: str, person: str = "") -> bytes:
        """All pixels of an image, upright, as lossless PNG; raises as `prepare` does."""
        return self._asked("png", data, name, Batch(person)).result()[1]

    def held(self) -> Mapping[str, bool]:
        """What the processes cannot do, see `cellkin.web.sandbox`; starts one where none runs."""
        head, _ = self._asked("held", b"", "the process that decodes", Batch()).result()
        found: Mapping[str, bool] = head["held"]
        return found

    def submit(self, data: bytes, name: str, batch: Batch) -> Future[Frame]:
        """Have an image decoded and prepared when its turn comes.

        Args:
            data: the uploaded bytes. name: what to call it, and whose extension is checked.

        Returns:
            what `decoded` makes a picture of, or one of these:

        Raises:
            ImageError: it cannot be decoded, or not without guessing.
            Unanswered: not in time, or the process died on it.
            ProblemError: 422, the time of its batch is used up.
        """
        return self._asked("prepared", data, name, batch)

    def _asked(self, want: str, data: bytes, name: str, batch: Batch) -> Future[Frame]:
        asked = _Asked({**self._head, "want": want, "name": name}, data, batch, Future())
        with self._changed:
            if not self._open:
                raise RuntimeError("the workstation is shutting down")
            self._waiting.setdefault(batch.person, deque()).append(asked)
            self._changed.notify_all()
        return asked.answer

    def _work(self) -> None:
        process: Companion | None = None  # started when it is first needed
        while (asked := self._next()) is not None:
            try:
                if asked.answer.set_running_or_notify_cancel():
                    process = self._answered(asked, process)
            finally:
                with self._changed:
                    self._working[asked.batch.person] -= 1
                    self._changed.notify_all()
        if process is not None:
            process.kill()

    def _next(self) -> _Asked | None:
        """What to decode; None where all is done and the doors are closed."""
        with self._changed:
            while not (able := [p for p in self._waiting if self._working[p] < self._share]):
                if not self._open and not self._waiting:
                    return None
                self._changed.wait()
            person = min(able, key=lambda one: self._working[one])
            turns = self._waiting.pop(person)
            asked = turns.popleft()
            if turns:
                self._waiting[person] = turns  # behind the others from now on
            self._working[person] += 1
            return asked

    def _answered(self, asked: _Asked, process: Companion | None) -> Companion | None:
        """Answer one image; the process that is good for the next one."""
        name, started = asked.head["name"], time.monotonic()
        try:
            asked.batch.require_time(name)
            if process is not None and not process.alive():
                process.kill()
                process = None
            process = process or Companion(PROGRAM)
            started = time.monotonic()
            head, body = process.ask(asked.head, asked.data, self.seconds)
            if "what" in head:  # not raised: a traceback would hold the bytes of the image
                fault = ImageError(head["what"], where=head["where"] or name, mend=head["mend"])
                asked.answer.set_exception(fault)
            else:
                asked.answer.set_result((head, body))
        except Silent as silence:
            if process is not None:
                process.kill()
            asked.answer.set_exception(_refused(name, silence.timed_out, self.seconds))
            return None
        except Exception as error:
            asked.answer.set_exception(error)
        finally:
            asked.batch.seconds -= time.monotonic() - started
        return process

    def close(self) -> None:
        """Answer what was asked, then end the processes."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


def decoded(name: str, frame: Frame) -> Decoded:
    """The picture that a process prepared."""
    head, body = frame
    png, whole = body[: head["png"]], np.frombuffer(body[head["png"] :], np.uint8)
    return Decoded(name, pixels(png), png, whole.reshape(head["whole"]), head["file"])


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
