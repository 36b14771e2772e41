"""The page of a study: what it says, that it stands alone, and that its exports are safe."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from study_results import BLASTS, CLASSES, job, made_up, prediction

from cellkin.core.labels import NOTICE
from cellkin.core.studies import Study, StudyRow, Table
from cellkin.report import save_study
from cellkin.report.exports import table_csv, table_latex, table_markdown
from cellkin.study.predictions import Results
from cellkin.study.tables import summarize

IMAGE = np.full((40, 50, 3), 200, np.uint8)


class Links(HTMLParser):
    """Every id, and every link, source and form of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        self.ids += [found["id"]] if found.get("id") else []
        self.hrefs += [found["href"]] if found.get("href") else []
        self.sources += [found["src"]] if found.get("src") else []


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with made_up(tmp_path_factory.mktemp("results")) as results:
        found = summarize(results)
    return replace(
        found, rows=tuple(with_pages(row) if row.proposed else row for row in found.rows)
    )


def with_pages(row: StudyRow) -> StudyRow:
    calls = tuple(replace(call, page=f"evidence/{call.id}.html") for call in row.calls)
    return replace(row, calls=calls)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    save_study(
        study,
        out,
        images=lambda dataset, name: None if name.endswith("_0.png") else IMAGE,
    )
    return out


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_carries_the_notice(page: str) -> None:
    found = Links(page)
    assert "script" not in found.tags
    assert "default-src 'none'" in page
    assert all(source.startswith("data:image/") for source in found.sources)
    assert not any(re.match(r"[a-z]+:", href) for href in found.hrefs)
    assert page.count(NOTICE) == 2


def test_every_link_inside_the_page_and_to_an_export_leads_somewhere(page: str, folder) -> None:
    found = Links(page)
    assert len(found.ids) == len(set(found.ids))
    inside = [href for href in found.hrefs if href.startswith("#")]
    assert inside
    assert {href[1:] for href in inside} <= set(found.ids)
    exports = {href for href in found.hrefs if href.startswith("tables/")}
    assert "tables/decisions.csv" in exports
    assert all((folder / href).is_file() for href in exports)


def test_every_cell_of_a_matrix_that_holds_cells_leads_to_them(page: str, study) -> None:
    found = Links(page)
    for number, row in enumerate(study.rows):
        for i, j in np.argwhere(row.confusion):
            assert f"#m{number}-{i}-{j}" in found.hrefs
    wrong = next(call for call in study.rows[0].calls if call.label != call.truth)
    assert f"evidence/{wrong.id}.html" in found.hrefs
    assert wrong.neighbors[0].id in page


def test_both_deviations_and_the_leakage_are_named(page: str) -> None:
    assert "ddof = 1; in brackets ddof = 0" in page
    assert "What leakage was worth" in page
    assert "splitting by image instead of by subject was worth" in page
    assert "Real cells alone" in page


def test_the_head_is_five_sentences_and_leakage_in_it_is_that_of_the_method(
    page: str, study: Study
) -> None:
    head = page[page.index("<header>") : page.index("</header>")]
    open_, folded = head.split('<details class="all">')
    assert open_.count("<li class=") - open_.count('<li class="badge') == 5
    told = [html.unescape(text) for text in re.findall(r"</b> (.*?)</li>", open_ + folded)]
    assert told == [finding["text"] for finding in study.findings]
    leaks = [i for i, text in enumerate(told) if "was worth" in text]
    mine = [i for i in leaks if "cellkin: splitting" in told[i]]
    assert mine
    assert max(mine) < 5
    assert sorted({*leaks} - {*mine}) == list(range(len(told) - len(leaks) + len(mine), len(told)))


def test_not_beating_a_baseline_is_said_in_so_many_words(page: str) -> None:
    assert "cellkin does not beat softmax head" in page


