"""The report of a case: page, PDF, table and data say what was signed, safely."""

from __future__ import annotations

import builtins
import csv
import hashlib
import io
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from storing import ANNA, BEN, BLAST, decide_all, filled, fresh, new_cell

from cellkin.core.errors import OutputError
from cellkin.core.records import NOTICE
from cellkin.report.exports import guarded
from cellkin.web import case_page
from cellkin.web.printer import pdf_of
from cellkin.web.reporting import (
    file_name,
    report_csv,
    report_html,
    report_json,
    report_policy,
)
from cellkin.web.store import NotFound, Refused, Store

EVIL = '<script>alert("x")</script>'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = fresh(tmp_path / "s")
    yield opened
    opened.close()


def signed(store: Store) -> str:
    """A case with every kind of decision, signed by ben."""
    case, cells = filled(store, plain=3, blasts=3, specimen="peripheral blood")
    store.add_cells(ANNA, case.id, [new_cell(40, "erythroblast", name=EVIL)], None)
    _, case = store.review(ANNA, cells[0].id, case.version, disposition="artefact", reason=EVIL)
    _, case = store.review(
        BEN, cells[1].id, case.version, label="ig", reason="granules", comment="=1+1"
    )
    return store.sign(BEN, case.id, decide_all(store, case.id).version).id


class Words(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Words:
    words = Words()
    words.feed(page)
    return words


def plain(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(page).text))


def test_the_page_says_what_was_decided_by_whom(store: Store) -> None:
    case = signed(store)
    text = plain(report_html(store, case))
    for words in (
        "Signed, revision 1",
        "Signed by ben",
        NOTICE,
        "Selected cells: not a differential",
        "Only 5 white cells were counted",
        "Erythroblasts: 1, that is 20",
        "Not counted: 1 artefact.",
        "The case is of “peripheral blood”, the atlas of “bone marrow”",
        "Reason: granules",
        "Comment: =1+1",
        "a lymphoblast is proposed",
        "farther from its kin than 30 % of 12 held-out cells",
        "made up",  # the atlas's own data
        store.case_report(case).sha256,
    ):
        assert words in text, words
    assert "Draft" not in text
    entry = store.case_report(case).data["witness"]
    assert f"entry {entry['number']}: {entry['hash']}" in text


def test_proposed_and_signed_stand_side_by_side(store: Store) -> None:
    page = report_html(store, signed(store))
    rows = re.findall(
        r"<tr><td>([^<]*)</td><td>(?:<b[^>]*>)?([^<]*)(?:</b>)?</td><td class=\"num\">(\d+)", page
    )
    assert sorted(rows) == sorted(
        [
            ("lymphoblast", "artefact", "1"),
            ("lymphoblast", "immature granulocyte", "1"),
            ("lymphoblast", "lymphoblast", "1"),
            ("neutrophil", "neutrophil", "3"),
            ("erythroblast", "erythroblast", "1"),
        ]
    )


def test_each_decisive_cell_shows_its_kin(store: Store) -> None:
    page = report_html(store, signed(store))
    strips = re.findall(r'<article class="decisive">(.*?)</article>', page, re.DOTALL)
    assert len(strips) == 4  # three lymphoblasts, one erythroblast
    for strip in strips:
        images = read(strip).images
        assert len(images) == 1 + 3
        for image in images:
            head, _, data = image.partition(",")
            assert head == "data:image/jpeg;base64"
            Image.open(io.BytesIO(b64decode(data))).verify()
        assert [w for w in read(strip).text if re.fullmatch(r"0\.[123]00", w)] == [
            "0.100",
            "0.200",
            "0.300",
        ]


def test_nothing_that_people_wrote_becomes_markup(store: Store) -> None:
    page = report_html(store, signed(store))
    words = read(page)
    assert "script" not in words.tags
    assert EVIL not in page
    assert EVIL in "".join(words.text)
    assert all(image.startswith("data:image/jpeg;base64,") for image in words.images)


def test_the_policy_allows_the_pages_own_style_alone(store: Store) -> None:
    page = report_html(store, signed(store))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = report_policy(page)
    assert f"style-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in page  # an attribute would need more


def test_a_draft_says_so(store: Store) -> None:
    case, _ = filled(store, consecutive=True)
    text = plain(report_html(store, case.id))
    assert "Draft: not signed" in text
    assert "Nobody has signed this" in text
    assert "White cell differential (draft: undecided cells as proposed)" in text
    assert "Selected cells" not in text
    assert "Signed by" not in text


def test_an_empty_case_has_a_page(store: Store) -> None:
    case = store.create_case(ANNA, "P")
    text = plain(report_html(store, case.id))
    assert "No white cell was counted" in text
    assert len(report_csv(store, case.id).splitlines()) == 1
    with pytest.raises(NotFound):
        report_html(store, "nothing")


