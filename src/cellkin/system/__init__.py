"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train` and `index`."""

from cellkin.system.auditing import audit
from cellkin.system.making import index, run_folder, train
from cellkin.system.support import DecisionSupport, Look

__all__ = ["DecisionSupport", "Look", "audit", "index", "run_folder", "train"]
