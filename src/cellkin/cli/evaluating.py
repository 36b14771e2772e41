"""The verb evaluate: an experiment over many trainings, and its tables."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cellkin.cli.console import command, err, print_json, progress, say, talk
from cellkin.cli.options import (
    ENGINE,
    Address,
    Device,
    Engine,
    Json,
    Workers,
    examples,
    pairs_of,
)
from cellkin.core.errors import ArtifactError, CellkinError, RecipeError
from cellkin.core.progress import Progress
from cellkin.core.records import NOTICE

SHOWN = 8  # failed jobs told one by one


@examples("""
cellkin evaluate ablation-small --out ablation
cellkin evaluate experiments/cnmc-small.toml --out cnmc --data cnmc=~/C-NMC
cellkin evaluate table8-cnmc --out table8 --data cnmc=~/C-NMC --init resnet18=adp-resnet18
cellkin evaluate table8-cnmc --out table8 --engine ray --address auto --resume
cellkin evaluate across-places --out across --data pbc=~/PBC --data chula=~/Chula
cellkin evaluate mine.toml --out mine --workers 4 --threads 2
cellkin evaluate --page --out mine
cellkin evaluate --list
""")
def evaluate(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT", help="A shipped experiment's name, or a TOML file."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("study"),
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Where the cells of NAME lie; repeatable."),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(metavar="BACKBONE=WEIGHTS", help="First weights; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is done, and do the rest.")
    ] = False,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    threads: Annotated[
        int,
        typer.Option(
            help="Of each job; another number may round otherwise.", rich_help_panel=ENGINE
        ),
    ] = 1,
    device: Device = "auto",
    keep_atlases: Annotated[
        bool, typer.Option("--keep-atlases", help="Keep the atlas of every training.")
    ] = False,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence",
            help="Keep evidence pages of some decisions, about 1 MB each.",
        ),
    ] = True,
    page: Annotated[
        bool,
        typer.Option(
            "--page", help="Train nothing: make tables and page of what is done in --out."
        ),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped experiments.")] = False,
    json: Json = False,
) -> None:
    """Cross-validate methods on data sets, keep every prediction, and make tables and a page."""
    from cellkin.study.experiment_file import load_experiment

    if list_:
        _list(json)
        return
    if page:
        made = _page_alone(experiment, out)
        talk(NOTICE)
        if json:
            print_json(made)
        return
    if experiment is None:
        raise RecipeError(
            "no experiment is named",
            where="cellkin evaluate EXPERIMENT",
            mend="cellkin evaluate --list shows the shipped ones; or give a .toml file",
        )
    plan = load_experiment(experiment)
    talk(f"{plan.title or plan.name}")
    with _telling() as tell:
        asked: dict[str, Any] = {
            "data": pairs_of(data, "--data NAME=FOLDER"),
            "inits": pairs_of(init, "--init BACKBONE=WEIGHTS"),
            "device": device,
            "threads": threads,
            "resume": resume,
            "progress": tell,
        }
        if plan.kind == "timing":
            _refuse_crew(engine, address, workers)
            result = _timed(plan, out, asked)
        else:
            asked |= {"keep_atlases": keep_atlases, "evidence": evidence}
            result = _evaluated(plan, out, (engine, address, workers), asked)
    talk(NOTICE)
    if json:
        print_json(result)
    if result.get("failed"):
        raise typer.Exit(2)


def _list(json: bool) -> None:
    from cellkin.study.experiment_file import experiment_names, load_experiment

    titles = {name: load_experiment(name).title for name in experiment_names()}
    say(json, titles, (f"{name:24} {title}" for name, title in titles.items()))


def _evaluated(
    plan: Any, out: Path, crew: tuple[str, str | None, int], asked: dict[str, Any]
) -> dict[str, Any]:
    from cellkin.core.engine import Crew
    from cellkin.learning.memory import keep_freed_memory
    from cellkin.study.evaluate import StudyOptions
    from cellkin.study.evaluate import evaluate as run

    keep_freed_memory()
    options = StudyOptions(**asked, crew=Crew(*crew), command=command())
    try:
        summary = run(plan, out, options=options)
    except KeyboardInterrupt:
        talk(f"\nStopped: what is done is kept in {out}. To go on:\n  {command()} --resume")
        talk(f"To see what is there now:\n  cellkin evaluate --page --out {shlex.quote(str(out))}")
        raise
    talk(f"{summary.done} of {summary.planned} jobs are done ({summary.seconds / 60:.1f} minutes)")
    _tell_failures(summary.failures)
    result = {
        "experiment": plan.name,
        "out": str(summary.out),
        "planned": summary.planned,
        "done": summary.done,
        "failed": [
            {"job": f.job.to_json(), "kind": f.kind, "what": f.what, "where": f.where}
            for f in summary.failures
        ],
    }
    if summary.done:
        result |= _page(summary.out, options.progress)
    return result


def _page_alone(experiment: str | None, out: Path) -> dict[str, Any]:
    """The page of results that are there already, whole or not."""
    if experiment is not None:
        raise RecipeError(
            "--page makes the page of what is there, whatever experiment it is of",
            where="--page",
            mend=f"cellkin evaluate --page --out {shlex.quote(str(out))}",
        )
    with _telling() as tell:
        return _page(out, tell)


def _page(out: Path, tell: Progress) -> dict[str, Any]:
    """Tables and page from the kept predictions."""
    from cellkin import report
    from cellkin.study.pictures import Pictures
    from cellkin.study.predictions import Results
    from cellkin.study.tables import summarize

    with Results.open(out, readonly=True) as results:
        if not results.jobs():
            raise ArtifactError(
                "no job of this study is done yet, so there is nothing to show",
                where=out,
                mend="go on with cellkin evaluate EXPERIMENT --resume",
            )
        study = summarize(results, progress=tell)
    page = report.save_study(study, out, images=Pictures(out))
    if study.missing:
        talk(f"{len(study.missing)} planned jobs are missing in it")
    talk(f"\nThe page: {page}")
    return {"page": str(page), "missing": list(study.missing)}


def _timed(plan: Any, out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    from cellkin.study.fold_cells import WorkOptions
    from cellkin.study.timing import measure, timing_table

    result = measure(plan, out, options=WorkOptions(**asked))
    heading, *lines = zip(*timing_table(result["rows"]), strict=True)
    table = Table(*heading, box=None, padding=(0, 2))
    for line in lines:
        table.add_row(*line)
    err.print(table)
    talk(f"\nThe table: {out / 'timing.md'}")
    return result


def _refuse_crew(engine: str, address: str | None, workers: int) -> None:
    if engine != "local" or address is not None or workers > 1:
        raise RecipeError(
            "running times are measured by one process, with nothing beside it",
            where="--engine, --address, --workers",
            mend="leave these away; --threads is taken",
        )


def _tell_failures(failures: Sequence[Any]) -> None:
    """What failed, one text for jobs that failed alike."""
    groups: dict[str, list[Any]] = {}
    for failure in failures:
        error = CellkinError(failure.what, where=failure.where, mend=failure.mend)
        groups.setdefault(f"{failure.kind}: {error}", []).append(failure.job)
    for text, jobs in list(groups.items())[:SHOWN]:
        err.print(f"\n{len(jobs)} jobs failed: {text}", style="red", markup=False, soft_wrap=True)
        for job in jobs[:SHOWN]:
            talk(f"    {job.title}")
        if len(jobs) > SHOWN:
            talk(f"    and {len(jobs) - SHOWN} more")
    if failures:
        talk("\nThe tables are made of what is there. To try the rest again:")
        talk(f"  {command()} --resume")


@contextmanager
def _telling() -> Iterator[Progress]:
    """Progress with ETA; where stderr is a file, a line for every job that is done."""
    started = time.monotonic()
    with progress() as bar:

        def tell(task: str, done: int, total: int) -> None:
            bar(task, done, total)
            if not err.is_terminal and task.startswith("jobs, ") and done:
                left = (time.monotonic() - started) * (total - done) / done / 60
                talk(f"  {task}, about {left:.1f} minutes left")

        yield tell
