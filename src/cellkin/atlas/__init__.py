"""Floor 4: the atlas, one folder that holds all that a decision and its reasons need."""

from cellkin.atlas.atlas import Atlas, Cells
from cellkin.atlas.building import Settings, build, calibrated
from cellkin.atlas.deciding import Consultation, consult, decide, head_shares
from cellkin.atlas.novelty import adopted_oddness, novel, with_novelty
from cellkin.atlas.pictured import pictured
from cellkin.atlas.portraying import portrayed
from cellkin.atlas.standing import seen_from

__all__ = [
    "Atlas",
    "Cells",
    "Consultation",
    "Settings",
    "adopted_oddness",
    "build",
    "calibrated",
    "consult",
    "decide",
    "head_shares",
    "novel",
    "pictured",
    "portrayed",
    "seen_from",
    "with_novelty",
]
