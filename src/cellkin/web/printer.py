"""The process that makes PDFs: a page of our own on stdin, its PDF on stdout.

A process, since it takes seconds in which the workstation must answer others, and since only a
process can be stopped when it takes too long. It fetches nothing: pages hold their own pictures.
"""

from __future__ import annotations

import logging
import resource
from typing import Any

from cellkin.core.errors import OutputError
from cellkin.web.frames import Frame, answer_all

MEMORY = 3 * 2**30  # of address space


def pdf_of(page: str) -> bytes:
    """A page, whole in itself, as PDF.

    Raises:
        OutputError: weasyprint or Pango is missing.
    """
    html, fetcher = _weasyprint()
    made = html(string=page, url_fetcher=fetcher(allowed_protocols={"data"})).write_pdf()
    return bytes(made)


def _weasyprint() -> tuple[Any, Any]:
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except ImportError as error:
        raise OutputError(
            f"PDF needs weasyprint, which is not installed ({error})",
            where="report.pdf",
            mend="pip install 'cellkin[web]'; the HTML page can be printed to PDF by a browser",
        ) from error
    except OSError as error:  # the library is there, but what it loads is not
        raise OutputError(
            f"PDF needs the library Pango, which this machine lacks ({error})",
            where="report.pdf",
            mend="apt-get install libpango-1.0-0 libpangoft2-1.0-0 (Debian, Ubuntu), or your "
            "system's Pango; the HTML page can be printed to PDF by a browser",
        ) from error
    # it tells of each property that only screens have, on every page it makes
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    return HTML, URLFetcher


def _answer(_head: dict[str, Any], data: bytes) -> Frame:
    return {}, pdf_of(data.decode())


def main() -> None:
    """Answer page after page until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer_all(_answer)


if __name__ == "__main__":
    main()
