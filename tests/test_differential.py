"""From fields to a differential: what is counted, what is left out, and how it is told."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from cellkin.cli.main import app
from cellkin.core.counts import LEFT_OUT, Count, CountedCell, CountedField, ShareFound
from cellkin.core.errors import (
    ArtifactError,
    DataError,
    DecisionError,
    ImageError,
    LabelError,
    OutputError,
)
from cellkin.core.kinds import kind
from cellkin.core.records import NOTICE, LabelSet
from cellkin.datasets.reviewed import read_reviewed, refuse_losing
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.measures.counting import HeldOutCalls, corrected_shares
from cellkin.measures.intervals import clopper_pearson
from cellkin.report import CountAlbum, count_sentence, save_count
from cellkin.report.counting import warnings_of
from cellkin.smear.cutting import cut
from cellkin.smear.finding import find
from cellkin.smear.found import FoundField
from cellkin.system import DecisionSupport
from cellkin.system.counting import left_out
from cellkin.system.naming import names_of
from cellkin.system.verdicts import SET_ASIDE, classes_of, of_cells, require_fields

KINDS = ("lymphoblast", "lymphoblast", "neutrophil", "lymphocyte", "monocyte", "lymphoblast")


def drawn(seed: int, kinds: tuple[str, ...] = KINDS) -> np.ndarray:
    """A field of 540 x 420 pixels, 5 a micrometre."""
    rng = np.random.default_rng([5, seed])
    style = subject_style(rng).in_field(rng, 1.0)
    return draw_field(list(kinds), rng, style, Canvas((420, 540), 5.0))[0]


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fields")
    for seed in range(2):
        Image.fromarray(drawn(seed)).save(folder / f"f{seed}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def ungated(support: DecisionSupport) -> DecisionSupport:
    """The small atlas without a gate, since it was made of other pictures than crops of fields; and
    without held-out calls, since correcting takes its time.
    """
    names = support.atlas.labels.names
    none = HeldOutCalls(names, np.zeros((0, len(names), len(names)), np.int64), "subject")
    return DecisionSupport(replace(support.atlas, quality=None, conformal=None, calls=none))


@pytest.fixture(scope="module")
def correcting(support: DecisionSupport, ungated: DecisionSupport) -> DecisionSupport:
    return DecisionSupport(replace(ungated.atlas, calls=support.atlas.calls))


@pytest.fixture(scope="module")
def found(fields: list[Path]) -> list[FoundField]:
    return [find(path) for path in fields]


@pytest.fixture(scope="module")
def count(ungated: DecisionSupport, fields: list[Path]) -> Count:
    return ungated.count(fields)


def whole(count: Count) -> list[CountedCell]:
    return [cell for cell in count.cells if cell.kind == "white cell"]


# what is counted ------------------------------------------------------------------------------


def test_every_white_cell_is_counted_or_left_out_with_a_reason(count: Count) -> None:
    found = [c for f in count.fields for c in find(f.path).cells]
    kinds = [c.kind for c in found]
    assert len(whole(count)) == kinds.count("white cell") >= 10
    assert len({cell.id for cell in count.cells}) == len(count.cells)
    for cell in count.cells:
        assert (cell.label is None) == bool(cell.left_out)
        assert cell.left_out in ("", *LEFT_OUT)
        assert (cell.decision is None) == (cell.kind in ("border", "smudge"))
    differential = count.differential
    of_no_class = sum(differential.excluded.values()) + differential.erythroblasts
    assert len(count.counted) + sum(count.left_out.values()) == len(count.cells)
    assert differential.n + of_no_class == len(count.counted)
    assert sum(row.n for row in differential.rows) == differential.n


def test_a_cell_is_called_as_its_crop_is(count: Count, ungated: DecisionSupport) -> None:
    found = find(count.fields[0].path)
    white = next(cell for cell in found.cells if cell.kind == "white cell")
    (crop,) = cut(found, [white], ungated.window)
    alone = ungated.decide(crop, gate=False)
    assert whole(count)[0].decision is not None
    assert replace(alone, query="") == replace(whole(count)[0].decision, query="")


def test_the_naive_share_is_that_of_the_calls(count: Count) -> None:
    labels, n = count.labels, count.differential.n
    blasts = sum(labels.is_positive(cell.label or "") for cell in count.counted)
    assert count.naive.share == pytest.approx(blasts / n)
    assert (count.naive.low, count.naive.high) == clopper_pearson(blasts, n).ends


def test_a_count_is_told_and_read(count: Count) -> None:
    told = json.loads(json.dumps(count.to_json()))
    assert Count.from_json(told).to_json() == told
    assert told["notice"] == NOTICE
    assert sum(told["counts"].values()) == len(count.counted)
    with pytest.raises(ArtifactError):
        Count.from_json({**told, "naive": {"share": "half"}})


def test_the_gate_is_always_asked(support: DecisionSupport, fields: list[Path]) -> None:
    for cell in whole(support.count(fields[:1])):
        decision = cell.decision
        assert decision is not None
        assert decision.quality is not None
        failed = set(decision.quality)
        wanted = "clump" if failed == {"several cells"} else "quality" if failed else ""
        assert cell.left_out == wanted or (not failed and cell.left_out in ("unlike", "doubted"))


def test_fields_that_were_searched_are_not_searched_again(
    ungated: DecisionSupport, fields: list[Path], count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [find(path) for path in fields]
    monkeypatch.setattr("cellkin.smear.finding.find", None)
    assert ungated.count(found).to_json() == count.to_json()


def test_a_tiled_slide_is_a_field(
    ungated: DecisionSupport, fields: list[Path], count: Count, tmp_path: Path
) -> None:
    with Image.open(fields[0]) as image:
        rgb = np.asarray(image)
    tifffile.imwrite(tmp_path / "slide.tif", rgb, tile=(128, 128), photometric="rgb")
    album = CountAlbum(1)
    slide = ungated.count([tmp_path / "slide.tif"], album=album)
    assert [c.label for c in slide.cells] == [
        c.label for c in count.cells if c.field == count.fields[0].name
    ]
    assert set(album.fields) == {"slide.tif"}


# what cannot be counted -----------------------------------------------------------------------


def test_a_field_that_cannot_be_read_is_named_and_the_others_are_counted(
    ungated: DecisionSupport, fields: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "cut.png"
    bad.write_bytes(fields[0].read_bytes()[:900])
    made = ungated.count([bad, fields[1]])
    assert [field.name for field in made.fields_left_out] == ["cut.png"]
    assert made.fields_left_out[0].fault
    assert made.differential.n > 0
    assert "cut.png" in save_count(made, tmp_path, CountAlbum(2), ungated.atlas.pngs).read_text()
    with pytest.raises(ImageError, match="2 fields cannot be read"):
        ungated.count([bad, tmp_path / "none.png"])


def test_fields_without_white_cells_say_what_was_seen(
    ungated: DecisionSupport, tmp_path: Path
) -> None:
    Image.fromarray(drawn(3, ())).save(tmp_path / "reds.png")
    with pytest.raises(DecisionError, match="no whole white cell was found in 1 field") as error:
        ungated.count([tmp_path / "reds.png"])
    assert re.search(r"seen: \d+ isolated red cells", error.value.where)
    assert "--mpp" in error.value.mend


def test_no_field_is_refused(ungated: DecisionSupport) -> None:
    with pytest.raises(DecisionError, match="no field"):
        ungated.count([])


@pytest.mark.parametrize("way", ["named", "linked", "beside", "in another folder", "in a folder"])
def test_the_same_field_twice_is_refused(
    ungated: DecisionSupport, fields: list[Path], tmp_path: Path, way: str
) -> None:
    one, other = tmp_path / "a" / "f.png", tmp_path / "b" / "f.png"
    for path in (one, other):
        path.parent.mkdir()
    one.write_bytes(fields[0].read_bytes())
    if way == "linked":
        other = one.with_name("link.png")
        other.symlink_to(one)
    elif way == "beside":
        other = one.with_name("copy.png")
    if way not in ("named", "linked"):
        other.write_bytes(one.read_bytes())
    given = {"named": [one, one], "in a folder": [tmp_path]}.get(way, [one, other])
    with pytest.raises(DataError, match="a field is given twice") as error:
        ungated.count(given)
    assert str(one) in error.value.where
    assert way == "named" or str(other) in error.value.where


def test_fields_of_one_name_or_one_size_are_told_apart(tmp_path: Path) -> None:
    for place, text in (("a/f.png", "same size"), ("b/f.png", "Same size"), ("b/g.png", "")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    (tmp_path / "b/h.png").write_text("")  # two empty files are no pictures, and no one picture
    given = [tmp_path / place for place in ("a/f.png", "b/f.png", "b/g.png", "b/h.png", "b/no.png")]
    assert names_of(given) == ["a/f.png", "b/f.png", "b/g.png", "b/h.png", "b/no.png"]


NO_SMEAR = "this does not look like a blood smear: it is blue"


def test_a_field_that_is_no_smear_is_named_as_such(
    ungated: DecisionSupport, found: list[FoundField], tmp_path: Path
) -> None:
    page = replace(found[0], suitable=False, notes=(NO_SMEAR,))
    made = ungated.count([page, found[1]])
    assert [field.no_smear for field in made.fields] == [NO_SMEAR, ""]
    assert " in 1 of 2 fields" in count_sentence(made)
    error = left_out(made)
    assert error is not None
    assert (error.what, error.where) == (NO_SMEAR, str(page.path))
    assert "--every-field" in error.mend
    assert Count.from_json(made.to_json()).fields_left_out == made.fields_left_out
    written = save_count(made, tmp_path, CountAlbum(2), ungated.atlas.pngs).read_text()
    assert "field that is no smear: f0.png" in written
    assert "cannot be read" not in written
    with pytest.raises(ImageError, match="2 fields do not look like a blood smear"):
        ungated.count([page, replace(found[1], suitable=False, notes=(NO_SMEAR,))])
    assert left_out(ungated.count(found)) is None
    bad = tmp_path / "cut.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="2 fields are left out"):
        ungated.count([page, bad])


@pytest.fixture
def opened(ungated: DecisionSupport, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The beginning of the command, its atlas the one without a gate."""
    monkeypatch.setattr(DecisionSupport, "open", lambda *_, **__: ungated)
    return ["differential", "atlas"]


