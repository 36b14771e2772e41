"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train`, `index`,
`pretrain`.
"""

from cellkin.system.adopting import adopt
from cellkin.system.atlases import index, train
from cellkin.system.auditing import audit
from cellkin.system.cross_validation import cross_validate
from cellkin.system.halving import HalvingOptions, HalvingProposal, propose_halving
from cellkin.system.injecting import Injected, InjectOptions, inject_nothing
from cellkin.system.pretraining import PretrainOptions, pretrain
from cellkin.system.runs import AdoptOptions, IndexOptions, TrainOptions, encoder_facts, run_folder
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
