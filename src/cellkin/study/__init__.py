"""Floor 7: experiments over many trainings, every prediction kept."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "Results",
    "summarize",
]

_HOMES = {
    "Results": "predictions",
    "summarize": "tables",
}


def __getattr__(name: str) -> Any:
    """Only what trains costs torch: tables are read and audited without it."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"cellkin.study.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cellkin.study' has no attribute {name!r}")
