"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train`, `index`,
`pretrain`.
"""

from cellkin.system.atlases import index, train
from cellkin.system.auditing import audit
from cellkin.system.cross_validation import cross_validate
from cellkin.system.halving import SplitProposal, propose_split
from cellkin.system.injecting import Injected, inject_nothing
from cellkin.system.pretraining import pretrain
from cellkin.system.runs import encoder_facts, run_folder
from cellkin.system.support import DecisionSupport, Look

__all__ = [
    "DecisionSupport",
    "Injected",
    "Look",
    "SplitProposal",
    "audit",
    "cross_validate",
    "encoder_facts",
    "index",
    "inject_nothing",
    "pretrain",
    "propose_split",
    "run_folder",
    "train",
]
