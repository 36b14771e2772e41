"""What the tables must hold, told by the log alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cellkin.web.store.records import CELL, LogEntry

UNDECIDED: Mapping[str, Any] = {
    "final": None,
    "disposition": CELL,
    "state": "proposed",
    "confirmed": None,
    "comment": "",
    "reason": "",
    "reviewed_by": None,
    "reviewed": None,
    "seen": False,
    "opened": False,
}


@dataclass
class ToldCell:
    """A cell as the log tells it: hashes of what never changes, and what was decided."""

    proposed: str
    record: str
    picture: str
    state: dict[str, Any] = field(default_factory=lambda: dict(UNDECIDED))


class Replay:
    """Takes the entries of the log in their order."""

    def __init__(self) -> None:
        self.cells: dict[str, ToldCell] = {}
        self.cases: dict[str, dict[str, Any]] = {}
        self.documents: dict[tuple[str, int], str] = {}
        self.users: dict[str, dict[str, Any]] = {}

    def take(self, entry: LogEntry) -> None:
        """Follow one entry; one that cannot be followed was changed, which its hash says."""
        follow = FOLLOWED.get(entry.action)
        if follow is not None:
            try:
                follow(self, entry)
            except (KeyError, TypeError, AttributeError, ValueError):
                return

    def _case_created(self, entry: LogEntry) -> None:
        opened = {"status": "open", "revision": 1, "signed_by": None, "created_by": entry.user}
        self.cases[str(entry.case)] = {**entry.after, **opened}

    def _case_changed(self, entry: LogEntry) -> None:
        self.cases[str(entry.case)] |= entry.after

    def _added(self, entry: LogEntry) -> None:
        for told in entry.after["cells"]:
            self.cells[told["id"]] = ToldCell(told["proposed"], told["record"], told["picture"])

    def _seen(self, entry: LogEntry) -> None:
        for name in entry.after["cells"]:
            self.cells[name].state["seen"] = True

    def _opened(self, entry: LogEntry) -> None:
        self.cells[str(entry.cell)].state |= {"seen": True, "opened": True}

    def _reviewed(self, entry: LogEntry) -> None:
        self.cells[str(entry.cell)].state |= entry.after

    def _confirmed(self, entry: LogEntry) -> None:
        self._confirm(entry, entry.after["cells"], "together")

    def _confirm(self, entry: LogEntry, names: Any, how: str) -> None:
        by = {"reviewed_by": entry.user, "reviewed": entry.at}
        for name in names:
            cell = self.cells[name]
            cell.state |= {"final": cell.proposed, "state": "confirmed", "confirmed": how, **by}

    def _undone(self, entry: LogEntry) -> None:
        for name, state in entry.after["cells"].items():
            self.cells[name].state |= state

    def _signed(self, entry: LogEntry) -> None:
        self.cases[str(entry.case)] |= {"status": "signed", "signed_by": entry.user}
        self._confirm(entry, entry.after["confirmed by signing"], "by signing")

    def _frozen(self, entry: LogEntry) -> None:
        self.documents[str(entry.case), entry.after["revision"]] = entry.after["sha256"]

    def _amended(self, entry: LogEntry) -> None:
        again = {"status": "amended", "revision": entry.after["revision"]}
        self.cases[str(entry.case)] |= again

    def _user(self, entry: LogEntry) -> None:
        told = {key: value for key, value in entry.after.items() if key != "name"}
        known = self.users.setdefault(entry.after["name"], {"disabled": False})
        known.update(told)


FOLLOWED: Mapping[str, Callable[[Replay, LogEntry], None]] = {
    "case created": Replay._case_created,
    "case changed": Replay._case_changed,
    "cells added": Replay._added,
    "cells seen": Replay._seen,
    "cell opened": Replay._opened,
    "cell confirmed": Replay._reviewed,
    "cell reclassified": Replay._reviewed,
    "cells confirmed": Replay._confirmed,
    "review undone": Replay._undone,
    "case signed": Replay._signed,
    "document frozen": Replay._frozen,
    "case amended": Replay._amended,
    "user added": Replay._user,
    "user changed": Replay._user,
}
