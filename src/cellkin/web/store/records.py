"""The frozen records that the store gives and takes. Times are UTC in ISO 8601."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cellkin.core.records import Decision

ROLES = ("viewer", "reviewer", "admin")
"""What people may do, each as much as those before it: look; decide and sign; keep the house."""

SCOPES = ("read", "upload", "review", "admin")
"""What a token of the API may be used for; never more than its person's role allows."""

LONGEST_SESSION = 12
"""Hours after which a session ends, used or not."""

CELL = "cell"
DISPOSITIONS = (CELL, "smudge cell", "artefact", "unidentifiable")
"""What an object is: a cell of some class, or one of the things that are not counted."""


class Record:
    """A record that becomes plain data."""

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data; what was plain already is given as it is, not copied."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Actor(Record):
    """Who acts: the name, the role (one of `ROLES`), and how: "page", "api", "command line"."""

    user: str
    role: str
    how: str


PROGRAM = Actor("cellkin", "program", "program")
"""The workstation itself, of what it does without being asked."""


@dataclass(frozen=True)
class Case(Record):
    """One case of the worklist, with what is still to do.

    Attributes:
        pseudonym: how people name it; never a person's name.
        specimen: "peripheral blood", "bone marrow", ... or None where it was not stated.
        consecutive: the uploader declared that the cells were taken one after another, unselected.
        status: "open", "signed" (read-only), "amended" (signed once, open again).
        version: grows with each decision on the case; a change must name the one it rests on.
            Uploading, scrolling and opening do not change it.
        revision: 1 for the first report, one more with each amendment.
        flags: see `cellkin.web.worklist.flags.FLAGS`.
        counts: proposed class -> cells, as `cells(label=...)` filters them.
        finals: class as decided so far -> cells; dispositions other than "cell" by their own name.
        cells: all of them. held: those that must be opened singly. to_confirm: held cells that
            were not opened and decided singly yet. unseen: other cells that nobody looked at yet.
        duplicates: uploaded images that were in the case already.
        atlas: id of the atlas that the last cells were decided with, None for an empty case.
        signed, signed_by: of the last signature, None before it.
        accepted_by, accepted_why: who went on though the case does not fit its atlas.
        group: of people who see it beside the admins; None: everybody does.
        accession: number of the order. remarks: on red cells and platelets. conclusion: in words.
    """

    id: str
    pseudonym: str
    specimen: str | None
    consecutive: bool
    note: str
    status: str
    version: int
    revision: int
    flags: tuple[str, ...]
    counts: Mapping[str, int]
    finals: Mapping[str, int]
    cells: int
    held: int
    to_confirm: int
    unseen: int
    duplicates: int
    atlas: str | None
    created: str
    created_by: str
    signed: str | None
    signed_by: str | None
    accepted_by: str | None = None
    accepted_why: str | None = None
    group: str | None = None
    accession: str = ""
    remarks: str = ""
    conclusion: str = ""


@dataclass(frozen=True)
class Original(Record):
    """An uploaded file: the digest and number of its bytes, and what was read from it.

    Attributes:
        kind: "PNG", "JPEG", "BMP" or "TIFF". width, height: pixels of the upright picture.
        um_per_pixel: as the file says it, None where it says nothing that can be a microscope's.
    """

    sha256: str
    bytes: int
    kind: str
    width: int
    height: int
    um_per_pixel: float | None


