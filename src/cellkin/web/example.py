"""A prepared case: held-out cells with the decisions on them, as if somebody had uploaded them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

from PIL import Image

from cellkin.core.progress import Progress, silent
from cellkin.core.records import Sample
from cellkin.imaging.loading import load_prepared
from cellkin.system import DecisionSupport
from cellkin.web.app import register
from cellkin.web.intake import stored
from cellkin.web.store import Actor, Case, Store

__all__ = ["PSEUDONYM", "prepare_case"]

PSEUDONYM = "Demo 1"
KEY = "demo"


def prepare_case(
    support: DecisionSupport,
    store: Store,
    samples: Sequence[Sample],
    *,
    progress: Progress = silent,
) -> Case:
    """Make the case "Demo 1" with these cells, or give the one that is there already.

    Args:
        samples: cells that the atlas has not learned from; their labels are not told to the store.
    """
    found, _ = store.cases(search=PSEUDONYM)
    for case in found:
        if case.pseudonym == PSEUDONYM:
            return case
    register(support, store)
    actor = Actor("cellkin", "reviewer", "demo")
    arrays = load_prepared(
        [s.image for s in samples], support.atlas.encoder.preprocessor, progress=progress
    )
    names = [s.image.path.name for s in samples]
    decisions = support.decide_prepared(arrays, names, gate=True)
    cells = []
    for name, array, decision in zip(names, arrays, decisions, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, format="PNG", compress_level=4)
        png = buffer.getvalue()
        cells.append(stored(support, decision, name, (hashlib.sha256(png).hexdigest(), png, None)))
    case = store.create_case(
        actor,
        PSEUDONYM,
        specimen="drawn: no real blood" if support.atlas.provenance.drawn else None,
        note="Held-out cells that the atlas has never seen. Look, decide, sign.",
    )
    store.add_cells(actor, case.id, cells, KEY)
    return store.case(case.id)