def test_examples_show_the_typical_right_and_wrong_call(page: str, study) -> None:
    row = study.rows[0]
    for right in (True, False):
        calls = [c for c in row.calls if row.labels.right(c.label, c.truth) == right]
        calls.sort(key=lambda c: (c.mean_distance, c.id))
        middle = calls[(len(calls) - 1) // 2]
        assert f"median distance of {len(calls)} {'right' if right else 'wrong'}" in page
        assert middle.id.split("/")[-1] in page


def test_the_map_shows_the_test_cells_of_one_fold(page: str, study) -> None:
    row = study.rows[0]
    first = [c for c in row.calls if c.fold == 1]
    wrong = sum(c.label != c.truth for c in first)
    assert f"fold 1: {len(first)} cells, {wrong} wrong" in page


def test_the_record_holds_every_number_and_no_single_call(folder, study) -> None:
    data = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert len(data["rows"]) == len(study.rows)
    assert "calls" not in data["rows"][0]
    measure = data["rows"][0]["measures"]["clinical_accuracy"]
    assert measure["value"] == study.rows[0].measures["clinical_accuracy"].value


def test_every_decision_is_exported(folder, study) -> None:
    text = (folder / "tables/decisions.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == sum(len(row.calls) for row in study.rows)
    assert lines[0]["id"] == study.rows[0].calls[0].id
    assert lines[0]["neighbours"].count(";") == 4


def test_the_page_is_the_same_when_it_is_made_again(study, folder, tmp_path) -> None:
    for name in ("a", "b"):
        save_study(study, tmp_path / name)
    assert (tmp_path / "a/index.html").read_bytes() == (tmp_path / "b/index.html").read_bytes()


def test_few_subjects_and_missing_trainings_are_said(tmp_path) -> None:
    with Results.open(tmp_path) as results:
        plan = [job(unit="subject", fold=fold) for fold in (1, 2)]
        results.plan(plan)
        cells = [
            prediction(f"{i}", BLASTS.names[i % 4], "normal", score=0.1, subject=f"p{i % 3}")
            for i in range(12)
        ]
        results.add(plan[0], cells, 1.0, CLASSES)
        study = summarize(results)
    page = save_study(study, tmp_path).read_text(encoding="utf-8")
    assert "1 planned job is missing" in page
    assert "too few subjects for an interval" in page


def test_names_from_outside_cannot_become_markup(tmp_path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    with Results.open(tmp_path) as results:
        results.state("title", evil)
        results.add(job(evil), [prediction(evil, "normal", "blast (1)", score=0.5)], 1.0, CLASSES)
        study = summarize(results)
    page = save_study(study, tmp_path).read_text(encoding="utf-8")
    assert "<img" not in page
    assert "&lt;img" in page


# exports -------------------------------------------------------------------------------------

HOSTILE = Table(
    "hostile",
    "50 % of $x_1$ & more",
    ("a|b", "=1+1"),
    (("[9] #1 {x}", "−3.2 ± 1"), ("*~^\\", 'say "yes" → “no”'), ("☃\nnext", "-2.5")),
    (1,),
    "a < b",
)


def test_latex_escapes_what_would_not_compile() -> None:
    text = table_latex(HOSTILE)
    assert r"\caption{50 \% of \$x\_1\$ \& more}" in text
    assert r"{[}9] \#1 \{x\} & $-$3.2 $\pm$ 1 \\" in text
    assert r"{*}\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert "''yes''" in text
    assert "☃" not in text
    body = text.split(r"\hline")
    assert all(line.count(" & ") == 1 for part in body[1:3] for line in part.strip().splitlines())
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_markdown_keeps_its_columns() -> None:
    lines = table_markdown(HOSTILE).splitlines()
    assert lines[2] == r"| a\|b | =1+1 |"
    assert lines[3] == "| --- | --: |"
    assert lines[6].count(" | ") == 1


@pytest.mark.parametrize(
    ("cell", "disarmed"),
    [
        ("-1 +cmd|' /C calc'!A0", True),
        ("|calc", True),
        ("\n=1", True),
        ("-6.62", False),
        ("-13.58 to 0.00", False),
        ("-3.2 ± 1 (0.9)", False),
        ("-1e-05", False),
    ],
)
def test_csv_tells_numbers_from_formulas(cell: str, disarmed: bool) -> None:
    table = Table("one", "One", ("a",), ((cell,),), (), "")
    rows = list(csv.reader(io.StringIO(table_csv(table), newline="")))
    assert rows[1] == ["'" * disarmed + cell]


def test_csv_keeps_texts_and_disarms_formulas() -> None:
    rows = list(csv.reader(io.StringIO(table_csv(HOSTILE))))
    assert rows[0] == ["a|b", "'=1+1"]
    assert rows[3] == ["☃\nnext", "-2.5"]


def test_a_baseline_below_the_commonest_class_is_named(tmp_path) -> None:
    """Two of three cells are blasts: a method that is right for half of them has not learned."""
    results = Results.open(tmp_path / "results.sqlite")
    plan = [job(method, fold=1, folds=1) for method in ("cellkin", "softmax head")]
    results.plan(plan)
    blasts, other = BLASTS.names[-1], BLASTS.names[0]
    truth = [blasts, blasts, other] * 4
    for one, wrong in zip(plan, (1, 6), strict=True):
        called = [other if i < wrong else name for i, name in enumerate(truth)]
        pairs = enumerate(zip(truth, called, strict=True))
        results.add(one, [prediction(f"c{i}", t, c) for i, (t, c) in pairs], 1.0, CLASSES)
    study = summarize(results)
    rows = {row.method: row for row in study.rows}
    assert rows["cellkin"].learned
    assert not rows["softmax head"].learned
    assert rows["softmax head"].majority == pytest.approx(2 / 3)
    told = [finding["text"] for finding in study.findings if "has not learned" in finding["text"]]
    assert len(told) == 1
    assert "softmax head has not learned" in told[0]
    assert "66.7 %" in told[0]
    titles = [line[2] for line in study.tables[0].rows]
    assert titles == ["cellkin", "softmax head (has not learned)"]


def test_an_external_row_below_the_commonest_class_does_not_carry_over(tmp_path) -> None:
    """It has learned at home: that is another fault than not to have learned."""
    results = Results.open(tmp_path / "results.sqlite")
    one = job("cellkin", fold=1, folds=1, tested_on="elsewhere")
    results.plan([one])
    truth = [BLASTS.names[-1], BLASTS.names[-1], BLASTS.names[0]] * 4
    calls = [prediction(f"c{i}", name, BLASTS.names[0]) for i, name in enumerate(truth)]
    results.add(one, calls, 1.0, CLASSES)
    row = summarize(results).rows[0]
    assert row.external
    assert row.failing == "does not carry over"
