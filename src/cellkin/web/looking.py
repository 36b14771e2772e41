"""Who looked at which case: an entry of the log, written aside, so that nobody waits for it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from cellkin.core.errors import CellkinError
from cellkin.web.store import Actor, Store

AGAIN = 30 * 60.0  # seconds after which somebody who still looks at a case leaves another entry

log = logging.getLogger("cellkin.web")


class Lookers:
    """Notes each person's looks at each case, one entry in half an hour.

    A look is written within moments of being answered; what a workstation that is killed had not
    written by then is lost.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._noted: dict[tuple[str, str], float] = {}
        self._writer = ThreadPoolExecutor(1, "looks")

    def note(self, actor: Actor, case: str) -> None:
        """Somebody looks at a case."""
        now, which = time.monotonic(), (actor.user, case)
        with self._lock:
            if now - self._noted.get(which, -AGAIN) < AGAIN:
                return
            self._noted = {k: at for k, at in self._noted.items() if now - at < AGAIN}
            self._noted[which] = now
        self._writer.submit(self._write, actor, case)

    def _write(self, actor: Actor, case: str) -> None:
        try:
            self._store.viewed(actor, case)
        except CellkinError as error:
            log.warning("a look at a case could not be written down: %s", error.what)
            with self._lock:
                self._noted.pop((actor.user, case), None)

    def close(self) -> None:
        """Write what is still to be written."""
        self._writer.shutdown()
