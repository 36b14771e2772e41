"""One model, one thread: decisions of many requests in common batches, evidence between them.

A decision never depends on what else is in its batch (`DecisionSupport` sees to that), so requests
may share one. Evidence, which a person waits for, is made before the next batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cellkin.core.records import Decision, Evidence
from cellkin.imaging.preprocess import Prepared
from cellkin.system import DecisionSupport

BATCH = 32  # pictures that the network sees in one go


@dataclass(frozen=True, eq=False)
class _Asked:
    picture: Prepared
    answer: Future[Any]
    fine: int = 1


class Deciding:
    """The one that asks the model. Threads may share it; its answers are futures.

    Args:
        support: the opened atlas, used by nobody else.
    """

    def __init__(self, support: DecisionSupport) -> None:
        self.support = support
        self._wanted: deque[_Asked] = deque()
        self._urgent: deque[_Asked] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._work, name="deciding", daemon=True)
        self._thread.start()

    def decide(self, pictures: Sequence[Prepared]) -> list[Future[Decision]]:
        """Decisions, one future for each picture."""
        asked = [_Asked(picture, Future()) for picture in pictures]
        self._add(self._wanted, asked)
        return [one.answer for one in asked]

    def explain(self, picture: Prepared, fine: int = 1) -> Future[Evidence]:
        """The evidence of one picture; `fine`: see `DecisionSupport.finer`."""
        asked = _Asked(picture, Future(), fine)
        self._add(self._urgent, [asked])
        return asked.answer

    def close(self) -> None:
        """Answer what was asked, then end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._thread.join()

    def _add(self, queue: deque[_Asked], asked: Sequence[_Asked]) -> None:
        with self._changed:
            if not self._open:
                raise RuntimeError("the workstation is shutting down")
            queue.extend(asked)
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            asked, answer = taken
            running = [one for one in asked if one.answer.set_running_or_notify_cancel()]
            if running:
                _fulfil(running, answer)

    def _next(self) -> tuple[list[_Asked], Callable[[list[_Asked]], Sequence[Any]]] | None:
        """What to work on, and how; None where all is done and the doors are closed."""
        with self._changed:
            while not (self._urgent or self._wanted):
                if not self._open:
                    return None
                self._changed.wait()
            if self._urgent:
                return [self._urgent.popleft()], self._explained
            count = min(BATCH, len(self._wanted))
            return [self._wanted.popleft() for _ in range(count)], self._decided

    def _decided(self, asked: list[_Asked]) -> Sequence[Decision]:
        return self.support.decide([one.picture for one in asked])

    def _explained(self, asked: list[_Asked]) -> Sequence[Evidence]:
        found = self.support.explain([one.picture for one in asked])
        return [
            self.support.finer(evidence, one.fine) if one.fine > 1 else evidence
            for one, evidence in zip(asked, found, strict=True)
        ]


def _fulfil(asked: list[_Asked], answer: Callable[[list[_Asked]], Sequence[Any]]) -> None:
    try:
        found = answer(asked)
    except Exception as error:
        for one in asked:
            one.answer.set_exception(error)
        return
    for one, result in zip(asked, found, strict=True):
        one.answer.set_result(result)
