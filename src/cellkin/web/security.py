"""What stands between the network and every route: names, sizes, identity, and headers.

A request passes `Sealed` (headers on all answers), `KnownHost` (DNS rebinding), `Bounded` (bytes)
and `Guard` (nobody gets in unknown; no change without proof that our own page sent it). The guard
refuses by default: only what `PUBLIC` names is open, so a new route cannot be forgotten.
"""

from __future__ import annotations

import hmac
import logging
from urllib.parse import quote

from anyio import to_thread
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellkin.core.errors import CellkinError
from cellkin.web.identity import Identities, Who
from cellkin.web.problems import ProblemError, answer, is_full
from cellkin.web.settings import Settings
from cellkin.web.sharing import ASKER
from cellkin.web.store import Full

API = "/api/v1"
CSRF_HEADER = "x-csrf-token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = frozenset(
    {("GET", "/healthz"), ("GET", "/login"), ("POST", f"{API}/session"), ("GET", "/favicon.ico")}
)
STATIC = "/static/"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = logging.getLogger("cellkin.web")


class Sealed:
    """Security headers on every answer, and a problem in place of an error that is ours."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self.app = app
        self.headers = dict(HEADERS)
        if secure:
            self.headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and none gets past the guard
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def sealed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith(STATIC):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self.app(scope, receive, sealed)
        except ClientDisconnect:
            log.info("%r went away", scope["path"])
        except Exception as error:
            log.exception("%s %r failed", scope["method"], scope["path"])
            if started:
                raise
            told = answer(Full("the disk is full")) if is_full(error) else _ours()
            await told(scope, receive, sealed)


def _ours() -> Response:
    return answer(
        ProblemError(
            500,
            "ours",
            "the workstation failed, and that is our fault",
            mend="try again; the log of the server says more",
        )
    )


class KnownHost:
    """Only requests that call this workstation by one of its names: a page of a stranger cannot
    reach it by pointing a name of its own here.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.names = app, settings.allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if _name(host) not in self.names:
                told = ProblemError(
                    421,
                    "unknown-host",
                    "this workstation does not answer to that name",
                    where="Host",
                    mend="use the address it was started with, or start it with --allow-host NAME",
                )
                await answer(told)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _name(host: str) -> str:
    """The name in a Host header, without its port, in small letters."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


class Guard:
    """Finds out who asks, and lets nobody in unknown.

    Pages send strangers to the login; everything else answers 401. A change through a cookie needs
    the session's CSRF token, and no change is taken from another site's page.
    """

    def __init__(self, app: ASGIApp, identities: Identities) -> None:
        self.app, self.identities = app, identities

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ASKER.set((scope.get("client") or ("",))[0])
        try:
            refused = await self._refusal(scope)
        except CellkinError as error:
            refused = answer(error)
        await (refused or self.app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers, method = Headers(scope=scope), scope["method"]
        if method not in SAFE:
            _require_own_page(headers, scope["scheme"])
        if is_public(method, scope["path"]):
            return None
        who = await to_thread.run_sync(self.identities.of, headers)
        if who is None:
            return _unknown(scope, headers)
        if method not in SAFE:
            _require_csrf(who, headers)
        scope.setdefault("state", {})["who"] = who
        ASKER.set(who.actor.user)
        return None


def is_public(method: str, path: str) -> bool:
    """Whether a request is answered without login; none of these gives away data."""
    method = "GET" if method == "HEAD" else method
    return (method, path) in PUBLIC or (method == "GET" and path.startswith(STATIC))


def _unknown(scope: Scope, headers: Headers) -> Response:
    page = scope["method"] == "GET" and not scope["path"].startswith("/api/")
    if page and "text/html" in headers.get("accept", ""):
        asked = scope["path"] + ("?" + scope["query_string"].decode("latin-1")).rstrip("?")
        return RedirectResponse(f"/login?next={quote(asked, safe='/')}", 303)
    return answer(
        ProblemError(
            401,
            "unknown-person",
            "sign in first",
            where=scope["path"],
            mend=f"POST {API}/session, or send a token: Authorization: Bearer ...",
            headers={"WWW-Authenticate": "Bearer"},
        )
    )


def _require_own_page(headers: Headers, scheme: str) -> None:
    """Refuse a change that a browser sends for a page of another site; another scheme is one."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = origin is not None and origin.lower() != f"{scheme}://{headers['host'].lower()}"
    if foreign or site not in (None, "same-origin", "none"):
        raise ProblemError(
            403,
            "foreign-page",
            "this change was sent by a page of another site",
            where="Origin",
            mend="use the pages of this workstation",
        )


def _require_csrf(who: Who, headers: Headers) -> None:
    given = headers.get(CSRF_HEADER, "").encode()
    if who.csrf is not None and not hmac.compare_digest(given, who.csrf.encode()):
        raise ProblemError(
            403,
            "csrf",
            "the proof that a page of this workstation sent this is missing or out of date",
            where="X-CSRF-Token",
            mend=f"send the csrf that GET {API}/me gives",
        )
