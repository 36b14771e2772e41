"""From looks to evidence: everything a page needs, for many queries at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cellkin.atlas import Atlas, Consultation, consult
from cellkin.core.arrays import Bytes, Ints, Singles
from cellkin.core.records import (
    LYMPHOBLAST,
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
from cellkin.evidence.explaining import Cases, class_maps, pair_maps

_Drawn = tuple[tuple[Heatmap, ...] | None, tuple[PairMap, ...], tuple[DifferenceMap, ...]]

KNOWN_SHOWN = 12  # classes of a head that a message names
COUNTER = 2  # nearest cells of the other side that are shown
REMEMBERED = 256  # reference cells whose maps stay in memory where the atlas stores none


@dataclass(frozen=True, eq=False)
class Look:
    """One image and what the network made of it in one forward pass.

    Attributes:
        query: its name. image: (S, S, 3) uint8, what the network saw before the z-score.
        feature_map: (C, h, w) float32; tokens for a transformer. features: one vector.
        logits: (K,) of the class head.
    """

    query: str
    image: Bytes
    feature_map: Singles
    features: Features
    logits: Singles

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


class Explainer:
    """Makes evidence with one atlas; remembers the maps of the reference cells it has looked at.

    Args:
        facts: what every page says about the atlas.
    """

    def __init__(self, atlas: Atlas, facts: Mapping[str, Any]) -> None:
        self.atlas, self.facts = atlas, facts
        self._maps: OrderedDict[int, Singles] = OrderedDict()

    def explain(self, looks: Sequence[Look], owners: Owners, coverage: float) -> list[Evidence]:
        """The evidence of many looks, in their order, without asking the quality gate (see
        `DecisionSupport.explain`).
        """
        atlas = self.atlas
        features = together(looks)
        asked = consult(atlas, features, owners=owners, coverage=coverage, classes=True)
        against = [self._against(asked, row) for row in range(len(looks))]
        neighbors = [
            (*d.neighbors, *found) for d, found in zip(asked.decisions, against, strict=True)
        ]
        positions = [[atlas.cells.positions[n.id] for n in found] for found in neighbors]
        maps = self._maps_of(looks, asked.decisions, neighbors, positions)
        places, images = atlas.place(features), atlas.pictures(positions)
        return [
            self._evidence(look, asked, row, (maps[row], images[row], places[row], against[row]))
            for row, look in enumerate(looks)
        ]

    def _maps_of(
        self,
        looks: Sequence[Look],
        decisions: Sequence[Decision],
        neighbors: Sequence[Sequence[Neighbor]],
        positions: Sequence[Sequence[int]],
    ) -> list[_Drawn]:
        """Of every query, its maps with all the reference cells that belong to it."""
        encoder = self.atlas.encoder
        found: dict[int, _Drawn] = {}
        for count in {len(row) for row in positions}:  # one group, but for atlases of few cells
            rows = [i for i, row in enumerate(positions) if len(row) == count]
            cases = self._cases(
                [looks[i] for i in rows],
                [positions[i] for i in rows],
                [neighbors[i] for i in rows],
            )
            labels = [decisions[i].label for i in rows]
            heat = class_maps(encoder, cases.nearest(self.atlas.k), labels)
            likes, differs = pair_maps(encoder, cases, self.atlas.scale, self.atlas.distance)
            drawn = zip(*self._warned(heat, likes, differs), strict=True)
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

    def _evidence(self, look: Look, asked: Consultation, row: int, made: Any) -> Evidence:
        (heatmaps, likes, differs), images, place, against = made
        atlas, decision, k = self.atlas, asked.decisions[row], self.atlas.k
        known, more = atlas.encoder.classes, len(atlas.encoder.classes) - KNOWN_SHOWN
        classes = ", ".join(known[:KNOWN_SHOWN]) + (f" and {more} more" if more > 0 else "")
        absent = f"not available: the class head knows {classes}, not {decision.label}"
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
                self._other_side(decision),
                against,
                images[k:],
                likes[k:],
                differs[k:],
                "" if len(likes) > k else "not available: this atlas has no such cell",
            ),
            influence=self._influence(asked, row),
        )

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

    def _against(self, asked: Consultation, row: int) -> tuple[Neighbor, ...]:
        """The nearest references of the other side."""
        near, label, cells = asked.near, asked.decisions[row].label, self.atlas.cells
        if near is None:
            return ()
        others = ~matching(near.classes, label, self.atlas.labels)
        positions = near.positions[row][others].ravel()
        distances = near.distances[row][others].ravel()
        found = [(float(d), cells.ids[p], int(p)) for d, p in zip(distances, positions, strict=True)
                 if p >= 0]  # fmt: skip
        return tuple(
            Neighbor(name, cells.labels[p], distance, rank, cells.subjects[p])
            for rank, (distance, name, p) in enumerate(sorted(found)[:COUNTER], start=1)
        )

    def _other_side(self, decision: Decision) -> str:
        if self.atlas.labels.positive is None:
            return "another class"
        return f"no {LYMPHOBLAST}" if decision.clinical == LYMPHOBLAST else LYMPHOBLAST

    def _influence(self, asked: Consultation, row: int) -> Influence:
        atlas, decision = self.atlas, asked.decisions[row]
        order = atlas.index.ranking(asked.scaled[row], asked.exclude[row]).tolist()
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
