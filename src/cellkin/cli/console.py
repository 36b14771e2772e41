"""Talk and progress on stderr, data on stdout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cellkin.core.errors import CellkinError
from cellkin.core.numbers import percent, percent_range
from cellkin.core.progress import Progress as Tell
from cellkin.core.ranks import process_rank

DECIMALS = 6  # distances are float64 over float32 features: more digits would be noise

err = Console(stderr=True, highlight=False, quiet=process_rank() > 0)  # companions are silent


def talk(text: str) -> None:
    """A line for people."""
    err.print(text, markup=False, soft_wrap=True)  # a path that is broken cannot be copied


def command() -> str:
    """The command that is being done, as it would be given to begin it."""
    return shlex.join(["cellkin", *(word for word in sys.argv[1:] if word != "--resume")])


@contextmanager
def resumable(out: Path | None) -> Iterator[None]:
    """Whatever ends the block early, the line that goes on is told where something is kept."""
    from cellkin.core.kept import part_of

    part = None if out is None else part_of(out)
    there = part is not None and part.exists()
    try:
        yield
    except BaseException:
        if part is not None and part.exists() and ("--resume" in sys.argv or not there):
            talk(f"\nStopped: what is done is kept in {part}. To go on:\n  {command()} --resume")
        raise


def fail(error: CellkinError) -> None:
    """An error with its name, place and mend."""
    err.print(f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)


def plain(value: Any) -> Any:
    """Plain data with floats rounded to 6 decimals, so that equal decisions print equal bytes."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json_line(value))


def json_line(value: Any) -> str:
    """One JSON object on one line."""
    return json.dumps(plain(value), allow_nan=False) + "\n"


def say(as_json: bool, value: Any, lines: Iterable[str]) -> None:
    """Data on stdout: as JSON for programs, or in lines for people."""
    if as_json:
        print_json(value)
        return
    for line in lines:
        typer.echo(line)


@contextmanager
def progress() -> Iterator[Tell]:
    """A progress bar with ETA; each new kind of work gets a line. Silent where stderr is a file,
    but for one line per kind of work.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def tell(task: str, done: int, total: int) -> None:
        kind = task.split(",")[0]
        if kind not in tasks:
            tasks[kind] = bar.add_task(task, total=total)
            if not err.is_terminal:
                talk(f"{kind} ({total})" if total > 1 else kind)
        bar.update(tasks[kind], completed=done, total=total, description=task)
        if done >= total:
            del tasks[kind]

    with bar:
        yield tell


def span(interval: Mapping[str, Any] | None) -> str:
    """An interval in words, or why there is none."""
    if interval is None:
        return ""
    if interval.get("low") is None:
        return str(interval.get("note") or "no interval")
    level = percent(interval.get("level", 0.95), None)
    return f"{level} interval {percent_range(interval['low'], interval['high'])}"


def tell_scores(scores: Mapping[str, Any], title: str) -> None:
    """Accuracy with interval, recall per class, and the subjects where they are known."""
    err.print()
    err.print(title, style="bold", markup=False)
    interval = scores.get("interval") or {}
    talk(
        f"  accuracy           {percent(scores['accuracy'])} "
        f"({scores['correct']} of {scores['n']}); {span(interval)}"
    )
    talk(f"  balanced accuracy  {percent(scores['balanced_accuracy'])}")
    if scores.get("sensitivity") is not None or scores.get("specificity") is not None:
        talk(f"  sensitivity        {percent(scores['sensitivity'])} (lymphoblasts called so)")
        talk(f"  specificity        {percent(scores['specificity'])}")
    else:
        talk("  sensitivity        not defined: this data set has no lymphoblasts")
    if interval.get("low") is not None and interval.get("note"):
        talk(f"  {interval['note']}")
    table = Table("class", "cells", "recall", "interval", box=None, padding=(0, 2))
    for name, row in scores["per_class"].items():
        known = row["interval"] or {}
        bounds = (
            percent_range(known["low"], known["high"])
            if known.get("low") is not None
            else known.get("note", "")
        )
        table.add_row(name, str(row["n"]), percent(row["recall"]), bounds)
    err.print(table)
    if scores.get("by_subject"):
        _tell_subjects(scores["by_subject"])


def _tell_subjects(rows: list[Mapping[str, Any]]) -> None:
    table = Table("subject", "classes", "cells", "correct", "accuracy", box=None, padding=(0, 2))
    for row in rows:
        classes = row["classes"]
        shown = ", ".join(classes) if not isinstance(classes, str) else classes
        table.add_row(
            str(row["subject"]), shown, str(row["n"]), str(row["correct"]), percent(row["accuracy"])
        )
    err.print(table)
