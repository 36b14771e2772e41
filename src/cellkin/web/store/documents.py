"""The document of a case: everything its report says, as plain data that a signature freezes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellkin.core.counts import Differential
from cellkin.core.kinds import kind
from cellkin.core.records import NOTICE, LabelSet
from cellkin.measures.differential import Counted, differential
from cellkin.web.store.log import plain_json
from cellkin.web.store.records import Case, Cell, LogEntry, Revision

SCHEMA = 1
WORK = ("version", "flags", "counts", "held", "to_confirm", "unseen")  # of a case in progress


@dataclass(frozen=True)
class CaseReport:
    """Everything that the report of a case needs.

    Attributes:
        data: see `compose`. raw: its canonical JSON, for a signed revision the very bytes that were
            signed. sha256: of them. signed: whether this is a signed revision or a draft.
    """

    data: Mapping[str, Any]
    raw: bytes
    sha256: str
    signed: bool

    @classmethod
    def from_bytes(cls, raw: bytes) -> CaseReport:
        """The report whose document was signed."""
        return cls(json.loads(raw), raw, hashlib.sha256(raw).hexdigest(), signed=True)

    @classmethod
    def draft(cls, data: Mapping[str, Any]) -> CaseReport:
        """The report of a revision that is still open."""
        raw = plain_json(data).encode()
        return cls(json.loads(raw), raw, hashlib.sha256(raw).hexdigest(), signed=False)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, in the order of uploading."""
        return tuple(Cell.from_json(cell) for cell in self.data["cells"])

    def labels(self, atlas: str) -> LabelSet:
        """The classes of an atlas that decided."""
        return LabelSet.from_json(self.data["atlases"][atlas]["labels"])

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return dict(self.data)


def compose(
    case: Case,
    found: Sequence[Cell],
    *,
    atlases: Mapping[str, Mapping[str, Any]],
    history: Sequence[LogEntry],
    revisions: Sequence[Revision],
    signing: Mapping[str, Any],
    version: str,
) -> dict[str, Any]:
    """The document of a case as it is now.

    Args:
        atlases: id -> `{"labels": LabelSet.to_json(), "facts": ...}` of those that decided.
        history: the entries of the log about this case.
        signing: who signed when, and the head of the log at that moment (`witness`).
    """
    told = {key: value for key, value in case.to_json().items() if key not in WORK}
    return {
        "kind": "cellkin case report",
        "schema": SCHEMA,
        "version": version,
        "notice": NOTICE,
        "case": told,
        **signing,
        "differential": counts_of(found, atlases, consecutive=case.consecutive).to_json(),
        "cells": [cell.to_json() for cell in found],
        "atlases": {name: dict(atlas) for name, atlas in atlases.items()},
        "revisions": [revision.to_json() for revision in revisions],
        "history": [
            {
                key: getattr(entry, key)
                for key in ("number", "at", "user", "role", "how", "action", "cell")
            }
            for entry in history
        ],
    }


def counts_of(
    found: Sequence[Cell], atlases: Mapping[str, Mapping[str, Any]], *, consecutive: bool
) -> Differential:
    """The differential of cells as decided so far; `atlases` as in `compose`."""
    sets = {name: LabelSet.from_json(atlas["labels"]) for name, atlas in atlases.items()}
    counted = [_counted(cell, sets[str(cell.provenance["atlas"])]) for cell in found]
    return differential(counted, consecutive=consecutive)


def _counted(cell: Cell, labels: LabelSet) -> Counted:
    """The cell as decided so far; what nobody decided yet counts as proposed."""
    name = cell.final or cell.proposed
    return Counted(labels.group_title(name), kind(name, labels), cell.disposition)
