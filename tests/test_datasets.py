"""Opening data sets: each layout, what is said about it, and every way it can be broken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellkin import datasets
from cellkin.core.errors import DataError, LabelError, LayoutError, SplitError
from cellkin.core.names import likeness
from cellkin.core.records import CLINICAL_CLASSES, LYMPHOBLAST, NO_CELL, OTHER_CELL
from cellkin.datasets.description import FIELDS
from cellkin.datasets.listing import is_image_name, list_folder, shown
from cellkin.datasets.readers import cnmc, pbc
from cellkin.datasets.vocabulary import KNOWN, known_meaning, label_set

PBC_FILES = [
    "basophil/BA_1.jpg",
    "eosinophil/EO_1.jpg",
    "erythroblast/ERB_1.png",
    "ig/IG_1.jpg",
    "ig/PMY_2.jpg",
    "ig/MY_3.jpg",
    "ig/MMY_4.jpg",
    "lymphocyte/LY_1.jpg",
    "monocyte/MO_1.jpg",
    "neutrophil/BNE_1.jpg",
    "neutrophil/SNE_2.jpg",
    "neutrophil/NEUTROPHIL_3.jpg",
    "platelet/PLATELET_1.png",
]
CNMC_FILES = [
    "fold_0/all/UID_1_2_3_all.bmp",
    "fold_0/hem/UID_H1_2_3_hem.bmp",
    "fold_1/all/UID_2_1_1_all.bmp",
    "fold_1/hem/UID_h3_1_1_hem.bmp",
    "fold_1/hem/UID_H3_1_2_hem.bmp",
]


def place(root: Path, files: Iterable[str]) -> Path:
    """Files that have names and no content: opening a data set must not look into them."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def table(root: Path, text: str) -> Path:
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def picture(path: Path, seed: int, size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


# --- the layouts -----------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    place(tmp_path, ["Lymphoblast/a.PNG", "Lymphoblast/deep/er/b.tif", "normal/c.jpeg"])
    data = datasets.open(tmp_path)
    assert data.layout == "class folders"
    assert [s.id for s in data] == [
        "Lymphoblast/a.PNG",
        "Lymphoblast/deep/er/b.tif",
        "normal/c.jpeg",
    ]
    assert data.labels.names == ("normal", "Lymphoblast")  # other cell before lymphoblast
    assert data.counts() == {"normal": 1, "Lymphoblast": 2}
    assert data.labels.is_positive("Lymphoblast")
    assert data.subjects() == ()
    assert all(s.image.path == tmp_path / s.id and s.group is None for s in data)
    assert data.name == tmp_path.name
    assert not data.drawn


def test_litter_is_passed_over_and_strange_files_are_noted(tmp_path: Path) -> None:
    place(tmp_path, ["normal/a.png", "lymphoblast/b.png", "lymphoblast/notes.txt"])
    place(tmp_path, ["Thumbs.db", "normal/.DS_Store", "normal/.hidden.png", "desktop.ini"])
    place(
        tmp_path, ["README.md", "LICENSE", "__MACOSX/x/y.png", ".git/z.png", "masks/normal/a.png"]
    )
    data = datasets.open(tmp_path)
    assert [s.id for s in data] == ["lymphoblast/b.png", "normal/a.png"]
    assert data.notes[0] == "1 file is no image by its name: lymphoblast/notes.txt"


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path / "cells", ["normal/a.png", "lymphoblast/b.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(datasets.open("~/cells")) == 2
    with pytest.raises(LayoutError):
        datasets.open("~nobody-of-this-name/cells")


def test_a_link_back_to_the_root_ends(tmp_path: Path) -> None:
    place(tmp_path, ["normal/a.png", "lymphoblast/b.png"])
    (tmp_path / "normal" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(datasets.open(tmp_path)) == 2


def test_labels_csv(tmp_path: Path) -> None:
    place(tmp_path, ["x/1.png", "x/2.png", "3.png", "unlisted.png"])
    rows = "\ufefffile,label,subject,slide,fold,licence,dataset,remark\n"
    rows += "x/2.png,normal,S1,A,f0,CC0,mine,\n./x/1.png,lymphoblast,S2,B,f1,CC0,mine,hm\n\n"
    rows += '"3.png","nothing",,,,CC0,mine,"a, b"\n'
    data = datasets.open(table(tmp_path, rows))
    assert data.layout == "labels.csv"
    assert data.name == "mine"
    assert data.licence == "CC0"
    assert [s.id for s in data] == ["3.png", "x/1.png", "x/2.png"]
    assert [s.label for s in data] == ["nothing", "lymphoblast", "normal"]
    assert [(s.subject, s.group, s.fold) for s in data] == [
        (None, None, None),
        ("S2", "B", "f1"),
        ("S1", "A", "f0"),
    ]
    assert data.labels.names == ("nothing", "normal", "lymphoblast")
    assert "columns of labels.csv that are not used: remark" in data.notes
    assert "1 images are not listed in labels.csv: unlisted.png" in data.notes
    assert "1 of 3 images have no subject" in data.notes


def test_cnmc_as_published(tmp_path: Path) -> None:
    data = datasets.open(place(tmp_path, CNMC_FILES))
    assert (data.layout, data.specimen, data.stain) == (
        "C-NMC 2019",
        "bone marrow",
        "Jenner-Giemsa",
    )
    assert data.licence == "CC BY 3.0"
    assert "10.7937/tcia.2019.dc64i46r" in data.citation
    assert data.labels.names == ("hem", "all")
    assert data.labels.title("hem") == "normal B-lymphoid precursor"
    assert data.labels.title("all") == "lymphoblast"
    assert data.labels.clinical == {"hem": OTHER_CELL, "all": LYMPHOBLAST}
    assert [(s.label, s.subject, s.group, s.fold) for s in data] == [
        ("all", "1", "1_2", "fold_0"),
        ("hem", "H1", "H1_2", "fold_0"),
        ("all", "2", "2_1", "fold_1"),
        ("hem", "H3", "H3_1", "fold_1"),
        ("hem", "H3", "H3_1", "fold_1"),
    ], "subject 1 is not subject H1, and h3 is H3"


def test_cnmc_flat(tmp_path: Path) -> None:
    data = datasets.open(place(tmp_path, ["all/UID_1_2_3_all.png", "hem/UID_H1_2_3_hem.png"]))
    assert data.layout == "C-NMC 2019"
    assert all(s.fold is None for s in data)
    assert "no official folds: the images lie in all and hem" in data.notes


def test_pbc(tmp_path: Path) -> None:
    data = datasets.open(place(tmp_path, [*PBC_FILES, "neutrophil/.DS_169665.jpg"]))
    assert (data.layout, data.specimen) == ("PBC", "peripheral blood")
    assert (data.stain, data.licence) == ("May-Gruenwald-Giemsa", "CC BY 4.0")
    assert len(data) == len(PBC_FILES)
    assert data.labels.names == tuple(sorted(pbc.PUBLISHED_COUNTS))
    assert set(data.labels.clinical.values()) == {OTHER_CELL}
    assert data.labels.positive is None
    assert data.labels.title("ig") == "immature granulocyte"
    assert data.subjects() == ()
    assert "PBC names no subjects: cells are taken as independent" in data.notes


def test_pbc_notes_images_of_other_names(tmp_path: Path) -> None:
    data = datasets.open(place(tmp_path, [*PBC_FILES, "ig/EO_9.jpg"]))
    assert data.layout == "PBC"
    assert any("1 images are not named as PBC names them: ig/EO_9.jpg" in n for n in data.notes)


def test_pbcs_folder_names_alone_are_not_pbc(tmp_path: Path) -> None:
    data = datasets.open(place(tmp_path, [f"{name}/1.png" for name in pbc.PUBLISHED_COUNTS]))
    assert data.layout == "class folders"
    assert (data.citation, data.licence) == ("", ""), "nobody else's cells get PBC's licence"


def test_published_counts_are_those_of_the_paper() -> None:
    assert sum(pbc.PUBLISHED_COUNTS.values()) == 17_092
    assert sum(cnmc.PUBLISHED_COUNTS.values()) == 10_661


def test_drawn_data(tmp_path: Path) -> None:
    files = ["nothing/a.png", "normal/b.png", "lymphoblast (1)/c.png", "lymphoblast (2)/d.png"]
    place(tmp_path, [*files, *(f"masks/{name}" for name in files)])
    table(tmp_path, "file,label,subject\n" + "".join(f"{f},{f.split('/')[0]},S1\n" for f in files))
    said = {"name": "drawn", "drawn": True, "specimen": "drawn: no blood", "stain": "none"}
    said |= {"citation": "drawn by cellkin", "licence": "CC0-1.0", "seed": 3, "version": "0.1.0"}
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    data = datasets.open(tmp_path)
    assert data.drawn
    assert (data.name, data.specimen, data.stain) == ("drawn", "drawn: no blood", "none")
    assert (data.citation, data.licence) == ("drawn by cellkin", "CC0-1.0")
    assert data.labels.names == ("nothing", "normal", "lymphoblast (1)", "lymphoblast (2)")
    assert [data.labels.clinical[n] for n in data.labels.names] == [
        NO_CELL,
        OTHER_CELL,
        LYMPHOBLAST,
        LYMPHOBLAST,
    ]
    assert {s.subject for s in data} == {"S1"}


def test_what_the_draw_command_writes_is_read(tmp_path: Path) -> None:
    drawn = pytest.importorskip("cellkin.drawing.drawn")
    drawn.draw(tmp_path / "out", cells=16, subjects=4, size=32, seed=0)
    data = datasets.open(tmp_path / "out")
    assert data.drawn
    assert len(data) == 16
    assert len(data.subjects()) == 4
    assert datasets.check(data).ok


def test_listing_does_not_open_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, CNMC_FILES)

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise AssertionError(f"{self} was opened")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert len(datasets.open(tmp_path)) == len(CNMC_FILES)


# --- what classes mean -----------------------------------------------------------------------


def test_meaning_is_taken_from_the_caller_then_classes_csv_then_the_vocabulary(
    tmp_path: Path,
) -> None:
    place(tmp_path, ["normal/a.png", "blob/b.png", "thing/c.png", "lymphoblast/d.png"])
    (tmp_path / "classes.csv").write_text(
        "label,clinical,title\nthing,no cell,a thing\nblob,No Cell,a blob\nnormal,no_cell,\n"
    )
    labels = datasets.open(tmp_path, clinical={"blob": "Other-Cell"}).labels
    assert labels.clinical == {
        "thing": NO_CELL,
        "blob": OTHER_CELL,
        "normal": NO_CELL,
        "lymphoblast": LYMPHOBLAST,
    }
    assert labels.names == ("thing", "blob", "normal", "lymphoblast"), "classes.csv's order"
    assert labels.title("blob") == "a blob"
    assert labels.title("normal") == "normal"


@pytest.mark.parametrize("name", ["Band_Neutrophil", "band-neutrophil", "BAND  NEUTROPHILS"])
def test_spellings_of_a_known_class(name: str, tmp_path: Path) -> None:
    labels = label_set([name, "lymphoblast"], root=tmp_path)
    assert labels.clinical[name] == OTHER_CELL
    assert labels.title(name) == "band neutrophil"


def test_no_ambiguous_name_is_in_the_vocabulary() -> None:
    assert known_meaning("all") is None
    assert known_meaning("hem") is None
    assert known_meaning("blast") is None
    assert all(likeness(name) == name for name in KNOWN)
    assert {meaning.clinical for meaning in KNOWN.values()} == set(CLINICAL_CLASSES)
    assert not any("L1" in m.title or "L2" in m.title for m in KNOWN.values())


@given(st.sets(st.sampled_from(sorted(KNOWN)), min_size=2))
def test_known_classes_are_all_mapped_in_clinical_order(names: set[str]) -> None:
    labels = label_set(names, root=Path("/nowhere"))
    order = [(NO_CELL, OTHER_CELL, LYMPHOBLAST).index(labels.clinical[n]) for n in labels.names]
    assert set(labels.names) == names
    assert order == sorted(order)
    assert all(labels.clinical[n] == KNOWN[n].clinical for n in names)


# --- broken data sets ------------------------------------------------------------------------

Break = Callable[[Path], object]


def files(*names: str) -> Break:
    return lambda root: place(root, names)


def labels_csv(text: str) -> Break:
    def build(root: Path) -> None:
        table(place(root, ["a.png", "b.png"]), text)

    return build


def classes_csv(text: str) -> Break:
    def build(root: Path) -> None:
        place(root, ["normal/a.png", "blob/b.png"])
        (root / "classes.csv").write_text(text)

    return build


def description(text: str) -> Break:
    def build(root: Path) -> None:
        place(root, ["normal/a.png", "lymphoblast/b.png"])
        (root / "dataset.json").write_text(text)

    return build


def latin1(root: Path) -> None:
    place(root, ["a.png"])
    (root / "labels.csv").write_bytes("file,label\na.png,größer\n".encode("latin-1"))


def empty_class(root: Path) -> None:
    place(root, ["normal/a.png", "lymphoblast/notes.txt"])


def empty_cnmc_class(root: Path) -> None:
    place(root, CNMC_FILES)
    (root / "fold_2" / "hem").mkdir(parents=True)


BROKEN: Mapping[str, tuple[Break, type[DataError], str, str, str]] = {
    # name: (how to make it, error, in what, in where, in mend)
    "empty folder": (lambda root: None, LayoutError, "this folder is empty", "data", "folder"),
    "no images": (files("normal/a.txt"), LayoutError, "holds no images", "data", ".png"),
    "images without labels": (files("a.png"), LayoutError, "without a label: a.png", "data", "csv"),
    "loose images": (
        files("a.png", "normal/b.png", "lymphoblast/c.png"),
        LayoutError,
        "1 images lie beside the class folders: a.png",
        "data",
        "move each image",
    ),
    "empty class": (empty_class, LabelError, "without an image: 'lymphoblast'", "data", "remove"),
    "one class": (files("normal/a.png"), LabelError, "only one class: 'normal'", "data", "two"),
    "unknown classes": (
        files("lymphoblst/a.png", "blob/b.png", "normal/c.png"),
        LabelError,
        "2 classes have no known clinical meaning: 'blob', 'lymphoblst' (did you mean "
        "'lymphoblast'?)",
        "data",
        "--clinical 'blob=other cell'",
    ),
    "all and hem of somebody else": (
        files("all/a.png", "hem/b.png"),
        LabelError,
        "'all'",
        "data",
        "only in C-NMC",
    ),
    "two spellings": (
        files("Normal/a.png", "normal/b.png", "lymphoblast/c.png"),
        LabelError,
        "'Normal' and 'normal'",
        "data",
        "one way",
    ),
    "parts as classes": (
        files("train/normal/a.png", "test/normal/b.png"),
        LayoutError,
        "parts of a split, not classes: test, train",
        "data",
        "file,label,fold",
    ),
    "one folder too high": (
        files("inner/normal/a.png", "inner/lymphoblast/b.png"),
        LayoutError,
        "one folder deeper",
        "data",
        "data/inner",
    ),
    "PBC one folder too high": (
        files(*(f"PBC_dataset/{name}" for name in PBC_FILES)),
        LayoutError,
        "PBC lies one folder deeper",
        "data",
        "data/PBC_dataset",
    ),
    "loose images beside PBC": (
        files(*PBC_FILES, "BA_7.jpg"),
        LayoutError,
        "BA_7.jpg",
        "data",
        "move each image",
    ),
    "C-NMC label against folder": (
        files(*CNMC_FILES, "fold_0/hem/UID_1_2_4_all.bmp"),
        LabelError,
        "fold_0/hem/UID_1_2_4_all.bmp lies in 'hem' and is named 'all'",
        "data",
        "restore",
    ),
    "C-NMC label against subject": (
        files(*CNMC_FILES, "fold_0/all/UID_H1_2_4_all.bmp"),
        LabelError,
        "its subject is marked 'H'",
        "data",
        "restore",
    ),
    "C-NMC strange name": (
        files(*CNMC_FILES, "fold_0/all/copy.bmp"),
        LabelError,
        "copy.bmp is not named UID_",
        "data",
        "restore",
    ),
    "C-NMC subject in two folds": (
        files(*CNMC_FILES, "fold_0/all/UID_2_9_9_all.bmp"),
        SplitError,
        "first '2' in fold_0 and fold_1",
        "data",
        "restore",
    ),
    "C-NMC and strays": (
        files(*CNMC_FILES, "more/1.bmp"),
        LayoutError,
        "more/1.bmp",
        "data",
        "fold_0/all",
    ),
    "C-NMC with and without folds": (
        files(*CNMC_FILES, "all/UID_9_2_3_all.bmp"),
        LayoutError,
        "some do not",
        "data",
        "not both",
    ),
    "C-NMC one class": (
        files("fold_0/all/UID_1_2_3_all.bmp"),
        LabelError,
        "only one class: 'all'",
        "data",
        "all and hem",
    ),
    "C-NMC empty class": (empty_cnmc_class, LabelError, "fold_2/hem", "data", "restore"),
    "table without label column": (
        labels_csv("file,lable\na.png,normal\n"),
        LabelError,
        "unknown column 'lable'",
        "labels.csv, line 1",
        "did you mean 'label'?",
    ),
    "table with patients": (
        labels_csv("file,label,patient\na.png,normal,1\nb.png,lymphoblast,2\n"),
        LabelError,
        "unknown column 'patient'",
        "labels.csv, line 1",
        "did you mean 'subject'?",
    ),
    "table lacks a column": (
        labels_csv("file\na.png\n"),
        LabelError,
        "lacks the column label",
        "labels.csv, line 1",
        "file,label",
    ),
    "table with semicolons": (
        labels_csv("file;label\na.png;normal\n"),
        LabelError,
        "parted by semicolons",
        "line 1",
        "comma delimited",
    ),
    "table with a column twice": (
        labels_csv("file,label,label\na.png,normal,normal\n"),
        LabelError,
        "'label' twice",
        "line 1",
        "away",
    ),
    "table with slide and field": (
        labels_csv("file,label,slide,field\na.png,normal,1,1\n"),
        LabelError,
        "slide and field",
        "line 1",
        "keep one",
    ),
    "table is empty": (labels_csv(""), LabelError, "is empty", "labels.csv", "file,label"),
    "table without rows": (
        labels_csv("file,label\n"),
        LabelError,
        "no image",
        "labels.csv",
        "line",
    ),
    "table in Latin-1": (latin1, LabelError, "no UTF-8 text", "labels.csv", "CSV UTF-8"),
    "table with a short row": (
        labels_csv("file,label\na.png\nb.png,normal\n"),
        LabelError,
        "line 2: 1 fields",
        "labels.csv",
        "quotes",
    ),
    "table leaves the folder": (
        labels_csv("file,label\n../a.png,normal\n/b.png,lymphoblast\n"),
        LabelError,
        "has 2 faults: line 2: ../a.png leaves the folder of the data set; line 3: /b.png leaves",
        "labels.csv",
        "relative",
    ),
    "table names a missing file": (
        labels_csv("file,label\na.png,normal\nc.png,normal\n"),
        LabelError,
        "line 3: c.png does not exist",
        "labels.csv",
        "correct",
    ),
    "table names no image": (
        labels_csv("file,label\na.txt,normal\n"),
        LabelError,
        "line 2: a.txt is no image",
        "labels.csv",
        "correct",
    ),
    "table with a row twice": (
        labels_csv("file,label\na.png,normal\n./a.png,lymphoblast\n"),
        LabelError,
        "line 3: a.png is listed twice (first on line 2)",
        "labels.csv",
        "correct",
    ),
    "table with an empty label": (
        labels_csv("file,label\na.png,\nb.png,normal\n"),
        LabelError,
        "line 2: the label of a.png is empty",
        "labels.csv",
        "correct",
    ),
    "table with an empty file": (
        labels_csv("file,label\n,normal\n"),
        LabelError,
        "line 2: the file is empty",
        "labels.csv",
        "correct",
    ),
    "table with seven faults": (
        labels_csv("file,label\n" + "".join(f"x{i}.png,normal\n" for i in range(7))),
        LabelError,
        "x4.png does not exist; and 2 more",
        "labels.csv",
        "correct",
    ),
    "table with an unknown class": (
        labels_csv("file,label\na.png,blob\nb.png,normal\n"),
        LabelError,
        "'blob'",
        "data",
        "blob,other cell",
    ),
    "table of two data sets": (
        labels_csv("file,label,dataset\nx/a.png,normal,X\ny/b.png,normal,Y\n"),
        LayoutError,
        "covers 2 data sets: X, Y",
        "labels.csv",
        "data/x or",
    ),
    "table with a subject in two folds": (
        labels_csv("file,label,subject,fold\na.png,normal,S,1\nb.png,lymphoblast,S,2\n"),
        SplitError,
        "'S' in 1 and 2",
        "labels.csv",
        "restore",
    ),
    "classes.csv with no clinical class": (
        classes_csv("label,clinical\nblob,cell\n"),
        LabelError,
        "line 2: 'cell' is no clinical class",
        "classes.csv",
        "lymphoblast, other cell, no cell",
    ),
    "classes.csv says it twice": (
        classes_csv("label,clinical\nblob,no cell\nBlob,other cell\n"),
        LabelError,
        "line 3: class 'Blob' is declared twice",
        "classes.csv",
        "one of",
    ),
    "dataset.json is no JSON": (
        description("{"),
        LayoutError,
        "cannot be read",
        "dataset.json",
        "JSON object",
    ),
    "dataset.json is a list": (
        description("[]"),
        LayoutError,
        "no JSON object",
        "dataset.json",
        "{",
    ),
    "dataset.json with a typo": (
        description('{"drwan": true}'),
        LayoutError,
        "unknown key 'drwan'",
        "dataset.json",
        "did you mean 'drawn'?",
    ),
    "dataset.json with drawn as text": (
        description('{"drawn": "yes"}'),
        LayoutError,
        "'drawn' in dataset.json is 'yes'",
        "dataset.json",
        "true or false",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_sets_say_what_where_and_how_to_mend(name: str, tmp_path: Path) -> None:
    build, kind, what, where, mend = BROKEN[name]
    root = tmp_path / "data"
    root.mkdir()
    build(root)
    with pytest.raises(DataError) as caught:
        datasets.open(root)
    assert type(caught.value) is kind
    assert what in caught.value.what
    assert where in caught.value.where
    assert mend in caught.value.mend


def test_a_missing_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="there is no such folder") as missing:
        datasets.open(tmp_path / "none")
    assert missing.value.where == str(tmp_path / "none")
    place(tmp_path, ["cells.zip"])
    with pytest.raises(LayoutError, match="a file, not a folder") as archive:
        datasets.open(tmp_path / "cells.zip")
    assert "unpack" in archive.value.mend


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    place(tmp_path, ["normal/a.png", "lymphoblast/b.png"])
    (tmp_path / "normal").chmod(0)
    try:
        with pytest.raises(LayoutError, match="cannot be read"):
            datasets.open(tmp_path)
    finally:
        (tmp_path / "normal").chmod(0o755)


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    place(tmp_path, ["normal/a.png", "lymphoblast/b.png"])
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/normal/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(LayoutError, match="no valid UTF-8") as caught:
        datasets.open(tmp_path)
    assert "rename" in caught.value.mend
    caught.value.where.encode()


@pytest.mark.parametrize(
    ("clinical", "what", "mend"),
    [
        ({"norml": "other cell"}, "declared for class 'norml'", "did you mean 'normal'?"),
        ({"normal": "other cel"}, "'other cel' is no clinical class", "did you mean 'other cell'?"),
    ],
)
def test_wrong_declarations(clinical: dict[str, str], what: str, mend: str, tmp_path: Path) -> None:
    place(tmp_path, ["normal/a.png", "lymphoblast/b.png"])
    with pytest.raises(LabelError) as caught:
        datasets.open(tmp_path, clinical=clinical)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_a_publishers_meaning_cannot_be_declared_away(tmp_path: Path) -> None:
    place(tmp_path, CNMC_FILES)
    assert len(datasets.open(tmp_path, clinical={"hem": "other cell"})) == len(CNMC_FILES)
    with pytest.raises(LabelError, match="means 'other cell', 'lymphoblast' was declared"):
        datasets.open(tmp_path, clinical={"hem": "lymphoblast"})


def test_names() -> None:
    assert all(is_image_name(f"a.{e}") for e in ("png", "JPG", "jpeg", "Bmp", "tif", "TIFF"))
    assert not any(is_image_name(n) for n in ("a.gif", "png", "a.png.txt", "a"))
    assert shown(["a", "b", "c"], 2) == "a, b and 1 more"
    assert set(FIELDS) > {"name", "drawn", "specimen", "stain", "citation", "licence"}


def test_a_listing_below_a_folder_is_the_listing_of_that_folder(tmp_path: Path) -> None:
    place(tmp_path, ["x/normal/a.png", "x/normal/deep/b.png", "x/blob/c.txt", "y/d.png"])
    below, direct = list_folder(tmp_path).below("x"), list_folder(tmp_path / "x")
    assert below == direct


# --- checking --------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six images: one duplicate with another label, one pixel duplicate, one cut off."""
    root = tmp_path / "cells"
    for i in range(3):
        picture(root / f"lymphoblast/{i}.png", i)
    picture(root / "normal/3.png", 3)
    (root / "normal/same.png").write_bytes((root / "lymphoblast/0.png").read_bytes())
    Image.open(root / "lymphoblast/1.png").save(root / "lymphoblast/pixels.bmp")
    whole = (root / "lymphoblast/2.png").read_bytes()
    (root / "normal/cut.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_check_finds_duplicates_conflicts_and_cut_off_files(pictures: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = datasets.check(pictures, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]
    assert report.counts == {"normal": 3, "lymphoblast": 4}
    assert [image for image, _ in report.unreadable] == ["normal/cut.png"]
    assert report.duplicates == (("lymphoblast/0.png", "normal/same.png"),)
    assert report.same_pixels == (("lymphoblast/1.png", "lymphoblast/pixels.bmp"),)
    assert report.conflicts == report.duplicates
    assert report.total_bytes == sum(p.stat().st_size for p in pictures.rglob("*.*"))
    assert report.formats == {"normal": {"png": 2}, "lymphoblast": {"png": 3, "bmp": 1}}
    assert report.sizes == {"normal": {"20 x 20": 2}, "lymphoblast": {"20 x 20": 4}}
    assert not report.ok
    text = "\n".join(report.lines())
    assert "unreadable: normal/cut.png: " in text
    assert "equal and labelled differently: lymphoblast/0.png = normal/same.png" in text
    assert json.loads(json.dumps(report.to_json()))["ok"] is False


def test_check_warns_where_format_or_size_depends_on_the_class(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"normal/{i}.png", i)
        picture(tmp_path / f"lymphoblast/{i}.{'bmp' if i else 'png'}", 10 + i, (20, 24))
    warnings = "\n".join(datasets.check(tmp_path).warnings)
    assert "formats depend on the class" in warnings
    assert "bmp is 0 % of normal, 75 % of lymphoblast" in warnings
    assert "sizes depend on the class" in warnings
    assert "20 x 20 is 100 % of normal, 0 % of lymphoblast" in warnings


def test_check_is_content_with_a_good_folder(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"normal/{i}.png", i)
        picture(tmp_path / f"lymphoblast/{i}.png", 10 + i)
    report = datasets.check(tmp_path)
    assert report.ok
    assert report.warnings == ()
    assert report.published == {}


def test_check_names_duplicates_of_two_subjects(tmp_path: Path) -> None:
    for i, name in enumerate(["a", "b", "c"]):
        picture(tmp_path / f"{name}.png", min(i, 1))
    table(tmp_path, "file,label,subject\na.png,lymphoblast,S\nb.png,normal,S\nc.png,normal,T\n")
    report = datasets.check(tmp_path)
    assert report.shared == (("b.png", "c.png"),)
    assert report.conflicts == ()
    assert report.subjects == {"normal": 2, "lymphoblast": 1}
    assert report.total_subjects == 2


# --- the real images -------------------------------------------------------------------------


@pytest.mark.real
def test_real_cnmc(real_data: Path) -> None:
    data = datasets.open(real_data / "cnmc2019")
    assert data.layout == "C-NMC 2019"
    assert data.counts() == {"hem": 151, "all": 161}
    subjects = {label: {s.subject for s in data if s.label == label} for label in ("hem", "all")}
    assert (len(subjects["hem"]), len(subjects["all"])) == (7, 9)
    assert not subjects["hem"] & subjects["all"]


@pytest.mark.real
def test_real_subjects_are_those_of_the_table(real_data: Path) -> None:
    data = datasets.open(real_data / "cnmc2019")
    lines = (real_data / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if line.startswith("cnmc2019/")]
    told = {row[0].removeprefix("cnmc2019/"): (row[2], row[3]) for row in rows}
    assert {s.id: (s.label, s.subject) for s in data} == told


@pytest.mark.real
def test_real_pbc_depends_on_the_format(real_data: Path) -> None:
    data = datasets.open(real_data / "pbc")
    assert data.layout == "PBC"
    assert len(data) == 1602
    report = datasets.check(data)
    assert report.ok
    assert report.formats["platelet"] == {"png": 20, "jpg": 8}
    assert any(
        "formats depend on the class" in w and "29 % of platelet" in w for w in report.warnings
    )
    assert report.complete is False
    assert "918 of 1,218 basophil missing" in report.missing


@pytest.mark.real
def test_the_real_folder_of_three_data_sets_is_refused(real_data: Path) -> None:
    with pytest.raises(LayoutError, match="covers 3 data sets") as caught:
        datasets.open(real_data)
    assert str(real_data / "cnmc2019") in caught.value.mend
