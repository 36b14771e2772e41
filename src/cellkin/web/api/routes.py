"""All routes of the API, gathered."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from cellkin.web.api import atlas, cases, cells, drift, people, reports, sessions, stateless
from cellkin.web.api.asking import PROBLEMS, visible
from cellkin.web.security import API

PARTS = (sessions, atlas, drift, stateless, cases, cells, reports, people)

router = APIRouter(prefix=API, responses=PROBLEMS, dependencies=[Depends(visible)])
for part in PARTS:
    router.include_router(part.router)

_UPLOADS = [
    (method, compile_path(API + route.path)[0])
    for part in PARTS
    for route in part.router.routes
    if isinstance(route, APIRoute) and "requestBody" in (route.openapi_extra or {})
    for method in sorted(route.methods or ())
]


def takes_uploads(method: str, path: str) -> bool:
    """Whether what is sent there may be as long as an upload."""
    return any(method == own and regex.match(path) for own, regex in _UPLOADS)
