"""From looks to evidence: everything a page needs, for many queries at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellkin.atlas import Atlas, Consultation, consult
from cellkin.core.records import (
    LYMPHOBLAST,
    CounterEvidence,
    Decision,
    Evidence,
    Features,
    Influence,
    Neighbor,
)
from cellkin.decision import flips, matching, shares_of_support
from cellkin.evidence.explaining import Cases, class_maps, pair_maps

__all__ = ["Explainer", "Look"]

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
    image: NDArray[np.uint8]
    feature_map: NDArray[np.float32]
    features: Features
    logits: NDArray[np.float32]


class Explainer:
    """Makes evidence with one atlas; remembers the maps of the reference cells it has looked at.

    Args:
        facts: what every page says about the atlas.
    """

    def __init__(self, atlas: Atlas, facts: Mapping[str, Any]) -> None:
        self.atlas, self.facts = atlas, facts
        self._maps: OrderedDict[int, NDArray[np.float32]] = OrderedDict()

    def explain(
        self, looks: Sequence[Look], subjects: Sequence[str | None] | None, coverage: float
    ) -> list[Evidence]:
        """The evidence of many looks, in their order (see `DecisionSupport.explain_many`)."""
        atlas = self.atlas
        features = Features(
            tuple(look.query for look in looks),
            np.concatenate([look.features.vectors for look in looks]),
            looks[0].features.space,
        )
        asked = consult(atlas, features, subjects=subjects, coverage=coverage, classes=True)
        kin = [[self._position[n.id] for n in d.neighbors] for d in asked.decisions]
        against = [self._against(asked, row) for row in range(len(looks))]
        cases = self._cases(looks, kin, [list(d.neighbors) for d in asked.decisions])
        heatmaps = class_maps(atlas.encoder, cases, [d.label for d in asked.decisions])
        likes, differs = pair_maps(atlas.encoder, cases, atlas.scale, atlas.distance)
        counters = self._counters(looks, asked.decisions, against)
        places = atlas.place(features)
        return [
            self._evidence(look, decision, *rest)
            for look, decision, *rest in zip(
                looks,
                asked.decisions,
                kin,
                heatmaps,
                likes,
                differs,
                counters,
                places,
                [self._influence(asked, row) for row in range(len(looks))],
                strict=True,
            )
        ]

    def _evidence(self, look: Look, decision: Decision, *rest: Any) -> Evidence:
        kin, heatmaps, likes, differs, counter, place, influence = rest
        atlas, classes = self.atlas, ", ".join(self.atlas.encoder.classes)
        absent = f"not available: the class head knows {classes}, not {decision.label}"
        return Evidence(
            decision=decision,
            labels=atlas.labels,
            query_image=look.image,
            reference_images=atlas.pictures(kin),
            heatmap=heatmaps[0] if heatmaps else None,
            heatmap_absent="" if heatmaps else absent,
            reference_heatmaps=heatmaps[1:] if heatmaps else (),
            pairs=likes,
            pairs_absent="",
            atlas_ids=atlas.cells.ids,
            atlas_labels=atlas.cells.labels,
            atlas_xy=atlas.xy,
            query_xy=place,
            held_out_xy=atlas.held_out_xy,
            held_out_labels=self._held_out_labels,
            provenance=atlas.provenance,
            atlas_facts=self.facts,
            differences=differs,
            counter=counter,
            influence=influence,
        )

    @cached_property
    def _position(self) -> dict[str, int]:
        return {id_: i for i, id_ in enumerate(self.atlas.cells.ids)}

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
        average = atlas.encoder.pooling == "average"
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
            else np.stack([np.stack(list(atlas.pictures(found))) for found in positions]),
        )

    def _reference_maps(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(M, k, C, h, w): stored ones, or computed from the stored images and remembered."""
        if self.atlas.maps is not None:
            return np.asarray(self.atlas.maps[rows], np.float32)
        wanted = np.unique(rows).tolist()
        found = {p: self._maps[p] for p in wanted if p in self._maps}
        missing = [p for p in wanted if p not in found]
        if missing:
            images = np.stack(list(self.atlas.pictures(missing)))
            maps = self.atlas.encoder.view(images).maps
            found |= {p: maps[i].copy() for i, p in enumerate(missing)}
        for position in wanted:
            self._maps[position] = found[position]
            self._maps.move_to_end(position)
        while len(self._maps) > REMEMBERED:
            self._maps.popitem(last=False)
        place = {p: i for i, p in enumerate(wanted)}
        table = np.stack([found[p] for p in wanted])
        return table[np.vectorize(place.__getitem__)(rows)]

    # what speaks against it -------------------------------------------------------------------

    def _against(self, asked: Consultation, row: int) -> list[tuple[int, float]]:
        """Positions and distances of the nearest references of the other side."""
        near, label = asked.near, asked.decisions[row].label
        if near is None:
            return []
        others = ~matching(near.classes, label, self.atlas.labels)
        positions = near.positions[row][others].ravel()
        distances = near.distances[row][others].ravel()
        ids = self.atlas.cells.ids
        found = [(int(p), float(d)) for p, d in zip(positions, distances, strict=True) if p >= 0]
        return sorted(found, key=lambda pair: (pair[1], ids[pair[0]]))[:COUNTER]

    def _counters(
        self,
        looks: Sequence[Look],
        decisions: Sequence[Decision],
        against: Sequence[Sequence[tuple[int, float]]],
    ) -> list[CounterEvidence]:
        sides = [self._other_side(decision) for decision in decisions]
        reason = "not available: this atlas has no such cell"
        found = [CounterEvidence(side, absent=reason) for side in sides]
        for count in {len(cells) for cells in against} - {0}:
            rows = [i for i, cells in enumerate(against) if len(cells) == count]
            neighbors = [self._neighbors(against[i]) for i in rows]
            positions = [[p for p, _ in against[i]] for i in rows]
            cases = self._cases([looks[i] for i in rows], positions, neighbors)
            maps = pair_maps(self.atlas.encoder, cases, self.atlas.scale, self.atlas.distance)
            for i, cells, near, likes, differs in zip(
                rows, neighbors, positions, *maps, strict=True
            ):
                images = self.atlas.pictures(near)
                found[i] = CounterEvidence(sides[i], tuple(cells), images, likes, differs)
        return found

    def _other_side(self, decision: Decision) -> str:
        if self.atlas.labels.positive is None:
            return "another class"
        return f"no {LYMPHOBLAST}" if decision.clinical == LYMPHOBLAST else LYMPHOBLAST

    def _neighbors(self, found: Sequence[tuple[int, float]]) -> list[Neighbor]:
        cells = self.atlas.cells
        return [
            Neighbor(cells.ids[p], cells.labels[p], d, rank, cells.subjects[p])
            for rank, (p, d) in enumerate(found, start=1)
        ]

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
