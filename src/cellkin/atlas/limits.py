"""What is usual for the cells of one place, as plain data and back: percentiles, prediction sets,
the quality gate, and how unseen cells were called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict

from cellkin.core.arrays import Array
from cellkin.decision import Calibration, Conformal
from cellkin.imaging.quality import QualityGate
from cellkin.measures.counting import HeldOutCalls


class Limits(TypedDict):
    """The fields of these names in an atlas."""

    calibration: Calibration
    conformal: Conformal | None
    quality: QualityGate | None
    calls: HeldOutCalls | None


class Limited(Protocol):
    """What has these fields."""

    @property
    def calibration(self) -> Calibration: ...
    @property
    def conformal(self) -> Conformal | None: ...
    @property
    def quality(self) -> QualityGate | None: ...
    @property
    def calls(self) -> HeldOutCalls | None: ...


def limits_of(holder: Limited) -> Limits:
    """The fields themselves."""
    return Limits(
        calibration=holder.calibration,
        conformal=holder.conformal,
        quality=holder.quality,
        calls=holder.calls,
    )


def limits_json(holder: Limited) -> dict[str, Any]:
    """As plain data; the counts of `calls` are an array and kept as one."""
    return {
        "calibration": holder.calibration.to_json(),
        "conformal": None if holder.conformal is None else holder.conformal.to_json(),
        "quality": None if holder.quality is None else holder.quality.to_json(),
        "calls_by": None if holder.calls is None else holder.calls.unit,
    }


def read_limits(told: Mapping[str, Any], counts: Array | None, names: Sequence[str]) -> Limits:
    """What `limits_json` wrote; keys that atlases of version 0.1.0 lack are absent.

    Args:
        counts: of `calls`. names: the atlas's classes.
    """
    sets, gate, unit = (told.get(name) for name in ("conformal", "quality", "calls_by"))
    return Limits(
        calibration=Calibration.from_json(told["calibration"]),
        conformal=Conformal.from_json(sets) if sets else None,
        quality=QualityGate.from_json(gate) if gate else None,
        calls=HeldOutCalls(tuple(names), counts, unit) if unit and counts is not None else None,
    )
