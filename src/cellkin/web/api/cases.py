"""Cases: the worklist, uploading, what was seen, and signing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from cellkin.web.api.asking import (
    Body,
    CaseId,
    Cursor,
    Identifier,
    Items,
    Limit,
    Line,
    Note,
    Reader,
    Reviewer,
    Stationed,
    Uploader,
    Version,
)
from cellkin.web.api.stateless import UPLOAD
from cellkin.web.intake import Decided, decided, new_cell
from cellkin.web.receiving import read_form
from cellkin.web.sharing import Housed
from cellkin.web.station import Station
from cellkin.web.store import Actor, Batch, Case, Cell
from cellkin.web.uploads import Refusal, shown_name

router = APIRouter(route_class=Housed, prefix="/cases", tags=["cases"])

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=100,
        pattern=r"^[\x21-\x7e]+$",
        description="Names this upload: the same key again adds nothing and gives the same answer.",
    ),
]


Part = Annotated[
    str | None,
    Query(
        max_length=8000,
        pattern=r"^[a-z0-9]{1,64}:[0-9]{1,6}(,[0-9]{1,6})*$",
        description="Of an announced upload: its id, and the places of these files in its list.",
    ),
]
UploadId = Annotated[Identifier, Path(description="Id of an announced upload.")]


class NewCase(Body):
    """A case to make; `pseudonym` is never a person's name. `group`: of people who see it alone, an
    empty text for everybody; left out, it is one's own, where one is in one.
    """

    pseudonym: Line
    specimen: Line | None = None
    consecutive: bool = False
    note: Note = ""
    group: Line | None = None
    accession: Line = ""


class CaseChange(Body):
    """What to change; what is left out stays."""

    version: Version
    pseudonym: Line | None = None
    specimen: Line | None = None
    consecutive: bool | None = None
    group: Line | None = None
    note: Note | None = None
    accession: Line | None = None
    remarks: Note | None = None
    conclusion: Note | None = None


class File(Body):
    """A file that is going to be uploaded."""

    name: Annotated[str, Field(max_length=1000)]
    bytes: Annotated[int, Field(ge=0, le=2**40)]


class Announced(Body):
    """All files of an upload, before the first is sent."""

    files: Annotated[list[File], Field(min_length=1, max_length=20_000)]


class Cells(Body):
    """Ids of cells of the case."""

    cells: Annotated[list[Identifier], Field(max_length=10_000)]


class VersionedCells(Cells):
    """Ids of cells, and the version of the case that the decision rests on."""

    version: Version


class Verdicts(VersionedCells):
    """One verdict on many cells, see `Review`."""

    label: Line | None = None
    disposition: Line | None = None
    reason: Note = ""


class Versioned(Body):
    """The version of the case that the decision rests on."""

    version: Version


class Amendment(Versioned):
    """Why a signed case is opened again, or why one goes on with a case."""

    reason: Note


class Uploaded(BaseModel):
    """What an upload did: cells added, names of images that the case held already, and images that
    were not taken, each with its reason. `replayed`: the answer to an earlier upload of this key.
    """

    added: Sequence[Cell]
    duplicates: Sequence[str]
    refused: Sequence[Refusal]
    replayed: bool
    case: Case


class Undone(BaseModel):
    """The cells as they are again, and their case."""

    cells: Sequence[Cell]
    case: Case


@router.get("")
def worklist(
    actor: Reader,
    station: Stationed,
    search: Annotated[Line, Query(description="In pseudonym and note.")] = "",
    status: Annotated[Line | None, Query(description="open, signed or amended.")] = None,
    flag: Annotated[Line | None, Query(description="Only cases that carry it.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Items[Case]:
    """The worklist, the newest case first."""
    found, following = station.store.cases(
        search=search, status=status, flag=flag, limit=limit, cursor=cursor, actor=actor
    )
    return Items(items=found, next=following)


@router.post("", status_code=201)
def create(new: NewCase, actor: Uploader, station: Stationed) -> Case:
    """A new case, without cells."""
    made = station.store.create_case(actor, **new.model_dump(exclude={"accession"}))
    if not new.accession:
        return made
    return station.store.update_case(actor, made.id, made.version, accession=new.accession)


@router.get("/{case}")
def one(case: CaseId, actor: Reader, station: Stationed) -> Case:
    """A case with what is still to do for oneself."""
    return station.store.case(case, actor.user)


@router.patch("/{case}")
def change(case: CaseId, wanted: CaseChange, actor: Uploader, station: Stationed) -> Case:
    """Change what a case says about itself."""
    changes = wanted.model_dump(exclude_unset=True, exclude={"version"})
    station.store.update_case(actor, case, wanted.version, **changes)
    return station.store.case(case, actor.user)


@router.post("/{case}/uploads", status_code=201)
def announce(case: CaseId, told: Announced, actor: Uploader, station: Stationed) -> Batch:
    """Announce an upload: the case is not signed until all its files came, or it was closed."""
    files = [(shown_name(file.name), file.bytes) for file in told.files]
    return station.store.announce(actor, case, files)


@router.get("/{case}/uploads")
def uploads(case: CaseId, _: Reader, station: Stationed) -> Items[Batch]:
    """The announced uploads of a case."""
    return Items(items=station.store.uploads(case), next=None)


@router.post("/{case}/uploads/{upload}/close")
def close_upload(case: CaseId, upload: UploadId, actor: Uploader, station: Stationed) -> Batch:
    """End an announced upload: complete where all files came, incomplete otherwise."""
    return station.store.close_upload(actor, case, upload)


@router.post("/{case}/cells", status_code=201, openapi_extra=UPLOAD)
async def upload(
    case: CaseId,
    request: Request,
    actor: Uploader,
    station: Stationed,
    key: Key = None,
    part: Part = None,
) -> Uploaded:
    """Add images to a case, all of them or, where the workstation is stopped meanwhile, none.

    Images that cannot be used are refused one by one; the others are added.
    """
    await station.rooms.reading.run(station.store.case, case)  # an unknown case costs no decoding
    async with read_form(request, station) as files:
        place = (case, key, _part(part))
        return await station.rooms.uploads.run(_add, station, actor, place, files)


def _part(told: str | None) -> tuple[str, list[int]] | None:
    if told is None:
        return None
    upload, _, slots = told.partition(":")
    return upload, [int(slot) for slot in slots.split(",")]


def _add(
    station: Station,
    actor: Actor,
    place: tuple[str, str | None, tuple[str, list[int]] | None],
    files: list[UploadFile],
) -> Uploaded:
    case, key, part = place
    new, refused = [], []
    for one in decided(station, files, actor.user):
        if isinstance(one, Decided):
            new.append(new_cell(station, one))
        else:
            refused.append(one)
    added = station.store.add_cells(actor, case, new, key, part)
    return Uploaded(
        added=added.cells,
        duplicates=added.duplicates,
        refused=refused,
        replayed=added.replayed,
        case=station.store.case(case, actor.user),
    )


@router.get("/{case}/cells")
def cells(
    case: CaseId,
    actor: Reader,
    station: Stationed,
    label: Annotated[Line | None, Query(description="Only of this proposed class.")] = None,
    held: Annotated[bool | None, Query(description="Only held cells, or only others.")] = None,
    order: Annotated[str, Query(pattern="^(worry|position)$")] = "worry",
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Items[Cell]:
    """The cells of a case, the most worrying first."""
    found, following = station.store.cells(
        case, label=label, held=held, limit=limit, cursor=cursor, order=order, by=actor.user
    )
    return Items(items=found, next=following)


@router.post("/{case}/seen")
def seen(case: CaseId, which: Cells, actor: Reviewer, station: Stationed) -> Case:
    """These cells were on one's screen."""
    station.store.seen(actor, case, which.cells)
    return station.store.case(case, actor.user)


