"""Run an experiment: gather its cells, plan its works, do what is not done yet, keep the rest.

Everything lies in one folder: `results.sqlite` with every prediction, `data/` with the
descriptions of the cells (and drawn cells), `experiment.toml`, and while it runs `prepared/` with
the images and `work/` with checkpoints.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import cellkin
from cellkin.core.artifacts import alone, digest, write_bytes
from cellkin.core.engine import Crew, Seat, Trouble, run_all
from cellkin.core.errors import OutputError, RecipeError
from cellkin.core.progress import silent
from cellkin.learning.memory import keep_freed_memory
from cellkin.study.experiment_file import Experiment
from cellkin.study.fold_cells import Place, WorkOptions, prepare, run_folder
from cellkin.study.jobs import Outcome, run_work
from cellkin.study.plan import Work, plan
from cellkin.study.predictions import FILE, Failure, Results
from cellkin.study.sources import Gathered, gather

JOBS = "jobs"  # how the progress over all jobs begins
LIBRARIES = ("torch", "timm", "numpy", "scikit-learn", "openTSNE", "opencv-python-headless")


@dataclass(frozen=True)
class Summary:
    """How a run ended: rows planned, rows there, rows that failed, seconds of this run."""

    out: Path
    planned: int
    done: int
    failures: tuple[Failure, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StudyOptions(WorkOptions):
    """How a study is run.

    Attributes:
        crew: who does the works. keep_atlases, evidence: see `Place`.
        command: kept for the record.
    """

    crew: Crew = Crew()
    keep_atlases: bool = False
    evidence: bool = True
    command: str = ""

    def place(self, out: Path) -> Place:
        return replace(super().place(out), keep_atlases=self.keep_atlases, evidence=self.evidence)


def evaluate(
    experiment: Experiment, out: str | Path, *, options: StudyOptions = StudyOptions()
) -> Summary:
    """Do all jobs of an experiment that are not done yet.

    Args:
        out: folder of the results.

    Returns:
        what is there, and what failed; a job that fails stops no other.

    Raises:
        OutputError: results are there and `resume` is off, or another run is at work on them.
        RecipeError: the results are of another experiment.
        CellkinError: of other kinds, while the cells are gathered.
    """
    started = time.perf_counter()
    out = Path(out).expanduser().resolve()
    place, progress = options.place(out), options.progress
    _refuse_existing(out, resume=options.resume)
    with alone(out), Results.open(out) as results:
        _refuse_other(results, experiment)
        results.state("experiment", {"name": experiment.name, "title": experiment.title})
        gathered = gather(experiment, options.data, out, progress)
        works = plan(experiment, gathered, options.inits)
        jobs = [row.job for work in works for row in work.rows]
        results.plan(jobs)
        _state_facts(results, experiment, gathered, environment(place.device, place.threads))
        results.state("command", options.command)
        done = results.done()
        left = [rest for work in works if (rest := work.without(done)).rows]
        prepare(left, place, progress)
        results.forget_failures()
        _run(left, results, options, place, len(jobs))
        missing = results.missing()
        if not missing:
            for name in ("prepared", "work"):
                shutil.rmtree(out / name, ignore_errors=True)
        seconds = time.perf_counter() - started
        return Summary(out, len(jobs), len(jobs) - len(missing), tuple(results.failures()), seconds)


# the results' folder ---------------------------------------------------------------------------


def _refuse_existing(out: Path, *, resume: bool) -> None:
    there = (out / FILE).is_file()
    if resume and not there:
        raise OutputError(
            "there are no results to go on with", where=out, mend="leave --resume away to start"
        )
    if resume or not out.exists() or (out.is_dir() and _untouched(out)):
        return
    raise OutputError(
        "there are results here already" if there else "there is something here already",
        where=out,
        mend="add --resume to go on with them, or choose another --out"
        if there
        else "choose another --out",
    )


def _untouched(out: Path) -> bool:
    """Whether nothing lies there but what a start leaves that failed before its first job."""
    if not {path.name for path in out.iterdir()} <= {".lock", "data", FILE, f"{FILE}-journal"}:
        return False
    if not (out / FILE).is_file():
        return not (out / "data").exists()
    with Results.open(out) as results:
        return results.fact("plan") is None


def _refuse_other(results: Results, experiment: Experiment) -> None:
    known = results.fact("experiment", {"name": experiment.name})["name"]
    if known != experiment.name and results.fact("plan") is not None:
        raise RecipeError(
            f"these are results of the experiment {known!r}, not of {experiment.name!r}",
            where=results.path,
            mend="choose another --out",
        )


def _state_facts(
    results: Results,
    experiment: Experiment,
    gathered: Mapping[str, Gathered],
    made_with: Mapping[str, object],
) -> None:
    results.state(
        "experiment",
        {
            "name": experiment.name,
            "title": experiment.title,
            "about": experiment.about,
            "text": experiment.text,
            "sha256": digest(experiment.text),
            "folds": experiment.folds,
            "seeds": list(experiment.seeds),
            "methods": list(experiment.methods),
            "external": [
                {"train": e.train, "test": e.test, "classes": dict(e.classes)}
                for e in experiment.external
            ],
        },
    )
    results.state("title", experiment.title or experiment.name)
    results.state("data", {name: dict(own.facts) for name, own in gathered.items()})
    results.state("environment", made_with)
    write_bytes(results.path.parent / "experiment.toml", experiment.text.encode())


def environment(device: str, threads: int) -> dict[str, Any]:
    """What the numbers were made with."""
    return {
        "cellkin": cellkin.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": device,
        "threads": threads,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# the run ---------------------------------------------------------------------------------------


def _run(
    works: Sequence[Work], results: Results, options: StudyOptions, place: Place, rows: int
) -> None:
    """Do the works, which make so many rows with those that are there; the progress counts in
    thousandths of what they are thought to cost.
    """
    total = sum(work.cost for work in works) or 1.0
    done = rows - sum(len(work.rows) for work in works)
    spent, failed, tell = 0.0, 0, options.progress
    tell(f"{JOBS}, {done} of {rows} done", 0, 1000)
    gpus = torch.cuda.device_count() if place.device.startswith("cuda") else 0
    crew = replace(options.crew, threads=place.threads, gpus=gpus, start=keep_freed_memory)
    inner = tell if crew.count == 1 else silent
    for work, answer in run_all(deque(works), partial(_done, place=place), crew, inner):
        _keep(results, work, answer)
        spent += work.cost
        done += 0 if isinstance(answer, Trouble) else len(work.rows)
        failed += len(work.rows) if isinstance(answer, Trouble) else 0
        told = f"{JOBS}, {done} of {rows} done" + (f", {failed} failed" if failed else "")
        tell(told, min(1000, round(1000 * spent / total)), 1000)
        if not isinstance(answer, Trouble):  # what failed goes on from its checkpoint
            shutil.rmtree(run_folder(place.out, work), ignore_errors=True)


def _done(work: Work, seat: Seat, place: Place) -> list[Outcome]:
    """One work; several GPUs are dealt in turn."""
    if place.device == "cuda":
        place = replace(place, device=f"cuda:{seat.number % torch.cuda.device_count()}")
    return run_work(work, place, seat.progress)


def _keep(results: Results, work: Work, answer: list[Outcome] | Trouble) -> None:
    if isinstance(answer, Trouble):
        for row in work.rows:
            results.fail(Failure(row.job, answer.kind, answer.what, answer.where, answer.mend))
        return
    for outcome in answer:
        results.add(outcome.job, outcome.predictions, outcome.seconds, outcome.extra)
