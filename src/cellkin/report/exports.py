"""Tables as CSV, Markdown and LaTeX, each safe in its own language."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import write_bytes
from cellkin.core.studies import Study, Table

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # behind a line's end it would open an option, and * a variant
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "…": r"\dots{}",
}
FORMULA = ("=", "+", "-", "\u2212", "@", "\t", "\r", "\n", "|", "%")
"""What a spreadsheet takes for the beginning of a formula or command, in full width as well."""

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
NUMBERS = re.compile(rf"{NUMBER}(?: (?:±|to) {NUMBER})?(?: \({NUMBER}\))?", re.IGNORECASE)


def table_csv(table: Table) -> str:
    """RFC 4180, with a header. A text that a spreadsheet would take for a formula is quoted by an
    apostrophe; numbers stay as they are.
    """
    return _csv([table.header, *table.rows])


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(
        [[cell if NUMBERS.fullmatch(cell) else guarded(cell) for cell in row] for row in rows]
    )
    return text.getvalue()


def guarded(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: an apostrophe before a text that is."""
    if isinstance(value, str) and unicodedata.normalize("NFKC", value[:1]).startswith(FORMULA):
        return f"'{value}"
    return value


def table_markdown(table: Table) -> str:
    """A GitHub table with its title above and its note below."""
    ends = ["--:" if i in table.numeric else "---" for i in range(len(table.header))]
    lines = [f"**{_markdown(table.title)}**", ""]
    lines += [_bar(map(_markdown, table.header)), _bar(ends)]
    lines += [_bar(map(_markdown, row)) for row in table.rows]
    return "\n".join([*lines, *(["", _markdown(table.note)] if table.note else []), ""])


def _bar(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def table_latex(table: Table) -> str:
    """A `table` environment that needs no package."""
    columns = "".join("r" if i in table.numeric else "l" for i in range(len(table.header)))
    rows = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\hline",
        " & ".join(map(_latex, table.header)) + r" \\",
        r"\hline",
        *rows,
        r"\hline",
        r"\end{tabular}",
        *([rf"\par\smallskip {_latex(table.note)}"] if table.note else []),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _latex(text: str) -> str:
    return "".join(_latex_sign(sign) for sign in " ".join(text.split()))


def _latex_sign(sign: str) -> str:
    """A letter stays; a sign that LaTeX does not know in text becomes a question mark."""
    if sign in LATEX:
        return LATEX[sign]
    return sign if sign.isascii() or sign.isalpha() else "?"


def calls_csv(study: Study) -> str:
    """Every decision of every row, with its neighbours."""
    header = [
        "row", "data", "split by", "seed", "fold", "id", "truth", "call", "subject", "group",
        "place", "score", "mean distance", "neighbours",
    ]  # fmt: skip
    lines = []
    for row in study.rows:
        for call in row.calls:
            distance = call.mean_distance
            kin = "; ".join(f"{n.label} {n.id} {n.distance:.6g}" for n in call.neighbors)
            lines.append(
                [
                    row.title, row.tested_on, row.unit, str(call.seed), str(call.fold), call.id,
                    call.truth, call.label, call.subject or "", call.group or "", call.place or "",
                    "" if call.score is None else f"{call.score:.6g}",
                    "" if distance is None else f"{distance:.6g}", kin,
                ]
            )  # fmt: skip
    return _csv([header, *lines])


def write_tables(study: Study, folder: Path) -> list[Path]:
    """Write `tables/NAME.csv`, `.md` and `.tex` of every table, and `tables/decisions.csv`.

    Raises:
        OutputError: a file cannot be written.
    """
    forms = {"csv": table_csv, "md": table_markdown, "tex": table_latex}
    written = [
        write_bytes(folder / f"{table.name}.{ending}", form(table).encode("utf-8", "replace"))
        for table in study.tables
        for ending, form in forms.items()
    ]
    decisions = calls_csv(study).encode("utf-8", "replace")
    return [*written, write_bytes(folder / "decisions.csv", decisions)]
