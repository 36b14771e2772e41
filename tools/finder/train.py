"""Teach the packaged finder: `train.py DATA OUT`; stopped, the same command goes on where it was.

DATA is the folder with bccd, aslan, chula, cnmc2019 and pbc_large; OUT receives the checkpoint and
`finder.safetensors`. About 20 minutes on one idle core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import library
import torch

from cellkin.learning.memory import keep_freed_memory
from cellkin.smear.network import FinderNetwork
from cellkin.smear.scenes import Painter
from cellkin.smear.training import FinderTraining, teach
from cellkin.smear.translating import translate_finder
from cellkin.smear.varying import SceneOptions

SHARES = {
    "bccd": 0.28,
    "aslan": 0.12,
    "chula": 0.24,
    "pbc": 0.26,
    "drawn": 0.1,
    "cut pbc": 0.45,
    "cut cnmc": 0.55,
}
"""How often each source is the ground of a picture, and how often cells cut from it are pasted."""
PER_CLASS = 200  # pictures of each class of PBC
DRAWN = 70  # drawn fields
OPTIONS = FinderTraining(steps=1500, batch=8)


def items(data: Path) -> Iterator[tuple[bool, str, object]]:
    """What there is to learn from: whether it is held back, its source, and it."""
    for name, marked, _ in library.aslan(data):
        yield library.part(name), "aslan", marked
    for name, marked, _ in library.bccd(data):
        yield library.part(name), "bccd", marked
    slides = library.chula_slides(data)
    for name, marked, _ in library.chula(data):
        yield library.part(slides.get(Path(name).stem, name)), "chula", marked
    for _, subject, cell in library.cnmc(data):
        yield library.part(subject), "cut cnmc", cell
    for marked in library.drawn(DRAWN):
        yield False, "drawn", marked
    for name, marked, cell in library.pbc(data, "pbc_large", PER_CLASS):
        yield library.part(name), "pbc", marked
        if cell is not None:
            yield library.part(name), "cut pbc", cell


def painter(data: Path, *, held: bool = False) -> Painter:
    """Paints from the part to learn from, or from the part that is held back."""
    found: dict[str, list] = {}
    for kept, source, item in items(data):
        if kept == held:
            found.setdefault(source, []).append(item)
    cells = {k.removeprefix("cut "): v for k, v in found.items() if k.startswith("cut ")}
    fields = {k: v for k, v in found.items() if not k.startswith("cut ")}
    return Painter(fields, cells, SHARES, SceneOptions())


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    start = time.time()

    def tell(task: str, done: int, total: int) -> None:
        if done % 25 == 0:
            print(f"{done} of {total}, {task}, {time.time() - start:.0f} s", flush=True)

    network = teach(painter(data), OPTIONS, out / "checkpoint.pt", progress=tell)
    network.save(out / "finder.safetensors")
    translate_finder(FinderNetwork.open(out / "finder.safetensors"), out / "finder.xml")
    print(out / "finder.safetensors")


if __name__ == "__main__":
    main()
