"""Floor 4: the atlas, one folder that holds all that a decision and its reasons need."""

from cellkin.atlas.atlas import Atlas, Cells, build
from cellkin.atlas.deciding import decide

__all__ = ["Atlas", "Cells", "build", "decide"]
