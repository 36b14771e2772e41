"""cellkin: decision support for acute lymphoblastic leukemia, by a cell's closest kin.

    from cellkin import DecisionSupport, datasets, report, train

For research use only; never a diagnosis without a pathologist. Morphology alone establishes
neither lineage nor malignancy.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "DecisionSupport",
    "__version__",
    "adopt",
    "compile_atlas",
    "datasets",
    "find",
    "index",
    "pretrain",
    "report",
    "train",
]

_HOMES = dict.fromkeys(("DecisionSupport", "adopt", "index", "pretrain", "train"), "cellkin.system")
_HOMES["compile_atlas"] = "cellkin.system.compiling"
_HOMES["find"] = "cellkin.smear.finding"
_ROOMS = ("datasets", "report")


def __getattr__(name: str) -> Any:
    """Rooms are imported when they are first used: `import cellkin` costs no torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"cellkin.{name}")
    raise AttributeError(f"module 'cellkin' has no attribute {name!r}")
