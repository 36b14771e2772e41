"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train`, `index`,
`pretrain`.
"""

from cellkin.system.making import index, train
from cellkin.system.pretraining import pretrain
from cellkin.system.runs import encoder_facts, run_folder
from cellkin.system.support import DecisionSupport, Look

__all__ = [
    "DecisionSupport",
    "Look",
    "encoder_facts",
    "index",
    "pretrain",
    "run_folder",
    "train",
]
