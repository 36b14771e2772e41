"""The pure rules of the worklist: held cells, flags, the order of looking, the differential."""

from __future__ import annotations

from cellkin.web.worklist.flags import FLAGS, CaseFacts, case_flags
from cellkin.web.worklist.held import REASONS, held_reasons, worry

__all__ = ["FLAGS", "REASONS", "CaseFacts", "case_flags", "held_reasons", "worry"]
