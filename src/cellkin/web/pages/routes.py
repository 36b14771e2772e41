"""Routes of the pages and of their static files.

Static files are read once, at import, into a table: a request can name only what is in the table,
so no path from outside ever meets the disk. Their address holds a digest of all of them, so that
browsers may keep them for good and an upgrade is seen at once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cellkin.core.records import NOTICE
from cellkin.web.worklist.flags import FLAGS
from cellkin.web.worklist.held import REASONS, TILES

HERE = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Shell:
    """A page without its data: address, template and module (of one name), and title."""

    path: str
    name: str
    title: str


SHELLS = (
    Shell("/login", "login", "Log in"),
    Shell("/", "worklist", "Worklist"),
    Shell("/cases/{case}", "case", "Case"),
    Shell("/cells/{cell}", "cell", "Cell"),
    Shell("/cases/{case}/report", "report", "Report"),
    Shell("/atlas", "atlas", "Atlas"),
    Shell("/drift", "drift", "Drift"),
    Shell("/admin", "admin", "Administration"),
    Shell("/help", "help", "Help"),
)

router = APIRouter(include_in_schema=False)

_FILES = {
    path.name: (path.read_bytes(), TYPES[path.suffix])
    for path in sorted((HERE / "static").iterdir())
    if path.suffix in TYPES
}
_HELD = {reason: (TILES[reason], words) for reason, words in REASONS.items()}
_SAID = f"export const HELD = {json.dumps(_HELD)};\nexport const FLAGS = {json.dumps(FLAGS)};\n"
_FILES["held.js"] = (_SAID.encode(), TYPES[".js"])


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


def _shell(page: Shell) -> HTMLResponse:
    """The page without data; whatever the address named is read by the module, not put in here."""
    template = _TEMPLATES.get_template(f"{page.name}.html.j2")
    text = template.render(page=page, static=f"/static/{_DIGEST}", notice=NOTICE)
    return HTMLResponse(text, headers={"Cache-Control": "no-cache"})


def _add(page: Shell) -> None:
    def shell() -> HTMLResponse:
        return _shell(page)

    router.add_api_route(page.path, shell, name=f"{page.name} page")


for _page in SHELLS:
    _add(_page)


@router.get("/static/{version}/{name}", name="static file")
def static_file(version: str, name: str) -> Response:
    """A file of the pages by its name; kept for good only under its own digest."""
    if name not in _FILES:
        return Response("no such file", status_code=404, media_type="text/plain")
    content, kind = _FILES[name]
    caching = FOR_GOOD if version == _DIGEST else "no-cache"
    return Response(content, media_type=kind, headers={"Cache-Control": caching})
