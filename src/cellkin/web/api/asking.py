"""What the routes ask for: the station, who it is, and words and numbers within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar, cast

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cellkin.web.identity import Who
from cellkin.web.station import Station
from cellkin.web.store import Actor

Item = TypeVar("Item")
UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
TURNING = re.compile("[\u061c\u200e\u200f\u2028\u2029]")  # in one line: a name, a pseudonym
REF = {"schema": {"$ref": "#/components/schemas/Problem"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A mistake of the asker's: what, where, and how to mend it.",
        "content": {"application/problem+json": REF},
    }
}


def _fit(text: str) -> str:
    if UNFIT.search(text):
        raise ValueError("control characters and halves of characters are not allowed")
    return text


def _one_line(text: str) -> str:
    if TURNING.search(text):
        raise ValueError("marks that turn the direction of writing are not allowed")
    return _fit(text)


Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Note = Annotated[str, Field(max_length=4000), AfterValidator(_fit)]
Version = Annotated[int, Field(ge=0, le=2**31 - 1, description="Of the case, as it was read.")]
Identifier = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_fit)]
CaseId = Annotated[Identifier, Path(description="Id of a case.")]
CellId = Annotated[Identifier, Path(description="Id of a cell.")]
Cursor = Annotated[
    str | None,
    Query(max_length=500, description="`next` of the page before."),
    AfterValidator(lambda text: text if text is None else _fit(text)),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Items of one page.")]


class Body(BaseModel):
    """What is sent as JSON; an unknown field is a mistake, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Items(BaseModel, Generic[Item]):
    """A part of a list; `next` is the cursor of the part after it, null at the end."""

    items: Sequence[Item]
    next: str | None


def station_of(request: Request) -> Station:
    """The running workstation."""
    return cast(Station, request.app.state.station)


def who_of(request: Request) -> Who:
    """Who asks; the guard let nobody unknown through."""
    return cast(Who, request.state.who)


def may(role: str, scope: str) -> Callable[..., Actor]:
    """A dependency that gives the actor, or refuses whom role or scope do not allow."""

    def allowed(who: Annotated[Who, Depends(who_of)]) -> Actor:
        return who.require(role, scope)

    allowed.needs = (role, scope)  # type: ignore[attr-defined]  # tests look at it
    return allowed


def visible(request: Request) -> None:
    """Refuse a case, or a cell of one, that is another group's, whatever route names it; whoever
    looks leaves an entry in the log.

    Raises:
        NotFound: it is.
    """
    named = {k: request.path_params[k] for k in ("case", "cell") if k in request.path_params}
    if named:
        station, actor = station_of(request), who_of(request).actor
        case = station.store.require_seen(actor, **named)
        if case is not None and request.method == "GET":
            station.lookers.note(actor, case)


Stationed = Annotated[Station, Depends(station_of)]
Whoever = Annotated[Who, Depends(who_of)]
Reader = Annotated[Actor, Depends(may("viewer", "read"))]
Uploader = Annotated[Actor, Depends(may("reviewer", "upload"))]
Reviewer = Annotated[Actor, Depends(may("reviewer", "review"))]
Admin = Annotated[Actor, Depends(may("admin", "admin"))]
