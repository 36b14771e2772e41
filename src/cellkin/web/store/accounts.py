"""The half of the store that knows people: accounts, logins, sessions, tokens."""

from __future__ import annotations

from collections.abc import Sequence

from cellkin.web.store import people
from cellkin.web.store.database import Database
from cellkin.web.store.records import Actor, ApiToken, Session, User

__all__ = ["Accounts"]


class Accounts:
    """People, and how they prove who they are."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add_user(self, actor: Actor, name: str, password: str, role: str) -> User:
        """Make an account.

        Raises:
            Forbidden: the actor is no admin. Refused: the name is taken, the password too easy.
        """
        with self.database.writing() as tx:
            return people.add_user(tx, actor, name, password, role)

    def users(self) -> list[User]:
        """All people, by name."""
        with self.database.reading() as conn:
            return people.everybody(conn)

    def user(self, name: str) -> User:
        """A person. Raises NotFound."""
        with self.database.reading() as conn:
            return people.user(conn, name)

    def set_password(self, actor: Actor, name: str, password: str) -> User:
        """Give a person a new password; all their sessions end.

        Raises:
            NotFound; Forbidden: somebody else's, and the actor is no admin. Refused: too easy.
        """
        with self.database.writing() as tx:
            return people.set_password(tx, actor, name, password)

    def change_user(
        self, actor: Actor, name: str, *, role: str | None = None, disabled: bool | None = None
    ) -> User:
        """Change what a person may do, or shut them out (their sessions end, tokens sleep).

        Raises:
            NotFound; Forbidden: the actor is no admin. Refused: the last admin.
        """
        with self.database.writing() as tx:
            return people.change_user(tx, actor, name, role=role, disabled=disabled)

    def check_password(self, name: str, password: str, source: str = "") -> User:
        """The person whose name and password these are.

        Args:
            source: where the request comes from (an IP address), for throttling.

        Raises:
            Forbidden: they are nobody's, or the person is shut out; the words do not say which.
            Throttled: there were too many failures; carries the seconds to wait.
        """
        with self.database.writing() as tx:
            stored, known = people.begin_login(tx, name, source)
        good = people.matches(stored, password) and known is not None and not known.disabled
        found = known if good else None
        with self.database.writing() as tx:
            people.end_login(tx, (name, source), found)
        if found is None:
            raise people.wrong()
        return found

    def start_session(self, user: str, minutes: int = 60) -> str:
        """Open a session; returns the secret for the cookie. It ends `minutes` after its last use,
        and 12 hours after its start at the latest.
        """
        with self.database.writing() as tx:
            return people.start_session(tx, user, minutes)

    def session(self, secret: str) -> Session | None:
        """The session of a secret, None where it ended; using it prolongs it."""
        with self.database.reading() as conn:
            found = people.session(conn, secret, self.database.clock())
        if found is None:
            return None
        if found[1]:
            with self.database.writing() as tx:
                people.prolong(tx, secret)
        return found[0]

    def end_session(self, secret: str) -> None:
        """End a session; nothing happens where it ended already."""
        with self.database.writing() as tx:
            people.end_session(tx, secret)

    def add_token(
        self, actor: Actor, user: str, scopes: Sequence[str], days: int = 90, title: str = ""
    ) -> tuple[str, ApiToken]:
        """Make a token for the API; returns its secret, which is not kept, and what is.

        Raises:
            NotFound; Forbidden: somebody else's, and the actor is no admin. Refused: an unknown
                scope, or too many days.
        """
        with self.database.writing() as tx:
            return people.add_token(tx, actor, user, scopes, (days, title))

    def token(self, secret: str) -> ApiToken | None:
        """The token of a secret, None where it ended or its person was shut out."""
        with self.database.reading() as conn:
            return people.token(conn, secret, self.database.clock())

    def tokens(self, user: str | None = None) -> list[ApiToken]:
        """The tokens of a person or of all, the newest first."""
        with self.database.reading() as conn:
            return people.tokens(conn, user)

    def end_token(self, actor: Actor, token_id: str) -> None:
        """End a token, one's own or as an admin. Raises NotFound, Forbidden."""
        with self.database.writing() as tx:
            people.end_token(tx, actor, token_id)
