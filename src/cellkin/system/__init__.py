"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train` and `index`."""

from cellkin.system.auditing import audit
from cellkin.system.injecting import Injected, inject_nothing
from cellkin.system.making import index, run_folder, train
from cellkin.system.splitting import SplitProposal, propose_split
from cellkin.system.support import DecisionSupport, Look

__all__ = [
    "DecisionSupport",
    "Injected",
    "Look",
    "SplitProposal",
    "audit",
    "index",
    "inject_nothing",
    "propose_split",
    "run_folder",
    "train",
]
