"""Accounts, logins and tokens. Passwords are kept as argon2id hashes; of sessions and tokens, which
are long and random, the SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from cellkin.web.store.converting import new_id, require_role, storable
from cellkin.web.store.database import Transaction
from cellkin.web.store.errors import Forbidden, NotFound, Refused, Throttled
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import ROLES, SCOPES, Actor, ApiToken, Session, User
from cellkin.web.store.tables import api_tokens, attempts, sessions, users

__all__ = ["SHORTEST", "WINDOW"]

SHORTEST = 10
LONGEST = 256  # characters of a password: hashing more would be work for an attacker to give us
WINDOW = 15  # minutes that a failed login counts
PER_PERSON = 5  # failures of one name from one place
PER_PLACE = 20  # failures of all names from one place
PER_NAME = 50  # failures of one name from all places
LONGEST_SESSION = 12  # hours
LONGEST_TOKEN = 366  # days


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobody() -> str:
    """The hash of no password: an unknown name costs as long as a wrong password."""
    return _hasher().hash(secrets.token_urlsafe(16))


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


# accounts ---------------------------------------------------------------------------------------


def add_user(tx: Transaction, actor: Actor, name: str, password: str, role: str) -> User:
    """Make an account."""
    require_role(actor, "admin")
    kept = _checked_name(name)
    _check_role(role)
    _check_password(kept, password)
    if tx.conn.execute(select(users.c.name).where(_named(kept))).scalar() is not None:
        raise Refused("there is a person of this name", where=kept, mend="choose another name")
    row = {"name": kept, "password": _hasher().hash(password), "role": role, "disabled": False}
    tx.conn.execute(users.insert().values(**row, created=tx.now, created_by=actor.user))
    tx.log(actor, "user added", after={"name": kept, "role": role})
    return user(tx.conn, kept)


def _checked_name(name: str) -> str:
    kept = storable(name).strip()
    if not kept or len(kept) > 80 or not kept.isprintable() or kept == "local":
        raise Refused(
            "this is no name for an account",
            where=kept[:80],
            mend="use 1 to 80 printable characters; 'local' is taken",
        )
    return kept


def _named(name: str) -> Any:
    return func.lower(users.c.name) == name.lower()


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Refused("unknown role", where=role[:80], mend=f"use one of: {', '.join(ROLES)}")


def _check_password(name: str, password: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST or name.lower() in password.lower():
        raise Refused(
            "this password is too easy to guess, or too long",
            where=name,
            mend=f"use {SHORTEST} to {LONGEST} characters that do not hold the name",
        )


def user(conn: Connection, name: str) -> User:
    """A person.

    Raises:
        NotFound: nobody of this name.
    """
    row = conn.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is nobody of this name", where=name[:80], mend="cellkin users list")
    return _user(row)


def _user(row: Any) -> User:
    return User(row["name"], row["role"], bool(row["disabled"]), row["created"], row["created_by"])


def everybody(conn: Connection) -> list[User]:
    """All people, by name."""
    return [_user(row) for row in conn.execute(select(users).order_by(users.c.name)).mappings()]


def set_password(tx: Transaction, actor: Actor, name: str, password: str) -> User:
    """Give a person a new password; all logins of theirs end. One's own, or as an admin."""
    if actor.user != name:
        require_role(actor, "admin")
    found = user(tx.conn, name)
    _check_password(name, password)
    changed = update(users).where(users.c.name == name)
    tx.conn.execute(changed.values(password=_hasher().hash(password)))
    tx.conn.execute(delete(sessions).where(sessions.c.user == name))
    tx.log(actor, "password changed", after={"name": name})
    return found


def change_user(
    tx: Transaction, actor: Actor, name: str, *, role: str | None, disabled: bool | None
) -> User:
    """Change what a person may do, or shut them out; the last admin stays one."""
    require_role(actor, "admin")
    before = user(tx.conn, name)
    new: dict[str, Any] = {}
    if role is not None and role != before.role:
        _check_role(role)
        new["role"] = role
    if disabled is not None and disabled != before.disabled:
        new["disabled"] = disabled
    if not new:
        return before
    if before.role == "admin" and not before.disabled and _admins(tx.conn) == 1:
        raise Refused(
            "this is the last admin", where=name, mend="make somebody else an admin first"
        )
    tx.conn.execute(update(users).where(users.c.name == name).values(new))
    if new.get("disabled"):
        tx.conn.execute(delete(sessions).where(sessions.c.user == name))
    old = {key: getattr(before, key) for key in new}
    tx.log(actor, "user changed", before={"name": name, **old}, after={"name": name, **new})
    return user(tx.conn, name)


