"""Doing many works: in this process, in workers on this machine, or through Ray.

All engines hand back the same outcomes for the same works, since a work depends on its seed and
its number of threads and on nothing else. A worker that is lost loses the work in its hands alone;
it is tried again, and goes on from its newest checkpoint. A work that fails is told and passed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any

import torch

from cellkin.core.errors import CellkinError, OutputError, RecipeError, did_you_mean
from cellkin.core.progress import Progress, silent
from cellkin.learning.memory import keep_freed_memory
from cellkin.study.fold_cells import Place
from cellkin.study.jobs import Outcome, run_work
from cellkin.study.plan import Work

ENGINES = ("local", "ray")
TRIES = 3  # of a work whose worker was lost
STORE = 200_000_000  # bytes of Ray's object store; predictions are small


@dataclass(frozen=True)
class Trouble:
    """Why a work failed; as `cellkin.core.errors` tells it. `kind` is the error's name."""

    kind: str
    what: str
    where: str
    mend: str

    @classmethod
    def of(cls, error: Exception) -> Trouble:
        """From an error; one of ours is told by its last line of code."""
        if isinstance(error, CellkinError):
            return cls(type(error).__name__, error.what, error.where, error.mend)
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in last)
        mend = "evaluate with --resume tries it again; report it if it fails again"
        if isinstance(error, MemoryError):
            mend = "take fewer --workers, smaller images or a smaller batch; then --resume"
        return cls(type(error).__name__, str(error) or "no message", where, mend)


LOST = Trouble(
    "WorkerLost",
    f"the worker was lost {TRIES} times (killed, or out of memory)",
    "the process that trained",
    "take fewer --workers, or look for what kills them; then --resume",
)

Answer = list[Outcome] | Trouble


@dataclass(frozen=True)
class Crew:
    """Who does the works.

    Attributes:
        engine: "local" or "ray". address: of a Ray cluster; None starts one on this machine.
        workers: works at once; 0 for as many as the cores (or GPUs) allow.
    """

    engine: str = "local"
    address: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise RecipeError(
                f"there is no engine {self.engine!r}",
                where="--engine",
                mend=did_you_mean(self.engine, ENGINES) or f"use {' or '.join(ENGINES)}",
            )
        if self.workers < 0:
            raise RecipeError(f"{self.workers} workers", where="--workers", mend="give 0 or more")
        if self.address is not None and self.engine != "ray":
            raise RecipeError(
                "an address says where a Ray cluster is", where="--address", mend="add --engine ray"
            )

    def count(self, place: Place) -> int:
        """How many works at once on this machine."""
        if self.workers:
            return self.workers
        if place.device.startswith("cuda"):
            return max(1, torch.cuda.device_count())
        known = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        return max(1, cores // place.threads)


def run_all(
    works: Sequence[Work], place: Place, crew: Crew, progress: Progress = silent
) -> Iterator[tuple[Work, Answer]]:
    """Do all works; each is handed on when it is done, in whatever order that happens.

    Workers are gone when the iteration ends, for whatever reason.

    Args:
        progress: tells of the steps inside a work, where one process does them all.

    Raises:
        RecipeError: Ray is asked for and not installed, or cannot be reached.
    """
    if crew.engine == "ray":
        yield from _by_ray(works, place, crew)
    elif (count := min(crew.count(place), len(works))) > 1:
        yield from _by_workers(works, place, count)
    else:
        for work in works:
            yield work, _attempt(work, place, progress)


def _attempt(work: Work, place: Place, progress: Progress = silent) -> Answer:
    try:
        return run_work(work, place, progress)
    except Exception as error:
        if os.environ.get("CELLKIN_DEBUG") == "1":
            traceback.print_exc()
        return Trouble.of(error)


# workers on this machine -----------------------------------------------------------------------


class _Worker:
    """A process that does one work after the other."""

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, place), daemon=True)
        self.process.start()
        theirs.close()
        self.work: Work | None = None

    def give(self, work: Work) -> None:
        self.work = work
        with suppress(OSError):  # a worker that died idle: the answer will say so
            self.line.send(work)

    def answer(self) -> Answer | None:
        """What came back; None where the process is gone."""
        self.work = None
        try:
            answer: Answer = self.line.recv()
        except (EOFError, OSError):
            return None
        return answer

    def stop(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.join()


def _serve(line: Any, place: Place) -> None:
    """A worker's life; it ends with its parent's, so that no two ever write one checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow_parent, daemon=True).start()
    keep_freed_memory()
    while True:
        try:
            work = line.recv()
        except EOFError:
            return
        line.send(_attempt(work, place))


def _seat(place: Place, number: int) -> Place:
    """The place of one worker: several GPUs are dealt in turn."""
    if place.device != "cuda":
        return place
    return replace(place, device=f"cuda:{number % torch.cuda.device_count()}")


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _by_workers(works: Sequence[Work], place: Place, count: int) -> Iterator[tuple[Work, Answer]]:
    waiting, lost = deque(works), Counter[str]()
    crew = [_Worker(_seat(place, i)) for i in range(count)]
    try:
        while waiting or any(worker.work for worker in crew):
            for worker in crew:
                if worker.work is None and waiting:
                    worker.give(waiting.popleft())
            ready = connection.wait([worker.line for worker in crew if worker.work])
            for i, worker in enumerate(crew):
                if (work := worker.work) is None or worker.line not in ready:
                    continue
                answer = worker.answer()
                if answer is None:
                    worker.stop()
                    crew[i] = _Worker(_seat(place, i))
                    lost[work.key] += 1
                    if lost[work.key] < TRIES:
                        waiting.appendleft(work)
                        continue
                    answer = LOST
                yield work, answer
    finally:
        for worker in crew:
            worker.stop()


# Ray -------------------------------------------------------------------------------------------


def _by_ray(works: Sequence[Work], place: Place, crew: Crew) -> Iterator[tuple[Work, Answer]]:
    ray = _started(place, crew)
    gpus = 1 if place.device.startswith("cuda") else 0
    remote = ray.remote(num_cpus=place.threads, num_gpus=gpus, max_retries=TRIES - 1)(_attempt)
    waiting: dict[Any, Work] = {}
    try:
        waiting.update({remote.remote(work, place): work for work in works})
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            work = waiting.pop(ready)
            try:
                answer: Answer = ray.get(ready)
            except ray.exceptions.RayError as error:
                lost = isinstance(error, ray.exceptions.WorkerCrashedError)
                answer = LOST if lost else Trouble.of(error)
            yield work, answer
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _started(place: Place, crew: Crew) -> Any:
    """Ray, connected to the cluster, or with one of its own on this machine."""
    try:
        import ray
    except ModuleNotFoundError:
        raise RecipeError(
            "Ray is not installed", where="--engine ray", mend="pip install 'cellkin[ray]'"
        ) from None
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    own: dict[str, Any] = {
        "num_cpus": crew.count(place) * place.threads,
        "include_dashboard": False,
        "object_store_memory": STORE,
    }
    try:
        ray.init(address=crew.address, **quiet) if crew.address else ray.init(**own, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OutputError(
            f"Ray cannot be reached: {str(error).splitlines()[0]}",
            where=f"--address {crew.address or '(this machine)'}",
            mend="start it with `ray start --head`, or correct the address",
        ) from error
    return ray
