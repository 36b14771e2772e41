"""Every prediction of a study in one SQLite file: any number is recomputed from it, untrained.

A job is whole or absent: its row and all its predictions are written in one transaction, so a run
that was stopped at any moment leaves a file that says exactly what is done.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import reduce
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import digest, guarded_writes
from cellkin.core.errors import ArtifactError
from cellkin.core.records import LabelSet, Neighbor

FILE = "results.sqlite"
PROPOSED = "cellkin"  # the method under study
SCHEMA = 1
WAIT = 60.0  # seconds to wait for another process that writes

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
  key TEXT PRIMARY KEY, method TEXT NOT NULL, dataset TEXT NOT NULL, injection TEXT NOT NULL,
  backbone TEXT NOT NULL, init TEXT NOT NULL, recipe TEXT NOT NULL, unit TEXT NOT NULL,
  seed INTEGER NOT NULL, fold INTEGER NOT NULL, folds INTEGER NOT NULL,
  tested_on TEXT NOT NULL, seconds REAL NOT NULL, extra TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS predictions (
  job TEXT NOT NULL REFERENCES jobs(key), position INTEGER NOT NULL, id TEXT NOT NULL,
  truth TEXT NOT NULL, label TEXT NOT NULL, truth_clinical TEXT, clinical TEXT, score REAL,
  subject TEXT, grp TEXT, votes TEXT NOT NULL, neighbors TEXT NOT NULL, x REAL, y REAL,
  PRIMARY KEY (job, position)
);
CREATE TABLE IF NOT EXISTS failures (
  key TEXT PRIMARY KEY, job TEXT NOT NULL, kind TEXT NOT NULL, what TEXT NOT NULL,
  place TEXT NOT NULL, mend TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Prediction:
    """One test cell as one job decided it.

    Attributes:
        id: of the cell in its data set. truth, label: fine classes, the true and the decided one.
        truth_clinical, clinical: the clinical classes; None where no class means lymphoblast.
        score: in [0, 1], for the clinical class that is looked for: share of the neighbours that
            are lymphoblasts, or the softmax of these classes; None where there is no such class.
        subject, group: of the cell, where known.
        votes: fine class -> neighbours; empty for a class head.
        neighbors: the nearest first; empty for a class head.
        map_xy: place on the map of the job's atlas; None where there is no map.
    """

    id: str
    truth: str
    label: str
    truth_clinical: str | None = None
    clinical: str | None = None
    score: float | None = None
    subject: str | None = None
    group: str | None = None
    votes: Mapping[str, int] = field(default_factory=dict)
    neighbors: tuple[Neighbor, ...] = ()
    map_xy: tuple[float, float] | None = None


@dataclass(frozen=True)
class Job:
    """One fold, trained and scored in one way.

    Attributes:
        key: hash of all that decides the outcome; see `cellkin.study.plan`.
        method: the row of the table: "cellkin", "softmax head", "colour histogram", ...
        dataset, injection, backbone, init, recipe: what was trained on what, by name.
        unit: what is never on two sides of the split: "image", "subject", "slide", ...
        seed: of split, weights and order. fold: from 1 to `folds`.
        tested_on: the data set that was decided on; the data set's own test part if empty.
            An empty backbone, init or recipe says that there is none.
    """

    key: str
    method: str
    dataset: str
    injection: str
    backbone: str
    init: str
    recipe: str
    unit: str
    seed: int
    fold: int
    folds: int
    tested_on: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        return cls(**{f.name: data[f.name] for f in fields(cls)})

    @property
    def proposed(self) -> bool:
        """Whether its method is the one under study: the vote of the kin of a trained network."""
        return self.method == PROPOSED

    @property
    def title(self) -> str:
        """The job in one line."""
        where = f"{self.dataset} -> {self.tested_on}" if self.tested_on else self.dataset
        injected = "" if self.injection == "none" else f", {self.injection}"
        return (
            f"{self.method}, {where}{injected}, by {self.unit}, seed {self.seed}, "
            f"fold {self.fold}/{self.folds}"
        )


@dataclass(frozen=True)
class Failure:
    """A job that failed: what was wrong, where, and how to mend it. `kind` is the error's name."""

    job: Job
    kind: str
    what: str
    where: str
    mend: str


