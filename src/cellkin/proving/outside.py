"""What an atlas says to pictures that it knows nothing about, beside cells that it should know.

A picture is answered "unlike this atlas" where its prediction set is empty, or where the quality
gate finds colours and textures that are not those of the atlas's smears. Both limits come from the
atlas's own cells; no picture from outside has moved them.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.atlas import Atlas, consult, pictured
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.errors import ImageError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, Features, ImageRef
from cellkin.core.units import Owners
from cellkin.imaging.loading import each_prepared
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.quality import measure
from cellkin.measures.intervals import share_of
from cellkin.measures.ranking import auroc

PHOTOGRAPHS = "photographs of scikit-image"
UNLIKE_LOOK = "not like its smears"


@dataclass(frozen=True)
class Answers:
    """Decisions on N pictures, with how odd each is.

    Attributes:
        decisions: with the quality gate asked.
        features: (N,) smallest nonconformity over the classes. look: (N,) distance of colours and
            textures, 1 at the gate's limit; zeros where the atlas has no gate.
    """

    decisions: list[Decision]
    features: Floats
    look: Floats

    def part(self, rows: Sequence[int]) -> Answers:
        """Some of the answers."""
        kept = np.asarray(rows, np.int64)
        decisions = [self.decisions[i] for i in rows]
        return Answers(decisions, self.features[kept], self.look[kept])

    def both(self, limit: float) -> Floats:
        """(N,) the larger of the two, each over its limit; `limit` is that of the features."""
        return np.maximum(self.features / limit, self.look)


def answers(
    atlas: Atlas,
    images: Bytes,
    names: Sequence[str],
    *,
    owners: Owners | None = None,
    coverage: float,
    progress: Progress = silent,
) -> Answers:
    """Ask the atlas about prepared images (N, S, S, 3) uint8."""
    vectors = atlas.encoder.vectors(images, progress=progress)
    features = Features(tuple(names), vectors, atlas.space)
    asked = consult(atlas, features, owners=owners, coverage=coverage, classes=True)
    assert asked.near is not None  # it was asked for
    gate = atlas.quality
    measured = [measure(image) for image in images] if gate else None
    look = [gate.unlikeness(m) for m in measured] if gate and measured else [0.0] * len(images)
    return Answers(
        pictured(atlas, asked.decisions, list(images), measured, coverage=coverage),
        asked.near.nonconformity().min(axis=1),
        np.array(look),
    )


def says_unlike(decision: Decision) -> bool:
    """Whether the answer is "unlike this atlas"."""
    said = {"unlike", "unknown"} & {*decision.reasons}
    return bool(said) or UNLIKE_LOOK in (decision.quality or ())


def shares(decisions: Sequence[Decision], coverage: float) -> dict[str, dict[str, Any]]:
    """Shares (see `Share.to_json`) of what is said: "unlike" and "refused" for any reason; by the
    prediction sets and by the quality gate alone; and "far" (see `Decision.is_far`).
    """
    hits = {
        "unlike": [says_unlike(d) for d in decisions],
        "refused": [bool(d.reasons) for d in decisions],
        "sets_alone": ["unlike" in d.reasons for d in decisions],
        "gate_alone": [bool(d.quality) for d in decisions],
        "far": [d.is_far(coverage) for d in decisions],
    }
    return {name: share_of(hit).to_json() for name, hit in hits.items()}


def outside_row(atlas: Atlas, inside: Answers, outside: Answers, coverage: float) -> dict[str, Any]:
    """How one kind of outside pictures was answered, and how well it can be told apart."""
    limit = _limit(atlas, coverage)
    decisions = outside.decisions
    called = Counter(d.label for d in decisions if not says_unlike(d))
    return {
        "n": len(decisions),
        **shares(decisions, coverage),
        "gate_reasons": dict(Counter(q for d in decisions for q in d.quality or ())),
        "called": dict(called),
        "auroc": {
            "features": auroc(inside.features.tolist(), outside.features.tolist()),
            "look": auroc(inside.look.tolist(), outside.look.tolist()) if atlas.quality else None,
            "both": None
            if limit is None
            else auroc(inside.both(limit).tolist(), outside.both(limit).tolist()),
        },
    }


def _limit(atlas: Atlas, coverage: float) -> float | None:
    """The oddness that a share of `coverage` of all calibration cells stays below."""
    if atlas.conformal is None or not atlas.conformal.scores:
        return None
    scores = [s for units in atlas.conformal.scores.values() for cells in units for s in cells]
    return max(float(np.quantile(scores, coverage)), 1e-9)


def readable(
    sources: Sequence[ImageRef], preprocessor: Preprocessor, *, progress: Progress = silent
) -> tuple[Bytes, list[str], int]:
    """The pictures that can be read, prepared; their names; and how many were refused at once
    (greyscale, transparent, no picture): an atlas never gets to see those.
    """
    images, names, refused = [], [], 0
    found = each_prepared(sources, preprocessor, progress=progress)
    for source, image in zip(sources, found, strict=True):
        if isinstance(image, ImageError):
            refused += 1
            continue
        images.append(image)
        names.append(str(source))
    side = preprocessor.size
    empty = np.zeros((0, side, side, 3), np.uint8)
    return (np.stack(images) if images else empty), names, refused


def photographs() -> dict[str, list[ImageRef]]:
    """The sample pictures in scikit-image's package, by name; empty where it is not installed."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "data"
    files = [p for p in sorted(folder.glob("*")) if p.suffix in (".png", ".jpg")]
    return {PHOTOGRAPHS: [ImageRef(path) for path in files]} if files else {}
