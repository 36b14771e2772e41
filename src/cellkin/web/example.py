"""A prepared case: held-out cells with the decisions on them, as if somebody had uploaded them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from cellkin.core.progress import Progress, silent
from cellkin.core.records import ImageRef, Sample
from cellkin.imaging.decode import decode
from cellkin.imaging.formats import kind_of
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import Prepared
from cellkin.imaging.scale import png_of, um_per_pixel
from cellkin.system import DecisionSupport
from cellkin.web.app import register
from cellkin.web.intake import look_of, stored
from cellkin.web.store import Actor, Case, NewCell, Original, Store
from cellkin.web.uploads import shown_name
from cellkin.web.worklist.held import held_reasons

PSEUDONYM = "Demo 1"
SELECTED = "Held-out cells, selected to show the work: look, decide, sign."
PLAIN, HELD = 18, 6  # cells that may be confirmed together, and that are looked at singly


def prepare_case(
    support: DecisionSupport,
    store: Store,
    samples: Sequence[Sample],
    *,
    progress: Progress = silent,
) -> Case:
    """Make the case "Demo 1" out of these cells, or give the one that is there already.

    Some of the cells are taken: most that can be confirmed together, a few that must be looked at
    singly, of every proposed class. The store is not told their labels.

    Args:
        samples: cells that the atlas has not learned from.
    """
    found, _ = store.cases(search=PSEUDONYM)
    for case in found:
        if case.pseudonym == PSEUDONYM:
            return case
    register(support, store)
    made = _decided(support, samples, progress)
    refs = {cell.sha256: sample.image for cell, sample in zip(made, samples, strict=True)}
    cells = [_with_file(cell, refs[cell.sha256]) for cell in _few(support, made)]
    actor = Actor("cellkin", "reviewer", "demo")
    specimen = "drawn: no real blood" if support.atlas.provenance.drawn else None
    case = store.create_case(actor, PSEUDONYM, specimen=specimen, note=SELECTED)
    store.add_cells(actor, case.id, cells, key=None)
    return store.case(case.id)


def _decided(
    support: DecisionSupport, samples: Sequence[Sample], progress: Progress
) -> list[NewCell]:
    preprocessor = support.atlas.encoder.preprocessor
    arrays = load_prepared([s.image for s in samples], preprocessor, progress=progress)
    names = [shown_name(s.id.rsplit("/", 1)[-1]) for s in samples]
    pictures = [Prepared(name, array) for name, array in zip(names, arrays, strict=True)]
    cells = []
    for picture, decision in zip(pictures, support.decide(pictures), strict=True):
        png = png_of(picture.image)
        sha256 = hashlib.sha256(png).hexdigest()
        made = stored(support, decision, picture.name, sha256, png)
        cells.append(replace(made, look=look_of(picture, decision)))
    return cells


def _with_file(cell: NewCell, ref: ImageRef) -> NewCell:
    """A cell with the file that it came from, where that shows this cell alone."""
    if (ref.member, ref.row, ref.box) != (None, None, None):
        return cell
    data, (height, width) = ref.path.read_bytes(), decode(ref).shape[:2]
    sha256 = hashlib.sha256(data).hexdigest()
    kind = kind_of(data, ref.path.name)
    file = Original(sha256, len(data), kind, width, height, um_per_pixel(ref))
    return replace(cell, sha256=sha256, original=(file, data))


def _few(support: DecisionSupport, cells: Sequence[NewCell]) -> list[NewCell]:
    """Of the held cells a few of every proposed class, in turn; of the others as many as fit."""
    labels = support.atlas.labels
    plain: list[NewCell] = []
    held: dict[str, list[NewCell]] = {}
    for cell in cells:
        if held_reasons(cell.decision, cell.gate, labels):
            held.setdefault(cell.decision.label, []).append(cell)
        else:
            plain.append(cell)
    longest = max(map(len, held.values()), default=0)
    turns = [queue[i] for i in range(longest) for queue in held.values() if i < len(queue)]
    chosen = {cell.sha256 for cell in (*plain[:PLAIN], *turns[:HELD])}
    return [cell for cell in cells if cell.sha256 in chosen]
