"""The atlas: encoder, reference cells, their features and images, min-max scale and map."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.atlas.adopted import Adopted, Standpoint, write_adopted
from cellkin.atlas.cells import (
    Cells,
    Images,
    Pictures,
    read_marks,
    read_pictures,
    write_cells,
)
from cellkin.atlas.foreign import distrusted
from cellkin.atlas.frozen import Frozen
from cellkin.atlas.limits import limits_json
from cellkin.atlas.map import place
from cellkin.atlas.opening import (
    MANIFEST,
    MAPS,
    PICTURES,
    PREDICTIONS,
    SCHEMA,
    VERIFICATION,
    parts_of,
)
from cellkin.atlas.portrait import Portrait
from cellkin.atlas.signed import require_signed, trusted
from cellkin.atlas.spelling import spelling
from cellkin.core.arrays import Bytes, Floats, Singles
from cellkin.core.artifacts import (
    digest,
    new_folder,
    read_json,
    write_arrays,
    write_json,
    write_text,
)
from cellkin.core.errors import DecisionError
from cellkin.core.manifests import write_manifest
from cellkin.core.names import likeness
from cellkin.core.records import Features, LabelSet, Provenance, frozen
from cellkin.core.units import IMAGE, SUBJECT, UNITS, Owners
from cellkin.decision import Calibration, ClassIndex, Conformal, Index, MinMaxScale
from cellkin.imaging.fingerprints import fingerprint
from cellkin.imaging.quality import QualityGate
from cellkin.learning.encoder import Encoder
from cellkin.measures.counting import HeldOutCalls

__all__ = ["Atlas", "Cells"]


@dataclass(frozen=True, eq=False)
class Atlas:
    """Everything a decision and its evidence need (section 4).

    Attributes:
        encoder: makes the feature space that all vectors here live in.
        labels: the classes of the reference cells.
        cells: the N reference cells. vectors: their raw features (N, C) float32.
        scale: min-max parameters fitted on these features (section 4.1).
        xy: (N, 2), the stored map.
        held_out: cells that are no references, with their places on the map, (M, 2).
        calibration: mean distances of held-out cells of every class to the references.
        conformal: what prediction sets rest on; None in an atlas that was made without.
        quality: limits of pictures it can speak about; None where it has too few cells to say.
        maps: the references' feature maps (N, C, h, w) float16, where they were stored.
        k, distance: of the vote.
        facts: data set, specimen, split, test result: what `inspect` prints.
        folder: where it lies on disk. images: the N prepared images (S, S, 3) uint8, while it is
            not on disk yet.
        verification: how its evidence was measured (`cellkin verify`), plain data; or None.
        calls: as it was made with, see `held_out_calls`; None in atlases of version 0.1.0.
        adopted: what it has taken on of other places. standpoint: the place whose cells it decides
            on, where one was named (see `cellkin.atlas.standing`).
        frozen, portrait: see these classes; None in an atlas that was made without.
    """

    encoder: Encoder
    labels: LabelSet
    cells: Cells
    vectors: Singles
    scale: MinMaxScale
    xy: Floats
    held_out: tuple[Cells, ...]
    held_out_xy: Floats
    calibration: Calibration
    k: int
    distance: str
    facts: Mapping[str, Any]
    space: str
    folder: Path | None = None
    images: Images | None = field(default=None, repr=False)
    conformal: Conformal | None = None
    quality: QualityGate | None = None
    maps: NDArray[np.float16] | None = field(default=None, repr=False)
    verification: Mapping[str, Any] | None = field(default=None, repr=False)
    calls: HeldOutCalls | None = field(default=None, repr=False)
    adopted: tuple[Adopted, ...] = ()
    standpoint: Standpoint | None = None
    frozen: Frozen | None = field(default=None, repr=False)
    portrait: Portrait | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("vectors", "xy", "held_out_xy"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @cached_property
    def scaled(self) -> Floats:
        """(N, C) float64, the reference vectors in the scaled space."""
        return self.scale.apply(self.vectors)

    @cached_property
    def index(self) -> Index:
        """The exact index over the references."""
        return Index(self.scaled, self.cells.ids, self.distance)

    @cached_property
    def class_index(self) -> ClassIndex:
        """The same references, class by class."""
        return ClassIndex(self.scaled, self.cells.ids, self.cells.labels, self.distance)

    @cached_property
    def head(self) -> tuple[Floats, Floats] | None:
        """Weights (K, C) and bias (K,) of the class head, rows in the order of `labels`; None
        where the head was trained for other classes.
        """
        if set(self.encoder.classes) != set(self.labels.names):
            return None
        rows = [self.encoder.classes.index(name) for name in self.labels.names]
        weights, bias = self.encoder.head_weights(), self.encoder.head_bias()
        return weights[rows].astype(np.float64), bias[rows].astype(np.float64)

    @cached_property
    def id(self) -> str:
        """Hash of what decides: space, references, labels, scale, k and distance."""
        if self.standpoint is not None:
            return self.standpoint.atlas
        sets = {} if self.conformal is None else {"conformal": self.conformal.to_json()}
        if self.quality is not None:
            sets["quality"] = self.quality.to_json()
        if self.adopted:
            sets["adopted"] = {one.place: one.identity for one in self.adopted}
        if self.frozen is not None:
            sets["frozen"] = {"space": self.frozen.space, **self.frozen.scores.to_json()}
        return digest(
            {
                **sets,
                "space": self.space,
                "ids": self.cells.ids,
                "labels": self.cells.labels,
                "vectors": hashlib.sha256(self.vectors.astype("<f4").tobytes()).hexdigest(),
                "calibration": self.calibration.to_json(),
                "k": self.k,
                "distance": self.distance,
                "classes": self.labels.to_json(),
            }
        )

    @property
    def warnings(self) -> Mapping[str, str]:
        """Method of heatmap -> why its maps should not be trusted, as found by verifying."""
        return {} if self.verification is None else self.verification["warnings"]

    @property
    def provenance(self) -> Provenance:
        """Where every answer of this atlas comes from."""
        known = {"atlas": self.id, "space": self.space}
        if self.standpoint is not None:
            known["place"] = self.standpoint.place
        return Provenance.from_json({**self.facts["provenance"], **known})

    @property
    def places(self) -> tuple[str, ...]:
        """Where cells may come from that it decides on: its own place, then the adopted ones."""
        own = sorted({place for place in self.cells.places if place is not None})
        own = own or [str(self.facts.get("dataset", "its own"))]
        return (*own, *(one.place for one in self.adopted))

    @property
    def unit(self) -> str:
        """What the split of its data set kept on one side, see `cellkin.core.units`."""
        return str(self.facts.get("split", {}).get("unit", IMAGE))

    def held_out_calls(self) -> HeldOutCalls:
        """What it calls cells that it had not seen, by the unit of its split (see
        `cellkin.atlas.calls`); where it kept none, the decisions on its test part.

        Raises:
            DecisionError: no cell was held out.
        """
        if self.calls is not None and self.calls.counts.any():
            return self.calls
        path = None if self.folder is None else self.folder / PREDICTIONS
        rows = read_json(path) if self.calls is None and path and path.is_file() else []
        if not rows:
            raise DecisionError(
                "this atlas does not know how it calls cells that it has not seen",
                where=f"{self.folder or 'memory'}: no cell was held out",
                mend="cellkin index ATLAS CELLS --out OTHER holds cells out and keeps their calls",
            )
        truth, called = ([row[key] for row in rows] for key in ("truth", "label"))
        # decisions that were kept before slides and fields were have no "group": none is known
        owners = [row.get("subject" if self.unit == SUBJECT else "group") for row in rows]
        unit = self.unit if Owners(self.unit, tuple(owners)).several else IMAGE
        return HeldOutCalls.of(truth, called, owners, names=self.labels.names, unit=unit)

    def check_space(self, features: Features) -> None:
        """Refuse vectors of another space.

        Raises:
            SpaceMismatch: they were not made by this atlas's encoder.
        """
        where = f"{self.folder or 'this atlas'} holds {len(self.cells)} vectors"
        features.require(self.space, where=where)

    def image(self, position: int) -> Bytes:
        """The prepared image (S, S, 3) uint8 of the reference cell at a position."""
        return self.pictures([[position]])[0][0]

    def pngs(self, ids: Sequence[str]) -> list[bytes]:
        """The images of reference cells as PNG, in the order asked for.

        Raises:
            DecisionError: one of them is no reference cell, or the atlas was never saved.
        """
        return read_pictures(self._pictures, ids)

    @property
    def _pictures(self) -> Path:
        if self.folder is None:
            raise DecisionError("this atlas has no images", where="memory", mend="save it first")
        return self.folder / PICTURES

    def mark(self, position: int) -> str:
        """The fingerprint of a reference cell's image; computed where it was not kept."""
        if (known := self._marks[position]) is None:
            known = self._marks[position] = fingerprint(self.image(position))
        return known

    @cached_property
    def _marks(self) -> list[str | None]:
        known = {} if self.images is not None or self.folder is None else read_marks(self._pictures)
        return [known.get(name) for name in self.cells.ids]

    def pictures(self, groups: Sequence[Sequence[int]]) -> list[Sequence[Bytes]]:
        """The images of reference cells, group by group, decoded when they are looked at."""
        if self.images is not None:
            return [tuple(np.asarray(self.images[p]) for p in group) for group in groups]
        wanted = sorted({p for group in groups for p in group})
        ids = [self.cells.ids[p] for p in wanted]
        found = dict(zip(wanted, self.pngs(ids), strict=True))
        return [Pictures([found[p] for p in group]) for group in groups]

    def named(self, owners: Owners) -> Owners:
        """Owners as this atlas spells them; the plain names of those it has no reference cell of.

        Raises:
            DecisionError: a word for "not known", or a name that looks like a subject (slide,
                field) of this atlas in another spelling: its cells would vote on themselves.
        """
        if owners.unit == IMAGE:
            return owners
        known, alike = self._positions_by_unit[owners.unit], self._alike[owners.unit]
        where = self.folder or "this atlas"
        found = (spelling(name, owners.unit, known, alike, where=where) for name in owners.names)
        return Owners(owners.unit, tuple(found))

    @cached_property
    def _alike(self) -> dict[str, dict[str, str]]:
        return {
            unit: {likeness(name): name for name in known}
            for unit, known in self._positions_by_unit.items()
        }

    def own(self, owners: Owners) -> list[set[int]]:
        """For each of N cells the positions of the reference cells that have the same owner; none
        where it is not known.
        """
        positions = self._positions_by_unit[owners.unit]
        return [set(() if name is None else positions.get(name, ())) for name in owners.names]

    @cached_property
    def _positions_by_unit(self) -> dict[str, dict[str, list[int]]]:
        found: dict[str, dict[str, list[int]]] = {unit: {} for unit in UNITS}
        for unit, positions in found.items():
            for position, name in enumerate(self.cells.owners(unit).names):
                if name is not None:
                    positions.setdefault(name, []).append(position)
        return found

    def place(self, features: Features) -> Floats:
        """(M, 2) places of new vectors on the stored map."""
        self.check_space(features)
        return place(self.scale.apply(features.vectors), self.index, self.xy)

    def save(
        self,
        folder: Path,
        *,
        extra: Sequence[Path] = (),
        texts: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the folder, whole or not at all.

        Args:
            extra: files (log, training curve) that are copied along.
            texts: name -> text that is written along, or plain data, written as JSON.

        Raises:
            OutputError: something is there already, or the disk is full.
        """
        with new_folder(Path(folder), overwrite=overwrite) as building:
            (building / "encoder").mkdir()
            self.encoder.save(building / "encoder")
            self._write_vectors(building / "features.safetensors")
            if self.maps is not None:
                write_arrays(building / MAPS, {"maps": np.asarray(self.maps)})
            parts = (self.cells, *self.held_out, *(one.cells for one in self.adopted))
            write_cells(building / PICTURES, parts, self._kept_images())
            write_adopted(building, self.adopted)
            write_json(building / "facts.json", self._description())
            if self.frozen is not None:
                self.frozen.save(building)
            if self.verification is not None:
                write_json(building / VERIFICATION, dict(self.verification))
            for path in extra:
                (building / path.name).write_bytes(path.read_bytes())
            for name, data in (texts or {}).items():
                write_text(building / name, data)
            schema = SCHEMA if self.adopted else 1
            head = {"kind": "atlas", "schema": schema, "id": self.id, "space": self.space}
            write_manifest(building, MANIFEST, head)
        return Path(folder)

    def _kept_images(self) -> dict[str, Images]:
        known = [(self.cells, self.images), *((one.cells, one.images) for one in self.adopted)]
        return {
            cells.part: Pictures(self.pngs(cells.ids)) if images is None else images
            for cells, images in known
        }

    def _write_vectors(self, path: Path) -> None:
        arrays = {name: getattr(self, name) for name in ("vectors", "xy", "held_out_xy")}
        arrays |= {} if self.calls is None else {"calls": self.calls.counts}
        arrays |= {} if self.frozen is None else {"frozen": self.frozen.vectors}
        arrays |= {} if self.portrait is None else self.portrait.arrays()
        write_arrays(path, {**arrays, "scale": self.scale.scale, "offset": self.scale.offset})

    def _description(self) -> dict[str, Any]:
        return {
            "labels": self.labels.to_json(),
            **limits_json(self),
            "frozen": None if self.frozen is None else self.frozen.to_json(),
            "portrait": None if self.portrait is None else self.portrait.words,
            "k": self.k,
            "distance": self.distance,
            "held_out_parts": [cells.part for cells in self.held_out],
            "facts": dict(self.facts),
            **({"adopted": [one.to_json() for one in self.adopted]} if self.adopted else {}),
        }

    @classmethod
    def open(cls, folder: str | Path, *, device: str | None = None) -> Atlas:
        """Read an atlas folder, every byte checked against its hash, and nothing in it believed;
        `device` as `Encoder.open`.

        Raises:
            ArtifactError: no atlas, damaged, of another schema, or not signed with a key of those
                that the environment variable `CELLKIN_TRUST` names.
        """
        folder = Path(folder).expanduser()
        require_signed(folder / MANIFEST, trusted())
        with distrusted(folder):
            return cls(**parts_of(folder, device))
