"""Sessions and tokens: both are long and random, so their SHA-256 is enough to know them by."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from cellkin.web.store.converting import new_id, require_role, storable
from cellkin.web.store.errors import Busy, NotFound, Refused
from cellkin.web.store.log import plain_json
from cellkin.web.store.people import People, person, user_of
from cellkin.web.store.records import LONGEST_SESSION, SCOPES, Actor, ApiToken, Session
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import api_tokens, sessions, users
from cellkin.web.store.throttling import iso

LONGEST_TOKEN = 366  # days


class Accounts(People):
    """The half of the store that knows people, and how they prove who they are."""

    def start_session(self, user: str, minutes: int = 60) -> str:
        """Open a session; returns the secret for the cookie. It ends `minutes` after its last use,
        and 12 hours after its start at the latest.
        """
        secret = secrets.token_urlsafe(32)
        with self.database.writing() as tx:
            found = person(tx.conn, user)
            tx.conn.execute(delete(sessions).where(sessions.c.expires <= tx.now))
            expires = iso(datetime.fromisoformat(tx.now) + timedelta(minutes=minutes))
            row: dict[str, Any] = {"hash": _hashed(secret), "user": user, "minutes": minutes}
            row["started"] = tx.now
            tx.conn.execute(sessions.insert().values(**row, expires=expires))
            actor = Actor(found.name, found.role, "page")
            tx.log(actor, "session started", after={"session": row_hash("sessions", row)})
        return secret

    def session(self, secret: str) -> Session | None:
        """The session of a secret, None where it ended; using it prolongs it."""
        now = self.database.clock()
        query = select(sessions, users).join(users, users.c.name == sessions.c.user)
        query = query.where(sessions.c.hash == _hashed(secret))
        with self.database.reading() as conn:
            row = conn.execute(query).mappings().one_or_none()
        if row is None or row["disabled"] or row["expires"] <= iso(now):
            return None
        left = datetime.fromisoformat(row["expires"]) - now
        if left < timedelta(minutes=row["minutes"]) / 2:
            self._prolong(secret)
        csrf = hashlib.sha256(f"csrf {secret}".encode()).hexdigest()
        return Session(user_of(row), csrf, row["started"], row["expires"])

    def _prolong(self, secret: str) -> None:
        """Let a session in use go on, up to `LONGEST_SESSION` hours from its start. Where others
        change the store just now, its next use does it: looking must not wait for changes.
        """
        chosen = sessions.c.hash == _hashed(secret)
        with suppress(Busy), self.database.writing(wait=0.0) as tx:
            row = tx.conn.execute(select(sessions).where(chosen)).mappings().one_or_none()
            if row is None:
                return
            wanted = datetime.fromisoformat(tx.now) + timedelta(minutes=row["minutes"])
            last = datetime.fromisoformat(row["started"]) + timedelta(hours=LONGEST_SESSION)
            tx.conn.execute(update(sessions).where(chosen).values(expires=iso(min(wanted, last))))

    def end_session(self, secret: str) -> None:
        """End a session; nothing happens where it ended already."""
        chosen = sessions.c.hash == _hashed(secret)
        with self.database.writing() as tx:
            row = tx.conn.execute(select(sessions).where(chosen)).mappings().one_or_none()
            if row is None:
                return
            tx.conn.execute(delete(sessions).where(chosen))
            found = person(tx.conn, str(row["user"]))
            ended = {"session": row_hash("sessions", row)}
            tx.log(Actor(found.name, found.role, "page"), "logged out", after=ended)

    def add_token(
        self, actor: Actor, user: str, scopes: Sequence[str], days: int = 90, title: str = ""
    ) -> tuple[str, ApiToken]:
        """Make a token for the API; returns its secret, which is not kept, and what is.

        Raises:
            NotFound; Forbidden: somebody else's, and the actor is no admin. Refused: an unknown
                scope, or too many days.
        """
        secret, found = f"ck_{secrets.token_urlsafe(32)}", new_id()
        with self.database.writing() as tx:
            if actor.user != user:
                require_role(actor, "admin")
            person(tx.conn, user)
            kept = _granted(scopes, days)
            expires = iso(datetime.fromisoformat(tx.now) + timedelta(days=days))
            row: dict[str, Any] = {"id": found, "hash": _hashed(secret), "user": user}
            row |= {"scopes": plain_json(kept), "title": storable(title)[:80], "ended": False}
            row |= {"created": tx.now, "expires": expires}
            tx.conn.execute(api_tokens.insert().values(row))
            after = {"id": found, "user": user, "scopes": kept, "expires": expires}
            after["fixed"] = row_hash("api_tokens", row)
            tx.log(actor, "token made", after=after)
            (made,) = _tokens(tx.conn, api_tokens.c.id == found)
            return secret, made

    def token(self, secret: str) -> ApiToken | None:
        """The token of a secret, None where it ended or its person was shut out."""
        now = iso(self.database.clock())
        with self.database.reading() as conn:
            found = _tokens(conn, api_tokens.c.hash == _hashed(secret))  # one, or none
        good = (t for t in found if not t.ended and not t.user.disabled and t.expires > now)
        return next(good, None)

    def tokens(self, user: str | None = None) -> list[ApiToken]:
        """The tokens of a person or of all, the newest first."""
        with self.database.reading() as conn:
            return _tokens(conn) if user is None else _tokens(conn, users.c.name == user)

    def end_token(self, actor: Actor, token_id: str) -> None:
        """End a token, one's own or as an admin. Raises NotFound, Forbidden."""
        chosen = api_tokens.c.id == token_id
        with self.database.writing() as tx:
            if not (known := _tokens(tx.conn, chosen)):
                raise NotFound(
                    "there is no such token", where=token_id[:80], mend="choose one of the list"
                )
            (found,) = known
            if actor.user != found.user.name:
                require_role(actor, "admin")
            tx.conn.execute(update(api_tokens).where(chosen).values(ended=True))
            tx.log(actor, "token ended", after={"id": token_id, "user": found.user.name})


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _granted(scopes: Sequence[str], days: int) -> tuple[str, ...]:
    """The scopes in the order of `SCOPES`, where they and the days can be had."""
    kept = tuple(scope for scope in SCOPES if scope in scopes)
    if not kept or len(kept) != len(set(scopes)):
        raise Refused(
            "unknown scope, or none", where=", ".join(scopes)[:80], mend=f"use {', '.join(SCOPES)}"
        )
    if not 1 <= days <= LONGEST_TOKEN:
        raise Refused(f"a token cannot last {days} days", mend=f"use 1 to {LONGEST_TOKEN} days")
    return kept


def _tokens(conn: Connection, *conditions: ColumnElement[bool]) -> list[ApiToken]:
    query = (
        select(*[column.label(f"token_{column.name}") for column in api_tokens.c], *users.c)
        .join_from(api_tokens, users, users.c.name == api_tokens.c.user)
        .where(*conditions)
        .order_by(api_tokens.c.created.desc(), api_tokens.c.id)
    )
    return [_token(row) for row in conn.execute(query).mappings()]


def _token(row: Any) -> ApiToken:
    return ApiToken(
        id=row["token_id"],
        user=user_of(row),
        scopes=tuple(json.loads(row["token_scopes"])),
        title=row["token_title"],
        created=row["token_created"],
        expires=row["token_expires"],
        ended=bool(row["token_ended"]),
    )
