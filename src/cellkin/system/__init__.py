"""Floor 6: `DecisionSupport`, and the compositions that need several rooms: `train` and `index`."""

from cellkin.system.injecting import Injected, inject_nothing
from cellkin.system.making import index, run_folder, train
from cellkin.system.support import DecisionSupport, Look

__all__ = ["DecisionSupport", "Injected", "Look", "index", "inject_nothing", "run_folder", "train"]
