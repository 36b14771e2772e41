"""All routes of the API, gathered."""

from __future__ import annotations

from fastapi import APIRouter

from cellkin.web.api import atlas, cases, cells, drift, people, reports, sessions, stateless
from cellkin.web.api.asking import PROBLEMS
from cellkin.web.security import API

router = APIRouter(prefix=API, responses=PROBLEMS)
for part in (sessions, atlas, drift, stateless, cases, cells, reports, people):
    router.include_router(part.router)
