"""How many cells of a new place must an atlas adopt, with which alignment, and which cells?

Cells of the new place are drawn slide by slide (or by subject; by image where neither is known), as
many of each class, and the atlas adopts them; asked are all cells of the other slides. Of every
class one slide at least stays to be asked about. Told is the mean accuracy over the draws, with
their middle 90 %: for every alignment by itself, and for the one that leaving out one slide after
the other chooses, as `cellkin adopt` does.

Then, from half of the slides, cells are chosen to be labelled: at random, or farthest first, as
`cellkin suggest` does; the other half is asked about.

    python benchmarks/adopting.py ATLAS ~/chula/cells
    python benchmarks/adopting.py ATLAS ~/chula/cells --draws 20 --sizes 5,25,100

The encoder must not have been trained on the new place. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin import datasets
from cellkin.atlas import Atlas, Cells, decide, seen_from
from cellkin.atlas.adopted import Adopted
from cellkin.atlas.adopting import ALIGNMENTS, Alignment, adopt, unit_of
from cellkin.core.arrays import Singles
from cellkin.core.records import Features
from cellkin.decision.alignment import Cloud
from cellkin.imaging.loading import load_prepared
from cellkin.system.runs import learned_from
from cellkin.system.suggesting import farthest_first

PLACE = "new"
CHOSEN = "chosen by leaving out"


@dataclass(frozen=True, eq=False)
class Bench:
    """An atlas, and the cells of a new place with their raw features (N, C) and owners."""

    atlas: Atlas
    cells: Cells
    vectors: Singles
    unit: str

    @property
    def owners(self) -> np.ndarray:
        return np.array(self.cells.owners(self.unit).names, dtype=object)

    @property
    def labels(self) -> np.ndarray:
        return np.array(self.cells.labels, dtype=object)

    def part(self, rows: Sequence[int]) -> tuple[Cells, Singles]:
        columns = {name: tuple(getattr(self.cells, name)[i] for i in rows)
                   for name in ("ids", "labels", "subjects", "groups", "places")}  # fmt: skip
        return replace(self.cells, **columns), self.vectors[list(rows)]


def opened(folder: Path, data: Path) -> Bench:
    """The atlas without conformal scores, which take time and decide nothing."""
    atlas, found = Atlas.open(folder), datasets.open(data)
    known = set(atlas.cells.labels)
    samples = [s for s in found if s.label in known]
    images = load_prepared([s.image for s in samples], atlas.encoder.preprocessor)
    if trained := learned_from(replace(found, samples=tuple(samples)), images, atlas.encoder):
        print(f"WARNING: the encoder has learned from {len(trained)} of these cells")
    ids = tuple(s.id for s in samples)
    vectors = atlas.encoder.embed(images, ids).vectors
    columns = [tuple(getattr(s, name) for s in samples) for name in ("label", "subject", "group")]
    cells = Cells("new", ids, *columns)
    return Bench(replace(atlas, conformal=None, quality=None), cells, vectors, unit_of(cells))


def units_by_class(bench: Bench, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Class -> the units most of whose cells are of it, in a random order."""
    found: dict[str, list[Any]] = {name: [] for name in sorted({*bench.labels})}
    for name in rng.permutation(np.array(sorted({*bench.owners}), dtype=object)):
        found[Counter(bench.labels[bench.owners == name]).most_common(1)[0][0]].append(name)
    return found


