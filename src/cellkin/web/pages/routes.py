"""Routes of the pages and of their static files.

Static files are read once, at import, into a table: a request can name only what is in the table,
so no path from outside ever meets the disk. Their address holds a digest of all of them, so that
browsers may keep them for good and an upgrade is seen at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cellkin.core.records import NOTICE

__all__ = ["PAGES", "PUBLIC", "Page", "digest", "router"]

HERE = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Page:
    """One page: its address, its template and module (of one name), and its title."""

    path: str
    name: str
    title: str


PAGES = (
    Page("/login", "login", "Log in"),
    Page("/", "worklist", "Worklist"),
    Page("/cases/{case}", "case", "Case"),
    Page("/cells/{cell}", "cell", "Cell"),
    Page("/cases/{case}/report", "report", "Report"),
    Page("/atlas", "atlas", "Atlas"),
    Page("/admin", "admin", "Administration"),
    Page("/help", "help", "Help"),
)
PUBLIC = ("/login", "/static/")
"""Addresses that are served before login: they hold no data."""

router = APIRouter(include_in_schema=False)

_FILES = {
    path.name: (path.read_bytes(), TYPES[path.suffix])
    for path in sorted((HERE / "static").iterdir())
    if path.suffix in TYPES
}


def digest() -> str:
    """Short hash of all static files, part of their address."""
    found = hashlib.sha256()
    for name, (content, _) in _FILES.items():
        found.update(name.encode() + b"\0" + content + b"\0")
    return found.hexdigest()[:12]


_DIGEST = digest()
_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _shell(page: Page) -> HTMLResponse:
    """The page without data; whatever the address named is read by the module, not put in here."""
    template = _TEMPLATES.get_template(f"{page.name}.html.j2")
    text = template.render(page=page, pages=PAGES, static=f"/static/{_DIGEST}", notice=NOTICE)
    return HTMLResponse(text, headers={"Cache-Control": "no-cache"})


@router.get("/login", name="login page")
def login() -> HTMLResponse:
    """Where a person logs in; the only page that needs no session."""
    return _shell(PAGES[0])


@router.get("/", name="worklist page")
def worklist() -> HTMLResponse:
    """The cases, with search, filters and flags."""
    return _shell(PAGES[1])


@router.get("/cases/{case}", name="case page")
def case_page(case: str) -> HTMLResponse:
    """One case: upload, gallery by proposed class, signing."""
    return _shell(PAGES[2])


@router.get("/cells/{cell}", name="cell page")
def cell_page(cell: str) -> HTMLResponse:
    """The evidence for one cell, and the review of it."""
    return _shell(PAGES[3])


@router.get("/cases/{case}/report", name="report page")
def report_page(case: str) -> HTMLResponse:
    """The report of a case, and its files."""
    return _shell(PAGES[4])


@router.get("/atlas", name="atlas page")
def atlas_page() -> HTMLResponse:
    """The map and the reference cells that vote."""
    return _shell(PAGES[5])


@router.get("/admin", name="admin page")
def admin_page() -> HTMLResponse:
    """Users, tokens and the audit log."""
    return _shell(PAGES[6])


@router.get("/help", name="help page")
def help_page() -> HTMLResponse:
    """How to go about it, and every key."""
    return _shell(PAGES[7])


@router.get("/static/{version}/{name}", name="static file")
def static_file(version: str, name: str) -> Response:
    """A file of the pages by its name; kept for good only under its own digest."""
    if name not in _FILES:
        return Response("no such file", status_code=404, media_type="text/plain")
    content, kind = _FILES[name]
    caching = FOR_GOOD if version == _DIGEST else "no-cache"
    return Response(content, media_type=kind, headers={"Cache-Control": caching})
