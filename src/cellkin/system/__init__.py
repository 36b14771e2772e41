"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train`, `index`,
`pretrain`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellkin.system.adopting import adopt
    from cellkin.system.atlases import index, train
    from cellkin.system.auditing import audit
    from cellkin.system.cross_validation import cross_validate
    from cellkin.system.halving import HalvingOptions, HalvingProposal, propose_halving
    from cellkin.system.injecting import Injected, InjectOptions, inject_nothing
    from cellkin.system.pretraining import PretrainOptions, pretrain
    from cellkin.system.runs import (
        AdoptOptions,
        IndexOptions,
        TrainOptions,
        encoder_facts,
        run_folder,
    )
    from cellkin.system.support import DecisionSupport, Look

__all__ = [
    "AdoptOptions",
    "DecisionSupport",
    "HalvingOptions",
    "HalvingProposal",
    "IndexOptions",
    "InjectOptions",
    "Injected",
    "Look",
    "PretrainOptions",
    "TrainOptions",
    "adopt",
    "audit",
    "cross_validate",
    "encoder_facts",
    "index",
    "inject_nothing",
    "pretrain",
    "propose_halving",
    "run_folder",
    "train",
]

_HOMES = {
    "adopting": ("adopt",),
    "atlases": (
        "index",
        "train",
    ),
    "auditing": ("audit",),
    "cross_validation": ("cross_validate",),
    "halving": (
        "HalvingOptions",
        "HalvingProposal",
        "propose_halving",
    ),
    "injecting": (
        "Injected",
        "InjectOptions",
        "inject_nothing",
    ),
    "pretraining": (
        "PretrainOptions",
        "pretrain",
    ),
    "runs": (
        "AdoptOptions",
        "IndexOptions",
        "TrainOptions",
        "encoder_facts",
        "run_folder",
    ),
    "support": (
        "DecisionSupport",
        "Look",
    ),
}


def __getattr__(name: str) -> Any:
    """A door is imported when it is first used: to decide by a compiled atlas costs no torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"cellkin.system.{module}"), name)
    raise AttributeError(f"module 'cellkin.system' has no attribute {name!r}")
