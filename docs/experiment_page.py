"""A page of the documentation from the results of an experiment: `cellkin evaluate` made them.

python docs/experiment_page.py RESULTS docs/experiments/NAME.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from cellkin.core.records import NOTICE
from cellkin.core.studies import Study
from cellkin.report.exports import table_markdown
from cellkin.study.predictions import Results
from cellkin.study.tables import summarize

TABLES = ("results", "leakage", "paired_tests")


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


if __name__ == "__main__":
    with Results.open(sys.argv[1], readonly=True) as results:
        Path(sys.argv[2]).write_text(page(summarize(results)), encoding="utf-8")