def _admins(conn: Connection) -> int:
    query = select(func.count()).where(users.c.role == "admin", ~users.c.disabled)
    return int(conn.execute(query).scalar_one())


# logging in -------------------------------------------------------------------------------------


def throttle(conn: Connection, name: str, source: str, now: datetime) -> None:
    """Refuse a login after too many failures.

    Raises:
        Throttled: too many, of this name from this place, or of one of them alone.
    """
    since = _iso(now - timedelta(minutes=WINDOW))
    recent = select(func.count(), func.min(attempts.c.at)).where(attempts.c.at > since)
    own = attempts.c.name == storable(name.lower()[:80])
    place = attempts.c.source == storable(source[:80])
    for query, most in (
        (recent.where(own, place), PER_PERSON),
        (recent.where(place), PER_PLACE),
        (recent.where(own), PER_NAME),
    ):
        count, first = conn.execute(query).one()
        if count >= most:
            wait = datetime.fromisoformat(first) + timedelta(minutes=WINDOW) - now
            seconds = max(1, int(wait.total_seconds()) + 1)
            raise Throttled(
                "too many failed logins",
                seconds=seconds,
                mend=f"wait {-(-seconds // 60)} minutes, then try again",
            )


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def begin_login(tx: Transaction, name: str, source: str) -> tuple[str, User | None]:
    """Count a login as failed until it is known to be good, so that no number of logins at once
    goes unseen; the stored hash and the person, or those of nobody.

    Raises:
        Throttled: there were too many failures before.
    """
    now = datetime.fromisoformat(tx.now)
    throttle(tx.conn, name, source, now)
    old = _iso(now - timedelta(minutes=WINDOW))
    tx.conn.execute(delete(attempts).where(attempts.c.at <= old))
    row = {"name": storable(name.lower()[:80]), "source": storable(source[:80]), "at": tx.now}
    tx.conn.execute(attempts.insert().values(row))
    chosen = select(users).where(users.c.name == storable(name))
    found = tx.conn.execute(chosen).mappings().one_or_none()
    return (_nobody(), None) if found is None else (str(found["password"]), _user(found))


def matches(stored: str, password: str) -> bool:
    """Whether a password is the one whose hash is stored."""
    try:
        return _hasher().verify(stored, password[: LONGEST + 1])
    except (VerifyMismatchError, InvalidHashError):
        return False


def end_login(tx: Transaction, who: tuple[str, str], found: User | None) -> None:
    """Write down how a login went; a good one forgets the failures before it."""
    name, source = storable(who[0][:80]), storable(who[1][:80])
    if found is None:
        tx.log(Actor(name, "none", "login"), "login failed", after={"source": source})
        return
    mine = (attempts.c.name == name.lower(), attempts.c.source == source)
    tx.conn.execute(delete(attempts).where(*mine))
    tx.log(Actor(found.name, found.role, "login"), "logged in", after={"source": source})


def wrong() -> Forbidden:
    """The same words whatever was wrong."""
    return Forbidden("the name or the password is wrong", mend="try again, or ask an admin")


# sessions ---------------------------------------------------------------------------------------


def start_session(tx: Transaction, name: str, minutes: int) -> str:
    """Open a session of a person; returns its secret, which is not kept."""
    user(tx.conn, name)
    tx.conn.execute(delete(sessions).where(sessions.c.expires <= tx.now))
    secret = secrets.token_urlsafe(32)
    expires = _iso(datetime.fromisoformat(tx.now) + timedelta(minutes=minutes))
    row: dict[str, Any] = {"hash": _hashed(secret), "user": name, "minutes": minutes}
    tx.conn.execute(sessions.insert().values(**row, started=tx.now, expires=expires))
    return secret


