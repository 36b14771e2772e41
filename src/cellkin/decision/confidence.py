"""How far is far: the distance of a query among those of cells that were never trained on."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cellkin.core.errors import DecisionError, damaged


@dataclass(frozen=True)
class Calibration:
    """The mean distances of held-out calibration cells to their k nearest references, by class.

    The paper reads distances as confidence (Fig. 10: near is high, far is low) and a fixed number
    cannot serve for that, since it changes with the network and the data. A percentile among
    calibration cells can: a new cell that resembles them gets each percentile equally often.

    Calibration cells must be held out. The triplet loss has pulled the training cells of a class
    together, so distances between training cells are smaller than those of any cell that the
    network has not seen: measured against them, every honest new cell would look far. For the same
    reason a calibration cell's own subject is left out of its references; that is the caller's
    part (`exclude` of `nearest`).

    Attributes:
        distances: true class -> mean distances (in the min-max scaled space), ascending. Classes
            without calibration cells are absent.

    Raises:
        DecisionError: a distance that is negative, NaN or infinite.
    """

    distances: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        ordered = {
            str(label): tuple(sorted(_checked(values, label)))
            for label, values in self.distances.items()
            if len(values)
        }
        object.__setattr__(self, "distances", MappingProxyType(ordered))

    @classmethod
    def from_cells(cls, labels: Sequence[str], mean_distances: Sequence[float]) -> Calibration:
        """From the true classes and the mean distances of the calibration cells, in one order.

        Raises:
            DecisionError: the two differ in length, or a distance is negative, NaN or infinite.
        """
        if len(labels) != len(mean_distances):
            raise DecisionError(
                "every calibration cell needs one label and one mean distance",
                where=f"{len(labels)} labels and {len(mean_distances)} distances",
                mend="give both in the same order",
            )
        groups: dict[str, list[float]] = {}
        for label, distance in zip(labels, mean_distances, strict=True):
            groups.setdefault(label, []).append(float(distance))
        return cls({label: tuple(values) for label, values in groups.items()})

    def percentile(self, label: str, mean_distance: float) -> tuple[float | None, int]:
        """Where a mean distance stands among the calibration cells of a class.

        Args:
            label: the voted class. mean_distance: of the query to its k neighbours.

        Returns:
            the percentile in [0, 100], 100 (smaller + equal / 2) / n, or None where the class has
            no calibration cell; and n, the number of cells it rests on.

        Raises:
            DecisionError: the distance is negative, NaN or infinite.
        """
        (distance,) = _checked((mean_distance,), label)
        cells = self.distances.get(label, ())
        if not cells:
            return None, 0
        smaller, up_to = bisect_left(cells, distance), bisect_right(cells, distance)
        return 100.0 * (smaller + 0.5 * (up_to - smaller)) / len(cells), len(cells)

    def counts(self) -> dict[str, int]:
        """Number of calibration cells by class."""
        return {label: len(cells) for label, cells in self.distances.items()}

    def to_json(self) -> dict[str, Any]:
        return {"distances": {label: list(cells) for label, cells in self.distances.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` wrote.

        Raises:
            ArtifactError: this is no such data.
        """
        try:
            return cls({str(label): tuple(cells) for label, cells in data["distances"].items()})
        except (KeyError, TypeError, AttributeError, ValueError, DecisionError) as error:
            raise damaged("the calibration", error, where="distances") from error

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not travel between processes
        return (Calibration, (dict(self.distances),))


def _checked(distances: Sequence[float], label: str) -> list[float]:
    values = [float(distance) for distance in distances]
    for value in values:
        if not math.isfinite(value) or value < 0:
            raise DecisionError(
                f"{value} is no mean distance",
                where=f"class {label}",
                mend="give finite distances of 0 or more",
            )
    return values
