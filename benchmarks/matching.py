"""Whether matched spots lie on the same part of two cells: nucleus to nucleus, rim to rim.

Drawn cells that an atlas has not seen as references, whose parts are known by exact masks, are
matched in pairs (`cellkin.evidence.matching`). A spot belongs to the part that covers most of its
position; told besides are the spots of which two thirds are one part on both cells.

    python benchmarks/matching.py atlas CELLS --cells 50 --pairs 150

The last line is one JSON object: share right of all matches, and of those that a page shows, by
the part on the first cell.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from cellkin import datasets
from cellkin.core.arrays import Bytes, Floats
from cellkin.core.contrast import coverage
from cellkin.drawing.masks import CYTOPLASM, NUCLEUS, cell_masks
from cellkin.evidence.matching import Spots, mutual, spread_out
from cellkin.imaging.decode import decode
from cellkin.imaging.outline import cell_mask
from cellkin.learning.local import local_maps
from cellkin.system import DecisionSupport

PARTS = ("nucleus", "rim", "ground")
PURE = 2 / 3  # of a position that is one part


def parts(mask: Bytes, shape: tuple[int, int]) -> Floats:
    """(3, h, w): how much of each position is nucleus, rim, ground."""
    regions = np.stack([mask == NUCLEUS, (mask >= CYTOPLASM) & (mask != NUCLEUS), mask < CYTOPLASM])
    return coverage(regions, shape)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("atlas", type=Path)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--cells", type=int, default=50, dest="count")
    parser.add_argument("--pairs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dss, data = DecisionSupport.open(given.atlas), datasets.open(given.cells)
    encoder = dss.atlas.encoder
    unseen = {name for part in dss.atlas.held_out for name in part.ids}
    samples = [s for s in data.samples if s.id in unseen]
    kept = zip(samples, cell_masks(data, samples, encoder.preprocessor.size), strict=True)
    known = [(s, m) for s, m in kept if m is not None and (m == NUCLEUS).any()][: given.count]
    images = np.stack([encoder.preprocessor.prepare(decode(s.image)) for s, _ in known])
    stages = local_maps(encoder, images)
    shape = stages[0].shape[2:]
    outlines = [cell_mask(image) for image in images]
    spots = [
        None if line is None else Spots.of([one[i] for one in stages], line)
        for i, line in enumerate(outlines)
    ]
    covered = [parts(mask, (shape[0], shape[1])) for _, mask in known]
    rng = np.random.default_rng(given.seed)
    every = [(i, j) for i in range(len(known)) for j in range(i + 1, len(known))]
    chosen = [every[k] for k in rng.permutation(len(every))[: given.pairs]]
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, j in chosen:
        if (one := spots[i]) is None or (other := spots[j]) is None:
            continue
        here, there, _ = mutual(one, other)
        at = [at_places(covered[k], s.places) for k, s in ((i, one), (j, other))]
        for kind, rows in (("all", range(len(here))), ("shown", spread_out(one.places[here]))):
            for n in rows:
                ends = at[0][here[n]], at[1][there[n]]
                found[kind].append((int(ends[0].argmax()), int(ends[1].argmax())))
                if min(ends[0].max(), ends[1].max()) >= PURE:
                    found[f"{kind}, of one part"].append(found[kind][-1])
    result = {kind: told(rows) for kind, rows in found.items()}
    for kind, row in result.items():
        print(kind, row)
    print(json.dumps({"pairs": len(chosen), "grid": list(shape), **result}))


def at_places(covered: Floats, places: Floats) -> Floats:
    """(n, 3) of `parts` at places in sides of the picture."""
    h, w = covered.shape[1:]
    rows, columns = (places * np.array([h, w])).astype(int).T
    return np.asarray(covered[:, rows, columns].T)


def told(rows: list[tuple[int, int]]) -> dict[str, object]:
    """Share of matches whose ends lie on the same part, by the part of the first end."""
    ends = np.array(rows)
    same = ends[:, 0] == ends[:, 1]
    by = {name: (int((ends[:, 0] == i).sum()), float(same[ends[:, 0] == i].mean()))
          for i, name in enumerate(PARTS) if (ends[:, 0] == i).any()}  # fmt: skip
    return {"matches": len(rows), "right": float(same.mean()), "by part": by}


if __name__ == "__main__":
    main()
