"""Unknown kinds: cells that no class of the atlas is like, told in a space that nobody trained.

The atlas's own space was trained to pull its classes together, and pulls unknown kinds in as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cellkin.atlas.adopting import unit_of
from cellkin.atlas.atlas import Atlas
from cellkin.atlas.building import exchangeable
from cellkin.atlas.cells import Cells
from cellkin.atlas.frozen import Frozen
from cellkin.core.arrays import Bytes, Singles
from cellkin.core.decisions import Decision, Novelty
from cellkin.core.errors import ArtifactError
from cellkin.core.progress import Progress, silent
from cellkin.core.stages import stage
from cellkin.core.units import Owners
from cellkin.decision import COVERAGE, Conformal, Kinds, p_value
from cellkin.learning.encoder import Encoder

ROUNDING = 1e-12


def with_novelty(
    atlas: Atlas,
    references: Bytes,
    calibration: tuple[Cells, Bytes],
    *,
    encoder: Encoder | None = None,
    progress: Progress = silent,
) -> Atlas:
    """The atlas with its references and calibration cells seen by a frozen encoder as well.

    Args:
        references: (N, S, S, 3) uint8. calibration: held-out cells and their prepared pictures.
        encoder: of the frozen space, where it was compiled; the atlas then keeps it.

    Raises:
        DecisionError: the atlas knows one class only.
    """
    cells, pictures = calibration
    seeing, space = _encoder(atlas) if encoder is None else (encoder, encoder.space)
    vectors = seeing.vectors(references, progress=progress)
    kinds = Kinds.fit(vectors, atlas.cells.labels)
    seen = seeing.vectors(pictures, progress=progress)
    scores = _scores(kinds, seen, exchangeable(atlas, cells))
    return replace(atlas, frozen=Frozen(space, vectors, atlas.cells.labels, scores, encoder))


def adopted_oddness(atlas: Atlas, cells: Cells, pictures: Bytes) -> Conformal | None:
    """How odd the cells of an adopted place are in the frozen space of an atlas, so that its cells
    are not refused for their place; None where the atlas has none.
    """
    if atlas.frozen is None:
        return None
    owners = cells.owners(unit_of(cells))
    units = owners if owners.several else Owners("cell", cells.ids)
    return _scores(atlas.frozen.kinds, _encoder(atlas)[0].vectors(pictures), units)


def _scores(kinds: Kinds, vectors: Singles, units: Owners) -> Conformal:
    """Of held-out cells, grouped by the class whose mean is nearest."""
    odd, near = kinds.oddness(vectors)
    names = [kinds.classes[i] for i in near]
    return Conformal.from_cells(names, [str(n) for n in units.names], odd.tolist(), unit=units.unit)


def novel(
    atlas: Atlas, decisions: Sequence[Decision], pictures: Bytes, coverage: float = COVERAGE
) -> list[Decision]:
    """The decisions with what the frozen space says of their cells: a cell that is odder than the
    share `coverage` of known ones is of no known kind, and its call should not be used. As they
    are where the atlas was made without.

    Args:
        pictures: (M, S, S, 3) uint8, prepared.

    Raises:
        ArtifactError: the packaged weights make another space than the one that this atlas keeps.
    """
    if atlas.frozen is None:
        return list(decisions)
    encoder, space = _encoder(atlas)
    if space != atlas.frozen.space:
        raise ArtifactError(
            "the packaged weights are not those that this atlas tells unknown kinds by",
            where=atlas.folder or "memory",
            mend="cellkin index ATLAS CELLS --out OTHER makes an atlas with those that are here",
        )
    with stage("network of unknown kinds"):
        odd, near = atlas.frozen.kinds.oddness(encoder.vectors(pictures))
    names = [atlas.frozen.kinds.classes[i] for i in near]
    return [
        judged(decision, name, p_value(atlas.frozen.scores, name, score, coverage), coverage)
        for decision, name, score in zip(decisions, names, odd.tolist(), strict=True)
    ]


def _encoder(atlas: Atlas) -> tuple[Encoder, str]:
    if atlas.frozen is not None and atlas.frozen.encoder is not None:
        return atlas.frozen.encoder, atlas.frozen.space
    from cellkin.learning.frozen import frozen_encoder

    return frozen_encoder(atlas.encoder.preprocessor.size, atlas.encoder.device)


def judged(decision: Decision, near: str, p: float | None, coverage: float) -> Decision:
    """The decision with its p-value in the frozen space; refused where that is small."""
    own = None if decision.prediction_set is None else decision.prediction_set.typical
    unknown = p is not None and p <= 1 - coverage + ROUNDING
    found = Novelty(p, own, near, unknown)
    if not unknown:
        return replace(decision, novelty=found)
    state = "abstained" if decision.state == "decided" else decision.state
    reasons = (*decision.reasons, "unknown")
    return replace(decision, novelty=found, state=state, reasons=reasons)
