"""PDFs of reports: made one at a time, once per document, and kept for a while."""

from __future__ import annotations

import threading

from cellkin.web.frames import Companion, Silent
from cellkin.web.problems import LATER, ProblemError
from cellkin.web.remembering import Remembered
from cellkin.web.reporting import report_html
from cellkin.web.settings import Settings
from cellkin.web.store import Store

PROGRAM = "cellkin.web.printer"


class Printing:
    """The one process that makes PDFs, and what it made. Threads may share it and wait in turn.

    Args:
        settings: seconds for one PDF, and bytes of those that are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.print_seconds
        self._made = Remembered(settings.pdf_bytes)
        self._one = threading.Lock()
        self._process: Companion | None = None  # started when it is first needed

    def pdf(self, store: Store, case_id: str, revision: int | None = None) -> bytes:
        """The page of a report as PDF; a document that has not changed since is not made again.

        Raises:
            NotFound: no such case or revision.
            ProblemError: 501, what PDF needs is missing; 503, it took too long.
        """
        key = store.case_report(case_id, revision).sha256
        if (kept := self._made.get(key)) is not None:
            return kept
        with self._one:
            made = self._made.get(key)  # by whoever was here before
            if made is None:
                made = self._printed(report_html(store, case_id, revision))
                self._made.put(key, made)
        return made

    def _printed(self, page: str) -> bytes:
        try:
            if self._process is None or not self._process.alive():
                self.close()
                self._process = Companion(PROGRAM)
            told, made = self._process.ask({}, page.encode(), self._seconds)
        except Silent as silence:
            self.close()
            raise _failed(silence.timed_out, self._seconds) from None
        if "what" in told:
            raise ProblemError(501, "no-pdf", told["what"], mend=told["mend"])
        return made

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process = None


def _failed(timed_out: bool, seconds: float) -> ProblemError:
    what = f"took more than {seconds:g} seconds" if timed_out else "broke the process that makes it"
    return ProblemError(
        503,
        "no-pdf",
        f"the PDF {what}",
        mend="take the HTML page, and print it to PDF by a browser",
        headers=LATER,
    )