@router.post("/{case}/confirm")
def confirm(case: CaseId, which: VersionedCells, actor: Reviewer, station: Stationed) -> Case:
    """Confirm cells together; a held cell among them refuses all."""
    station.store.confirm_many(actor, case, which.version, which.cells)
    return station.store.case(case, actor.user)


@router.post("/{case}/review")
def review(case: CaseId, verdict: Verdicts, actor: Reviewer, station: Stationed) -> Undone:
    """One verdict on many cells; held ones among them must have been opened by oneself."""
    told = verdict.model_dump(include={"label", "disposition", "reason"})
    found, _ = station.store.review_many(actor, (case, verdict.version), verdict.cells, told)
    return _as_they_are(station, actor, case, found)


@router.post("/{case}/fit")
def accept(case: CaseId, why: Amendment, actor: Reviewer, station: Stationed) -> Case:
    """Go on with a case that does not fit its atlas: what only lies far is held no more."""
    station.store.accept_misfit(actor, case, why.version, why.reason)
    return station.store.case(case, actor.user)


@router.post("/{case}/fit/undo")
def take_back(case: CaseId, at: Versioned, actor: Reviewer, station: Stationed) -> Case:
    """Take that decision back."""
    station.store.hold_misfit(actor, case, at.version)
    return station.store.case(case, actor.user)


@router.post("/{case}/undo")
def undo(case: CaseId, at: Versioned, actor: Reviewer, station: Stationed) -> Undone:
    """Take back one's own last review of this case."""
    found, _ = station.store.undo(actor, case, at.version)
    return _as_they_are(station, actor, case, found)


def _as_they_are(station: Station, actor: Actor, case: str, found: Sequence[Cell]) -> Undone:
    store = station.store
    return Undone(cells=store.seen_by(actor.user, found), case=store.case(case, actor.user))


@router.post("/{case}/sign")
def sign(case: CaseId, at: Versioned, actor: Reviewer, station: Stationed) -> Case:
    """Sign; refused, with what is missing, while a cell was not looked at as it must be."""
    return station.store.sign(actor, case, at.version)


@router.post("/{case}/amend")
def amend(case: CaseId, why: Amendment, actor: Reviewer, station: Stationed) -> Case:
    """Open a signed case again, as a new revision."""
    return station.store.amend(actor, case, why.version, why.reason)