def test_old_revisions_stay_as_they_were(store: Store) -> None:
    case = signed(store)
    before = [f(store, case, 1) for f in (report_html, report_csv, report_json)]
    version = store.case(case).version
    version = store.amend(ANNA, case, version, "second look").version
    cell = store.cells(case, label="neutrophil")[0][0]
    _, now = store.review(ANNA, cell.id, version, label="ig", reason="x")
    store.sign(ANNA, case, now.version)
    assert [f(store, case, 1) for f in (report_html, report_csv, report_json)] == before
    text = plain(report_html(store, case))
    assert "revision 2" in text
    assert "Amended because: second look" in text
    assert hashlib.sha256(before[2]).hexdigest() in text  # type: ignore[arg-type]


def test_a_long_case_lists_its_beginning_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_page, "SHOWN", 2)
    monkeypatch.setattr(case_page, "LISTED", 5)
    page = report_html(store, signed(store))
    assert page.count('<article class="decisive">') == 2
    text = plain(page)
    assert "2 more are in the table and the data" in text
    assert "The first 5; 2 more are in the table (CSV)" in text


# PDF --------------------------------------------------------------------------------------------


def test_the_pdf_is_the_page(store: Store) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    made = pdf_of(report_html(store, signed(store)))
    assert made.startswith(b"%PDF-")
    assert made.rstrip().endswith(b"%%EOF")
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", made, re.DOTALL)
    objects = b"".join(zlib.decompressobj().decompress(s) for s in streams if s.startswith(b"x"))
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", made + objects)) >= 2
    assert len(re.findall(rb"/Subtype\s*/Image", made + objects)) >= 4


@pytest.mark.parametrize(
    ("raised", "words"),
    [(OSError("cannot load library 'libpango'"), "Pango"), (ImportError("no"), "weasyprint")],
)
def test_what_pdf_needs_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch, raised: Exception, words: str
) -> None:
    case = signed(store)
    usual = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("weasyprint"):
            raise raised
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(OutputError, match=words) as told:
        pdf_of(report_html(store, case))
    assert "install" in told.value.mend


# table and data ---------------------------------------------------------------------------------


def test_the_table_has_one_row_per_cell(store: Store) -> None:
    case = signed(store)
    rows = list(csv.DictReader(io.StringIO(report_csv(store, case))))
    cells = store.case_report(case).cells
    assert [row["cell"] for row in rows] == [cell.id for cell in cells]
    first, second = rows[0], rows[1]
    assert (first["proposed"], first["decided"], first["disposition"]) == (BLAST, "", "artefact")
    assert (second["decided"], second["reviewed_by"]) == ("immature granulocyte", "ben")
    assert second["comment"] == "'=1+1"
    assert {row["signed_by"] for row in rows} == {"ben"}
    assert {row["notice"] for row in rows} == {NOTICE}
    assert first["neighbors"].startswith(f"r1 ({BLAST}, 0.1); r2 ")


@given(st.text())
def test_no_text_of_the_table_starts_a_formula(text: str) -> None:
    kept = guarded(text)
    assert not kept.startswith(("=", "+", "-", "@", "\t", "\r", "|", "%"))
    assert kept.removeprefix("'") == text.removeprefix("'")


def test_the_data_are_the_very_bytes_that_were_signed(store: Store) -> None:
    case = signed(store)
    raw = report_json(store, case)
    assert hashlib.sha256(raw).hexdigest() == store.revisions(case)[0].sha256
    told = json.loads(raw)
    assert told["notice"] == NOTICE
    assert told["signed_by"] == "ben"
    assert told["differential"]["n"] == 5
    assert len(told["cells"]) == 7
    assert {"labels", "facts"} == set(next(iter(told["atlases"].values())))


def test_file_names_hold_nothing_dangerous(store: Store) -> None:
    case = store.create_case(ANNA, '../"x"\r\nSet: ü/P 1')
    assert re.fullmatch(r"[A-Za-z0-9_-]+-revision-1\.pdf", file_name(store, case.id, "pdf"))
    other = store.create_case(ANNA, "жж")
    assert file_name(store, other.id, "csv") == f"{other.id}-revision-1.csv"


@pytest.mark.parametrize("label", ["nothing", "platelet", "erythroblast"])
def test_a_differential_over_no_white_cell_is_not_signed(store: Store, label: str) -> None:
    case = store.create_case(ANNA, "P-0", consecutive=True)
    store.add_cells(ANNA, case.id, [new_cell(i, label) for i in range(3)], "first")
    version = decide_all(store, case.id).version
    with pytest.raises(Refused, match="cannot be signed yet") as refused:
        store.sign(ANNA, case.id, version)
    assert "none of 3 counts" in refused.value.mend
    version = store.update_case(ANNA, case.id, version, consecutive=False).version
    assert store.sign(ANNA, case.id, version).status == "signed"
