"""A page of the documentation from the results of an experiment: `cellkin evaluate` made them.

python docs/experiment_page.py RESULTS docs/experiments/NAME.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from cellkin.core.artifacts import read_json
from cellkin.core.records import NOTICE
from cellkin.core.studies import Study
from cellkin.report.exports import table_markdown
from cellkin.study.experiment_file import load_experiment
from cellkin.study.predictions import Results
from cellkin.study.tables import summarize

TABLES = ("results", "leakage", "external", "paired_tests")


def page(study: Study) -> str:
    """Markdown: what was run, what was found, and the tables."""
    facts = study.facts
    made = facts["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in made["libraries"].items())
    lines = [
        f"# {study.title}",
        "",
        f"    cellkin evaluate {facts['experiment']['name']} --out "
        f"{facts['experiment']['name'].removesuffix('-small')}",
        "",
        f"{facts['experiment']['folds']} folds, seeds {facts['experiment']['seeds']}, as found. "
        f"Python {made['python']}, {libraries}; {made['threads']} thread for each job on "
        f"{made['device']}. SHA-256 of all predictions: `{facts['predictions'][:16]}`.",
        "",
    ]
    for name, data in facts["data"].items():
        counts = ", ".join(f"{n} {label}" for label, n in data["counts"].items())
        people = f" of {data['subjects']} subjects" if data["subjects"] else ""
        drawn = " (**drawn**: they say nothing about real cells)" if data["drawn"] else ""
        lines += [f"- `{name}`: {data['cells']} cells{people}{drawn}: {counts}."]
        lines += [f"  {data['citation']}"] if data["citation"] and not data["drawn"] else []
    lines += ["", "## In words", ""]
    lines += [f"- {finding['text']}" for finding in study.findings]
    if study.missing:
        lines += ["", f"**Missing: {len(study.missing)} jobs**, " + "; ".join(study.missing)]
    tables = {table.name: table for table in study.tables}
    for name in TABLES:
        if name in tables:
            lines += ["", "## " + tables[name].title, ""]
            lines += table_markdown(tables[name]).splitlines()[2:]
    lines += ["", "## Confusion matrices of the proposed method", ""]
    for i, row in enumerate(study.rows, start=1):
        if row.proposed and f"confusion_{i}" in tables:
            lines += ["", *table_markdown(tables[f"confusion_{i}"]).splitlines()]
    text = facts["experiment"]["text"].rstrip()
    lines += ["", "## The experiment", "", "```toml", text, "```"]
    return "\n".join([*lines, "", f"*{NOTICE}*", ""])


def timing_page(folder: Path) -> str:
    """Markdown of an experiment of kind "timing"."""
    told = read_json(folder / "timing.json")
    experiment, made = load_experiment(told["experiment"]), told["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in made["libraries"].items())
    size = told["rows"][0]["recipe"]["size"]
    lines = [
        f"# {experiment.title}",
        "",
        f"    cellkin evaluate {experiment.name} --out times",
        "",
        f"One process, {told['threads']} thread on {told['device']}, {size} pixels. The factors "
        "are to the bare network doing the same passes in the same run; the seconds are those of "
        f"one machine. Python {made['python']}, {libraries}.",
        "",
        *(folder / "timing.md").read_text(encoding="utf-8").rstrip().splitlines(),
        "",
        "## The experiment",
        "",
        *["```toml", experiment.text.rstrip(), "```"],
    ]
    return "\n".join([*lines, "", f"*{NOTICE}*", ""])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if (folder / "timing.json").is_file():
        text = timing_page(folder)
    else:
        with Results.open(folder, readonly=True) as results:
            text = page(summarize(results))
    Path(sys.argv[2]).write_text(text, encoding="utf-8")
