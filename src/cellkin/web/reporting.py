"""The report of a case: a page (which `cellkin.web.printer` makes a PDF), a table, and the data.

A signed revision is told by its frozen document alone; pictures are those that were kept with it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping
from typing import Any

from cellkin.core.records import LabelSet
from cellkin.report.exports import guarded
from cellkin.report.pages import render_page
from cellkin.web.case_page import case_context, title_of
from cellkin.web.store import Cell, Store

COLUMNS = (
    "case",
    "revision",
    "signed",
    "signed_by",
    "number",
    "cell",
    "name",
    "sha256",
    "proposed",
    "decided",
    "disposition",
    "state",
    "how",
    "held_because",
    "reviewed_by",
    "reviewed",
    "reason",
    "comment",
    "agreement",
    "mean_distance",
    "distance_percentile",
    "prediction_set",
    "neighbors",
    "atlas",
    "notice",
)

STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def report_html(store: Store, case_id: str, revision: int | None = None) -> str:
    """The page of a case's report, whole in itself, without scripts.

    Raises:
        NotFound: no such case or revision.
    """
    report = store.case_report(case_id, revision)
    return render_page("case.html.j2", case_context(report, store.image, store.reference_pictures))


def report_policy(page: str) -> str:
    """The Content-Security-Policy under which a browser shows a report's page and nothing else."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in STYLE.findall(page)
    ]
    styles = " ".join(hashes) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {styles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def report_json(store: Store, case_id: str, revision: int | None = None) -> bytes:
    """The document of a case; of a signed revision, the very bytes that were signed.

    Raises:
        NotFound: no such case or revision.
    """
    return store.case_report(case_id, revision).raw


def report_csv(store: Store, case_id: str, revision: int | None = None) -> str:
    """One row per cell, proposed beside decided; texts cannot start a formula.

    Raises:
        NotFound: no such case or revision.
    """
    report = store.case_report(case_id, revision)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    sets = {name: report.labels(name) for name in report.data["atlases"]}
    for cell in report.cells:
        row = _row(report.data, cell, sets[str(cell.provenance["atlas"])])
        writer.writerow({key: guarded(value) for key, value in row.items()})
    return out.getvalue()


def _row(data: Mapping[str, Any], cell: Cell, labels: LabelSet) -> Mapping[str, Any]:
    decision = cell.decision
    names = decision.get("prediction_set")
    return {
        "case": data["case"]["pseudonym"],
        "revision": data["case"]["revision"],
        "signed": data["signed"] or "",
        "signed_by": data["signed_by"] or "",
        "number": cell.position + 1,
        "cell": cell.id,
        "name": cell.name,
        "sha256": cell.sha256,
        "proposed": labels.title(cell.proposed),
        "decided": "" if cell.final is None else labels.title(cell.final),
        "disposition": cell.disposition,
        "state": cell.state,
        "how": cell.confirmed or "",
        "held_because": "; ".join(cell.held_reasons),
        "reviewed_by": cell.reviewed_by or "",
        "reviewed": cell.reviewed or "",
        "reason": cell.reason,
        "comment": cell.comment,
        "agreement": decision["agreement"],
        "mean_distance": decision["mean_distance"],
        "distance_percentile": decision["distance_percentile"],
        "prediction_set": "" if names is None else "; ".join(map(labels.title, names)),
        "neighbors": "; ".join(
            f"{kin['id']} ({labels.title(kin['label'])}, {kin['distance']:.6g})"
            for kin in decision["neighbors"]
        ),
        "atlas": cell.provenance["atlas"],
        "notice": data["notice"],
    }


def file_name(store: Store, case_id: str, ending: str, revision: int | None = None) -> str:
    """A safe name for a report's file, e.g. "P-001-revision-1.pdf".

    Raises:
        NotFound: no such case.
    """
    case = store.case(case_id)
    number = case.revision if revision is None else revision
    return f"{title_of(case)}-revision-{number}.{ending}"
