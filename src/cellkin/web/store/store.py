"""`Store`: the one door to everything the workstation keeps. Synchronous and thread-safe.

Each change is one transaction together with its entry in the log. What it refuses is a
`StoreError` (see `errors`). People, sessions and tokens, atlases and pictures are in what it
inherits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellkin.core.progress import Progress, silent
from cellkin.web.store import (
    backup,
    batches,
    cases,
    fitting,
    gallery,
    groups,
    originals,
    registry,
    reviewing,
    signing,
    views,
)
from cellkin.web.store.database import Clock, Database, address, utc_now
from cellkin.web.store.documents import CaseReport
from cellkin.web.store.library import Library
from cellkin.web.store.migrating import migrate
from cellkin.web.store.records import (
    PROGRAM,
    Actor,
    Added,
    Batch,
    Case,
    Cell,
    NewCell,
    Revision,
)
from cellkin.web.store.rules import PLAIN
from cellkin.web.store.sealing import AuditKey


class Store(Library):
    """Cases, cells, decisions, people and the log.

    >>> store = Store.open("workstation.sqlite")                        # doctest: +SKIP
    """

    def __init__(self, database: Database, keeping: originals.Keeping = originals.IN_STORE) -> None:
        super().__init__(database, keeping)
        self.rules = PLAIN

    @classmethod
    def open(
        cls,
        url_or_path: str | Path,
        *,
        clock: Clock = utc_now,
        keeping: originals.Keeping = originals.IN_STORE,
        key: AuditKey | None = None,
    ) -> Store:
        """Open a store, made or brought to the newest schema where need be.

        Args:
            url_or_path: an SQLite file, or `postgresql://...`. clock: tells the time in UTC.
            keeping: where uploaded files are kept.
            key: seals the log; a sealed one takes no entry without it.

        Raises:
            ArtifactError: it cannot be opened, or belongs to something else.
        """
        database = Database(address(url_or_path), clock, key)
        migrate(database)
        return cls(database, keeping)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    # cases ------------------------------------------------------------------------------------

    def create_case(
        self,
        actor: Actor,
        pseudonym: str,
        specimen: str | None = None,
        consecutive: bool = False,
        note: str = "",
        group: str | None = None,
    ) -> Case:
        """Make an empty case.

        Args:
            group: of people who see it alone, an empty text for everybody; None: the actor's own.

        Raises:
            Forbidden: viewers make none. Refused: the pseudonym is empty, or a field too long.
        """
        fields = {"pseudonym": pseudonym, "specimen": specimen, "consecutive": consecutive}
        with self.database.writing() as tx:
            return cases.create(tx, actor, {**fields, "note": note, "group": group})

    def cases(
        self,
        search: str = "",
        status: str | None = None,
        flag: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        *,
        actor: Actor | None = None,
    ) -> tuple[list[Case], str | None]:
        """A page of the worklist, the newest case first, and the cursor of the next page.

        Args:
            actor: who looks: cases of other groups are left out; None: nobody's are.
            search: words in pseudonym, note or the name of who made it; or a case's id.
            status: "open", "signed" or "amended". flag: one of `cellkin.web.worklist.FLAGS`.
        """
        wanted = {"search": search, "status": status, "flag": flag}
        with self.database.reading() as conn:
            return cases.listed(conn, wanted, limit, cursor, actor)

    def groups(self, actor: Actor) -> tuple[str, ...]:
        """The groups that somebody is in."""
        with self.database.reading() as conn:
            return groups.own_groups(conn, actor)

    def require_seen(
        self, actor: Actor, *, case: str | None = None, cell: str | None = None
    ) -> str | None:
        """The id of a case, or of a cell's, if somebody sees it; None where there is none.

        Raises:
            NotFound: it is another group's.
        """
        with self.database.reading() as conn:
            return groups.require_seen(conn, actor, case, cell)

    def case(self, case_id: str, by: str | None = None) -> Case:
        """A case; `by`: with what is still to do for this person. Raises NotFound."""
        with self.database.reading() as conn:
            found = cases.get(conn, case_id)
            return found if by is None else views.case_by(conn, by, found)

    def update_case(self, actor: Actor, case_id: str, version: int, **changes: Any) -> Case:
        """Change pseudonym, specimen, consecutive or note.

        Raises:
            NotFound, Conflict, Forbidden; Refused: it is signed, or no such field.
        """
        with self.database.writing() as tx:
            return cases.change(tx, actor, case_id, version, changes)

    def accept_misfit(self, actor: Actor, case_id: str, version: int, reason: str) -> Case:
        """Go on with a case that does not fit its atlas: what only lies far is held no more.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, no reason, or the case fits.
        """
        with self.database.writing() as tx:
            return fitting.accept(tx, actor, case_id, version, reason)

    def hold_misfit(self, actor: Actor, case_id: str, version: int) -> Case:
        """Take that decision back.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, or nobody decided.
        """
        with self.database.writing() as tx:
            return fitting.take_back(tx, actor, case_id, version)

    # cells ------------------------------------------------------------------------------------

    def announce(self, actor: Actor, case_id: str, files: Sequence[tuple[str, int]]) -> Batch:
        """Say which files (name, bytes) are going to be uploaded. Raises NotFound, Refused."""
        with self.database.writing() as tx:
            return batches.announce(tx, actor, case_id, files)

    def close_upload(self, actor: Actor, case_id: str, batch: str) -> Batch:
        """End an announced upload, complete or incomplete. Raises NotFound, Forbidden."""
        with self.database.writing() as tx:
            return batches.close(tx, actor, case_id, batch)

    def uploads(self, case_id: str) -> list[Batch]:
        """The announced uploads of a case. Raises NotFound."""
        with self.database.reading() as conn:
            return batches.listed(conn, case_id)

    def add_cells(
        self,
        actor: Actor,
        case_id: str,
        cells: Sequence[NewCell],
        key: str | None,
        part: tuple[str, Sequence[int]] | None = None,
    ) -> Added:
        """Add cells, all or none; images that the case holds already are not added twice.

        Args:
            key: the uploader's idempotency key for exactly these images; the same again gives the
                first answer and adds nothing.
            part: id of an announced upload, and the places of these files in its list.

        Raises:
            NotFound, Forbidden; Refused: signed, the key was used for other images, or the atlas
                was not registered.
        """
        with self.database.writing() as tx:
            added = gallery.add(tx, actor, case_id, cells, key)
            if not added.replayed:
                files = [cell.original for cell in cells if cell.original is not None]
                originals.keep(tx, files, self.keeping)
                registry.keep_kin(tx, added.cells, self._pictures)
            if part is not None:
                batches.receive(tx, case_id, *part)
        return added

    def cells(
        self,
        case_id: str,
        label: str | None = None,
        held: bool | None = None,
        limit: int = 200,
        cursor: str | None = None,
        order: str = "worry",
        by: str | None = None,
    ) -> tuple[list[Cell], str | None]:
        """A page of the cells of a case, and the cursor of the next page.

        Args:
            label: the proposed class. order: "worry" (most worrying first) or "position".
            by: a person; `seen` and `opened` are then theirs.
        """
        wanted = gallery.Wanted(label, held, order)
        with self.database.reading() as conn:
            found, following = gallery.listed(conn, case_id, wanted, limit, cursor)
            return found if by is None else views.by(conn, by, found), following

    def cell(self, cell_id: str, by: str | None = None) -> Cell:
        """A cell; `by`: a person, whose `seen` and `opened` are told. Raises NotFound."""
        with self.database.reading() as conn:
            found = gallery.cell(conn, cell_id)
            return found if by is None else views.by(conn, by, [found])[0]

    def seen_by(self, user: str, found: Sequence[Cell]) -> list[Cell]:
        """These cells with `seen` and `opened` as they are for one person."""
        with self.database.reading() as conn:
            return views.by(conn, user, found)

    def seen(self, actor: Actor, case_id: str, cell_ids: Sequence[str]) -> Case:
        """These cells were on screen in the gallery. Raises NotFound, Forbidden."""
        with self.database.writing() as tx:
            views.mark_seen(tx, actor, case_id, cell_ids)
            return cases.get(tx.conn, case_id)

    def opened(self, actor: Actor, cell_id: str) -> Cell:
        """The evidence of a cell was opened. Raises NotFound, Forbidden."""
        with self.database.writing() as tx:
            return views.mark_opened(tx, actor, cell_id)

    # deciding ---------------------------------------------------------------------------------

    def review(
        self,
        actor: Actor,
        cell_id: str,
        version: int,
        label: str | None = None,
        disposition: str | None = None,
        reason: str = "",
        comment: str | None = None,
    ) -> tuple[Cell, Case]:
        """Decide on one cell: its class, or that it is a smudge cell, artefact, unidentifiable.

        Args:
            version: of the case, as it was when the decision was taken.
            label: the proposed class confirms; another one reclassifies, with a reason.
            comment: None leaves the comment as it is.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, no reason, no such class.
        """
        verdict = {"label": label, "disposition": disposition, "reason": reason}
        with self.database.writing() as tx:
            told = {**verdict, "comment": comment}
            return reviewing.review(tx, actor, cell_id, version, told, self.rules)

    def review_many(
        self,
        actor: Actor,
        case: tuple[str, int],
        cell_ids: Sequence[str],
        verdict: Mapping[str, Any],
    ) -> tuple[list[Cell], Case]:
        """Decide alike on many cells of a case (its id and version), with one reason.

        Args:
            verdict: label or disposition, reason, comment, as for `review`.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, no reason, no such class, or a held cell
                among them was not opened by this person.
        """
        with self.database.writing() as tx:
            return reviewing.review_many(tx, actor, case, cell_ids, verdict, self.rules)

    def confirm_many(
        self, actor: Actor, case_id: str, version: int, cell_ids: Sequence[str]
    ) -> Case:
        """Confirm the proposed classes of cells that are not held.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, or a held cell is among them.
        """
        with self.database.writing() as tx:
            return reviewing.confirm_many(tx, actor, case_id, version, cell_ids)

    def undo(self, actor: Actor, case_id: str, version: int) -> tuple[list[Cell], Case]:
        """Take back the actor's last review (or confirmation of many) of this case.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, nothing to undo, or decided on since.
        """
        with self.database.writing() as tx:
            return reviewing.undo(tx, actor, case_id, version)

    def sign(self, actor: Actor, case_id: str, version: int) -> Case:
        """Sign a case: it is read-only from then on, and its document frozen.

        Raises:
            NotFound, Conflict, Forbidden; Refused: signed, or `missing` says what to do first.
        """
        with self.database.writing() as tx:
            return signing.sign(tx, actor, case_id, version)

    def missing(self, case_id: str, user: str) -> list[str]:
        """What a person has to do before signing a case, one sentence each. Raises NotFound."""
        with self.database.reading() as conn:
            return signing.missing(conn, cases.get(conn, case_id), user)

    def amend(self, actor: Actor, case_id: str, version: int, reason: str) -> Case:
        """Open a signed case again, as a new revision.

        Raises:
            NotFound, Conflict, Forbidden; Refused: not signed, or no reason.
        """
        with self.database.writing() as tx:
            return signing.amend(tx, actor, case_id, version, reason)

    # reports ----------------------------------------------------------------------------------

    def case_report(self, case_id: str, revision: int | None = None) -> CaseReport:
        """The report of a revision, the last one by default: as signed, or a draft of an open one.

        Raises:
            NotFound: no such case or revision.
        """
        with self.database.reading() as conn:
            return signing.report(conn, case_id, revision)

    def revisions(self, case_id: str) -> list[Revision]:
        """All revisions of a case, the first one first. Raises NotFound."""
        with self.database.reading() as conn:
            return signing.listed(conn, case_id)

    # backup -----------------------------------------------------------------------------------

    def backup(
        self, path: str | Path, progress: Progress = silent, *, actor: Actor = PROGRAM
    ) -> Path:
        """Write everything into one SQLite file, as of one moment, while the store is in use.

        Raises:
            OutputError: there is something at `path`, or it cannot be written.
        """
        path = backup.free(Path(path))
        with self.database.writing() as tx:
            tx.log(actor, "backup begun", after={"file": path.name})
        return backup.write(self.database, path, progress, self.keeping.shelf)

    @classmethod
    def restore(
        cls,
        path: str | Path,
        url_or_path: str | Path,
        progress: Progress = silent,
        *,
        key: AuditKey | None = None,
    ) -> Store:
        """Fill an empty place with what a backup holds, and open it.

        Raises:
            ArtifactError: the backup is damaged, or its log was tampered with.
            OutputError: there is something at the place already.
        """
        backup.restore(Path(path).expanduser(), address(url_or_path), progress, key)
        return cls.open(url_or_path, key=key)
