"""The report of a case as a page, PDF, table or data."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from cellkin.web.api.asking import CaseId, Reader, Stationed

__all__ = ["router"]

router = APIRouter(prefix="/cases", tags=["reports"])

Revision = Annotated[int | None, Query(ge=1, le=10_000, description="The latest if not given.")]
