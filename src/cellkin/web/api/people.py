"""People, their tokens, and the log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from cellkin.web.api.asking import (
    Admin,
    Body,
    Cursor,
    Identifier,
    Items,
    Limit,
    Line,
    Reader,
    Stationed,
)
from cellkin.web.problems import ProblemError
from cellkin.web.sharing import Housed, works_in
from cellkin.web.station import Station
from cellkin.web.store import ApiToken, LogCheck, LogEntry, User

router = APIRouter(route_class=Housed)

TokenId = Annotated[Identifier, Path(description="Id of a token.")]
UserName = Annotated[Line, Path(description="Name of a person.")]


class NewUser(Body):
    """A person who may sign in."""

    name: Line
    password: Annotated[str, Field(max_length=1024)]
    role: Line = "reviewer"


class UserChange(Body):
    """What to change of a person; what is left out stays."""

    password: Annotated[str, Field(max_length=1024)] | None = None
    role: Line | None = None
    disabled: bool | None = None
    groups: Annotated[list[Line], Field(max_length=100)] | None = None


class NewToken(Body):
    """A token of one's own, for so many days."""

    scopes: Annotated[list[Line], Field(min_length=1, max_length=10)]
    days: Annotated[int, Field(ge=1, le=366)] = 30
    title: Line = ""


class Secret(BaseModel):
    """The token itself, which is shown this once, and what is kept of it."""

    secret: str
    token: ApiToken


@router.get("/users", tags=["people"])
def users(_: Admin, station: Stationed) -> Items[User]:
    """Everybody who has an account."""
    return Items(items=station.store.users(), next=None)


@router.post("/users", tags=["people"], status_code=201)
@works_in("login")
def add_user(new: NewUser, actor: Admin, station: Stationed) -> User:
    """Make an account."""
    return station.store.add_user(actor, new.name, new.password, new.role)


@router.patch("/users/{name}", tags=["people"])
@works_in("login")
def change_user(name: UserName, wanted: UserChange, actor: Admin, station: Stationed) -> User:
    """Change role, groups or password of an account, or close it: all of it or nothing."""
    return station.store.change_user(actor, name, **wanted.model_dump(exclude_unset=True))


@router.get("/tokens", tags=["people"])
def tokens(actor: Reader, station: Stationed) -> Items[ApiToken]:
    """One's own tokens, without their secrets."""
    return Items(items=station.store.tokens(actor.user), next=None)


@router.post("/tokens", tags=["people"], status_code=201)
def add_token(new: NewToken, actor: Reader, station: Stationed) -> Secret:
    """Make a token for programs; it may never do more than its person."""
    _require_session(station, actor.how)
    secret, token = station.store.add_token(
        actor, actor.user, new.scopes, days=new.days, title=new.title
    )
    return Secret(secret=secret, token=token)


@router.delete("/tokens/{token}", tags=["people"], status_code=204)
def end_token(token: TokenId, actor: Reader, station: Stationed) -> None:
    """End a token of one's own; admins end everybody's."""
    station.store.end_token(actor, token)


def _require_session(station: Station, how: str) -> None:
    """A token that leaked must not make others that live longer."""
    if not station.settings.accounts or how == "api":
        raise ProblemError(
            403,
            "forbidden",
            "tokens are made by a person who signed in",
            where="tokens",
            mend="sign in; a workstation without accounts has no tokens",
        )


@router.get("/log", tags=["log"])
def log(
    _: Admin,
    station: Stationed,
    case: Annotated[Line | None, Query(description="Only of this case.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Items[LogEntry]:
    """The log."""
    found, following = station.store.log(case=case, limit=limit, cursor=cursor)
    return Items(items=found, next=following)


@router.get("/log/check", tags=["log"])
@works_in("reports")
def check_log(_: Admin, station: Stationed) -> LogCheck:
    """Whether every link of the log holds."""
    return station.store.verify_log()
