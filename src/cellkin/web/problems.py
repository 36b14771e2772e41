"""Errors as problem details (RFC 9457): type, title, status, and cellkin's what, where and mend."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from cellkin.core.errors import ArtifactError, CellkinError, OutputError
from cellkin.web.store import (
    Busy,
    Conflict,
    Forbidden,
    Full,
    NoCursor,
    NotFound,
    Refused,
    Throttled,
)

MEDIA_TYPE = "application/problem+json"
RETRY = 5  # seconds after which somebody who was turned away may try again
LATER = {"Retry-After": str(RETRY)}
OUTAGES = (Busy, OutputError, ArtifactError)
FULL = (errno.ENOSPC, errno.EDQUOT)
TYPE = "urn:cellkin:problem:"
STATUS: Mapping[type[CellkinError], int] = {
    Throttled: 429,
    NotFound: 404,
    Conflict: 409,
    NoCursor: 422,
    Refused: 409,
    Forbidden: 403,
}


log = logging.getLogger("cellkin.web")


class Problem(BaseModel):
    """What every error of the API looks like.

    Attributes:
        type: a name for programs, "urn:cellkin:problem:not-found". title, status: of HTTP.
        detail: what was wrong. where: in which field, file or case. mend: what to do about it.
    """

    type: str
    title: str
    status: int
    detail: str
    where: str = ""
    mend: str = ""


class ProblemError(CellkinError):
    """A refusal of the server's own, with its status.

    Args:
        status: of HTTP. kind: the last part of the problem's type.
        headers: sent along. what, where, mend: as in every `CellkinError`.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        what: str,
        *,
        where: object = "",
        mend: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})


def problem(status: int, kind: str, error: CellkinError, **more: Any) -> JSONResponse:
    """The response that tells of an error."""
    told = Problem(
        type=TYPE + kind,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.what,
        where=error.where,
        mend=error.mend,
    )
    headers = getattr(error, "headers", None)
    body = {**told.model_dump(), **more}
    return JSONResponse(body, status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Let an app answer every error with a problem."""
    app.add_exception_handler(CellkinError, _of_cellkin)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


async def _of_cellkin(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CellkinError)
    if isinstance(error, Conflict):
        return answer(error, await to_thread.run_sync(_current, request))
    return answer(error)


def answer(error: CellkinError, current: dict[str, Any] | None = None) -> JSONResponse:
    """A mistake of the user's as a problem; a stale version carries the case as it is now."""
    if isinstance(error, ProblemError):
        return problem(error.status, error.kind, error)
    if isinstance(error, OUTAGES):
        return _outage(error)
    status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), 422)
    more: dict[str, Any] = {}
    if current is not None:
        more["current"] = current
    if isinstance(error, Refused):
        more["missing"] = list(error.missing)
    response = problem(status, _dashed(type(error).__name__), error, **more)
    if isinstance(error, Throttled):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def _outage(error: CellkinError) -> JSONResponse:
    """Trouble of the machine: its paths and hosts are for the log of the server alone."""
    log.warning("%s", error)
    if isinstance(error, Busy):
        told = ProblemError(503, "busy", error.what, mend="try again", headers=LATER)
    elif is_full(error):
        told = ProblemError(
            507, "full", "the disk of the workstation is full", mend="tell whoever keeps it"
        )
    else:
        told = ProblemError(
            503,
            "unavailable",
            "the workstation cannot reach what it keeps just now",
            mend="try again; if it stays, tell whoever keeps the workstation",
            headers=LATER,
        )
    return problem(told.status, told.kind, told)


def is_full(error: BaseException | None) -> bool:
    """Whether a disk without room is behind an error."""
    if error is None:
        return False
    number = getattr(error, "errno", None)
    return isinstance(error, Full) or number in FULL or is_full(error.__cause__)


def _current(request: Request) -> dict[str, Any] | None:
    """The case that a request was about, as it is now."""
    store, named = request.app.state.station.store, request.path_params
    try:
        found = named.get("case") or store.cell(named["cell"]).case
        now: dict[str, Any] = store.case(found).to_json()
    except (CellkinError, KeyError):
        return None
    return now


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [(_place(e["loc"]), str(e["msg"])) for e in error.errors()]
    what = "; ".join(f"{where}: {told}" for where, told in faults[:5])
    where = ", ".join(where for where, _ in faults[:5])
    mend = "send what /api/v1/openapi.json describes"
    return problem(422, "invalid", CellkinError(what, where=where, mend=mend))


def _place(path: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in path)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    where = request.url.path if error.status_code == 404 else request.method
    told = CellkinError(str(error.detail), where=where)
    response = problem(error.status_code, _dashed(HTTPStatus(error.status_code).phrase), told)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _dashed(name: str) -> str:
    """ "NotFound" and "Not Found" as "not-found"."""
    spaced = "".join(f" {c}" if c.isupper() else c for c in name)
    return "-".join(spaced.lower().split())
