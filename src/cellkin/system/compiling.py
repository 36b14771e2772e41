"""Giving an atlas an engine: the same cells in a space of the engine's own.

References, and with the data set the held-out cells as well, are looked at again by the compiled
encoder; what changed is measured on cells that vote on nothing, and an atlas whose calls change by
more than a stated share is not written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import cellkin
from cellkin.atlas import Atlas, Cells, Settings, build, decide, novel, with_novelty
from cellkin.atlas.building import embedded
from cellkin.atlas.changes import changes, evidence_changes
from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import read_json, refuse_existing
from cellkin.core.errors import ArtifactError, DataError, DecisionError, RecipeError
from cellkin.core.numbers import percent
from cellkin.core.options import Options
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, Decision, Features, Split
from cellkin.core.units import IMAGE, Owners
from cellkin.decision import MinMaxScale
from cellkin.imaging.preprocess import Prepared
from cellkin.learning.compiled import CompiledEncoder
from cellkin.learning.encoder import Encoder
from cellkin.learning.engines import PRECISIONS, has_bf16, require_engine
from cellkin.learning.threads import threads
from cellkin.system.atlases import PartedCells, measure_test
from cellkin.system.cards import atlas_card, documents
from cellkin.system.runs import load_images
from cellkin.system.support import DecisionSupport

MOST = 0.01
"""Share of the calls that may change."""

QUICKEST = "quickest"
"""The quickest precision whose calls hold."""

TIMED, ROUNDS = 8, 3  # pictures that are timed, and how often
EXPLAINED = 16  # cells whose evidence is compared
KEPT = ("split.json", "predictions.json")


@dataclass(frozen=True, kw_only=True)
class CompileOptions(Options):
    """How an atlas is compiled.

    Attributes:
        engine: see `cellkin.learning.engines`. precision: one of its precisions, or `QUICKEST`.
        most: share of the calls that may change, 0 to 1.
        overwrite: replace what is at `out`.

    Raises:
        RecipeError: an impossible share.
    """

    engine: str = "openvino"
    precision: str = "fp32"
    most: float = MOST
    overwrite: bool = False
    progress: Progress = silent

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise RecipeError(
                f"{self.most} is no share", where="--most", mend="give a number from 0 to 1"
            )


@dataclass(frozen=True)
class _Seen:
    """Cells of a part with their pictures, and what an atlas makes of them."""

    atlas: Atlas
    part: str
    cells: Cells
    pictures: Bytes
    owners: Owners

    @cached_property
    def decisions(self) -> list[Decision]:
        vectors = self.atlas.vectors  # of the references
        if self.part != "references":
            vectors = self.atlas.encoder.vectors(self.pictures)
        features = Features(self.cells.ids, vectors, self.atlas.space)
        return novel(self.atlas, decide(self.atlas, features, owners=self.owners), self.pictures)

    @cached_property
    def evidence(self) -> list[Any]:
        """That of some of them, evenly spread."""
        rows = np.unique(np.linspace(0, len(self.cells) - 1, EXPLAINED).astype(int)).tolist()
        some = [Prepared(self.cells.ids[row], self.pictures[row]) for row in rows]
        how = self.owners.part(rows)
        return DecisionSupport(self.atlas).explain(some, gate=False, subject=how)


def compile_atlas(
    folder: str | Path,
    data: Dataset | None = None,
    *,
    out: str | Path,
    options: CompileOptions = CompileOptions(),
) -> Path:
    """A new atlas folder whose encoder looks by an engine.

    Args:
        data: the cells that the atlas was made from. With them percentiles and prediction sets are
            measured anew, and what changes is told on the test cells. Without them the limits are
            those of the atlas, and what changes is told on its reference cells, each called by the
            others: allowed in fp32 alone, whose distances are the same to a few digits.

    Returns:
        the new folder.

    Raises:
        ArtifactError: no such engine or precision, or not here; an atlas that is compiled already.
        DataError: precisions other than fp32 without data; held-out cells that are not in it.
        DecisionError: too many calls change, by any precision that was asked for.
    """
    out, folder = Path(out).expanduser(), Path(folder).expanduser()
    if not options.overwrite:
        refuse_existing(out)
    atlas = Atlas.open(folder, device="cpu")
    tried = _asked(options, data)
    _refuse(atlas, tried, data)
    work = _Work(atlas, _held_out(atlas, data, options.progress), data, options)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for precision in tried:
            new, predictions, row = work.made(precision, Path(name) / precision)
            rows.append(row)
            if row["holds"]:
                told = {**row, "refused": rows[:-1]}
                new = replace(new, facts={**new.facts, "engine": told})
                _save(new, predictions, atlas, out, options.overwrite)
                return out
    raise _too_many(rows, options.most)


@dataclass(frozen=True)
class _Work:
    """What all precisions are made from: the atlas, and its held-out cells by part."""

    atlas: Atlas
    held_out: Sequence[tuple[Cells, Bytes]]
    data: Dataset | None
    options: CompileOptions

    @cached_property
    def pictures(self) -> Bytes:
        """Those of the reference cells, prepared, (N, S, S, 3) uint8."""
        return np.stack(
            [np.asarray(one) for one in self.atlas.pictures([range(len(self.atlas.cells))])[0]]
        )

    @cached_property
    def parts(self) -> dict[str, tuple[Cells, Bytes]]:
        """The held-out cells by part."""
        return {cells.part: (cells, images) for cells, images in self.held_out}

    @cached_property
    def before(self) -> _Seen:
        """The cells on which changes are told, as the atlas sees them: test cells, else other
        held-out ones, else its references.
        """
        for part in ("test", "calibration", "val"):
            if part in self.parts:
                cells, images = self.parts[part]
                return _Seen(self.atlas, part, cells, images, cells.owners(self.atlas.unit))
        cells = self.atlas.cells
        return _Seen(self.atlas, "references", cells, self.pictures, Owners(IMAGE, cells.ids))

    def made(
        self, precision: str, folder: Path
    ) -> tuple[Atlas, list[dict[str, Any]] | None, dict[str, Any]]:
        """The atlas in a precision, its test decisions where it has new ones, and what changed."""
        from cellkin.learning.translating import translate

        atlas, engine, tell = self.atlas, self.options.engine, self.options.progress
        pictures = self.pictures

        def translated(encoder: Encoder, place: Path) -> CompiledEncoder:
            place.mkdir(parents=True)
            return translate(encoder, place, engine=engine, precision=precision, pictures=pictures)

        tell(f"compiling for {engine}, {precision}", 0, 1)
        encoder = translated(atlas.encoder, folder / "encoder")
        frozen = None
        if atlas.frozen is not None:
            frozen = translated(_frozen_of(atlas), folder / "frozen")
        tell(f"compiling for {engine}, {precision}", 1, 1)
        if self.data is None:
            new, predictions = _with_limits_kept(atlas, encoder, frozen, pictures, tell), None
        else:
            new, predictions = self._measured_anew(encoder, frozen)
        return new, predictions, self._row(new, encoder)

    def _measured_anew(
        self, encoder: CompiledEncoder, frozen: CompiledEncoder | None
    ) -> tuple[Atlas, list[dict[str, Any]] | None]:
        atlas, pictures, tell = self.atlas, self.pictures, self.options.progress
        held = [(c, encoder.embed(p, c.ids, progress=tell)) for c, p in self.held_out]
        kept = "none" if atlas.maps is None else "fp16"
        seed = int(atlas.facts["split"]["seed"])
        settings = Settings(atlas.k, atlas.distance, seed, kept, atlas.facts)
        references = (atlas.cells, pictures)
        new = build(
            encoder, references, held, labels=atlas.labels, settings=settings, progress=tell
        )
        chosen = self.parts.get("calibration") or self.parts.get("val")
        if frozen is not None and chosen is not None:
            new = with_novelty(new, pictures, chosen, encoder=frozen, progress=tell)
        tested = [pair for pair in held if pair[0].part == "test"]
        if not tested:
            return new, None
        scores, predictions = measure_test(new, *tested[0], self._job(tested[0][0]))
        return replace(new, facts={**new.facts, **scores}), predictions

    def _job(self, cells: Cells) -> PartedCells:
        """The test cells alone, to be scored."""
        assert self.data is not None
        told = self.atlas.facts["split"]
        split = Split((), (), (), cells.ids, told["unit"], int(told["seed"]))
        images = next(images for one, images in self.held_out if one is cells)
        data = replace(self.data, samples=self.data.select(cells.ids))
        return PartedCells(data, split, images, split.seed, self.options.progress)

    def _row(self, new: Atlas, encoder: CompiledEncoder) -> dict[str, Any]:
        """What this engine is, how quick, and what it changes."""
        before, pictures = self.before, self.pictures
        after = replace(before, atlas=new)
        found = changes(before.decisions, after.decisions, before.cells.labels, before.owners)
        share = found.calls.share or 0.0
        return {
            "name": encoder.engine,
            "precision": encoder.precision,
            "from": self.atlas.id,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": cellkin.__version__,
            "limits": "kept" if self.data is None else "measured anew",
            "times": round(_cost(self.atlas.encoder, pictures) / _cost(encoder, pictures), 2),
            "part": before.part,
            "most": self.options.most,
            "holds": share <= self.options.most,
            "changes": found.to_json(),
            "evidence": evidence_changes(before.evidence, after.evidence).to_json(),
        }


# parts of the work -----------------------------------------------------------------------------


def _asked(options: CompileOptions, data: Dataset | None) -> list[str]:
    """The precisions to try, the quickest first."""
    if options.precision != QUICKEST:
        require_engine(options.engine, options.precision)
        return [options.precision]
    require_engine(options.engine, "fp32")
    if data is None:
        return ["fp32"]
    return [p for p in reversed(PRECISIONS[options.engine]) if p != "bf16" or has_bf16()]


def _refuse(atlas: Atlas, tried: Sequence[str], data: Dataset | None) -> None:
    where = atlas.folder or "memory"
    if isinstance(atlas.encoder, CompiledEncoder):
        raise ArtifactError(
            "this atlas is compiled already",
            where=where,
            mend="compile the atlas that it was made from",
        )
    if atlas.adopted:
        raise ArtifactError(
            "this atlas has adopted other places, whose cells would have to be aligned anew",
            where=where,
            mend="compile the atlas that it was made from, then adopt the places again",
        )
    if data is None and tried != ["fp32"]:
        raise DataError(
            f"{tried[0]} moves distances: percentiles and prediction sets have to be measured anew",
            where="DATA",
            mend="give the cells that the atlas was made from: cellkin compile ATLAS DATA --out "
            "OTHER; or use --precision fp32",
        )


def _held_out(atlas: Atlas, data: Dataset | None, progress: Progress) -> list[tuple[Cells, Bytes]]:
    """The held-out cells by part, with their prepared pictures.

    Raises:
        DataError: one of them is not in the data set, or under another label.
    """
    if data is None:
        return []
    labels = {sample.id: sample.label for sample in data.samples}
    found = []
    for cells in atlas.held_out:
        for name, label in zip(cells.ids, cells.labels, strict=True):
            if labels.get(name) != label:
                raise DataError(
                    "these are not the cells that the atlas was made from",
                    where=f"{name}, {label} in the atlas, is {labels.get(name, 'not here')}",
                    mend="give the data set that cellkin train or cellkin index was given",
                )
        some = replace(data, samples=data.select(cells.ids))
        found.append((cells, load_images(some, atlas.encoder.preprocessor, progress)))
    return found


def _frozen_of(atlas: Atlas) -> Encoder:
    from cellkin.learning.frozen import frozen_encoder

    return frozen_encoder(atlas.encoder.preprocessor.size)[0]


def _with_limits_kept(
    atlas: Atlas,
    encoder: CompiledEncoder,
    frozen: CompiledEncoder | None,
    pictures: Bytes,
    progress: Progress,
) -> Atlas:
    """The atlas with references seen anew; its map, percentiles and sets are those that it had."""
    kept = "none" if atlas.maps is None else "fp16"
    features, maps = embedded(encoder, atlas.cells, pictures, kept, progress)
    side = atlas.frozen
    if side is not None and frozen is not None:
        vectors = frozen.vectors(pictures, progress=progress)
        side = replace(side, space=frozen.space, vectors=vectors, encoder=frozen)
    return replace(
        atlas,
        encoder=encoder,
        space=features.space,
        vectors=features.vectors,
        scale=MinMaxScale.fit(features.vectors),
        maps=maps,
        frozen=side,
        verification=None,
    )


def _cost(encoder: Encoder, pictures: Bytes) -> float:
    """Processor seconds of a look at some pictures, the least of some rounds."""

    def once() -> float:
        started = time.process_time()
        encoder.vectors(pictures[:TIMED])
        return time.process_time() - started

    with threads(1):
        return min(once() for _ in range(ROUNDS + 1))


def _too_many(rows: Sequence[dict[str, Any]], most: float) -> DecisionError:
    told = "; ".join(f"{row['name']} {row['precision']}: {calls_told(row)}" for row in rows)
    return DecisionError(
        f"more than {percent(most)} of the calls change",
        where=told,
        mend="use --precision fp32, or allow more with --most",
    )


def calls_told(row: dict[str, Any]) -> str:
    """How many calls an engine changes, in words."""
    calls = row["changes"]["calls"]
    return f"{calls['count']} of {calls['n']} {row['part']} cells are called otherwise"


def _save(
    new: Atlas,
    predictions: list[dict[str, Any]] | None,
    source: Atlas,
    out: Path,
    overwrite: bool,
) -> None:
    assert source.folder is not None
    texts = {name: read_json(path) for name in KEPT if (path := source.folder / name).is_file()}
    if predictions is not None:
        texts["predictions.json"] = predictions
    names = ("log.jsonl", "training.png")
    extra = [path for name in names if (path := source.folder / name).is_file()]
    texts |= documents(atlas_card(new, "atlas"))
    new.save(out, extra=extra, texts=texts, overwrite=overwrite)
