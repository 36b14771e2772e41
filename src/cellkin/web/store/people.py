"""Accounts and logging in. Passwords are kept as argon2id hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, delete, func, select, update

from cellkin.core.names import likeness, spelled
from cellkin.web.store.converting import require_role, storable
from cellkin.web.store.database import Database, Transaction
from cellkin.web.store.errors import Forbidden, NotFound, Refused
from cellkin.web.store.log import plain_json
from cellkin.web.store.passwords import LONGEST, check_password, new_secret, step_of
from cellkin.web.store.records import ROLES, Actor, User
from cellkin.web.store.relied import row_hash
from cellkin.web.store.tables import api_tokens, attempts, devices, factors, sessions, users
from cellkin.web.store.throttling import KNOWN, is_known, iso, place_of, throttle, tidy

FIGURES = str.maketrans("013", "ole")  # as letters are drawn


@dataclass(frozen=True)
class Proof:
    """What comes with a password: the cookie of a device, and the code of a second factor."""

    device: str = field(default="", repr=False)
    code: str = field(default="", repr=False)


NONE = Proof()


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
            check_password(kept, password)
            _require_unlike(tx.conn, kept)
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
        """Give a person a new password; all their sessions and tokens end.

        Raises:
            NotFound; Forbidden: somebody else's, and the actor is no admin. Refused: too easy.
        """
        with self.database.writing() as tx:
            if actor.user != name:
                require_role(actor, "admin")
            found = person(tx.conn, name)
            _new_password(tx, actor, name, password)
            return found

    def change_own_password(self, actor: Actor, current: str, new: str, source: str = "") -> None:
        """Change one's own password; all one's sessions and tokens end.

        Raises:
            Forbidden: the present one is wrong. Throttled: it was too often. Refused: too easy.
        """
        self.check_password(actor.user, current, source, again=True)
        self.set_password(actor, actor.user, new)

    def change_user(
        self,
        actor: Actor,
        name: str,
        *,
        role: str | None = None,
        disabled: bool | None = None,
        groups: Sequence[str] | None = None,
        password: str | None = None,
    ) -> User:
        """Change what a person may do and see, or shut them out (their sessions end, tokens sleep):
        all of it or, where a part is refused, nothing.

        Args:
            groups: of people who share cases, all that they are in from now on.

        Raises:
            NotFound; Forbidden: the actor is no admin. Refused: the last admin.
        """
        with self.database.writing() as tx:
            require_role(actor, "admin")
            before = person(tx.conn, name)
            wanted: dict[str, Any] = {"role": role, "disabled": disabled}
            wanted["groups"] = None if groups is None else _checked_groups(groups)
            new = {k: v for k, v in wanted.items() if v is not None and v != getattr(before, k)}
            _check_role(role or before.role)
            last = before.role == "admin" and not before.disabled and _admins(tx.conn) == 1
            if last and new.keys() & {"role", "disabled"}:
                raise Refused(
                    "this is the last admin", where=name, mend="make somebody else an admin first"
                )
            if new:
                _change(tx, actor, before, new)
            if password is not None:
                _new_password(tx, actor, name, password)
            return person(tx.conn, name)

    # second factors ---------------------------------------------------------------------------

    def set_factor(self, actor: Actor, name: str) -> str:
        """Give a person a second factor, in place of any before; returns its secret (base32), for
        an authenticator. Logins of this person need a code of it from now on.

        Raises:
            NotFound; Forbidden: the actor is no admin.
        """
        secret = new_secret()
        with self.database.writing() as tx:
            require_role(actor, "admin")
            person(tx.conn, name)
            row = {"user": name, "secret": secret, "since": tx.now}
            tx.conn.execute(delete(factors).where(factors.c.user == name))
            tx.conn.execute(factors.insert().values(**row, used=0))
            tx.conn.execute(delete(sessions).where(sessions.c.user == name))
            told = {"name": name, "fixed": row_hash("factors", row)}
            tx.log(actor, "second factor set", after=told)
        return secret

    def end_factor(self, actor: Actor, name: str) -> None:
        """Take a second factor away: its authenticator is lost. Raises NotFound, Forbidden."""
        with self.database.writing() as tx:
            require_role(actor, "admin")
            person(tx.conn, name)
            tx.conn.execute(delete(factors).where(factors.c.user == name))
            tx.log(actor, "second factor ended", after={"name": name})

    def has_factor(self, name: str) -> bool:
        """Whether a person has a second factor."""
        query = select(factors.c.user).where(factors.c.user == name)
        with self.database.reading() as conn:
            return conn.execute(query).scalar() is not None

    # logging in -------------------------------------------------------------------------------

    def knows_device(self, name: str, secret: str) -> bool:
        """Whether a person signed in from a device before."""
        with self.database.reading() as conn:
            return bool(secret) and is_known(conn, name, device_hash(secret))

    def know_device(self, name: str) -> str:
        """A secret for the cookie of a device that a person signed in from."""
        secret = secrets.token_urlsafe(32)
        with self.database.writing() as tx:
            until = iso(datetime.fromisoformat(tx.now) + timedelta(days=KNOWN))
            row = {"hash": device_hash(secret), "user": name, "expires": until}
            tx.conn.execute(devices.insert().values(row))
        return secret

    def check_password(
        self,
        name: str,
        password: str,
        source: str = "",
        *,
        proof: Proof = NONE,
        again: bool = False,
    ) -> User:
        """The person whose name and password these are.

        Args:
            source: where the request comes from (an IP address), for throttling.
            again: they are signed in already: no code is asked for, and it is no login.

        Raises:
            Forbidden: they are nobody's, the code of a second factor is missing or wrong, or the
                person is shut out; the words do not say which.
            Throttled: there were too many failures; carries the seconds to wait.
        """
        with self.database.writing() as tx:  # by itself: a refusal below takes nothing of it back
            tidy(tx.conn, datetime.fromisoformat(tx.now))
        with self.database.writing() as tx:
            place, stored, known = _begin_login(tx, name, source, proof)
        good = _matches(stored, password) and known is not None and not known.disabled
        with self.database.writing() as tx:
            if good and not again:
                good = _second(tx, name, proof.code)
            _end_login(tx, (name, place, source), known if good else None, again=again)
        if known is None or not good:
            raise Forbidden(
                "the name, the password or the code is wrong", mend="try again, or ask an admin"
            )
        return known


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
    told = (row["name"], row["role"], bool(row["disabled"]), row["created"], row["created_by"])
    return User(*told, tuple(json.loads(row["groups"])))


def device_hash(secret: str) -> str:
    """What a device is known by; an empty text where it has no cookie."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest() if secret else ""


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


