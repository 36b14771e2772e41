"""Cases, cells, decisions, people and the log: `Store` is the one door to them."""

from __future__ import annotations

from cellkin.web.store.documents import CaseReport
from cellkin.web.store.errors import (
    Busy,
    Conflict,
    Forbidden,
    Full,
    NoCursor,
    NotFound,
    Refused,
    StoreError,
    Throttled,
)
from cellkin.web.store.originals import Keeping
from cellkin.web.store.people import Proof
from cellkin.web.store.records import (
    DISPOSITIONS,
    ROLES,
    SCOPES,
    Actor,
    Added,
    ApiToken,
    Batch,
    Case,
    Cell,
    LogCheck,
    LogEntry,
    NewCell,
    Original,
    Revision,
    Session,
    User,
)
from cellkin.web.store.rules import Rules
from cellkin.web.store.sealing import AuditKey
from cellkin.web.store.shelf import Shelf
from cellkin.web.store.store import Store

__all__ = [
    "DISPOSITIONS",
    "ROLES",
    "SCOPES",
    "Actor",
    "Added",
    "ApiToken",
    "AuditKey",
    "Batch",
    "Busy",
    "Case",
    "CaseReport",
    "Cell",
    "Conflict",
    "Forbidden",
    "Full",
    "Keeping",
    "LogCheck",
    "LogEntry",
    "NewCell",
    "NoCursor",
    "NotFound",
    "Original",
    "Proof",
    "Refused",
    "Revision",
    "Rules",
    "Session",
    "Shelf",
    "Store",
    "StoreError",
    "Throttled",
    "User",
]
