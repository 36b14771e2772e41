"""The log as the store shows it: read, verified, sealed, and told of what was only looked at."""

from __future__ import annotations

from cellkin.core.progress import Progress, silent
from cellkin.web.store import cases, log, verifying
from cellkin.web.store.accounts import Accounts
from cellkin.web.store.errors import Refused
from cellkin.web.store.records import Actor, LogCheck, LogEntry


class Logbook(Accounts):
    """The part of the store that keeps the log."""

    def log(
        self, case: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[LogEntry], str | None]:
        """A page of the log, the newest entry first, and the cursor of the next page."""
        with self.database.reading() as conn:
            return log.page(conn, case, cursor, limit)

    def verify_log(
        self, witness: tuple[int, str] | None = None, progress: Progress = silent
    ) -> LogCheck:
        """Check the chain of the log, and what the tables hold against it.

        Args:
            witness: number and hash of an entry that were written down elsewhere (a signed report
                prints them); finds a log that was cut off or made anew.
        """
        with self.database.reading() as conn:
            return verifying.verify(conn, witness, progress, self.database.key)

    def seal_log(self, actor: Actor) -> int:
        """Verify the log, and begin to seal it with the key that the store was opened with; gives
        the number of the entry that says so.

        Raises:
            Refused: there is no key, it is sealed already, or not whole.
        """
        with self.database.writing() as tx:
            if faults := verifying.verify(tx.conn).faults:
                raise Refused(
                    "this log is not whole, and is not sealed",
                    where=faults[0],
                    mend="cellkin log --verify, then restore a backup beside",
                )
            return log.seal_now(tx.conn, tx.now, actor, tx.key)

    def viewed(self, actor: Actor, case_id: str) -> None:
        """Write down that somebody looked at a case."""
        with self.database.writing() as tx:
            tx.log(actor, "case viewed", case=case_id)

    def given(self, actor: Actor, case_id: str, revision: int | None, form: str) -> None:
        """Write down that a report is given out, before it is. Raises NotFound."""
        with self.database.writing() as tx:
            case = cases.get(tx.conn, case_id)
            after = {"revision": revision or case.revision, "form": form}
            tx.log(actor, "report given", case=case_id, after=after)