def drawn(bench: Bench, n: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Rows that are adopted, about n, as many of each class; rows of all units without them."""
    by_class, taken, used = units_by_class(bench, rng), list[int](), list[Any]()
    for name, units in by_class.items():
        left = max(n // len(by_class), 1) if n else 0
        for unit in units[:-1]:
            if left <= 0:
                break
            rows = np.flatnonzero((bench.owners == unit) & (bench.labels == name))
            some = rng.permutation(rows)[:left].tolist()
            taken, left = taken + some, left - len(some)
            used.append(unit)
    return taken, np.flatnonzero(~np.isin(bench.owners, used)).tolist()


def with_alignment(bench: Bench, rows: Sequence[int], alignment: Alignment) -> Adopted | None:
    """The rows adopted in this way; None where too few would vote."""
    cells, vectors = bench.part(rows)
    if not alignment.home and len(rows) < bench.atlas.k:
        return None
    base = adopted_as_they_are(bench, rows)
    if alignment.fit is None:
        return replace(base, home=alignment.home)
    atlas = bench.atlas
    new, home = (
        Cloud(atlas.scale.apply(vectors), cells.labels),
        Cloud(atlas.scaled, atlas.cells.labels),
    )
    return replace(base, alignment=alignment.fit(new, home).before(atlas.scale))


def adopted_as_they_are(bench: Bench, rows: Sequence[int]) -> Adopted:
    cells, vectors = bench.part(rows)
    return Adopted(
        PLACE, cells, vectors, np.zeros((len(rows), 2)), None, True, bench.atlas.calibration,
        None, None, None, {"judged": None},
    )  # fmt: skip


def right(bench: Bench, adopted: Adopted | None, asked: Sequence[int]) -> float:
    """Share of the asked cells that are called right."""
    cells, vectors = bench.part(asked)
    atlas = bench.atlas
    if adopted is not None:
        atlas = seen_from(replace(atlas, adopted=(replace(adopted, conformal=None),)), PLACE)
        stood = atlas.standpoint
        if stood is not None and stood.alignment is not None:
            vectors = stood.alignment.apply(vectors).astype(np.float32)
    calls = decide(atlas, Features(cells.ids, vectors, atlas.space))
    return float(np.mean([d.label == t for d, t in zip(calls, cells.labels, strict=True)]))


def curve(bench: Bench, sizes: Iterable[int], draws: int, seed: int) -> dict[str, dict[int, Any]]:
    """Alignment -> number of adopted cells -> shares that are right, one for each draw."""
    found: dict[str, dict[int, Any]] = {}
    for n in sizes:
        for draw in range(draws):
            rows, asked = drawn(bench, n, np.random.default_rng([seed, draw]))
            if not rows:
                found.setdefault("nothing adopted", {}).setdefault(n, []).append(
                    right(bench, None, asked)
                )
                continue
            ways: dict[str, Adopted | None] = {
                one.name: with_alignment(bench, rows, one) for one in ALIGNMENTS
            }
            chosen = adopt(bench.atlas, PLACE, *bench.part(rows))
            ways[CHOSEN] = chosen
            for name, adopted in ways.items():
                if adopted is not None:
                    share = right(bench, adopted, asked)
                    found.setdefault(name, {}).setdefault(n, []).append(share)
        told = {k: f"{100 * np.mean(v[n]):.1f}" for k, v in found.items() if n in v}
        print(f"{n} cells: {told}", flush=True)
    return found


def suggested(
    bench: Bench, sizes: Iterable[int], draws: int, seed: int
) -> dict[str, dict[int, Any]]:
    """Way of choosing -> number of cells -> shares that are right."""
    found: dict[str, dict[int, Any]] = {"at random": {}, "farthest first": {}}
    for n in (n for n in sizes if n):
        for draw in range(draws):
            rng = np.random.default_rng([seed, draw])
            half = [u for units in units_by_class(bench, rng).values()
                    for u in units[: max(len(units) // 2, 1)]]  # fmt: skip
            inside = np.isin(bench.owners, half)
            pool, asked = np.flatnonzero(inside), np.flatnonzero(~inside).tolist()
            if n > len(pool):
                continue
            scaled = bench.atlas.scale.apply(bench.vectors[pool])
            near = bench.atlas.index.nearest(scaled, 1)[1][:, 0]
            ways = {
                "at random": rng.permutation(pool)[:n],
                "farthest first": pool[farthest_first(scaled, near, n)[0]],
            }
            for name, rows in ways.items():
                adopted = adopt(bench.atlas, PLACE, *bench.part(rows.tolist()))
                found[name].setdefault(n, []).append(right(bench, adopted, asked))
    return found


def table(title: str, rows: dict[str, dict[int, Any]], sizes: Sequence[int]) -> str:
    """Markdown: means, and the middle 90 % of the draws."""
    lines = [f"| {title} | " + " | ".join(map(str, sizes)) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(n)) for n in sizes) + " |")
    return "\n".join(lines)


def _cell(shares: Sequence[float] | None) -> str:
    if not shares:
        return ""
    low, high = np.quantile(shares, (0.05, 0.95))
    ends = "" if len(shares) < 3 else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{100 * np.mean(shares):.1f}{ends}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("atlas", type=Path, nargs="?")
    parser.add_argument("cells", type=Path, nargs="?")
    parser.add_argument("--sizes", default="0,5,10,25,50,100")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.atlas is None or asked.cells is None:
        print("not measured: give an atlas, and a folder of labelled cells of another place")
        print(json.dumps({"adopted": {}, "suggested": {}}))
        return
    sizes = [int(n) for n in asked.sizes.split(",")]
    bench = opened(asked.atlas, asked.cells)
    print(f"{len(bench.cells)} cells by {bench.unit}, {len({*bench.owners})} of them")
    adopted = curve(bench, sizes, asked.draws, asked.seed)
    print("\n" + table("adopted cells", adopted, sizes) + "\n", flush=True)
    chosen = suggested(bench, sizes, asked.draws, asked.seed)
    print(table("cells to label", chosen, [n for n in sizes if n]) + "\n")
    print(json.dumps({"adopted": adopted, "suggested": chosen, "draws": asked.draws}))


if __name__ == "__main__":
    main()
