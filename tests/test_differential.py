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
from cellkin.core.errors import ArtifactError, DataError, DecisionError, ImageError, LabelError
from cellkin.core.kinds import kind
from cellkin.core.records import NOTICE
from cellkin.datasets.reviewed import read_reviewed
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.measures.counting import HeldOutCalls, corrected_shares
from cellkin.measures.intervals import clopper_pearson
from cellkin.report import CountAlbum, count_sentence, save_count
from cellkin.smear.cutting import cut
from cellkin.smear.finding import find
from cellkin.system import DecisionSupport

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
    assert [field.name for field in made.unreadable] == ["cut.png"]
    assert made.unreadable[0].fault
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


@pytest.mark.parametrize("given", [[], ["twice", "twice"]])
def test_none_and_the_same_field_twice_are_refused(
    ungated: DecisionSupport, fields: list[Path], given: list[str]
) -> None:
    with pytest.raises(DataError if given else DecisionError, match="twice" if given else "no f"):
        ungated.count([fields[0]] * len(given))


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
    assert done.exit_code == (0 if written.counted else 2)
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
    correcting: DecisionSupport, fields: list[Path]
) -> None:
    count = correcting.count([find(path) for path in fields])
    known, labels = correcting.atlas.held_out_calls(), count.labels
    names = [n for n in labels.names if kind(n, labels) != "nothing"]
    rows = [known.names.index(name) for name in names]
    among = HeldOutCalls(tuple(names), known.counts[:, rows][:, :, rows], known.unit)
    called = [count.called().get(name, 0) for name in names]
    positive = [i for i, name in enumerate(names) if labels.is_positive(name)]
    found = corrected_shares(called, among, positive=positive).positive
    assert found is not None
    blasts = count.corrected.blasts
    assert (blasts.share, (blasts.low, blasts.high)) == (found[0], found[1].ends)
    assert set(count.corrected.by_class) == {labels.group_title(name) for name in names}
    assert [one.cells for one in count.corrected.foreseen][-1] is None


def test_cells_that_a_person_confirmed_carry_no_error(
    correcting: DecisionSupport, fields: list[Path]
) -> None:
    found = [find(path) for path in fields]
    verdicts = {cell.id: "normal" for cell in whole(correcting.count(found))}
    made = correcting.count(found, reviewed=verdicts)
    blasts, n = made.corrected.blasts, len(verdicts)
    assert (blasts.share, (blasts.low, blasts.high)) == (0.0, clopper_pearson(0, n).ends)
    assert made.corrected.foreseen == ()


def test_an_atlas_without_held_out_calls_says_so(count: Count) -> None:
    assert count.corrected.blasts.share is None
    assert "does not know how it calls cells" in count.corrected.blasts.note
    assert count.corrected.by_class == {}


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
