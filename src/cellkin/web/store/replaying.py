"""What the tables must hold, told by the log alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cellkin.web.store.log import plain_json
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
EMPTY = {"version": 1, "revision": 1, "status": "open", "duplicates": 0}
EMPTY |= {"group": None, "atlas": None, "signed": None, "signed_by": None}
EMPTY |= {"accepted_by": None, "accepted_why": None}
EMPTY |= {"accession": "", "remarks": "", "conclusion": ""}
UPGRADED = "store upgraded"


@dataclass
class ToldCell:
    """A cell as the log tells it: what never changes, and what was decided.

    Attributes:
        fixed: its hash (`row_hash`); None where an entry of version 0.1 told `first`.
        place: case, position, atlas and the time it was added at.
    """

    proposed: str
    fixed: str | None
    first: str | None
    picture: str
    place: Mapping[str, Any]
    state: dict[str, Any] = field(default_factory=lambda: dict(UNDECIDED))


class Replay:
    """Takes the entries of the log in their order.

    Attributes:
        fixed: table -> key of a row -> its hash. kept: table -> group -> hash over the rows that an
            upgrade found there, which no entry tells singly.
        sizes: case -> its cells. sessions: hash of a session that may be there -> its person.
        backwards: entries before an upgrade whose times ran backwards.
        views: cell and person -> when they saw and opened it.
        batches: announced upload -> its state.
    """

    def __init__(self) -> None:
        self.cells: dict[str, ToldCell] = {}
        self.sizes: Counter[str | None] = Counter()
        self.cases: dict[str, dict[str, Any]] = {}
        self.revisions: dict[tuple[str, int], dict[str, Any]] = {}
        self.reviews: dict[str, list[dict[str, Any]]] = {}
        self.users: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, bool] = {}
        self.sessions: dict[str, str] = {}
        self.fixed: dict[str, dict[str, str]] = {}
        self.kept: dict[str, dict[str, str]] = {}
        self.backwards: set[int] = set()
        self.views: dict[tuple[str, str], tuple[str, str | None]] = {}
        self.batches: dict[str, str] = {}

    def take(self, entry: LogEntry) -> None:
        """Follow one entry; one that cannot be followed was changed, which its hash says."""
        follow = FOLLOWED.get(entry.action)
        if follow is not None:
            try:
                follow(self, entry)
            except (KeyError, TypeError, AttributeError, ValueError, IndexError):
                return

    def _tell(self, table: str, key: str, fixed: str | None) -> None:
        if fixed is not None:
            self.fixed.setdefault(table, {})[key] = fixed

    def _upgraded(self, entry: LogEntry) -> None:
        for table, rows in entry.after["rows"].items():
            self.fixed.setdefault(table, {}).update(rows)
        self.kept = entry.after["groups"]
        self.backwards = set(entry.after["backwards"])

    def _atlas(self, entry: LogEntry) -> None:
        self._tell("atlases", entry.after["atlas"], entry.after.get("fixed"))

    def _original(self, entry: LogEntry) -> None:
        for name, fixed in entry.after["fixed"].items():
            self._tell("originals", name, fixed)

    def _kin(self, entry: LogEntry) -> None:
        for name, fixed in entry.after["fixed"].items():
            self._tell("reference_pictures", f"{entry.after['atlas']}/{name}", fixed)

    # cases ------------------------------------------------------------------------------------

    def _case_created(self, entry: LogEntry) -> None:
        opened = {"created": entry.at, "created_by": entry.user}
        self.cases[str(entry.case)] = {**EMPTY, **entry.after, **opened}
        self._open(entry, 1, "")

    def _open(self, entry: LogEntry, revision: int, reason: str) -> None:
        told = {"reason": reason, "opened": entry.at, "opened_by": entry.user}
        unsigned = {"signed": None, "signed_by": None, "sha256": None}
        self.revisions[str(entry.case), revision] = {**told, **unsigned}

    def _case_changed(self, entry: LogEntry) -> None:
        self._decided(entry, **entry.after)

    def _decided(self, entry: LogEntry, **new: Any) -> None:
        case = self.cases[str(entry.case)]
        case |= {**new, "version": case["version"] + 1}

    def _added(self, entry: LogEntry) -> None:
        case, told = self.cases[str(entry.case)], entry.after["cells"]
        case["duplicates"] += len(entry.after["duplicates"])
        for one in told:
            place = {"case": entry.case, "position": self.sizes[entry.case], "atlas": one["atlas"]}
            self.sizes[entry.case] += 1
            self.cells[one["id"]] = ToldCell(
                proposed=one["proposed"],
                fixed=one.get("fixed"),
                first=one.get("record"),
                picture=one["picture"],
                place={**place, "added": entry.at},
            )
            self._tell("looks", one["id"], one.get("look"))
            case["atlas"] = one["atlas"]
        if upload := entry.after.get("upload"):
            self._tell("uploads", f"{entry.case}/{upload['key']}", upload["fixed"])

    def _seen(self, entry: LogEntry) -> None:
        for name in entry.after["cells"]:
            self.cells[name].state["seen"] = True
            self.views.setdefault((name, entry.user), (entry.at, None))

    def _opened(self, entry: LogEntry) -> None:
        self.cells[str(entry.cell)].state |= {"seen": True, "opened": True}
        mine = (str(entry.cell), entry.user)
        seen, opened = self.views.get(mine, (entry.at, None))
        self.views[mine] = (seen, opened or entry.at)

    def _batch(self, entry: LogEntry) -> None:
        self.batches[entry.after["upload"]] = entry.after.get("state", "open")

    # reviews ----------------------------------------------------------------------------------

    def _reviewed(self, entry: LogEntry) -> None:
        self._remember(entry, {str(entry.cell): entry.before}, {str(entry.cell): entry.after})
        self.cells[str(entry.cell)].state |= entry.after
        self._decided(entry)

    def _reviewed_many(self, entry: LogEntry) -> None:
        after = entry.after["cells"]
        self._remember(entry, entry.before, after)
        for name, new in after.items():
            self.cells[name].state |= new
        self._decided(entry)

    def _confirmed(self, entry: LogEntry) -> None:
        after = self._together(entry, list(entry.after["cells"]), "together")
        states = {name: self.cells[name].state for name in after}
        before = {name: {k: states[name][k] for k in new} for name, new in after.items()}
        self._remember(entry, before, after)
        for name, new in after.items():
            states[name] |= new
        self._decided(entry)

    def _together(self, entry: LogEntry, names: list[str], how: str) -> dict[str, dict[str, Any]]:
        by = {"reviewed_by": entry.user, "reviewed": entry.at}
        same = {"state": "confirmed", "confirmed": how, **by}
        return {name: {"final": self.cells[name].proposed, **same} for name in names}

    def _remember(self, entry: LogEntry, before: Any, after: Any) -> None:
        row = {"user": entry.user, "at": entry.at, "before": before, "after": after}
        row |= {"revision": self.cases[str(entry.case)]["revision"], "undone": False}
        self.reviews.setdefault(str(entry.case), []).append(row)

    def _undone(self, entry: LogEntry) -> None:
        for name, state in entry.after["cells"].items():
            self.cells[name].state |= state
        revision = self.cases[str(entry.case)]["revision"]
        mine = {"user": entry.user, "revision": revision, "undone": False}
        own = [r for r in self.reviews[str(entry.case)] if all(r[k] == mine[k] for k in mine)]
        own[-1]["undone"] = True
        self._decided(entry)

    # signing ----------------------------------------------------------------------------------

    def _signed(self, entry: LogEntry) -> None:
        signing = {"signed": entry.at, "signed_by": entry.user}
        rest = self._together(entry, entry.after["confirmed by signing"], "by signing")
        for name, new in rest.items():
            self.cells[name].state |= new
        self.revisions[str(entry.case), entry.after["revision"]] |= signing
        self._decided(entry, status="signed", **signing)

    def _frozen(self, entry: LogEntry) -> None:
        found = self.revisions[str(entry.case), entry.after["revision"]]
        found["sha256"] = entry.after["sha256"]

    def _amended(self, entry: LogEntry) -> None:
        revision = entry.after["revision"]
        self._open(entry, revision, entry.after["reason"])
        self._decided(entry, status="amended", revision=revision)

    # people -----------------------------------------------------------------------------------

    def _user_added(self, entry: LogEntry) -> None:
        name = entry.after["name"]
        self.users[name] = {"role": entry.after["role"], "disabled": False}
        self.users[name] |= {"created": entry.at, "created_by": entry.user, "groups": "[]"}
        self._tell("users", name, entry.after.get("fixed"))

    def _user_changed(self, entry: LogEntry) -> None:
        name = entry.after["name"]
        self.users[name] |= {k: v for k, v in entry.after.items() if k in self.users[name]}
        if "groups" in entry.after:
            self.users[name]["groups"] = plain_json(entry.after["groups"])
        self._tell("users", name, entry.after.get("fixed"))
        for token in entry.after.get("tokens ended", ()):
            self.tokens[token] = True
        if entry.action == "password changed" or entry.after.get("disabled"):
            self._end_sessions(name)

    def _end_sessions(self, name: str) -> None:
        self.sessions = {k: user for k, user in self.sessions.items() if user != name}

    def _session_started(self, entry: LogEntry) -> None:
        self.sessions[entry.after["session"]] = entry.user

    def _session_ended(self, entry: LogEntry) -> None:
        self.sessions.pop(entry.after["session"], None)

    def _factor(self, entry: LogEntry) -> None:
        self._tell("factors", entry.after["name"], entry.after["fixed"])
        self._end_sessions(entry.after["name"])

    def _factor_ended(self, entry: LogEntry) -> None:
        self.fixed.get("factors", {}).pop(entry.after["name"], None)

    def _token_made(self, entry: LogEntry) -> None:
        self.tokens[entry.after["id"]] = False
        self._tell("api_tokens", entry.after["id"], entry.after.get("fixed"))

    def _token_ended(self, entry: LogEntry) -> None:
        self.tokens[entry.after["id"]] = True


FOLLOWED: Mapping[str, Callable[[Replay, LogEntry], None]] = {
    UPGRADED: Replay._upgraded,
    "atlas registered": Replay._atlas,
    "originals kept": Replay._original,
    "pictures of kin kept": Replay._kin,
    "case created": Replay._case_created,
    "case changed": Replay._case_changed,
    "cells added": Replay._added,
    "cells seen": Replay._seen,
    "cell opened": Replay._opened,
    "cell confirmed": Replay._reviewed,
    "cell reclassified": Replay._reviewed,
    "cells confirmed": Replay._confirmed,
    "cells reviewed": Replay._reviewed_many,
    "misfit accepted": Replay._case_changed,
    "misfit taken back": Replay._case_changed,
    "upload announced": Replay._batch,
    "upload closed": Replay._batch,
    "review undone": Replay._undone,
    "case signed": Replay._signed,
    "document frozen": Replay._frozen,
    "case amended": Replay._amended,
    "user added": Replay._user_added,
    "user changed": Replay._user_changed,
    "password changed": Replay._user_changed,
    "second factor set": Replay._factor,
    "second factor ended": Replay._factor_ended,
    "session started": Replay._session_started,
    "logged out": Replay._session_ended,
    "token made": Replay._token_made,
    "token ended": Replay._token_ended,
}