@dataclass(frozen=True)
class NewCell:
    """A cell to add: its picture, what the atlas says, and where that comes from.

    Attributes:
        name: the file's name as the uploader called it; only ever shown, never a path here.
        sha256: of the uploaded bytes, hex; a case holds it once.
        image_png: the prepared picture, as the network saw it, PNG.
        original: what was uploaded, with its bytes; None where there is no file of its own.
        gate: what the quality gate found: `{"reasons": [keys of QUALITY]}`, or `{}` where the atlas
            has none.
        look: what was measured of its picture, for the chart of drift; empty: nothing.
        provenance: `{"atlas": id of a registered atlas, "version": ..., "settings": ...}`.
    """

    name: str
    sha256: str
    image_png: bytes = field(repr=False)
    original: tuple[Original, bytes] | None = field(repr=False)
    decision: Decision
    gate: Mapping[str, Any]
    provenance: Mapping[str, Any]
    look: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell(Record):
    """One cell of a case: proposed beside decided.

    Attributes:
        proposed: the class that the atlas proposed. final: the class as decided, None before, and
            None where the disposition is none of a cell.
        disposition: one of `DISPOSITIONS`.
        state: "proposed", "confirmed" or "reclassified" (another class or disposition).
        confirmed: how: "singly", "together", "by signing", None while it is proposed.
        held: must be opened and decided singly. held_reasons: why, keys of
            `cellkin.web.worklist.held.REASONS`.
        seen: was on screen in the gallery. opened: its evidence was opened.
        worry: the larger, the earlier it should be looked at.
        position: 0, 1, ... in the order of uploading.
    """

    id: str
    case: str
    position: int
    name: str
    sha256: str
    proposed: str
    final: str | None
    disposition: str
    state: str
    confirmed: str | None
    held: bool
    held_reasons: tuple[str, ...]
    seen: bool
    opened: bool
    worry: float
    comment: str
    reason: str
    reviewed_by: str | None
    reviewed: str | None
    added: str
    decision: Mapping[str, Any]
    gate: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        """The cell that `to_json` wrote."""
        known = {f.name: data[f.name] for f in fields(cls)}
        return cls(**{**known, "held_reasons": tuple(known["held_reasons"])})


@dataclass(frozen=True)
class Added(Record):
    """What an upload did.

    Attributes:
        cells: the cells that were added. duplicates: names of images that the case held already
            (or that came twice). replayed: this is the answer to an earlier upload of this key.
    """

    cells: tuple[Cell, ...]
    duplicates: tuple[str, ...]
    replayed: bool


@dataclass(frozen=True)
class Batch(Record):
    """An upload that was announced.

    Attributes:
        files: names and bytes. received: places in that list of those that came.
        state: "open", "complete" or "incomplete" (closed though files are missing).
    """

    id: str
    case: str
    files: tuple[tuple[str, int], ...]
    received: tuple[int, ...]
    state: str
    opened: str
    opened_by: str


@dataclass(frozen=True)
class Revision(Record):
    """One signed or open version of a case's report.

    Attributes:
        reason: why it was amended; empty for the first.
        sha256: of the signed document's bytes, None while it is open.
    """

    case: str
    revision: int
    reason: str
    opened: str
    opened_by: str
    signed: str | None
    signed_by: str | None
    sha256: str | None


@dataclass(frozen=True)
class LogEntry(Record):
    """One link of the log's chain; numbers run from 1 without a gap.

    Attributes:
        action: "case created", "cells added", "cell reviewed", ... before, after: what changed.
        previous: hash of the entry before (64 zeros for the first). hash: of this one.
    """

    number: int
    at: str
    user: str
    role: str
    how: str
    action: str
    case: str | None
    cell: str | None
    before: Any
    after: Any
    previous: str
    hash: str


@dataclass(frozen=True)
class LogCheck(Record):
    """What a verification of the log found.

    Attributes:
        entries: how many there are. head: hash of the last one.
        faults: what is wrong, one sentence each; empty where nothing is.
        sealed: whether its end is sealed with a key; where one was given, its seal was checked.
    """

    entries: int
    head: str
    faults: tuple[str, ...]
    sealed: bool = False

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass(frozen=True)
class User(Record):
    """A person with an account; `groups`: of people whose cases they see beside everybody's."""

    name: str
    role: str
    disabled: bool
    created: str
    created_by: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session(Record):
    """A login that is still good; `csrf` must come with every change made through a page."""

    user: User
    csrf: str
    started: str
    expires: str


@dataclass(frozen=True)
class ApiToken(Record):
    """A token of the API, without its secret, which is not kept."""

    id: str
    user: User
    scopes: tuple[str, ...]
    title: str
    created: str
    expires: str
    ended: bool
