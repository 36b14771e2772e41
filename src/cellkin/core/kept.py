"""Works whose answers are kept on disk, so that a stopped run goes on where it was.

What is done lies beside the output in one SQLite file, `OUTPUT.part`. An answer is whole or absent,
whatever ends the run; when the output is written the file goes.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cellkin.core.arrays import Array
from cellkin.core.artifacts import guarded_writes
from cellkin.core.engine import Crew, Do, Trouble, Work, run_all
from cellkin.core.errors import ArtifactError, OutputError

TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, facts TEXT, arrays BLOB)"


@dataclass(frozen=True, eq=False)
class Kept:
    """An answer as it is kept: plain data, and named arrays."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, Array]


@dataclass(frozen=True)
class Jobs:
    """How many works are done.

    Attributes:
        crew: who does them. out: the output beside which answers are kept; None for memory.
        resume: go on with the answers that are there.
    """

    crew: Crew = Crew(workers=1)
    out: Path | None = None
    resume: bool = False


class Answers:
    """The answers of works by their keys, on disk or in memory; use it in a `with` block.

    Raises:
        OutputError: answers of an earlier run are there and `resume` is off, or none are there and
            it is on; another run is at work on them; they cannot be written.
        ArtifactError: the file is of another kind.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.path = None if jobs.out is None else part_of(jobs.out)
        if self.path is not None:
            with guarded_writes(self.path):
                _refuse(self.path, resume=jobs.resume)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch()  # what the system has against it is told as the system tells it
        with self._guarded():
            where = self.path or ":memory:"
            self._base = sqlite3.connect(where, timeout=0, isolation_level=None)
            self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._base.execute("BEGIN EXCLUSIVE")
            self._base.execute(TABLE)
            self._base.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Tell what SQLite has against the file.

        Raises:
            OutputError, ArtifactError: see `Answers`.
        """
        try:
            yield
        except sqlite3.OperationalError as error:
            reasons = {
                sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then add --resume"),
                sqlite3.SQLITE_BUSY: (
                    "another run is at work",
                    "wait for the other run, stop it, or choose another --out",
                ),
            }
            other = (f"what is done cannot be kept here: {error}", "choose another --out")
            what, mend = reasons.get(error.sqlite_errorcode & 0xFF, other)
            raise OutputError(what, where=self.path or "memory", mend=mend) from error
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"this is no file of a stopped run: {error}",
                where=self.path or "memory",
                mend="remove it, then run without --resume",
            ) from error

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()

    def __contains__(self, key: str) -> bool:
        return self._row("1", key) is not None

    def keep(self, key: str, answer: Kept) -> None:
        """Keep an answer, whole or not at all.

        Raises:
            OutputError: the disk is full, or cannot be written any more.
        """
        from safetensors.numpy import save

        arrays = save(dict(answer.arrays)) if answer.arrays else None
        row = (key, json.dumps(answer.facts, allow_nan=False), arrays)
        with self._guarded():
            self._base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)

    def facts(self, key: str) -> dict[str, Any]:
        """The plain data of an answer.

        Raises:
            KeyError: it is not there.
        """
        return dict(json.loads(self._cell("facts", key)))

    def arrays(self, key: str) -> dict[str, Array]:
        """The arrays of an answer.

        Raises:
            KeyError: it is not there.
        """
        from safetensors.numpy import load

        data = self._cell("arrays", key)
        return dict(load(data)) if data else {}

    def _cell(self, column: str, key: str) -> Any:
        row = self._row(column, key)
        if row is None:
            raise KeyError(key)
        return row[0]

    def _row(self, column: str, key: str) -> Any:
        with self._guarded():
            told = self._base.execute(f"SELECT {column} FROM answers WHERE key = ?", (key,))
            return told.fetchone()

    def forget(self, key: str) -> None:
        """Let an answer go; one on disk stays until the output is written."""
        if self.path is None:
            self._base.execute("DELETE FROM answers WHERE key = ?", (key,))

    def remove(self) -> None:
        """The output is written: nothing need be kept any more."""
        self._base.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def part_of(out: Path) -> Path:
    """Where a run that writes `out` keeps what is done."""
    return out.with_name(f"{out.name}.part")


def _refuse(part: Path, *, resume: bool) -> None:
    if part.exists() and not resume:
        raise OutputError(
            "a run that was stopped has kept here what it had done",
            where=part,
            mend="add --resume to go on with it, or remove this file to begin anew",
        )
    if resume and not part.exists():
        raise OutputError(
            "there is no stopped run to go on with", where=part, mend="leave --resume away to start"
        )


W = TypeVar("W", bound=Work)


def do_all(
    works: deque[W],
    do: Do[W, Kept],
    answers: Answers,
    crew: Crew,
) -> Iterator[tuple[W, Trouble | None]]:
    """Do the works whose answers are not there, and keep each; a work is handed on when its answer
    is there, with what was wrong if it has none.

    Works that the caller adds to `works` meanwhile are done as well.

    Raises:
        RecipeError, OutputError: as `cellkin.core.engine.run_all`.
    """
    left: deque[W] = deque()
    yield from _known(works, left, answers)
    for work, answer in run_all(left, do, crew):
        if isinstance(answer, Trouble):
            yield work, answer
        else:
            answers.keep(work.key, answer)
            yield work, None
        yield from _known(works, left, answers)


def _known(works: deque[W], left: deque[W], answers: Answers) -> Iterator[tuple[W, None]]:
    """Move works to those that are left to do, but for those whose answers are there."""
    while works:
        work = works.popleft()
        if work.key in answers:
            yield work, None
        else:
            left.append(work)