def test_the_command_ends_with_the_fields_that_are_left_out(
    opened: list[str], fields: list[Path], tmp_path: Path
) -> None:
    bad = [tmp_path / f"cut{i}.png" for i in range(2)]
    for i, path in enumerate(bad):
        path.write_bytes(fields[0].read_bytes()[: 900 + i])
    done = CliRunner().invoke(
        app, [*opened, str(fields[0]), *map(str, bad), "--out", str(tmp_path / "count")]
    )
    assert isinstance(done.exception, ImageError)
    assert done.exception.what == "2 fields cannot be read"
    assert all(str(path) in done.exception.where for path in bad)
    assert " in 1 of 3 fields" in done.stderr
    assert (tmp_path / "count" / "index.html").exists()


@pytest.mark.parametrize("mistake", ["twice", "verdict", "other field", "lost"])
def test_a_mistake_leaves_no_trace_and_no_advice(
    opened: list[str],
    fields: list[Path],
    tmp_path: Path,
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, table = tmp_path / "count", tmp_path / "cells.csv"
    verdict = {"verdict": '"f0.png@1,1",nonsense', "other field": '"other.png@1,1",normal'}
    table.write_text(f"cell,reviewed\n{verdict.get(mistake, '')}\n")
    out.mkdir()
    if mistake == "lost":
        (out / "cells.csv").write_text('cell,reviewed\n"f0.png@1,1",normal\n')
    given = [*fields, *fields[:1]] if mistake == "twice" else fields
    asked = [*opened, *map(str, given), "--out", str(out), "--overwrite", "--reviewed", str(table)]
    monkeypatch.setattr("sys.argv", ["cellkin", *asked])
    done = CliRunner().invoke(app, asked)
    assert type(done.exception) is (OutputError if mistake == "lost" else DataError)
    assert not (tmp_path / "count.part").exists()
    assert "--resume" not in done.output


# review ---------------------------------------------------------------------------------------


def test_a_persons_word_stands_before_the_call(
    ungated: DecisionSupport, fields: list[Path], count: Count
) -> None:
    labels, cells = count.labels, whole(count)
    blast = next(name for name in labels.names if labels.is_positive(name))
    verdicts = {cell.id: labels.title(blast).upper() for cell in cells}
    verdicts[cells[0].id] = "smudge cell"
    made = ungated.count(fields, reviewed=verdicts)
    n = len(cells) - 1
    assert (made.reviewed.share, made.reviewed.low) == (1.0, clopper_pearson(n, n).low)
    assert f"{n} reviewed by a person" in made.reviewed.note
    assert "others as called" not in made.reviewed.note
    assert made.left_out["set aside"] == 1
    assert made.naive == count.naive
    assert count.reviewed.share is None
    part = ungated.count(fields, reviewed={cells[1].id: blast})
    assert "1 reviewed by a person, the others as called" in part.reviewed.note


@pytest.mark.parametrize("by_person", [0, 1, -1, None])
def test_a_count_is_after_review_when_every_counted_cell_is_reviewed(
    ungated: DecisionSupport, found: list[FoundField], count: Count, by_person: int | None
) -> None:
    """Cells that nobody reviewed are calls: their errors are in the headline's interval."""
    cells = count.counted
    verdicts = {cell.id: cell.label or "" for cell in cells[:by_person]}
    if by_person == 0:  # all set aside but one, which nobody saw
        verdicts = {cell.id: "artefact" for cell in cells[1:]}
    made = ungated.count(found, reviewed=verdicts)
    share = ShareFound(0.3, 0.0, 0.65, "posterior")
    made = replace(made, corrected=replace(made.corrected, blasts=share))
    told, n = count_sentence(made), made.differential.n
    if by_person is None:
        assert "after review" in told
        assert f"{n} reviewed by a person" in made.reviewed.note
        assert made.reviewed.low is not None
    else:
        seen = sum(cell.reviewed is not None for cell in made.leukocytes)
        assert f"{seen} of {n} reviewed" in told
        assert "(corrected 30 %, 95 % interval 0 to 65 %)" in told
        assert "after review" not in told
        assert (made.reviewed.low, made.reviewed.high, made.reviewed.method) == (None, None, "")
        assert f"{seen} reviewed by a person, the others as called" in made.reviewed.note
        assert made.reviewed.share is not None


def test_cells_that_a_person_called_no_cell_are_told_as_reviewed(
    opened: list[str], ungated: DecisionSupport, fields: list[Path], count: Count, tmp_path: Path
) -> None:
    nothing = next(n for n in count.labels.names if kind(n, count.labels) == "nothing")
    cells = whole(count)
    made = ungated.count(fields, reviewed={cell.id: nothing for cell in cells})
    assert f"{len(cells)} reviewed as no cell" in count_sentence(made)
    assert "called" not in count_sentence(made)
    assert "Nothing is said about the blood" in " ".join(warnings_of(made))
    save_count(made, tmp_path, CountAlbum(2), ungated.atlas.pngs)
    asked = [*opened, *map(str, fields), "--out", str(tmp_path / "c")]
    done = CliRunner().invoke(app, [*asked, "--reviewed", str(tmp_path / "cells.csv")])
    assert isinstance(done.exception, DataError)
    assert "none of the white cells could be counted" in done.exception.what


NAMES = {
    "umlaut in its parts": "Ma\u0308rz.png",
    "leading space": " f.png",
    "apostrophe": "'f.png",
    "formula": "=f.png",
    "formula behind an apostrophe": "'=f.png",
    "zero width": "f\u200b\ufeff.png",
    "carriage return": "f\rg.png",
    "new line": 'f\ng, "h".png',
    "trailing space": "f ",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_review_comes_back_whatever_the_field_is_called(
    ungated: DecisionSupport, count: Count, tmp_path: Path, name: str
) -> None:
    """Through a table on disk."""
    cell = replace(whole(count)[0], field=name, id=f"{name}@3,4", reviewed="normal")
    made = replace(count, fields=(CountedField(name, name),), cells=(cell,))
    save_count(made, tmp_path, CountAlbum(1), ungated.atlas.pngs)
    read = read_reviewed(tmp_path / "cells.csv")
    require_fields(read, [name])
    assert of_cells(read, [cell]) == {cell.id: "normal"}
    assert of_cells({cell.id: "normal"}, [cell]) == {cell.id: "normal"}


def test_cells_that_cannot_be_told_apart_are_refused_with_both(count: Count) -> None:
    first = whole(count)[0]
    one, other = (replace(first, id=f"{name}@1,1") for name in ("\u00e9.png", "e\u0301.png"))
    with pytest.raises(DataError, match="cannot be told apart") as error:
        of_cells({one.id: "normal"}, [one, other])
    assert error.value.where == f"{one.id!r}, {other.id!r}"
    with pytest.raises(DataError, match="name one cell twice"):
        of_cells({one.id: "normal", other.id: "normal"}, [one])
    assert of_cells({}, [one, other]) == {}


@pytest.mark.parametrize("found_as", ["border", "smudge"])
def test_only_whole_white_cells_can_be_reviewed(count: Count, found_as: str) -> None:
    cell = replace(whole(count)[0], kind=found_as)
    with pytest.raises(DataError, match="cut off by the edge, or smudges") as error:
        of_cells({cell.id: "normal"}, [cell])
    assert "only whole white cells can be reviewed" in error.value.mend


GROUPS = LabelSet(
    ("all_1", "all_2", "normal"),
    {"all_1": "lymphoblast", "all_2": "lymphoblast", "normal": "other cell"},
    {"all_1": "lymphoblast (1)", "all_2": "lymphoblast (2)"},
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Lymphoblast ", "all_1"),
        ("lymphoblast (2)", "all_2"),
        ("ALL_2", "all_2"),
        ("Normal", "normal"),
        ("smudge cell", "smudge cell"),
    ],
)
def test_what_the_page_calls_a_class_can_be_written(written: str, read: str) -> None:
    assert classes_of({"f@1,1": written}, GROUPS) == {"f@1,1": read}


@pytest.mark.parametrize("written", ["platelet", "erythroblast", "normall", "?"])
def test_what_is_no_class_is_told_with_all_that_can_be_written(written: str) -> None:
    with pytest.raises(DataError, match="no class of this atlas") as error:
        classes_of({"f@1,1": written}, GROUPS)
    for word in ("lymphoblast", "all_1", "normal", *SET_ASIDE):
        assert word in error.value.mend.split("write one of ")[1]
    assert ("did you mean 'normal'?" in error.value.mend) == (written == "normall")


@pytest.mark.parametrize("reviewed", [False, True])
@pytest.mark.parametrize(
    ("there", "lost"),
    [("a,normal", True), ("a,", False), ("a;normal", True), (None, False)],
)
def test_verdicts_of_a_person_are_not_overwritten(
    tmp_path: Path, there: str | None, lost: bool, reviewed: bool
) -> None:
    table = tmp_path / "cells.csv"
    if there is not None:
        table.write_text(f"{';' if ';' in there else ','}".join(["cell", f"reviewed\n{there}\n"]))
    kept = {"a": "blast"} if reviewed else {"b": "blast"}
    if lost and not (reviewed and there == "a,normal"):
        with pytest.raises(OutputError, match=r"lost|cannot be read") as error:
            refuse_losing(table, kept)
        assert "move the file" in error.value.mend
    else:
        refuse_losing(table, kept)


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({"f0.png@1,1": "normal"}, "no white cells of these fields"),
        ({"FIRST": "normall"}, "no class of this atlas"),
    ],
)
def test_what_was_not_reviewed_here_is_refused(
    ungated: DecisionSupport,
    fields: list[Path],
    count: Count,
    verdicts: dict[str, str],
    words: str,
) -> None:
    given = {whole(count)[0].id if k == "FIRST" else k: v for k, v in verdicts.items()}
    with pytest.raises(DataError, match=words):
        ungated.count(fields, reviewed=given)


