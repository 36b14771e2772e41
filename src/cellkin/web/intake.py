"""From an upload to decided pictures: unpacked, decoded under guard, decided in common batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice

from starlette.datastructures import UploadFile

from cellkin.core.errors import CellkinError
from cellkin.core.fits import DISTANCE
from cellkin.core.records import Decision
from cellkin.imaging.appearance import appearance
from cellkin.imaging.preprocess import Prepared
from cellkin.smear.single import refuse_field
from cellkin.system import DecisionSupport
from cellkin.web.decoding import Batch, Decoded, Unanswered, decoded
from cellkin.web.frames import Frame
from cellkin.web.problems import ProblemError
from cellkin.web.station import Station
from cellkin.web.store import NewCell, Original
from cellkin.web.uploads import Refusal, Upload, unpacked

TOGETHER = 32  # images of one upload that are in memory at once


@dataclass(frozen=True, eq=False)
class Decided:
    """One uploaded picture and what the atlas says about it."""

    upload: Upload
    prepared: Decoded
    decision: Decision


def decided(
    station: Station, files: Sequence[UploadFile], person: str
) -> Iterator[Decided | Refusal]:
    """Decide on every image of an upload, in order. Takes its time: not for the event loop.

    Args:
        person: whose upload it is; decoding is shared out by person.

    Raises:
        ProblemError: 413, the upload holds more than it may; 422, it takes too long to decode.
        Unanswered: an image hangs or breaks the process that decodes; the others are not tried.
    """
    pictures = prepared(station, files, person)
    while some := list(islice(pictures, TOGETHER)):
        good = [one for one in some if not isinstance(one, Refusal)]
        asked = station.deciding.decide([picture for _, picture in good])
        answers = iter(asked)
        for one in some:
            yield one if isinstance(one, Refusal) else Decided(*one, next(answers).result())


def prepared(
    station: Station, files: Sequence[UploadFile], person: str
) -> Iterator[tuple[Upload, Decoded] | Refusal]:
    """Unpack and decode every image of an upload, in order; raises as `decided` does."""
    images = unpacked(files, station.settings)
    batch = Batch(person, station.settings.upload_seconds)
    while some := list(islice(images, TOGETHER)):
        asked = {
            i: station.decoders.submit(one.data, one.name, batch)
            for i, one in enumerate(some)
            if isinstance(one, Upload)
        }
        try:
            for i, one in enumerate(some):
                yield one if isinstance(one, Refusal) else _prepared(one, asked[i])
        finally:
            for answer in asked.values():  # the others of an upload that is refused
                answer.cancel()


def _prepared(one: Upload, answer: Future[Frame]) -> tuple[Upload, Decoded] | Refusal:
    fault = answer.exception()
    if isinstance(fault, CellkinError) and not isinstance(fault, (Unanswered, ProblemError)):
        return Refusal.of(one.name, fault)
    if fault is not None:  # refuses the upload: a thousand such images take hours
        raise fault
    try:
        picture = decoded(one.name, answer.result())
        refuse_field(picture.whole, one.name)
    except CellkinError as error:
        return Refusal.of(one.name, error)
    return one, picture


def new_cell(station: Station, one: Decided) -> NewCell:
    """What the store keeps of an uploaded picture."""
    data, png = one.upload.data, one.prepared.png
    sha256 = hashlib.sha256(data).hexdigest()
    file = Original(sha256, len(data), **one.prepared.file), data
    made = stored(station.support, one.decision, one.upload.name, sha256, png, file)
    return replace(made, look=look_of(one.prepared, one.decision))


def look_of(picture: Prepared, decision: Decision) -> dict[str, float]:
    """What the chart of drift is drawn from, of one prepared picture and its decision."""
    percentile = decision.distance_percentile
    far = {} if percentile is None else {DISTANCE: percentile}
    return {**far, **appearance(picture.image)}


def stored(
    support: DecisionSupport,
    decision: Decision,
    name: str,
    sha256: str,
    png: bytes,
    original: tuple[Original, bytes] | None = None,
) -> NewCell:
    """A decision as the store keeps it.

    Args:
        sha256: of the file. png: the prepared picture. original: the file, where there is one.
    """
    found, sets = decision.quality, decision.prediction_set
    settings = {"coverage": None if sets is None else sets.coverage, "gate": found is not None}
    return NewCell(
        name=name,
        sha256=sha256,
        image_png=png,
        original=original,
        decision=decision,
        gate={} if found is None else {"reasons": list(found)},
        provenance={**support.atlas.provenance.to_json(), "settings": settings},
    )
