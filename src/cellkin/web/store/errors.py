"""What the store refuses, each with what, where and how to mend it.

CellkinError
└── StoreError
    ├── NotFound         nothing of this id
    ├── Conflict         somebody else changed the case in the meantime; carries the version now
    ├── Refused          the rules of the workflow forbid it; carries what is missing
    │   └── NoCursor     where a list should go on is nowhere
    ├── Busy             another change takes too long; try again
    ├── Full             the disk has no room (an OutputError as well)
    ├── Unreachable      the database does not answer, or is gone (an ArtifactError as well)
    └── Forbidden        this person may not, or the name or password is wrong
        └── Throttled    too many failed logins; carries how long to wait
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellkin.core.errors import ArtifactError, CellkinError, OutputError


class StoreError(CellkinError):
    """The store did not do what was asked; nothing was changed."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuilt, (type(self), self.__dict__.copy()))


def _rebuilt(kind: type[StoreError], state: dict[str, Any]) -> StoreError:
    error = kind.__new__(kind)
    CellkinError.__init__(error, state["what"], where=state["where"], mend=state["mend"])
    error.__dict__.update(state)
    return error


class NotFound(StoreError):
    """There is nothing of this id."""


class Conflict(StoreError):
    """Somebody else changed the case since it was read.

    Args:
        version: the version that the case has now.
    """

    def __init__(self, what: str, *, version: int, where: object = "", mend: str = "") -> None:
        super().__init__(what, where=where, mend=mend)
        self.version = version


class Refused(StoreError):
    """The rules of the workflow forbid it.

    Args:
        missing: what has to be done first, one sentence each.
    """

    def __init__(
        self, what: str, *, where: object = "", mend: str = "", missing: Sequence[str] = ()
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.missing = tuple(missing)


class NoCursor(Refused):
    """A list cannot go on there."""


class Busy(StoreError):
    """Another change takes too long."""


class Full(StoreError, OutputError):
    """The disk has no room for it."""


class Unreachable(StoreError, ArtifactError):
    """The database does not answer, or its file is gone."""


class Forbidden(StoreError):
    """This person may not do this."""


class Throttled(Forbidden):
    """Too many failed logins.

    Args:
        seconds: how long to wait.
    """

    def __init__(self, what: str, *, seconds: int, where: object = "", mend: str = "") -> None:
        super().__init__(what, where=where, mend=mend)
        self.seconds = seconds