def session(conn: Connection, secret: str, now: datetime) -> tuple[Session, bool] | None:
    """The session of a secret, and whether it is time to prolong it; None where there is none."""
    query = select(sessions, users).join(users, users.c.name == sessions.c.user)
    row = conn.execute(query.where(sessions.c.hash == _hashed(secret))).mappings().one_or_none()
    if row is None or row["disabled"] or row["expires"] <= _iso(now):
        return None
    csrf = hashlib.sha256(f"csrf {secret}".encode()).hexdigest()
    left = datetime.fromisoformat(row["expires"]) - now
    due = left < timedelta(minutes=row["minutes"]) / 2
    return Session(_user(row), csrf, row["started"], row["expires"]), due


def prolong(tx: Transaction, secret: str) -> None:
    """Let a session in use go on, up to `LONGEST_SESSION` hours from its start."""
    chosen = sessions.c.hash == _hashed(secret)
    row = tx.conn.execute(select(sessions).where(chosen)).mappings().one_or_none()
    if row is None:
        return
    wanted = datetime.fromisoformat(tx.now) + timedelta(minutes=row["minutes"])
    last = datetime.fromisoformat(row["started"]) + timedelta(hours=LONGEST_SESSION)
    tx.conn.execute(update(sessions).where(chosen).values(expires=_iso(min(wanted, last))))


def end_session(tx: Transaction, secret: str) -> None:
    """End a session; nothing happens where it ended already."""
    chosen = sessions.c.hash == _hashed(secret)
    name = tx.conn.execute(select(sessions.c.user).where(chosen)).scalar()
    if name is None:
        return
    tx.conn.execute(delete(sessions).where(chosen))
    found = user(tx.conn, str(name))
    tx.log(Actor(found.name, found.role, "page"), "logged out")


# tokens of the API ------------------------------------------------------------------------------


def add_token(
    tx: Transaction, actor: Actor, name: str, scopes: Sequence[str], told: tuple[int, str]
) -> tuple[str, ApiToken]:
    """Make a token for oneself, or as an admin for somebody; `told` is (days, title)."""
    if actor.user != name:
        require_role(actor, "admin")
    user(tx.conn, name)
    days, title = told
    kept = tuple(scope for scope in SCOPES if scope in scopes)
    if not kept or len(kept) != len(set(scopes)):
        raise Refused(
            "unknown scope, or none", where=", ".join(scopes)[:80], mend=f"use {', '.join(SCOPES)}"
        )
    if not 1 <= days <= LONGEST_TOKEN:
        raise Refused(f"a token cannot last {days} days", mend=f"use 1 to {LONGEST_TOKEN} days")
    secret = f"ck_{secrets.token_urlsafe(32)}"
    found = new_id()
    row: dict[str, Any] = {"id": found, "hash": _hashed(secret), "user": name, "ended": False}
    row |= {"scopes": plain_json(kept), "title": storable(title)[:80], "created": tx.now}
    row["expires"] = _iso(datetime.fromisoformat(tx.now) + timedelta(days=days))
    tx.conn.execute(api_tokens.insert().values(row))
    after = {"id": found, "user": name, "scopes": kept, "expires": row["expires"]}
    tx.log(actor, "token made", after=after)
    (made,) = _tokens(tx.conn, api_tokens.c.id == found)
    return secret, made


def tokens(conn: Connection, name: str | None) -> list[ApiToken]:
    """The tokens of a person, or of all, the newest first."""
    return _tokens(conn) if name is None else _tokens(conn, users.c.name == name)


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
        user=_user(row),
        scopes=tuple(json.loads(row["token_scopes"])),
        title=row["token_title"],
        created=row["token_created"],
        expires=row["token_expires"],
        ended=bool(row["token_ended"]),
    )


def token(conn: Connection, secret: str, now: datetime) -> ApiToken | None:
    """The token of a secret, None where it ended, expired, or its person was shut out."""
    for found in _tokens(conn, api_tokens.c.hash == _hashed(secret)):  # one, or none
        if not found.ended and not found.user.disabled and found.expires > _iso(now):
            return found
    return None


def end_token(tx: Transaction, actor: Actor, token_id: str) -> None:
    """End a token, one's own or as an admin."""
    if not (known := _tokens(tx.conn, api_tokens.c.id == token_id)):
        raise NotFound("there is no such token", where=token_id[:80], mend="choose one of the list")
    (found,) = known
    if actor.user != found.user.name:
        require_role(actor, "admin")
    chosen = update(api_tokens).where(api_tokens.c.id == token_id)
    tx.conn.execute(chosen.values(ended=True))
    tx.log(actor, "token ended", after={"id": token_id, "user": found.user.name})
