"""Floor 7: experiments over many trainings, every prediction kept."""

from cellkin.study.experiments import cross_validate
from cellkin.study.verifying import Verifying, verify

__all__ = ["Verifying", "cross_validate", "verify"]