def test_a_reviewed_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    table.write_text("cell,reviewed,call\na@1,normal,x\n'=b@2,,x\nc@3, smudge cell ,x\n")
    assert read_reviewed(table) == {"a@1": "normal", "c@3": "smudge cell"}
    table.write_text("cell,reviewed\na@1,normal\na@1,normal\n")
    with pytest.raises(LabelError, match="reviewed twice"):
        read_reviewed(table)


# how it is told -------------------------------------------------------------------------------


def test_the_command_writes_a_page_the_data_and_a_table(
    atlas_folder: Path, fields: list[Path], tmp_path: Path
) -> None:
    out, run = tmp_path / "count", CliRunner()
    asked = ["differential", str(atlas_folder), *map(str, fields), "--out", str(out)]
    done = run.invoke(app, [*asked, "--json"])
    assert sorted(path.name for path in out.iterdir()) == [
        "cells.csv",
        "differential.json",
        "index.html",
    ]
    written = Count.from_json(json.loads((out / "differential.json").read_text()))
    assert Count.from_json(json.loads(done.stdout.splitlines()[0])).called() == written.called()
    with (out / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == [cell.id for cell in written.cells]
    assert done.exit_code == (0 if written.differential.n else 2)
    assert type(run.invoke(app, asked).exception).__name__ == "OutputError"
    again = run.invoke(app, [*asked, "--overwrite"])
    assert again.exit_code == done.exit_code


def test_where_nothing_can_be_counted_the_page_says_why(
    support: DecisionSupport, fields: list[Path], tmp_path: Path
) -> None:
    made = support.count(fields)
    out = replace(
        made,
        cells=tuple(replace(cell, left_out=cell.left_out or "unlike") for cell in made.cells),
        differential=replace(made.differential, n=0, rows=()),
    )
    assert re.match(r"No white cell in 2 fields could be counted: \d+ ", count_sentence(out))
    assert (
        "No white cell was counted"
        in save_count(out, tmp_path, CountAlbum(2), support.atlas.pngs).read_text()
    )


@pytest.fixture(scope="module")
def page(
    ungated: DecisionSupport, fields: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> str:
    album = CountAlbum(2)
    made = ungated.count(fields, album=album)
    folder = tmp_path_factory.mktemp("page")
    return save_count(made, folder, album, ungated.atlas.pngs).read_text()


def test_the_page_is_whole_in_itself_and_its_links_lead_somewhere(page: str, count: Count) -> None:
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    assert page.count('class="entry"') == len(whole(count))
    assert page.count('<a class="spot') == len(count.cells)
    assert NOTICE in page
    assert count_sentence(count) in page.replace("\N{NO-BREAK SPACE}", " ")


def test_calls_are_told_by_more_than_colour(page: str, count: Count) -> None:
    """Every mark on a field carries the shape of its class, or a letter where it is left out."""
    chips = re.findall(r'<span class="chip">(?:([A-Z])|<svg[^>]*><use href="#(\w+)")', page)
    assert len(chips) == len(count.cells)
    assert sum(bool(letter) for letter, _ in chips) == sum(bool(c.left_out) for c in count.cells)
    shapes = dict(re.findall(r'<path id="(g\d+)" class="c\d" d="([^"]+)"', page))
    used = {shape for _, shape in chips if shape}
    assert len({shapes[shape] for shape in used}) == len(used)


def test_a_field_that_wants_to_be_markup_is_text(
    ungated: DecisionSupport, count: Count, tmp_path: Path
) -> None:
    name = "<img src=x onerror=1>.png"
    field = CountedField(name, name, fault="<b>bad</b>")
    written = save_count(
        replace(count, fields=(*count.fields, field)), tmp_path, CountAlbum(1), ungated.atlas.pngs
    ).read_text()
    assert "<img src=x" not in written
    assert "<b>bad" not in written


@pytest.mark.parametrize(("fields", "largest"), [(1, 2.0), (300, 0.12)])
def test_pictures_are_the_smaller_the_more_fields_there_are(fields: int, largest: float) -> None:
    """Megabytes of one noisy field in the page: the worst case."""
    album = CountAlbum(fields)
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    album.field("a", np.asarray(Image.fromarray(noise).resize((1600, 1200)), np.uint8))
    assert len(album.fields["a"]) / 1e6 < largest * 3


# the errors of the calls ------------------------------------------------------------------------


def test_the_corrected_share_is_that_of_the_counted_white_cells(
    correcting: DecisionSupport, found: list[FoundField]
) -> None:
    count = correcting.count(found)
    known, labels = correcting.atlas.held_out_calls(), count.labels
    names = [n for n in labels.names if kind(n, labels) != "nothing"]
    rows = [known.names.index(name) for name in names]
    among = HeldOutCalls(tuple(names), known.counts[:, rows][:, :, rows], known.unit)
    called = [count.called().get(name, 0) for name in names]
    positive = [i for i, name in enumerate(names) if labels.is_positive(name)]
    known_share = corrected_shares(called, among, positive=positive).positive
    assert known_share is not None
    blasts = count.corrected.blasts
    assert (blasts.share, (blasts.low, blasts.high)) == (known_share[0], known_share[1].ends)
    assert set(count.corrected.by_class) == {labels.group_title(name) for name in names}
    assert [one.cells for one in count.corrected.foreseen][-1] is None


def test_cells_that_a_person_confirmed_carry_no_error(
    correcting: DecisionSupport, found: list[FoundField]
) -> None:
    verdicts = {cell.id: "normal" for cell in whole(correcting.count(found))}
    made = correcting.count(found, reviewed=verdicts)
    blasts, n = made.corrected.blasts, len(verdicts)
    assert (blasts.share, (blasts.low, blasts.high)) == (0.0, clopper_pearson(0, n).ends)
    assert made.corrected.foreseen == ()


def test_an_atlas_without_held_out_calls_says_so(count: Count) -> None:
    assert count.corrected.blasts.share is None
    assert "does not know how it calls cells" in count.corrected.blasts.note
    assert count.corrected.by_class == {}
    assert "is not corrected: this atlas does not know" in " ".join(warnings_of(count))


def test_an_atlas_of_lymphoblasts_alone_says_that_their_share_says_nothing(
    correcting: DecisionSupport, found: list[FoundField]
) -> None:
    labels = correcting.atlas.labels
    no_cell = {n: "lymphoblast" if labels.is_positive(n) else "no cell" for n in labels.names}
    atlas = replace(correcting.atlas, labels=replace(labels, clinical=no_cell))
    made = DecisionSupport(atlas).count(found)
    assert made.corrected.blasts.share is None
    assert "knows no other white cell: the share says nothing" in made.corrected.blasts.note
    assert "the share says nothing" in " ".join(warnings_of(made))


def test_a_fault_in_correcting_is_not_taken_for_an_answer(
    correcting: DecisionSupport, found: list[FoundField], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DecisionError("these cells cannot be counted")

    monkeypatch.setattr("cellkin.system.counting.corrected_shares", broken)
    with pytest.raises(DecisionError, match="cannot be counted"):
        correcting.count(found)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.02, 0.95), (0.1, 0.5)])
def test_an_interval_that_tells_nothing_is_no_answer(low: float, high: float, count: Count) -> None:
    share = ShareFound(0.3, low, high, "posterior")
    told = count_sentence(replace(count, corrected=replace(count.corrected, blasts=share)))
    assert ("too little is known" in told) == (high - low > 0.9)
    assert ("95 % interval" in told) != ("too little is known" in told)


def test_one_field_and_a_folder_are_fields(ungated: DecisionSupport, fields: list[Path]) -> None:
    one = ungated.count(str(fields[0]))
    assert [field.name for field in one.fields] == [fields[0].name]
    assert len(ungated.count(fields[0].parent).fields) == len(fields)


def test_a_mistaken_review_is_told_before_a_field_is_searched(ungated: DecisionSupport) -> None:
    with pytest.raises(DataError, match="'nonsense' is no class"):
        ungated.count("not there.png", reviewed={"f@1,1": "nonsense"})