def _require_unlike(conn: Connection, name: str) -> None:
    """Refuse a name that a hasty reader takes for another's."""
    for other in conn.execute(select(users.c.name)).scalars():
        if _look(str(other)) == _look(name):
            raise Refused(
                "there is a person of this name, or of one that looks like it",
                where=f"{spelled(name)} and {spelled(str(other))}",
                mend="choose another name",
            )


def _look(name: str) -> str:
    """What is left of a name in a hurry: also figures that are drawn as letters."""
    return likeness(name).replace(" ", "").translate(FIGURES).replace("rn", "m")


def _checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({checked_group(group) for group in groups}))


def checked_group(name: str) -> str:
    """The name of a group. Raises Refused."""
    kept = storable(name).strip()
    if not kept or len(kept) > 80 or not kept.isprintable():
        raise Refused(
            "this is no name for a group", where=kept[:80], mend="use 1 to 80 printable characters"
        )
    return kept


def _change(tx: Transaction, actor: Actor, before: User, new: dict[str, Any]) -> None:
    """Change fields of a person, and end the sessions of one who is shut out."""
    name, stored = before.name, dict(new)
    if "groups" in stored:
        stored["groups"] = plain_json(stored["groups"])
    tx.conn.execute(update(users).where(users.c.name == name).values(stored))
    if new.get("disabled"):
        tx.conn.execute(delete(sessions).where(sessions.c.user == name))
    old = {key: getattr(before, key) for key in new}
    tx.log(actor, "user changed", before={"name": name, **old}, after={"name": name, **new})


def _new_password(tx: Transaction, actor: Actor, name: str, password: str) -> None:
    """Set a password; sessions, tokens and known devices end with the one before."""
    check_password(name, password)
    row = {"name": name, "password": _hasher().hash(password)}
    tx.conn.execute(update(users).where(users.c.name == name).values(row))
    for table in (sessions, devices):
        tx.conn.execute(delete(table).where(table.c.user == name))
    live = (api_tokens.c.user == name, ~api_tokens.c.ended)
    ended = tx.conn.execute(select(api_tokens.c.id).where(*live)).scalars().all()
    tx.conn.execute(update(api_tokens).where(*live).values(ended=True))
    told = {"name": name, "fixed": row_hash("users", row), "tokens ended": list(ended)}
    tx.log(actor, "password changed", after=told)


def _admins(conn: Connection) -> int:
    query = select(func.count()).where(users.c.role == "admin", ~users.c.disabled)
    return int(conn.execute(query).scalar_one())


def _begin_login(
    tx: Transaction, name: str, source: str, proof: Proof
) -> tuple[str, str, User | None]:
    """Count a login as failed until it is known to be good, so that no number of logins at once
    goes unseen; what it is counted by, the stored hash and the person, or those of nobody.

    Raises:
        Throttled: there were too many failures before.
    """
    now = datetime.fromisoformat(tx.now)
    device = device_hash(proof.device)
    known = bool(device) and is_known(tx.conn, storable(name), device)
    place = place_of(source, device if known else "")
    throttle(tx.conn, name, place, now, known=known)
    row = {"name": storable(name.lower()[:80]), "source": place, "at": tx.now}
    tx.conn.execute(attempts.insert().values(row))
    chosen = select(users).where(users.c.name == storable(name))
    found = tx.conn.execute(chosen).mappings().one_or_none()
    stored = (_nobody(), None) if found is None else (str(found["password"]), user_of(found))
    return (place, *stored)


def _second(tx: Transaction, name: str, code: str) -> bool:
    """Whether a code is right, where one is asked for; it is good once."""
    row = tx.conn.execute(select(factors).where(factors.c.user == name)).mappings().one_or_none()
    if row is None:
        return True
    seconds = datetime.fromisoformat(tx.now).timestamp()
    step = step_of(row["secret"], code, seconds, row["used"])
    if step is not None:
        tx.conn.execute(update(factors).where(factors.c.user == name).values(used=step))
    return step is not None


def _matches(stored: str, password: str) -> bool:
    """Whether a password is the one whose hash is stored."""
    try:
        return _hasher().verify(stored, password[: LONGEST + 1])
    except (VerifyMismatchError, InvalidHashError):
        return False


def _end_login(
    tx: Transaction, who: tuple[str, str, str], found: User | None, *, again: bool
) -> None:
    """Write down how a login went; a good one forgets the failures before it."""
    name, place, source = (storable(text[:80]) for text in who)
    if found is None:
        tx.log(Actor(name, "none", "login"), "login failed", after={"source": source})
        return
    mine = (attempts.c.name == name.lower(), attempts.c.source == place)
    tx.conn.execute(delete(attempts).where(*mine))
    if not again:
        tx.log(Actor(found.name, found.role, "login"), "logged in", after={"source": source})
