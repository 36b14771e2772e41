"""Who is asking: a person with a session, a program with a token, or the local reviewer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings
from cellkin.web.store import ROLES, SCOPES, Actor, Store, User
from cellkin.web.store.groups import LOCAL

LOCAL_ROLE = "reviewer"


@dataclass(frozen=True)
class Who:
    """Somebody who may ask something.

    Attributes:
        actor: goes into the log. scopes: what a token is limited to; all for a session.
        csrf: what must come with every change made through a cookie; None for tokens.
        session: the secret of the session, None for tokens and the local reviewer.
    """

    actor: Actor
    scopes: tuple[str, ...]
    csrf: str | None = None
    session: str | None = None

    def require(self, role: str, scope: str) -> Actor:
        """The actor, if the role and the token's scope suffice.

        Raises:
            ProblemError: 403.
        """
        if ROLES.index(self.actor.role) < ROLES.index(role):
            raise ProblemError(
                403,
                "forbidden",
                f"this is for the role {role}",
                where=f"{self.actor.user} is {self.actor.role}",
                mend="ask an admin of this workstation",
            )
        if scope not in self.scopes:
            raise ProblemError(
                403,
                "forbidden",
                f"this token does not have the scope {scope}",
                where=f"scopes: {', '.join(self.scopes)}",
                mend="make a token with this scope",
            )
        return self.actor


class Identities:
    """Tells who sends a request.

    Args:
        store: knows sessions and tokens. settings: whether there are accounts at all.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._accounts = store, settings.accounts
        self.cookie = "__Host-cellkin" if settings.secure_cookies else "cellkin"
        self.device_cookie = f"{self.cookie}-device"
        self._factors = settings.second_factor
        actor = Actor(LOCAL, LOCAL_ROLE, "page")
        self._local = Who(actor, SCOPES, csrf=secrets.token_urlsafe(32))

    def of(self, headers: Headers) -> Who | None:
        """Who it is, or None. Asks the store: not for the event loop.

        Raises:
            ProblemError: 401, a token that is unknown, expired or ended.
        """
        if not self._accounts:
            return self._local
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._of_token(secret.strip())
        secret = self.session_of(headers)
        found = self._store.session(secret) if secret else None
        if found is None:
            return None
        actor = Actor(found.user.name, self._role(found.user), "page")
        return Who(actor, SCOPES, found.csrf, secret)

    def _role(self, user: User) -> str:
        """What a person acts as: an admin without the second factor that is asked for does less."""
        if self._factors and user.role == "admin" and not self._store.has_factor(user.name):
            return LOCAL_ROLE
        return user.role

    def session_of(self, headers: Headers) -> str:
        """The session's secret in the cookie, or an empty string."""
        return self._cookie(headers, self.cookie)

    def device_of(self, headers: Headers) -> str:
        """The secret of a device that somebody signed in from, or an empty string."""
        return self._cookie(headers, self.device_cookie)

    def _cookie(self, headers: Headers, name: str) -> str:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(name)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _of_token(self, secret: str) -> Who:
        found = self._store.token(secret)
        if found is None:
            raise ProblemError(
                401,
                "unknown-token",
                "this token is unknown, expired or was ended",
                where="Authorization",
                mend="make a new one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return Who(Actor(found.user.name, self._role(found.user), "api"), found.scopes)
