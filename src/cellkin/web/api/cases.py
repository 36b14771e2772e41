"""Cases: the worklist, uploading, what was seen, and signing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
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
from cellkin.web.store import Actor, Case, Cell
from cellkin.web.uploads import Refusal

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


class NewCase(Body):
    """A case to make; `pseudonym` is never a person's name."""

    pseudonym: Line
    specimen: Line | None = None
    consecutive: bool = False
    note: Note = ""


class CaseChange(Body):
    """What to change; what is left out stays."""

    version: Version
    pseudonym: Line | None = None
    specimen: Line | None = None
    consecutive: bool | None = None
    note: Note | None = None


class Cells(Body):
    """Ids of cells of the case."""

    cells: Annotated[list[Identifier], Field(max_length=10_000)]


class VersionedCells(Cells):
    """Ids of cells, and the version of the case that the decision rests on."""

    version: Version


class Versioned(Body):
    """The version of the case that the decision rests on."""

    version: Version


class Amendment(Versioned):
    """Why a signed case is opened again."""

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
    _: Reader,
    station: Stationed,
    search: Annotated[Line, Query(description="In pseudonym and note.")] = "",
    status: Annotated[Line | None, Query(description="open, signed or amended.")] = None,
    flag: Annotated[Line | None, Query(description="Only cases that carry it.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Items[Case]:
    """The worklist, the newest case first."""
    found, following = station.store.cases(
        search=search, status=status, flag=flag, limit=limit, cursor=cursor
    )
    return Items(items=found, next=following)


@router.post("", status_code=201)
def create(new: NewCase, actor: Uploader, station: Stationed) -> Case:
    """A new case, without cells."""
    return station.store.create_case(
        actor, new.pseudonym, specimen=new.specimen, consecutive=new.consecutive, note=new.note
    )


@router.get("/{case}")
def one(case: CaseId, _: Reader, station: Stationed) -> Case:
    """A case with what is still to do."""
    return station.store.case(case)


@router.patch("/{case}")
def change(case: CaseId, wanted: CaseChange, actor: Uploader, station: Stationed) -> Case:
    """Change what a case says about itself."""
    changes = wanted.model_dump(exclude_unset=True, exclude={"version"})
    return station.store.update_case(actor, case, wanted.version, **changes)


@router.post("/{case}/cells", status_code=201, openapi_extra=UPLOAD)
async def upload(
    case: CaseId, request: Request, actor: Uploader, station: Stationed, key: Key = None
) -> Uploaded:
    """Add images to a case, all of them or, where the workstation is stopped meanwhile, none.

    Images that cannot be used are refused one by one; the others are added.
    """
    await station.rooms.reading.run(station.store.case, case)  # an unknown case costs no decoding
    async with read_form(request, station) as files:
        return await station.rooms.uploads.run(_add, station, actor, (case, key), files)


def _add(
    station: Station, actor: Actor, place: tuple[str, str | None], files: list[UploadFile]
) -> Uploaded:
    case, key = place
    new, refused = [], []
    for one in decided(station, files, actor.user):
        if isinstance(one, Decided):
            new.append(new_cell(station, one))
        else:
            refused.append(one)
    added = station.store.add_cells(actor, case, new, key)
    return Uploaded(
        added=added.cells,
        duplicates=added.duplicates,
        refused=refused,
        replayed=added.replayed,
        case=station.store.case(case),
    )


@router.get("/{case}/cells")
def cells(
    case: CaseId,
    _: Reader,
    station: Stationed,
    label: Annotated[Line | None, Query(description="Only of this proposed class.")] = None,
    held: Annotated[bool | None, Query(description="Only held cells, or only others.")] = None,
    order: Annotated[str, Query(pattern="^(worry|position)$")] = "worry",
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Items[Cell]:
    """The cells of a case, the most worrying first."""
    found, following = station.store.cells(
        case, label=label, held=held, limit=limit, cursor=cursor, order=order
    )
    return Items(items=found, next=following)


@router.post("/{case}/seen")
def seen(case: CaseId, which: Cells, actor: Reviewer, station: Stationed) -> Case:
    """These cells were on screen."""
    return station.store.seen(actor, case, which.cells)


@router.post("/{case}/confirm")
def confirm(case: CaseId, which: VersionedCells, actor: Reviewer, station: Stationed) -> Case:
    """Confirm cells together; a held cell among them refuses all."""
    return station.store.confirm_many(actor, case, which.version, which.cells)


@router.post("/{case}/undo")
def undo(case: CaseId, at: Versioned, actor: Reviewer, station: Stationed) -> Undone:
    """Take back one's own last review of this case."""
    found, after = station.store.undo(actor, case, at.version)
    return Undone(cells=found, case=after)


@router.post("/{case}/sign")
def sign(case: CaseId, at: Versioned, actor: Reviewer, station: Stationed) -> Case:
    """Sign; refused, with what is missing, while a cell was not looked at as it must be."""
    return station.store.sign(actor, case, at.version)


@router.post("/{case}/amend")
def amend(case: CaseId, why: Amendment, actor: Reviewer, station: Stationed) -> Case:
    """Open a signed case again, as a new revision."""
    return station.store.amend(actor, case, why.version, why.reason)
