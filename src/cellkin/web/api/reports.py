"""The report of a case as a page, PDF, table or data."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from cellkin.web.api.asking import CaseId, Items, Reader, Stationed
from cellkin.web.reporting import (
    file_name,
    report_csv,
    report_html,
    report_json,
    report_policy,
)
from cellkin.web.sharing import Housed, works_in
from cellkin.web.store import Revision

router = APIRouter(route_class=Housed, prefix="/cases", tags=["reports"])

Which = Annotated[
    int | None, Query(alias="revision", ge=1, le=10_000, description="The latest if not given.")
]


@router.get("/{case}/revisions")
def revisions(case: CaseId, _: Reader, station: Stationed) -> Items[Revision]:
    """All revisions of a case's report, the first one first."""
    return Items(items=station.store.revisions(case), next=None)


@router.get("/{case}/report.html", response_class=Response)
@works_in("reports")
def page(case: CaseId, actor: Reader, station: Stationed, revision: Which = None) -> Response:
    """The report as a page, whole in itself, under a policy that lets it load nothing."""
    made = report_html(station.store, case, revision)
    station.store.given(actor, case, revision, "page")
    headers = {"Content-Security-Policy": report_policy(made), "X-Frame-Options": "SAMEORIGIN"}
    return Response(made, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/{case}/report.pdf", response_class=Response)
@works_in("printing")
def pdf(case: CaseId, actor: Reader, station: Stationed, revision: Which = None) -> Response:
    """The same page as PDF."""
    made = station.printing.pdf(station.store, case, revision)
    station.store.given(actor, case, revision, "PDF")
    name = file_name(station.store, case, "pdf", revision)
    return _file(made, name, "application/pdf")


@router.get("/{case}/report.csv", response_class=Response)
@works_in("reports")
def table(case: CaseId, actor: Reader, station: Stationed, revision: Which = None) -> Response:
    """One row for each cell."""
    made = report_csv(station.store, case, revision).encode()
    station.store.given(actor, case, revision, "table")
    return _file(made, file_name(station.store, case, "csv", revision), "text/csv; charset=utf-8")


@router.get("/{case}/report.json", response_class=Response)
@works_in("reports")
def data(case: CaseId, actor: Reader, station: Stationed, revision: Which = None) -> Response:
    """The document; of a signed revision, the very bytes that were signed."""
    made = report_json(station.store, case, revision)
    station.store.given(actor, case, revision, "data")
    return _file(made, file_name(station.store, case, "json", revision), "application/json")


def _file(content: bytes, name: str, kind: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=kind, headers=headers)
