"""Signing in and out, and who one is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers

from cellkin.web.api.asking import Body, Line, Reader, Stationed, Whoever
from cellkin.web.identity import Who
from cellkin.web.problems import ProblemError
from cellkin.web.sharing import Housed, works_in
from cellkin.web.station import Station
from cellkin.web.store import Forbidden, Proof, Throttled
from cellkin.web.store.throttling import KNOWN

router = APIRouter(route_class=Housed, tags=["session"])


DEVICE = KNOWN * 24 * 3600  # seconds that a browser keeps the cookie of a device


class Login(Body):
    """Name, password, and the code of a second factor, where the person has one."""

    name: Line
    password: Annotated[str, Field(max_length=1024)]
    code: Annotated[str, Field(max_length=16)] = ""


class NewPassword(Body):
    """The present password, and the one to come."""

    current: Annotated[str, Field(max_length=1024)]
    new: Annotated[str, Field(max_length=1024)]


class Me(BaseModel):
    """Who one is; `csrf` goes into the header X-CSRF-Token of every change made with a cookie."""

    user: str
    role: str
    csrf: str | None
    accounts: bool
    scopes: tuple[str, ...]
    groups: tuple[str, ...] = ()


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
    device = station.identities.device_of(request.headers)
    proof = Proof(device, login.code)
    try:
        user = station.store.check_password(
            login.name, login.password, _origin(request), proof=proof
        )
    except Throttled:
        raise
    except Forbidden as error:
        raise ProblemError(401, "wrong-login", error.what, mend=error.mend) from None
    secret = station.store.start_session(user.name, station.settings.session_minutes)
    _keep(response, station, station.identities.cookie, secret)
    if not station.store.knows_device(user.name, device):
        known = station.store.know_device(user.name)
        _keep(response, station, station.identities.device_cookie, known, DEVICE)
    who = station.identities.of(Headers({"cookie": f"{station.identities.cookie}={secret}"}))
    assert who is not None
    return _me(who, station)


def _origin(request: Request) -> str:
    return request.client.host if request.client else ""


def _keep(
    response: Response, station: Station, name: str, secret: str, seconds: int | None = None
) -> None:
    """Put a secret into a cookie, for the browser's session or so long."""
    response.set_cookie(
        name,
        secret,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=station.settings.secure_cookies,
        path="/",
    )


@router.post("/me/password", status_code=204)
@works_in("login")
def change_password(
    wanted: NewPassword, request: Request, who: Whoever, _: Reader, station: Stationed
) -> None:
    """Change one's own password; all one's sessions and tokens end, this one too."""
    if who.session is None or not station.settings.accounts:
        raise ProblemError(
            403,
            "forbidden",
            "a password is changed by the person who signed in",
            where="password",
            mend="sign in; a workstation without accounts has no passwords",
        )
    origin = _origin(request)
    try:
        station.store.change_own_password(who.actor, wanted.current, wanted.new, origin)
    except Throttled:
        raise
    except Forbidden as error:
        raise ProblemError(403, "wrong-password", error.what, mend=error.mend) from None


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
        groups=station.store.groups(who.actor),
    )
