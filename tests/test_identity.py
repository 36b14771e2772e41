"""Who is who: spellings of subjects, slides, classes and files, and words for "not known"."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import picture, pictures, write_csv

from cellkin import datasets
from cellkin.cli import main as cli
from cellkin.cli.options import images_of
from cellkin.core.errors import DecisionError, LabelError, LayoutError, SplitError
from cellkin.core.names import is_unknown, likeness, lookalikes, plain
from cellkin.core.records import Dataset
from cellkin.datasets.saved import save_dataset
from cellkin.system import DecisionSupport

NFC, NFD = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
SAME = [(NFC, NFD), ("S1", " S1\t"), ("S1", "S\u200b1"), ("S1", "\ufeffS1"), ("S1", "S1\u00a0")]
ALIKE = [
    *(("S013", "s013"), ("P 1", "P  1"), ("P 1", "P\u00a01"), ("P-1", "P_1"), ("P1", "P 1")),
    *(
        ("P\u20131", "P-1"),
        ("1", "1.0"),
        ("1", "1.00"),
        ("1", "1,0"),
        ("7", "007"),
        ("S13", "S013"),
    ),
    *(("C013", "\u0421013"), ("A1", "\uff211"), ("H1", "\u03971"), ("ab", "a\u200db")),
]
APART = [
    "S1",
    "S2",
    "S10",
    "P1-1",
    "P11",
    "1.5",
    "15",
    "1.05",
    "1,000",
    "H1",
    "José",
    "Jose",
    "日",
    "木",
]
NOBODY = [
    *("nan", "NaN", "N/A", "n.a.", "NA", "<NA>", "#N/A", "unknown", "Unknown ", "none", "NULL"),
    *(
        "?",
        "??",
        "-",
        "--",
        "\u2014",
        ".",
        "",
        " ",
        "\u200b",
        "not available",
        "Not_Known",
        "missing",
    ),
]


# the normaliser -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_no_reader_sees_is_no_difference(one: str, other: str) -> None:
    assert one != other
    assert plain(one) == plain(other)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_look_alikes_are_found_and_not_joined(one: str, other: str) -> None:
    assert plain(one) != plain(other)
    assert lookalikes([one, "another", other]) == [tuple(sorted((one, other)))]


def test_different_names_are_told_apart() -> None:
    assert lookalikes(APART) == []
    assert lookalikes([f"S{i}" for i in range(2000)]) == []
    assert lookalikes([f"UID_{i}_{j}" for i in range(40) for j in range(40)]) == []


@given(st.text())
def test_plain_and_likeness_settle_at_once(name: str) -> None:
    assert plain(plain(name)) == plain(name)
    assert likeness(plain(name)) == likeness(name)


@pytest.mark.parametrize("word", NOBODY)
def test_words_for_not_known(word: str) -> None:
    assert is_unknown(word)


@pytest.mark.parametrize("name", ["0", "S-", "Nana", "N1", "A", "Unknown 7", "日", "None-Li", "-1"])
def test_names_are_no_words_for_not_known(name: str) -> None:
    assert not is_unknown(name)


# subjects, slides and folds of a table ------------------------------------------------------------


def cells(root: Path, names: Sequence[str], column: str = "subject", *, each: int = 2) -> Path:
    """A labels.csv: `each` cells of every name, classes in turn."""
    rows: list[list[object]] = [["file", "label", column]]
    for i, name in enumerate(name for name in names for _ in range(each)):
        picture(root / f"{i}.png", i)
        rows.append([f"{i}.png", ("normal", "lymphoblast")[i % 2], name])
    write_csv(root / "labels.csv", rows)
    return root


@pytest.mark.parametrize("column", ["subject", "group", "slide", "field", "fold"])
@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_look_alikes_are_refused_with_both_spellings(
    one: str, other: str, column: str, tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="in two spellings") as caught:
        datasets.open(cells(tmp_path, [one, "Q8", other], column))
    for name, line in ((one, 2), (other, 6)):
        assert ascii(name) in caught.value.what
        assert f"in line {line}" in caught.value.where
    assert "labels.csv" in caught.value.where
    assert "spell each in one way" in caught.value.mend


@pytest.mark.parametrize(("one", "other"), SAME)
def test_invisible_differences_are_no_second_person(one: str, other: str, tmp_path: Path) -> None:
    data = datasets.open(cells(tmp_path, [one, other, "Q8"]))
    assert data.subjects() == tuple(sorted({plain(one), "Q8"}))


@pytest.mark.parametrize("word", [w for w in NOBODY if plain(w)])
def test_a_word_for_not_known_is_nobody_and_is_said(word: str, tmp_path: Path) -> None:
    data = datasets.open(cells(tmp_path, ["P1", word, "P2", "P3", "P4", "P5"]))
    assert data.subjects() == ("P1", "P2", "P3", "P4", "P5")
    assert f"the subject of 2 of 12 images is taken as not known: {plain(word)!r}" in data.notes
    assert "2 of 12 images have no subject" in data.notes
    with pytest.raises(SplitError, match="2 of 12 images have no subject"):  # never by image
        datasets.single(data)


def test_where_nobody_is_known_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = datasets.open(cells(tmp_path, ["unknown", "N/A", "?", "-"]))
    assert data.subjects() == ()
    assert "labels.csv names no subjects: cells are taken as independent" in data.notes
    said = "the subject of 8 of 8 images is taken as not known: '-', '?', 'N/A', 'unknown'"
    assert said in data.notes
    cli.app(["split", str(tmp_path), "--folds", "3"], standalone_mode=False)
    assert f"note: {said}" in capsys.readouterr().err


def test_a_description_and_a_hand_made_data_set_are_held_to_the_same(tmp_path: Path) -> None:
    data = datasets.open(cells(tmp_path, [f"P{i}" for i in range(8)]))

    def named(*names: str) -> Dataset:
        first = zip(data.samples, names, strict=False)
        changed = tuple(dataclasses.replace(s, subject=name) for s, name in first)
        return dataclasses.replace(data, samples=(*changed, *data.samples[len(changed) :]))

    for odd, what in (
        (named("p3", "p3"), "'P3' and 'p3'"),
        (named("nan"), "'nan' names no subject"),
    ):
        with pytest.raises(LabelError, match=what):
            datasets.single(odd)
    with pytest.raises(LabelError, match="'P3' and 'p3'"):
        datasets.open(save_dataset(named("p3", "p3"), tmp_path / "a.json"))
    opened = datasets.open(save_dataset(named("nan", " P0 "), tmp_path / "b.json"))
    assert [s.subject for s in opened][:2] == [None, "P0"]


# columns ------------------------------------------------------------------------------------------

WHO = [
    "Patient ID",
    "patient-id",
    "PATIENT_ID",
    "patientID",
    "Patients",
    "Subject ID",
    "subject no",
]
WHO += [
    "Case ID",
    "donor",
    "Participant Id",
    "patient name",
    "MRN",
    "pid",
    "\u200bPatient\u00a0ID ",
]


@pytest.mark.parametrize("header", WHO)
def test_a_column_that_names_persons_is_never_passed_over(header: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="unknown column") as caught:
        datasets.open(cells(tmp_path, ["P1", "P2"], header))
    assert "did you mean 'subject'?" in caught.value.mend


@pytest.mark.parametrize(
    ("header", "meant"), [("Slide ID", "slide"), ("smear", "slide"), ("FieldNo", "field")]
)
def test_a_column_that_names_slides_is_never_passed_over(
    header: str, meant: str, tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="unknown column") as caught:
        datasets.open(cells(tmp_path, ["A", "B"], header))
    assert f"did you mean {meant!r}?" in caught.value.mend


@pytest.mark.parametrize("header", ["Subject", " SUBJECT ", "\u200bsubject", "subject\u00a0"])
def test_spellings_of_a_known_column(header: str, tmp_path: Path) -> None:
    assert datasets.open(cells(tmp_path, ["P1", "P2"], header)).subjects() == ("P1", "P2")


@pytest.mark.parametrize("header", ["age", "patient age", "remark", "case notes"])
def test_other_columns_are_passed_over_and_said(header: str, tmp_path: Path) -> None:
    data = datasets.open(cells(tmp_path, ["P1", "P2"], header))
    assert f"columns of labels.csv that are not used: {header}" in data.notes


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_fields_that_no_comma_parts_are_said(mark: str, word: str, tmp_path: Path) -> None:
    text = cells(tmp_path, ["P1", "P2"]).joinpath("labels.csv").read_text().replace(",", mark)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LabelError, match=f"parted by {word}") as caught:
        datasets.open(tmp_path)
    assert "comma delimited" in caught.value.mend
    test_phase = "Patient_ID,new_names,labels\nUID_1_1_1_all.bmp,1.bmp,1\n".replace(",", mark)
    (pictures(tmp_path / "phase", ["1.bmp"]) / "prelim.csv").write_text(test_phase)
    with pytest.raises(LabelError, match=f"parted by {word}"):
        datasets.open(tmp_path / "phase")


# files and classes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "on_disk"), [("zélula", "ze\u0301lula"), ("ze\u0301lula", "zélula")]
)
def test_files_are_found_in_either_form(written: str, on_disk: str, tmp_path: Path) -> None:
    rows: list[list[object]] = [["file", "label"]]
    for i, label in enumerate(("normal", "lymphoblast")):
        picture(tmp_path / f"{on_disk}{i}.png", i)
        rows.append([f"{written}{i}.png", label])
    write_csv(tmp_path / "labels.csv", rows)
    data = datasets.open(tmp_path)
    assert [s.id for s in data] == ["zélula0.png", "zélula1.png"]  # the same on every machine
    assert all(s.image.path.is_file() for s in data)
    assert not any("not listed" in note for note in data.notes)


@pytest.mark.parametrize(
    ("written", "on_disk"), [("A.png", "a.png"), ("x\\1.png", "x/1.png"), ("b 1.PNG", "b_1.png")]
)
def test_a_file_that_looks_alike_is_named_and_not_taken(
    written: str, on_disk: str, tmp_path: Path
) -> None:
    pictures(tmp_path, [on_disk, "other.png"])
    write_csv(tmp_path / "labels.csv", [["file", "label"], [written, "normal"]])
    with pytest.raises(LabelError) as caught:
        datasets.open(tmp_path)
    assert f"{written} does not exist, {on_disk!r} does" in caught.value.what


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, [f"normal/{NFC}.png", f"normal/{NFD}.png", "lymphoblast/a.png"])
    with pytest.raises(LayoutError, match="the same text") as caught:
        datasets.open(tmp_path)
    assert "e\\u0301" in caught.value.where


@pytest.mark.parametrize("by", ["folders", "table"])
def test_a_class_in_two_forms_is_one_class(by: str, tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "linfócito") for form in ("NFC", "NFD")]
    names = [f"{forms[i % 2] if by == 'folders' else 'x'}/{i}.png" for i in range(4)]
    pictures(tmp_path, [*names, "lymphoblast/b.png"])
    if by == "table":
        rows = [[name, forms[i % 2]] for i, name in enumerate(names)]
        write_csv(
            tmp_path / "labels.csv",
            [["file", "label"], *rows, ["lymphoblast/b.png", "lymphoblast"]],
        )
    data = datasets.open(tmp_path, clinical={forms[1]: "other cell"})
    assert data.counts() == {"linfócito": 4, "lymphoblast": 1}
    assert all(s.image.path.is_file() for s in data)


@pytest.mark.parametrize(
    ("one", "other"), [("type 1", "Type-1"), ("blast", "bl\u0430st"), ("T1", "T 01")]
)
def test_look_alike_classes_are_refused(one: str, other: str, tmp_path: Path) -> None:
    pictures(tmp_path, [f"{one}/a.png", f"{other}/b.png", "normal/c.png"])
    with pytest.raises(LabelError, match="one class in two spellings") as caught:
        datasets.open(tmp_path)
    assert ascii(one) in caught.value.what
    assert ascii(other) in caught.value.what


# litter and names from Windows --------------------------------------------------------------------

LITTER = [
    *("@eaDir/0.png/SYNOPHOTO_THUMB_S.jpg", "SYNOPHOTO_THUMB_XL.jpg", ".@__thumb/s100.jpg"),
    *("__MACOSX/normal/0.png", ".AppleDouble/0.png", "._0.png", ".DS_Store", "Thumbs.db"),
    *("ehthumbs.db", "desktop.ini", "$RECYCLE.BIN/a.png", "#recycle/a.png", "@Recycle/a.png"),
    *("System Volume Information/a.png", "lost+found/a.png", "Icon\r", ".thumbnails/a.png"),
    *("0.png@SynoEAStream", "@tmp/a.png", ".ipynb_checkpoints/0-checkpoint.png"),
]


@pytest.mark.parametrize("place", ["", "normal/"])
@pytest.mark.parametrize("name", LITTER)
def test_litter_is_no_cell_and_is_said(name: str, place: str, tmp_path: Path) -> None:
    real = [f"{label}/{i}.png" for label in ("lymphoblast", "normal") for i in range(2)]
    pictures(tmp_path, real)
    thrown = tmp_path / place / name
    thrown.parent.mkdir(parents=True, exist_ok=True)
    thrown.write_bytes((tmp_path / real[0]).read_bytes())
    data = datasets.open(tmp_path)
    assert [s.id for s in data] == real
    assert any("litter" in note and f"{place}{name}".split("/")[0] in note for note in data.notes)
    write_csv(tmp_path / "labels.csv", [["file", "label"], [f"{place}{name}", "normal"]])
    if name.endswith((".png", ".jpg")):
        with pytest.raises(LabelError, match="is no cell"):
            datasets.open(tmp_path)


def test_litter_in_a_folder_of_queries_is_not_asked_about_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path, ["b.png", "a/1.png", "@eaDir/b.png/SYNOPHOTO_THUMB_S.jpg", "masks/b.png"])
    assert images_of([tmp_path]) == [tmp_path / "a/1.png", tmp_path / "b.png"]
    assert "@eaDir" in capsys.readouterr().err


@pytest.mark.parametrize("beside", [[], ["normal/c.png", "lymphoblast/d.png"]])
def test_names_with_backslashes_say_why(beside: list[str], tmp_path: Path) -> None:
    pictures(tmp_path, ["normal\\0.png", "lymphoblast\\1.png", *beside])
    with pytest.raises(LayoutError, match="2 images hold a backslash") as caught:
        datasets.open(tmp_path)
    assert "packed on Windows" in caught.value.mend
    assert "lymphoblast/1.png" in caught.value.mend


# a subject at the door ----------------------------------------------------------------------------


def test_the_doors_know_their_subjects(support: DecisionSupport, smears: Dataset) -> None:
    known = next(s for s in support.atlas.cells.subjects if s)
    count, image = support.atlas.cells.subjects.count(known), smears.samples[0].image.path
    for same in (known, f" {known} ", f"{known}\u200b"):
        decision = support.decide(image, subject=same)
        assert (decision.subject, decision.left_out) == (known, count)
    looks = [known.lower(), known.replace("S", "S "), f"{known[0]}00{known[1:]}"]
    for look in looks:
        assert look != known
        for door in (support.decide, support.explain):
            with pytest.raises(DecisionError) as caught:
                door(image, subject=look)
            assert f"did you mean {known!r}?" in caught.value.mend
            assert repr(look) in caught.value.what
    for nobody in ("", "nan", "unknown", "?"):
        with pytest.raises(DecisionError, match="names nobody"):
            support.decide([image], subject=nobody)
    new = support.decide(image, subject="NOSUCH")
    assert (new.subject, new.left_out) == ("NOSUCH", 0)
    assert new.to_json()["subject"] == "NOSUCH"
    assert support.decide(image).subject is None


@pytest.mark.parametrize("verb", ["decide", "explain"])
@pytest.mark.parametrize("json", [True, False])
def test_the_verbs_say_whether_the_subject_is_known(
    verb: str, json: bool, atlas_folder: Path, support: DecisionSupport, smears: Dataset,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    known = next(s for s in support.atlas.cells.subjects if s)
    count = support.atlas.cells.subjects.count(known)
    words = [verb, str(atlas_folder), str(smears.samples[0].image.path), "--device", "cpu"]
    words += ["--out", str(tmp_path / "why"), "--overwrite"] if verb == "explain" else []
    words += ["--json"] if json else []
    for subject, told in (
        ("NOSUCH", "No reference cell of this atlas is of subject NOSUCH."),
        (known, f"{count} reference cells of this cell’s own subject were left out."),
    ):
        cli.app([*words, "--subject", subject], standalone_mode=False)
        assert told in capsys.readouterr().err
