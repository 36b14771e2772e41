"""How long the command takes to start: whole processes, as a person waits for them.

Drawn cells, and a small atlas of them where none is given. The last line is one JSON object, the
medians over so many runs:

    NAME_s       seconds until the process has ended; of serve, until it answers the first request
    NAME_cpu_s   the same in processor time, which other work on the machine changes less
                 decide: of one image; decide_compiled: by the atlas with a compiled network
    serve_cell_s seconds until serve shows a reference cell of its atlas
    serve_ratio  processor time until the first answer over that of importing torch alone

    python benchmarks/startup.py [--runs 5] [--atlas ATLAS]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from cellkin import datasets
from cellkin.drawing.drawn import draw
from cellkin.learning.recipes import Recipe
from cellkin.system import DecisionSupport, train
from cellkin.system.compiling import compile_atlas

CELLKIN = (sys.executable, "-m", "cellkin")
TORCH = (sys.executable, "-c", "import torch")
ROW = ["--class", "a=130", "--class", "b=130", "--positive", "a", "--accuracy", "98.46+-0.84"]
PATIENCE = 120  # seconds


def ended(command: Sequence[str]) -> dict[str, float]:
    """Seconds of a process that ends by itself."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    return {"s": time.perf_counter() - started, "cpu_s": used.ru_utime + used.ru_stime}


def served(atlas: Path, cell: str, store: Path) -> dict[str, float]:
    """Seconds until serve answers, and until it shows a cell."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [*CELLKIN, "serve", str(atlas), "--store", str(store), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    address = _address(process)
    _answer(f"{address}healthz")
    found = {"s": time.perf_counter() - started, "cpu_s": _processor(process.pid)}
    _answer(f"{address}api/v1/atlas/cells/{quote(cell, safe='')}/image")
    found["cell_s"] = time.perf_counter() - started
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    return found


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise RuntimeError("serve did not say where it is open")


def _answer(address: str) -> None:
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        answer.read()


def _processor(pid: int) -> float:
    """Processor seconds of a running process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def small_atlas(cells: Path, out: Path) -> Path:
    """An atlas whose weights do not matter, of the default network."""
    return train(datasets.open(cells), Recipe(name="start", epochs=1, size=64), out=out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--atlas", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = draw(Path(folder) / "cells", cells=60, subjects=6, size=64, seed=1)
        atlas = given.atlas or small_atlas(cells, Path(folder) / "atlas")
        compiled = compile_atlas(atlas, out=Path(folder) / "compiled")
        image = datasets.open(cells).samples[0].image.path
        cell = DecisionSupport.open(atlas, device="cpu").atlas.cells.ids[0]
        rows: dict[str, list[float]] = {}
        for run in range(given.runs):
            found = {
                "help": ended([*CELLKIN, "--help"]),
                "check": ended([*CELLKIN, "check", str(cells)]),
                "audit_table": ended([*CELLKIN, "audit-table", *ROW]),
                "torch": ended(TORCH),
                "decide": ended([*CELLKIN, "decide", str(atlas), str(image)]),
                "decide_compiled": ended([*CELLKIN, "decide", str(compiled), str(image)]),
                "serve": served(atlas, cell, Path(folder) / f"store-{run}.sqlite"),
            }
            for name, told in found.items():
                for key, value in told.items():
                    rows.setdefault(f"{name}_{key}", []).append(value)
    medians = {key: statistics.median(found) for key, found in rows.items()}
    medians["serve_ratio"] = medians["serve_cpu_s"] / medians["torch_cpu_s"]
    print(json.dumps({key: round(value, 2) for key, value in medians.items()}))


if __name__ == "__main__":
    main()
