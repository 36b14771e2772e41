"""Answers that took long to make, remembered for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict


class Remembered:
    """What was made lately, as the bytes that are sent, within so many bytes.

    Args:
        limit: bytes of all that is remembered; the longest unused goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._found: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """What was put there, if it is still remembered."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: str, content: bytes) -> None:
        """Remember; what is larger than the whole memory is not."""
        if len(content) > self._limit:
            return
        with self._lock:
            self._held += len(content) - len(self._found.pop(key, b""))
            self._found[key] = content
            while self._held > self._limit:
                self._held -= len(self._found.popitem(last=False)[1])

    @property
    def held(self) -> int:
        """Bytes remembered now."""
        return self._held
