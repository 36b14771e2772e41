"""From looks to evidence: everything a page needs, for many queries at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from cellkin.atlas import Atlas, Consultation, consult
from cellkin.core.arrays import Bytes, Ints, Singles
from cellkin.core.descriptions import Traits
from cellkin.core.errors import DecisionError
from cellkin.core.records import (
    LYMPHOBLAST,
    Contrast,
    CounterEvidence,
    Decision,
    DifferenceMap,
    Evidence,
    Features,
    Heatmap,
    Influence,
    Neighbor,
    PairMap,
)
from cellkin.core.units import Owners
from cellkin.decision import Affine, flips, matching, shares_of_support
from cellkin.evidence.contrasting import (
    Comparing,
    Opponents,
    Pictures,
    Shifts,
    contrasts,
    read,
)
from cellkin.evidence.explaining import Cases, class_maps, pair_maps
from cellkin.evidence.matching import Matching
from cellkin.evidence.outlines import Outlines
from cellkin.evidence.traits import NO_PORTRAIT, traits
from cellkin.imaging.quality import Measures
from cellkin.system.company import Company

_Drawn = tuple[
    tuple[Heatmap, ...] | None, tuple[PairMap, ...], tuple[DifferenceMap, ...], Contrast | None
]
_Found = Sequence[Sequence[Neighbor]]

KNOWN_SHOWN = 12  # classes of a head that a message names
NO_OTHERS = "not available: this atlas has no cell of the other side"
COUNTER = 2  # nearest cells of the other side that are shown
FINEST = 8  # parts of a position along a side: 64 looks
REMEMBERED = 256  # reference cells whose maps stay in memory where the atlas stores none


@dataclass(frozen=True, eq=False)
class Look:
    """One image and what the network made of it in one forward pass.

    Attributes:
        query: its name. image: (S, S, 3) uint8, what the network saw before the z-score.
        feature_map: (C, h, w) float32; tokens for a transformer. features: one vector.
        logits: (K,) of the class head.
        measures: of the quality gate, measured while the network looked; None where nobody asked.
    """

    query: str
    image: Bytes
    feature_map: Singles
    features: Features
    logits: Singles
    measures: Future[Measures] | None = field(default=None, repr=False)

    def moved(self, alignment: Affine, *, pooled: bool) -> Look:
        """The same look, aligned: its features and, where they are pooled from it, its map."""
        vectors = np.asarray(alignment.apply(self.features.vectors), np.float32)
        features = replace(self.features, vectors=vectors)
        maps = alignment.on_maps(self.feature_map) if pooled else self.feature_map
        return replace(self, features=features, feature_map=maps)


def together(looks: Sequence[Look]) -> Features:
    """The features of N looks, one or more, in their order."""
    vectors = np.concatenate([look.features.vectors for look in looks])
    return Features(tuple(look.query for look in looks), vectors, looks[0].features.space)


def other_side(atlas: Atlas, asked: Consultation, row: int) -> tuple[Neighbor, ...]:
    """The nearest references of the other side of one query, as many as kin vote, and as are shown;
    none where nobody asked for the nearest of every class.
    """
    near, label, cells = asked.near, asked.decisions[row].label, atlas.cells
    if near is None:
        return ()
    others = ~matching(near.classes, label, atlas.labels)
    positions = near.positions[row][others].ravel()
    distances = near.distances[row][others].ravel()
    found = [(float(d), cells.ids[p], int(p)) for d, p in zip(distances, positions, strict=True)
             if p >= 0]  # fmt: skip
    return tuple(
        Neighbor(name, cells.labels[p], distance, rank, cells.subjects[p])
        for rank, (distance, name, p) in enumerate(sorted(found)[: max(atlas.k, COUNTER)], start=1)
    )


class Explainer:
    """Makes evidence with one atlas; remembers the maps of the reference cells it has looked at.

    Args:
        facts: what every page says about the atlas.
    """

    def __init__(self, atlas: Atlas, facts: Mapping[str, Any]) -> None:
        self.atlas, self.facts = atlas, facts
        self._maps: OrderedDict[int, Singles] = OrderedDict()
        self._company = Company(atlas)

    def explain(self, looks: Sequence[Look], owners: Owners, coverage: float) -> list[Evidence]:
        """The evidence of many looks, in their order, without asking the quality gate (see
        `DecisionSupport.explain`).
        """
        atlas = self.atlas
        features = together(looks)
        asked = consult(atlas, features, owners=owners, coverage=coverage, classes=True)
        others = [other_side(atlas, asked, row) for row in range(len(looks))]
        against = [
            tuple(self._company.different(found, d.neighbors)[:COUNTER])
            for d, found in zip(asked.decisions, others, strict=True)
        ]
        neighbors = [
            (*d.neighbors, *found) for d, found in zip(asked.decisions, against, strict=True)
        ]
        positions = [[atlas.cells.positions[n.id] for n in found] for found in neighbors]
        maps = self._maps_of(looks, asked.decisions, (neighbors, others), positions)
        orders = [self._order(asked, row) for row in range(len(looks))]
        beside = [
            self._company.beside(d, orders[i], asked.scaled[i], neighbors[i])
            for i, d in enumerate(asked.decisions)
        ]
        more = [[atlas.cells.positions[one.neighbor.id] for one in row] for row in beside]
        images = atlas.pictures([[*own, *m] for own, m in zip(positions, more, strict=True)])
        made = zip(maps, images, atlas.place(features), against, beside, orders, strict=True)
        return [
            self._evidence(look, asked, row, one)
            for row, (look, one) in enumerate(zip(looks, made, strict=True))
        ]

    def _order(self, asked: Consultation, row: int) -> list[int]:
        """Positions of all references that a query may see, nearest first."""
        ranked = self.atlas.index.ranking(asked.scaled[row], asked.exclude[row])
        return [int(position) for position in ranked]

    def _maps_of(
        self,
        looks: Sequence[Look],
        decisions: Sequence[Decision],
        near: tuple[_Found, _Found],
        positions: Sequence[Sequence[int]],
    ) -> list[_Drawn]:
        """Of every query, its maps with all the reference cells that belong to it.

        Args:
            near: the reference cells that are shown, and the nearest of the other side.
        """
        atlas, encoder = self.atlas, self.atlas.encoder
        neighbors, opponents = near
        found: dict[int, _Drawn] = {}
        for count in {len(row) for row in positions}:  # one group, but for atlases of few cells
            rows = [i for i, row in enumerate(positions) if len(row) == count]
            cases = self._cases(
                [looks[i] for i in rows],
                [positions[i] for i in rows],
                [neighbors[i] for i in rows],
            )
            labels = [decisions[i].label for i in rows]
            heat = class_maps(encoder, cases.nearest(atlas.k), labels)
            likes, differs = pair_maps(encoder, cases, atlas.scale, atlas.distance)
            against = [self._opponents(opponents[i]) for i in rows]
            why = contrasts(self._comparing, cases, against, atlas.k)
            drawn = zip(*self._warned(heat, likes, differs), self._doubted(why), strict=True)
            found |= dict(zip(rows, drawn, strict=True))
        return [found[i] for i in range(len(looks))]

    def _warned(self, heat: Any, likes: Any, differs: Any) -> tuple[Any, Any, Any]:
        """The maps with what verifying this atlas found wrong with their methods."""
        said = self.atlas.warnings

        def warned(rows: Any, method: str) -> Any:
            if method not in said:
                return rows
            return [
                row and tuple(replace(found, warning=said[method]) for found in row) for row in rows
            ]

        return warned(heat, "grad-cam"), warned(likes, "likeness"), warned(differs, "difference")

    def _doubted(self, why: Sequence[Contrast | None]) -> list[Contrast | None]:
        """The contrasts with what verifying this atlas found wrong with them."""
        said = self.atlas.warnings.get("contrast", "")
        return [found and replace(found, warning=said) for found in why]

    def _evidence(self, look: Look, asked: Consultation, row: int, made: Any) -> Evidence:
        (heatmaps, likes, differs, why), images, place, against, beside, order = made
        atlas, decision, k = self.atlas, asked.decisions[row], self.atlas.k
        shown = k + len(against)
        known, more = atlas.encoder.classes, len(atlas.encoder.classes) - KNOWN_SHOWN
        classes = ", ".join(known[:KNOWN_SHOWN]) + (f" and {more} more" if more > 0 else "")
        absent = f"not available: the class head knows {classes}, not {decision.label}"
        outlines = Outlines((look.image,), images[:shown])
        return Evidence(
            decision=decision,
            labels=atlas.labels,
            query_image=look.image,
            reference_images=images[:k],
            heatmap=heatmaps[0] if heatmaps else None,
            heatmap_absent="" if heatmaps else absent,
            reference_heatmaps=heatmaps[1:] if heatmaps else (),
            pairs=likes[:k],
            pairs_absent="",
            atlas_ids=atlas.cells.ids,
            atlas_labels=atlas.cells.labels,
            atlas_xy=atlas.xy,
            query_xy=place,
            held_out_xy=atlas.held_out_xy,
            held_out_labels=self._held_out_labels,
            provenance=atlas.provenance,
            atlas_facts=self.facts,
            differences=differs[:k],
            counter=CounterEvidence(
                self._opposed_to(decision),
                against,
                images[k:shown],
                likes[k:],
                differs[k:],
                NO_OTHERS if why is None else "",
            ),
            influence=self._influence(decision, order),
            contrast=why,
            contrast_absent=NO_OTHERS if why is None else "",
            outlines=outlines,
            spots=Matching(
                atlas.encoder,
                (look.image, images[:shown]),
                outlines,
                [n.id for n in (*decision.neighbors, *against)],
            ),
            copies=self._company.copies(decision.neighbors),
            beside=beside,
            beside_images=images[shown:],
            beside_absent="" if atlas.portrait else NO_PORTRAIT,
            described=self._described(look, decision, against),
        )

    def _described(
        self, look: Look, decision: Decision, against: Sequence[Neighbor]
    ) -> Callable[[], Traits]:
        other = against[0].label if against else None
        return lambda: traits(self.atlas, look.image, decision.label, other)

    @cached_property
    def _held_out_labels(self) -> tuple[str, ...]:
        return tuple(label for cells in self.atlas.held_out for label in cells.labels)

    # what the maps are made of ----------------------------------------------------------------

    def _cases(
        self,
        looks: Sequence[Look],
        positions: Sequence[Sequence[int]],
        neighbors: Sequence[Sequence[Neighbor]],
    ) -> Cases:
        """Queries with their references; every query has the same number of them."""
        atlas, rows = self.atlas, np.array(positions)
        average, stood = atlas.encoder.pooling == "average", atlas.standpoint
        turned = None if average or stood is None else stood.alignment
        return Cases(
            queries=[look.query for look in looks],
            references=[[n.id for n in found] for found in neighbors],
            vectors=np.concatenate([look.features.vectors for look in looks]),
            reference_vectors=np.asarray(atlas.vectors)[rows],
            distances=np.array([[n.distance for n in found] for found in neighbors]),
            maps=np.stack([look.feature_map for look in looks]) if average else None,
            reference_maps=self._reference_maps(rows) if average else None,
            images=None if average else np.stack([look.image for look in looks]),
            reference_images=None
            if average
            else np.stack([np.stack(list(found)) for found in atlas.pictures(positions)]),
            alignment=None if turned is None else turned.matrix,
            moved=None if turned is None or stood is None else rows >= stood.own,
        )

    def _reference_maps(self, rows: Ints) -> Singles:
        """(M, k, C, h, w): stored ones, or computed from the stored images and remembered."""
        wanted, inverse = np.unique(rows, return_inverse=True)
        if self.atlas.maps is not None:
            table = np.asarray(self.atlas.maps[wanted]).astype(np.float32)
        else:
            table = self._looked_up(wanted.tolist())
        return np.asarray(table[inverse.reshape(rows.shape)])

    def _looked_up(self, wanted: Sequence[int]) -> Singles:
        """Computed maps of reference cells, those seen lately from memory."""
        found = {p: self._maps[p] for p in wanted if p in self._maps}
        missing = [p for p in wanted if p not in found]
        if missing:
            images = np.stack(list(self.atlas.pictures([missing])[0]))
            maps = self.atlas.encoder.view(images).maps
            found |= {p: self._where_it_votes(p, maps[i]) for i, p in enumerate(missing)}
        for position in wanted:
            self._maps[position] = found[position]
            self._maps.move_to_end(position)
        while len(self._maps) > REMEMBERED:
            self._maps.popitem(last=False)
        return np.stack([found[p] for p in wanted])

    def _where_it_votes(self, position: int, feature_map: Singles) -> Singles:
        """The map of a reference cell as its vector was moved, see `Standpoint`."""
        stood = self.atlas.standpoint
        if stood is None or stood.alignment is None or position < stood.own:
            return feature_map.copy()
        return stood.alignment.on_maps(feature_map)

    # what speaks against it -------------------------------------------------------------------

    def _opposed_to(self, decision: Decision) -> str:
        if self.atlas.labels.positive is None:
            return "another class"
        return f"no {LYMPHOBLAST}" if decision.clinical == LYMPHOBLAST else LYMPHOBLAST

    def _opponents(self, near: Sequence[Neighbor]) -> Opponents:
        """As many of the nearest of the other side as kin vote."""
        chosen = near[: self.atlas.k]
        names = tuple(n.id for n in chosen)
        return Opponents(names, self._vectors(names), np.array([n.distance for n in chosen]))

    def _vectors(self, names: Sequence[str]) -> Singles:
        rows = [self.atlas.cells.positions[name] for name in names]
        return np.asarray(self.atlas.vectors)[rows]

    @cached_property
    def _comparing(self) -> Comparing:
        return Comparing(self.atlas.encoder, self.atlas.scale, self.atlas.distance)

    def finer(self, evidence: Evidence, parts: int) -> Evidence:
        """The evidence with a finer contrast map of the query, from parts x parts looks at its
        picture, shifted by parts of its stride; the map of each adds up to that look's own margin.

        Raises:
            DecisionError: not 1 to 8 parts.
        """
        if not 1 <= parts <= FINEST:
            raise DecisionError(
                f"a position of the map cannot be divided by {parts}",
                where="the contrast map",
                mend=f"give 1 to {FINEST} parts along a side",
            )
        why = evidence.contrast
        if why is None or why.on_query.refused:
            return evidence
        rows, columns = why.on_query.values.shape
        shifts = Shifts.of(evidence.query_image, (rows, columns), parts)
        sides = [(self._vectors(why.kin), self._vectors(why.opponents))]
        found = read(self._comparing, self._seen(shifts.images), sides)
        worst = max(found.map(i, 0, "").completeness for i in range(len(shifts.images)))
        values = shifts.together(found.values[:, 0])
        return replace(evidence, contrast=why.finer(values, found.margins[:, 0], worst))

    def _seen(self, images: Bytes) -> Pictures:
        """Pictures of the query where it lies among the cells of this atlas."""
        encoder, stood = self.atlas.encoder, self.atlas.standpoint
        views = encoder.view(images)
        vectors, maps = views.features, views.maps
        if stood is not None and stood.alignment is not None:
            vectors = np.asarray(stood.alignment.apply(vectors), np.float32)
            maps = stood.alignment.on_maps(maps)
        average = encoder.pooling == "average"
        return Pictures(vectors, maps if average else None, None if average else images)

    def _influence(self, decision: Decision, order: Sequence[int]) -> Influence:
        atlas = self.atlas
        labels = [atlas.cells.labels[p] for p in order]
        matches = matching(labels, decision.label, atlas.labels)
        shares = shares_of_support(matches, atlas.k)
        least = flips(labels, atlas.k, decision.label, atlas.labels)
        ids = atlas.cells.ids
        removed, relabelled = (
            None if places is None else tuple(ids[order[i]] for i in places)
            for places in (least.removals, least.relabellings)
        )
        return Influence(
            shares=tuple(shares[: atlas.k].tolist()),
            other_shares=float(shares[atlas.k :].sum()),
            removals=None if removed is None else len(removed),
            removed=removed or (),
            relabellings=None if relabelled is None else len(relabelled),
            relabelled=relabelled or (),
        )
