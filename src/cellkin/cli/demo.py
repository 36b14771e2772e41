"""The verb demo: the whole way, from cells to a report, on drawn cells or a folder of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cellkin.cli.console import err, progress, talk, tell_scores
from cellkin.cli.options import examples
from cellkin.cli.serving_http import STORE, Port, open_door, serve_example
from cellkin.core.numbers import percent
from cellkin.core.records import NOTICE

EXAMPLES = 200  # held-out cells that the prepared case is chosen from


@examples("""
cellkin demo
cellkin demo --serve
cellkin demo --data ~/PBC --out pbc-demo
""")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything.")] = Path("demo"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled cells; drawn ones without it.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="demo for drawn cells, quick for yours, if not given.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Number of cells to draw.")] = 390,
    seed: Annotated[int, typer.Option(help="Of drawing, split and training.")] = 0,
    pages: Annotated[int, typer.Option(min=1, help="Held-out cells that get a page.")] = 12,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then open the workstation with a prepared case.")
    ] = False,
    port: Port = 8765,
) -> None:
    """Draw cells (or take yours), train, build the atlas, decide on held-out cells, report."""
    door = open_door(port) if serve else None
    from cellkin import datasets
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.system import DecisionSupport, TrainOptions, run_folder, train

    keep_freed_memory()

    atlas = out / "atlas"
    with progress() as tell:
        dataset = datasets.open(data or _drawn(out / "cells", cells, seed, tell))
        talk(f"{dataset.name}: {len(dataset)} cells, read as {dataset.layout}")
        if (atlas / "atlas.json").is_file():
            talk(f"the atlas is there already: {atlas}")
        else:
            options = TrainOptions(progress=tell, resume=run_folder(atlas).is_dir())
            chosen = recipe or ("quick" if data else "demo")
            train(dataset, chosen, seed=seed, out=atlas, options=options)
        dss = DecisionSupport.open(atlas)
        rows = _report(dss, dataset, out / "report", pages, tell)
    _tell(dss, rows)
    talk(f"\nOpen this page in a browser: {(out / 'report' / 'index.html').resolve()}")
    if door is None:
        talk(NOTICE)
    else:
        serve_example(dss, _in_turn(dss, dataset, EXAMPLES), out / STORE, door)


def _drawn(folder: Path, cells: int, seed: int, tell: Any) -> Path:
    from cellkin.drawing.drawn import draw

    if (folder / "dataset.json").is_file():
        return folder
    return draw(
        folder,
        cells=cells,
        subjects=20,
        seed=seed,
        progress=lambda done, total: tell("drawing cells", done, total),
    )


def _report(dss: Any, dataset: Any, folder: Path, pages: int, tell: Any) -> list[Any]:
    """A page of evidence for some test cells of every class, and one page over them all."""
    from cellkin import report
    from cellkin.cli.options import page_name

    samples = _in_turn(dss, dataset, pages)
    rows = []
    for i, sample in enumerate(samples):
        evidence = dss.explain(sample.image, subject=sample.subject)
        name = page_name(sample.image.path, i)
        report.save_all(evidence, folder / name)
        rows.append(
            report.DecisionRow(
                evidence.query_image, evidence.decision, sample.label, f"{name}/evidence.html"
            )
        )
        tell("explaining held-out cells", i + 1, len(samples))
    report.save_table(
        "Held-out cells and their closest kin",
        rows,
        dss.atlas.labels,
        facts=dss.facts(),
        provenance=dss.atlas.provenance,
        path=folder / "index.html",
    )
    return rows


def _in_turn(dss: Any, dataset: Any, count: int) -> list[Any]:
    """Test cells, one class after the other, so that every class is shown."""
    test = next(cells for cells in dss.atlas.held_out if cells.part == "test")
    queues: dict[str, list[str]] = {name: [] for name in dss.atlas.labels.names}
    for id_, label in zip(test.ids, test.labels, strict=True):
        queues[label].append(id_)
    turns = [
        queue[i]
        for i in range(max(map(len, queues.values())))
        for queue in queues.values()
        if i < len(queue)
    ]
    chosen = set(turns[:count])
    return [s for s in dataset.select(test.ids) if s.id in chosen]


def _tell(dss: Any, rows: list[Any]) -> None:
    facts = dss.facts()
    tell_scores(facts["test"], f"On the untouched test part (by {facts['split']['unit']})")
    table = Table("cell", "truth", "call", "agreement", "mean distance", "", box=None)
    labels = dss.atlas.labels
    for row in rows:
        decision = row.decision
        right = "right" if labels.right(decision.label, row.truth) else "[red]wrong[/red]"
        table.add_row(
            Path(decision.query).name,
            labels.title(row.truth),
            labels.title(decision.label),
            percent(decision.agreement),
            f"{decision.mean_distance:.3g}",
            right,
        )
    err.print()
    err.print(table)
