"""Mosaics with several labels each, made from tiles of one tissue each: to try pretraining on.

The tiles are dealt into pools BEFORE any mosaic is made, and a mosaic takes its tiles from one pool
alone, so that no piece of a tile is ever on both sides of a split that keeps pools together. The
pool is the `group` of its mosaics. The layout is that of the Atlas of Digital Pathology: one csv
with `Patch Names` and a 0/1 column per hierarchical code.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.artifacts import new_folder, write_bytes
from cellkin.core.errors import DataError
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Dataset, ImageRef, LabelSet, Sample
from cellkin.imaging.decode import decode

TISSUES = {
    "ADI": "C.A",  # adipose: connective tissue
    "LYM": "H.L",  # lymphocytes
    "MUC": "G.M",  # mucus
    "MUS": "M.S",  # smooth muscle
    "NORM": "E.N",  # normal mucosa: epithelium
    "STR": "C.S",  # stroma: connective tissue
    "TUM": "E.T",  # adenocarcinoma epithelium
}
"""The code of every class of NCT-CRC-HE: a kind of tissue, a dot, what it is in particular."""

PIECES = 4  # a mosaic is 2 x 2


def levels_of_codes(codes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The codes of each level, sorted: level i holds those with less than i dots, parents too."""
    every = sorted({code.rsplit(".", n)[0] for code in codes for n in range(code.count(".") + 1)})
    depth = 1 + max(code.count(".") for code in every)
    return tuple(tuple(c for c in every if c.count(".") < level) for level in range(1, depth + 1))


def make_mosaics(
    tiles: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    count: int,
    seed: int,
    settings: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Write `count` mosaics of 2 x 2 pieces of tiles, and the table of what each shows.

    Args:
        tiles: code (see `TISSUES`) -> image files that show this tissue alone.
        out: the folder to write; it must not exist.
        seed: of pools, tiles, crops and turns.
        settings: `size` of a mosaic in pixels (128), `pools` (5).

    Returns:
        the data set as it lies in `out`; every mosaic shows one to four codes.

    Raises:
        DataError: fewer tiles of a code than pools, or an unknown setting.
    """
    chosen = _settings(settings)
    rng = np.random.default_rng(seed)
    pools = _pools(tiles, chosen["pools"], rng)
    names = [f"{_pool_name(i, pools)}_crop_{i:05d}.png" for i in range(count)]
    shown: list[tuple[str, ...]] = []
    with new_folder(out) as building:
        (building / "img").mkdir()
        for i, name in enumerate(names):
            pool = pools[i % len(pools)]
            picture, codes = _mosaic(pool, chosen["size"] // 2, rng)
            Image.fromarray(picture).save(building / "img" / name)
            shown.append(codes)
            progress("making mosaics", i + 1, count)
        write_bytes(building / "labels.csv", _table(names, shown).encode())
    samples = tuple(
        Sample(
            id=f"img/{name}",
            image=ImageRef(out / "img" / name),
            labels=_labels(codes, levels_of_codes(list(tiles))),
            group=_pool_name(i, pools),
        )
        for i, (name, codes) in enumerate(zip(names, shown, strict=True))
    )
    return Dataset(
        name="mosaics",
        samples=samples,
        labels=LabelSet((), {}),
        layout="mosaics of tissue tiles",
        root=out,
        levels=levels_of_codes(list(tiles)),
        specimen="tissue",
        notes=(
            "Mosaics of 2 x 2 pieces of tiles; the tiles were dealt into pools before.",
            "The tiles keep their own licence and citation.",
        ),
    )


def _pool_name(position: int, pools: Sequence[object]) -> str:
    """The pool of a mosaic, named as the published layout names a slide."""
    return f"pool-{position % len(pools)}"


def _settings(given: Mapping[str, int] | None) -> dict[str, int]:
    known = {"size": 128, "pools": 5}
    if unknown := sorted(set(given or {}) - set(known)):
        raise DataError(
            f"unknown setting {unknown[0]!r}",
            where="settings of mosaics",
            mend=f"known settings: {', '.join(known)}",
        )
    return {**known, **(given or {})}


def _pools(
    tiles: Mapping[str, Sequence[Path]], count: int, rng: np.random.Generator
) -> list[dict[str, list[Bytes]]]:
    """Tiles by code for every pool; each tile is in one pool."""
    pools: list[dict[str, list[Bytes]]] = [{} for _ in range(count)]
    for code, files in sorted(tiles.items()):
        if len(files) < count:
            raise DataError(
                f"{len(files)} tiles of {code} cannot be dealt into {count} pools",
                where=code,
                mend=f"give at least {count} tiles of every code, or fewer pools",
            )
        for place, i in enumerate(rng.permutation(len(files))):
            picture = decode(ImageRef(Path(sorted(files)[i])))
            pools[place % count].setdefault(code, []).append(np.asarray(picture))
    return pools


def _mosaic(
    pool: Mapping[str, Sequence[Bytes]], side: int, rng: np.random.Generator
) -> tuple[Bytes, tuple[str, ...]]:
    """(2 side, 2 side, 3) uint8, and the codes of its pieces."""
    most = min(PIECES, len(pool))
    kinds = rng.choice(sorted(pool), size=int(rng.integers(1, most + 1)), replace=False)
    codes = [str(c) for c in (*kinds, *rng.choice(kinds, size=PIECES - len(kinds)))]
    pieces = [_piece(pool[code][int(rng.integers(len(pool[code])))], side, rng) for code in codes]
    order = rng.permutation(PIECES)
    rows = [np.concatenate([pieces[order[i]], pieces[order[i + 1]]], axis=1) for i in (0, 2)]
    return np.concatenate(rows), tuple(sorted(set(codes)))


def _piece(tile: Bytes, side: int, rng: np.random.Generator) -> Bytes:
    """A turned cut of half the tile's side, resized to (side, side, 3)."""
    half = min(tile.shape[:2]) // 2
    top, left = (int(rng.integers(n - half + 1)) for n in tile.shape[:2])
    cut = np.rot90(tile[top : top + half, left : left + half], int(rng.integers(4)))
    resized = Image.fromarray(np.ascontiguousarray(cut)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(resized)


def _labels(codes: Sequence[str], levels: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    present = {code.rsplit(".", n)[0] for code in codes for n in range(code.count(".") + 1)}
    return tuple(tuple(c for c in level if c in present) for level in levels)


def _table(names: Sequence[str], shown: Sequence[Sequence[str]]) -> str:
    levels = levels_of_codes([code for codes in shown for code in codes])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Patch Names", *levels[-1]])
    for name, codes in zip(names, shown, strict=True):
        present = _labels(codes, levels)[-1]
        writer.writerow([name, *(int(code in present) for code in levels[-1])])
    return text.getvalue()