JOB_COLUMNS = tuple(f.name for f in fields(Job))
PLAIN = tuple(f.name for f in fields(Prediction))[:8]


class Results:
    """The results of one study, in one file.

    Use it in a `with` block, or call `close`.

    Raises:
        ArtifactError: the file is no results file, or of another schema.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self.path = self.path / FILE
        if readonly and not self.path.is_file():
            raise ArtifactError(
                "there are no results here",
                where=self.path,
                mend="give the folder that cellkin evaluate wrote",
            )
        try:
            with guarded_writes(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            self._prepare()
        except sqlite3.Error as error:
            raise ArtifactError(
                f"the results cannot be read: {error}",
                where=self.path,
                mend="give the folder that cellkin evaluate wrote, or choose another --out",
            ) from error

    @classmethod
    def open(cls, path: str | Path, *, readonly: bool = False) -> Results:
        """Open, or make, `path`: the file, or the folder that holds it.

        Raises:
            ArtifactError, OutputError: as the class.
        """
        return cls(path, readonly=readonly)

    def _prepare(self) -> None:
        self._base.execute("PRAGMA foreign_keys = ON")
        (found,) = self._base.execute("PRAGMA user_version").fetchone()
        if found not in (0, SCHEMA):
            raise ArtifactError(
                f"these results have schema {found}, this cellkin reads {SCHEMA}",
                where=self.path,
                mend="install the cellkin that wrote them, or evaluate again into another folder",
            )
        if found == 0:
            self._base.executescript(TABLES)
            self._base.execute(f"PRAGMA user_version = {SCHEMA}")

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        self._base.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """One transaction: everything in it is kept, or nothing."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    # jobs -----------------------------------------------------------------------------------

    def add(
        self,
        job: Job,
        predictions: Sequence[Prediction],
        seconds: float,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a job with all its predictions, or nothing of it; an earlier failure is forgotten.

        A job that is there already is replaced.

        Args:
            seconds: what it took. extra: plain data that belongs to it (hashes, timings, notes).
        """
        row = astuple(job)
        kept = json.dumps(dict(extra or {}), sort_keys=True, allow_nan=False)
        with self._whole():
            for column in ("predictions WHERE job", "jobs WHERE key", "failures WHERE key"):
                self._base.execute(f"DELETE FROM {column} = ?", (job.key,))
            marks = ", ".join("?" * (len(row) + 2))
            columns = ", ".join((*JOB_COLUMNS, "seconds", "extra"))
            self._base.execute(
                f"INSERT INTO jobs ({columns}) VALUES ({marks})", (*row, seconds, kept)
            )
            self._base.executemany(
                f"INSERT INTO predictions VALUES ({', '.join('?' * 14)})",
                [(job.key, i, *_row(p)) for i, p in enumerate(predictions)],
            )

    def done(self) -> set[str]:
        """The keys of the jobs that are whole."""
        return {key for (key,) in self._base.execute("SELECT key FROM jobs")}

    def jobs(self) -> list[Job]:
        """The jobs that are whole: those of the plan, in its order, or all by key without one."""
        columns = ", ".join(JOB_COLUMNS)
        rows = self._base.execute(f"SELECT {columns} FROM jobs ORDER BY key").fetchall()
        found = [Job(*row) for row in rows]
        place = {job.key: i for i, job in enumerate(self.planned())}
        if not place:
            return found
        return sorted((job for job in found if job.key in place), key=lambda j: place[j.key])

    def predictions(self, key: str) -> list[Prediction]:
        """The predictions of a job, in their order.

        Raises:
            ArtifactError: no job of this key is done.
        """
        if not self._base.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone():
            raise ArtifactError(
                f"no job {key!r} is done", where=self.path, mend="evaluate with --resume"
            )
        rows = self._base.execute(
            "SELECT id, truth, label, truth_clinical, clinical, score, subject, grp, votes, "
            "neighbors, x, y FROM predictions WHERE job = ? ORDER BY position",
            (key,),
        )
        return [_prediction(row) for row in rows]

    def seconds(self, key: str) -> float:
        """How long a job took."""
        (found,) = self._base.execute("SELECT seconds FROM jobs WHERE key = ?", (key,)).fetchone()
        return float(found)

    def extra(self, key: str) -> dict[str, Any]:
        """The plain data kept with a job."""
        (text,) = self._base.execute("SELECT extra FROM jobs WHERE key = ?", (key,)).fetchone()
        return dict(json.loads(text))

    def fail(self, failure: Failure) -> None:
        """Remember that a job failed, in place of its earlier failure."""
        text = json.dumps(failure.job.to_json(), sort_keys=True)
        row = (failure.job.key, text, failure.kind, failure.what, failure.where, failure.mend)
        with self._whole():
            self._base.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)", row)

    def forget_failures(self) -> None:
        """Forget what failed before: it is tried again."""
        with self._whole():
            self._base.execute("DELETE FROM failures")

    def failures(self) -> list[Failure]:
        """The jobs that failed when they were last tried, in the order of the plan."""
        rows = self._base.execute("SELECT job, kind, what, place, mend FROM failures ORDER BY key")
        found = [Failure(Job.from_json(json.loads(text)), *rest) for text, *rest in rows]
        place = {job.key: i for i, job in enumerate(self.planned())}
        return sorted(found, key=lambda failure: place.get(failure.job.key, len(place)))

    # facts ----------------------------------------------------------------------------------

    def state(self, name: str, value: Any) -> None:
        """Keep plain data under a name: environment, hashes, command, plan."""
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        with self._whole():
            self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))

    def fact(self, name: str, default: Any = None) -> Any:
        """Plain data kept under a name."""
        found = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    def facts(self) -> dict[str, Any]:
        """All facts by name."""
        rows = self._base.execute("SELECT name, value FROM facts ORDER BY name").fetchall()
        return {name: json.loads(value) for name, value in rows}

    def plan(self, jobs: Sequence[Job]) -> None:
        """Keep what was to be done, in its order."""
        self.state("plan", [job.to_json() for job in jobs])

    def planned(self) -> list[Job]:
        """What was to be done, in its order; empty where no plan was kept."""
        return [Job.from_json(data) for data in self.fact("plan", [])]

    def missing(self) -> list[Job]:
        """The planned jobs that are not done."""
        done = self.done()
        return [job for job in self.planned() if job.key not in done]

    def labels(self, dataset: str, injection: str | None = None) -> LabelSet:
        """The classes of a data set, as the folds had them (`classes` in what is kept with a job):
        those of every fold together, in the order of the plan; without an injection those of all.

        Raises:
            ArtifactError: no job of this data set, or of this injection of it, is done.
        """
        found: dict[str, LabelSet] = {}
        for job in self.jobs():
            if job.dataset == dataset and "classes" in (extra := self.extra(job.key)):
                own = LabelSet.from_json(extra["classes"])
                known = found.get(job.injection)
                found[job.injection] = own if known is None else known.joined(own)
        if not found or (injection is not None and injection not in found):
            raise ArtifactError(
                f"the classes of {dataset!r} are not in these results",
                where=self.path,
                mend="evaluate again with --resume",
            )
        if injection is not None:
            return found[injection]
        plain_first = sorted(found, key=lambda name: name != "none")
        return reduce(LabelSet.joined, [found[name] for name in plain_first])

    def digest(self) -> str:
        """Hash of every prediction of every job, without times: equal for equal results."""
        jobs = sorted(self.jobs(), key=lambda job: job.key)
        return digest([[j.to_json(), [asdict(p) for p in self.predictions(j.key)]] for j in jobs])


def _row(p: Prediction) -> tuple[Any, ...]:
    x, y = p.map_xy if p.map_xy is not None else (None, None)
    return (
        *(getattr(p, name) for name in PLAIN),
        json.dumps(dict(p.votes), sort_keys=True),
        json.dumps([n.to_json() for n in p.neighbors], allow_nan=False),
        x,
        y,
    )


def _prediction(row: tuple[Any, ...]) -> Prediction:
    *plain, votes, neighbors, x, y = row
    return Prediction(
        **dict(zip(PLAIN, plain, strict=True)),
        votes=json.loads(votes),
        neighbors=tuple(Neighbor(**n) for n in json.loads(neighbors)),
        map_xy=None if x is None else (x, y),
    )
