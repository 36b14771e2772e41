"""How long one query takes to be placed on the map of an atlas of 20,000 reference cells.

Random vectors and positions; the search for neighbours included. Interleaved, in one run, with
openTSNE's own partial optimisation (one query, Barnes-Hut, as `transform` does). The last line is
one JSON object:

    placing_ms       median milliseconds of `place` for one query
    placing_cpu_ms   the same in processor time, which other work on the machine changes less
    placing_ratio    over openTSNE's optimisation alone, without its search
"""

from __future__ import annotations

import json
import statistics

import numpy as np
from clocks import cost
from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
from openTSNE.tsne import PartialTSNEEmbedding, TSNEEmbedding
from scipy.sparse import csr_matrix

from cellkin.atlas.map import place
from cellkin.decision import Index

CELLS, WIDTH, ROUNDS, EACH = 20_000, 512, 3, 3


def main() -> None:
    rng = np.random.default_rng(0)
    references = rng.normal(size=(CELLS, WIDTH))
    index = Index(references, [str(i) for i in range(CELLS)])
    xy = rng.normal(size=(CELLS, 2)) * 30
    stored = TSNEEmbedding(xy.copy(), PrecomputedAffinities(csr_matrix((CELLS, CELLS)), False))
    query = references[:1] + 0.01
    neighbors, distances = index.nearest(query, 25)
    options = {"symmetrize": False, "normalization": "point-wise", "n_reference_samples": CELLS}
    P = joint_probabilities_nn(neighbors, distances, [5.0], **options)
    start = np.median(xy[neighbors], axis=1)

    def library() -> None:
        partial = PartialTSNEEmbedding(
            start.copy(), stored, P.copy(), negative_gradient_method="bh", theta=0.5, n_jobs=1
        )
        partial.optimize(
            n_iter=100, learning_rate=0.1, exaggeration=1.5, momentum=0.0, max_grad_norm=0.25
        )

    def ours() -> None:
        place(query, index, xy)

    ours()
    rows = [
        (1e3 * cost(library)[0], [1e3 * cost(ours)[0] for _ in range(EACH)]) for _ in range(ROUNDS)
    ]
    result = {
        "placing_ms": round(statistics.median(b for _, each in rows for b in each), 1),
        "placing_cpu_ms": round(
            1e3 * statistics.median(cost(ours)[1] for _ in range(EACH * ROUNDS)), 1
        ),
        "placing_ratio": round(statistics.median(b / a for a, each in rows for b in each), 4),
        "opentsne_ms": round(statistics.median(a for a, _ in rows), 1),
        "references": CELLS,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
