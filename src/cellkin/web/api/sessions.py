"""Signing in and out, and who one is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers

from cellkin.web.api.asking import Body, Line, Stationed, Whoever
from cellkin.web.identity import Who
from cellkin.web.problems import ProblemError
from cellkin.web.sharing import Housed, works_in
from cellkin.web.station import Station
from cellkin.web.store import Forbidden, Throttled

router = APIRouter(route_class=Housed, tags=["session"])


class Login(Body):
    """Name and password."""

    name: Line
    password: Annotated[str, Field(max_length=1024)]


class Me(BaseModel):
    """Who one is; `csrf` goes into the header X-CSRF-Token of every change made with a cookie."""

    user: str
    role: str
    csrf: str | None
    accounts: bool
    scopes: tuple[str, ...]


@router.post("/session", status_code=201)
@works_in("login")
def sign_in(login: Login, request: Request, response: Response, station: Stationed) -> Me:
    """Sign in; the session is a cookie. Failed attempts are slowed down."""
    if not station.settings.accounts:
        raise ProblemError(
            409,
            "no-accounts",
            "this workstation has no accounts: nobody signs in",
            where="session",
            mend="start it with --accounts",
        )
    origin = request.client.host if request.client else ""
    try:
        user = station.store.check_password(login.name, login.password, origin)
    except Throttled:
        raise
    except Forbidden as error:
        raise ProblemError(401, "wrong-login", error.what, mend=error.mend) from None
    secret = station.store.start_session(user.name, station.settings.session_minutes)
    response.set_cookie(
        station.identities.cookie,
        secret,
        httponly=True,
        samesite="strict",
        secure=station.settings.secure_cookies,
        path="/",
    )
    who = station.identities.of(Headers({"cookie": f"{station.identities.cookie}={secret}"}))
    assert who is not None
    return _me(who, station)


@router.delete("/session", status_code=204)
def sign_out(who: Whoever, response: Response, station: Stationed) -> None:
    """Sign out; the session is good for nothing from now on."""
    if who.session is not None:
        station.store.end_session(who.session)
    response.delete_cookie(
        station.identities.cookie, path="/", secure=station.settings.secure_cookies
    )
    response.headers["Clear-Site-Data"] = '"cache"'  # pictures that the browser kept


@router.get("/me")
def me(who: Whoever, station: Stationed) -> Me:
    """Who one is."""
    return _me(who, station)


def _me(who: Who, station: Station) -> Me:
    return Me(
        user=who.actor.user,
        role=who.actor.role,
        csrf=who.csrf,
        accounts=station.settings.accounts,
        scopes=who.scopes,
    )
