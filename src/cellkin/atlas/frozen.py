"""What an atlas keeps for telling unknown kinds: its references in a space that nobody trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cellkin.core.arrays import Array, Singles
from cellkin.core.errors import damaged
from cellkin.core.records import frozen
from cellkin.decision import Conformal, Kinds
from cellkin.learning.encoder import Encoder
from cellkin.learning.opening import encoder_in

FOLDER = "frozen"
"""In an atlas, of the compiled encoder of this space."""


@dataclass(frozen=True, eq=False)
class Frozen:
    """The frozen side of an atlas.

    Attributes:
        space: name of the space, see `cellkin.learning.frozen`. vectors: (N, D), the reference
            cells of its own place in it. labels: their N classes.
        scores: how odd held-out calibration cells are in it, by the class whose mean is nearest.
        encoder: where it was compiled; None where the packaged weights make the space.
    """

    space: str
    vectors: Singles
    labels: tuple[str, ...]
    scores: Conformal
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", frozen(self.vectors))

    @cached_property
    def kinds(self) -> Kinds:
        """The known kinds."""
        return Kinds.fit(self.vectors, self.labels)

    def to_json(self) -> dict[str, Any]:
        """All but the vectors."""
        told = {"space": self.space, "labels": list(self.labels)}
        return {**told, "scores": self.scores.to_json()}

    def save(self, folder: Path) -> None:
        """Write its compiled encoder, where it has one, into the folder of an atlas."""
        if self.encoder is not None:
            (folder / FOLDER).mkdir()
            self.encoder.save(folder / FOLDER)

    @classmethod
    def read(
        cls, told: Mapping[str, Any] | None, vectors: Array | None, folder: Path
    ) -> Frozen | None:
        """What `to_json` wrote, and the vectors; None where an atlas was made without.

        Args:
            folder: of the atlas.

        Raises:
            ArtifactError: this is no such data.
        """
        if told is None or vectors is None:
            return None
        try:
            labels, scores = tuple(told["labels"]), Conformal.from_json(told["scores"])
            encoder = encoder_in(folder / FOLDER) if (folder / FOLDER).is_dir() else None
            return cls(str(told["space"]), vectors, labels, scores, encoder)
        except (KeyError, TypeError) as error:
            raise damaged("the frozen space", error, where="frozen") from error
