"""Accounts and logging in. Passwords are kept as argon2id hashes."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, delete, func, select, update

from cellkin.web.store.converting import require_role, storable
from cellkin.web.store.database import Database, Transaction
from cellkin.web.store.errors import Forbidden, NotFound, Refused, Throttled
from cellkin.web.store.records import ROLES, Actor, User
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import attempts, sessions, users

SHORTEST = 10
LONGEST = 256  # characters of a password: hashing more would be work for an attacker to give us
WINDOW = 15  # minutes that a failed login counts
PER_PERSON = 5  # failures of one name from one place
PER_PLACE = 20  # failures of all names from one place
PER_NAME = 50  # failures of one name from all places


class People:
    """Who may sign in, and whether it is them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add_user(self, actor: Actor, name: str, password: str, role: str) -> User:
        """Make an account.

        Raises:
            Forbidden: the actor is no admin. Refused: the name is taken, the password too easy.
        """
        with self.database.writing() as tx:
            require_role(actor, "admin")
            kept = _checked_name(name)
            _check_role(role)
            _check_password(kept, password)
            same = func.lower(users.c.name) == kept.lower()
            if tx.conn.execute(select(users.c.name).where(same)).scalar() is not None:
                raise Refused(
                    "there is a person of this name", where=kept, mend="choose another name"
                )
            row = {"name": kept, "password": _hasher().hash(password), "role": role}
            row |= {"created": tx.now, "created_by": actor.user}
            tx.conn.execute(users.insert().values(**row, disabled=False))
            told = {"name": kept, "role": role, "fixed": row_hash("users", row)}
            tx.log(actor, "user added", after=told)
            return person(tx.conn, kept)

    def users(self) -> list[User]:
        """All people, by name."""
        query = select(users).order_by(users.c.name)
        with self.database.reading() as conn:
            return [user_of(row) for row in conn.execute(query).mappings()]

    def user(self, name: str) -> User:
        """A person. Raises NotFound."""
        with self.database.reading() as conn:
            return person(conn, name)

    def set_password(self, actor: Actor, name: str, password: str) -> User:
        """Give a person a new password; all their sessions end.

        Raises:
            NotFound; Forbidden: somebody else's, and the actor is no admin. Refused: too easy.
        """
        with self.database.writing() as tx:
            if actor.user != name:
                require_role(actor, "admin")
            found = person(tx.conn, name)
            _check_password(name, password)
            changed = update(users).where(users.c.name == name)
            row = {"name": name, "password": _hasher().hash(password)}
            tx.conn.execute(changed.values(row))
            tx.conn.execute(delete(sessions).where(sessions.c.user == name))
            told = {"name": name, "fixed": row_hash("users", row)}
            tx.log(actor, "password changed", after=told)
            return found

    def change_user(
        self, actor: Actor, name: str, *, role: str | None = None, disabled: bool | None = None
    ) -> User:
        """Change what a person may do, or shut them out (their sessions end, tokens sleep).

        Raises:
            NotFound; Forbidden: the actor is no admin. Refused: the last admin.
        """
        with self.database.writing() as tx:
            require_role(actor, "admin")
            before = person(tx.conn, name)
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
            return person(tx.conn, name)

    def check_password(self, name: str, password: str, source: str = "") -> User:
        """The person whose name and password these are.

        Args:
            source: where the request comes from (an IP address), for throttling.

        Raises:
            Forbidden: they are nobody's, or the person is shut out; the words do not say which.
            Throttled: there were too many failures; carries the seconds to wait.
        """
        with self.database.writing() as tx:
            stored, known = _begin_login(tx, name, source)
        good = _matches(stored, password) and known is not None and not known.disabled
        found = known if good else None
        with self.database.writing() as tx:
            _end_login(tx, (name, source), found)
        if found is None:
            raise Forbidden("the name or the password is wrong", mend="try again, or ask an admin")
        return found


def person(conn: Connection, name: str) -> User:
    """A person.

    Raises:
        NotFound: nobody of this name.
    """
    row = conn.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is nobody of this name", where=name[:80], mend="cellkin users list")
    return user_of(row)


def user_of(row: Any) -> User:
    """A row of `users` as a record."""
    return User(row["name"], row["role"], bool(row["disabled"]), row["created"], row["created_by"])


def iso(moment: datetime) -> str:
    """A moment as records hold it."""
    return moment.isoformat(timespec="milliseconds")


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobody() -> str:
    """The hash of no password: an unknown name costs as long as a wrong password."""
    return _hasher().hash(secrets.token_urlsafe(16))


def _checked_name(name: str) -> str:
    kept = storable(name).strip()
    if not kept or len(kept) > 80 or not kept.isprintable() or kept == "local":
        raise Refused(
            "this is no name for an account",
            where=kept[:80],
            mend="use 1 to 80 printable characters; 'local' is taken",
        )
    return kept


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


def _admins(conn: Connection) -> int:
    query = select(func.count()).where(users.c.role == "admin", ~users.c.disabled)
    return int(conn.execute(query).scalar_one())


def _throttle(conn: Connection, name: str, source: str, now: datetime) -> None:
    """Refuse a login after too many failures.

    Raises:
        Throttled: too many, of this name from this place, or of one of them alone.
    """
    since = iso(now - timedelta(minutes=WINDOW))
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


def _begin_login(tx: Transaction, name: str, source: str) -> tuple[str, User | None]:
    """Count a login as failed until it is known to be good, so that no number of logins at once
    goes unseen; the stored hash and the person, or those of nobody.

    Raises:
        Throttled: there were too many failures before.
    """
    now = datetime.fromisoformat(tx.now)
    _throttle(tx.conn, name, source, now)
    old = iso(now - timedelta(minutes=WINDOW))
    tx.conn.execute(delete(attempts).where(attempts.c.at <= old))
    row = {"name": storable(name.lower()[:80]), "source": storable(source[:80]), "at": tx.now}
    tx.conn.execute(attempts.insert().values(row))
    chosen = select(users).where(users.c.name == storable(name))
    found = tx.conn.execute(chosen).mappings().one_or_none()
    return (_nobody(), None) if found is None else (str(found["password"]), user_of(found))


def _matches(stored: str, password: str) -> bool:
    """Whether a password is the one whose hash is stored."""
    try:
        return _hasher().verify(stored, password[: LONGEST + 1])
    except (VerifyMismatchError, InvalidHashError):
        return False


def _end_login(tx: Transaction, who: tuple[str, str], found: User | None) -> None:
    """Write down how a login went; a good one forgets the failures before it."""
    name, source = storable(who[0][:80]), storable(who[1][:80])
    if found is None:
        tx.log(Actor(name, "none", "login"), "login failed", after={"source": source})
        return
    mine = (attempts.c.name == name.lower(), attempts.c.source == source)
    tx.conn.execute(delete(attempts).where(*mine))
    tx.log(Actor(found.name, found.role, "login"), "logged in", after={"source": source})
