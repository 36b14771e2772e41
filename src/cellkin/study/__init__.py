"""Floor 7: experiments over many trainings, every prediction kept."""

from cellkin.study.experiments import cross_validate

__all__ = ["cross_validate"]
