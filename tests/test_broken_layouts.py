"""Broken data sets in the layouts of their publishers: what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import allidb1_names, allidb2_names, pictures, points, write_csv

from cellkin import datasets
from cellkin.core.errors import DataError, LabelError, LayoutError, SplitError

Break = Callable[[Path], Any]


def allidb2(*more: str, marks: Mapping[int, int] | None = None) -> Break:
    return lambda root: pictures(root, [*allidb2_names(marks or {1: 1, 2: 0}), *more])


def allidb1(*more: str, **xyc: str) -> Break:
    def build(root: Path) -> None:
        pictures(root, [*allidb1_names({1: 1, 2: 0}), *more])
        points(root, "Im001_1", [(3, 4)])
        for name, text in xyc.items():
            (root / "xyc" / f"{name}.xyc").write_text(text)

    return build


def cnmc(*names: str) -> Break:
    return lambda root: pictures(root, names)


def phase(
    rows: Sequence[Sequence[object]], *more: str, columns: str = "Patient_ID,new_names,labels"
) -> Break:
    """The test phase: 1.bmp (all), 2.bmp (hem), a csv of `rows`."""

    def build(root: Path) -> None:
        pictures(root, ["1.bmp", "2.bmp", *more])
        write_csv(root / "phase.csv", [columns.split(","), *rows])

    return build


ROWS = [["UID_57_1_1_all.bmp", "1.bmp", 1], ["UID_H9_1_1_hem.bmp", "2.bmp", 0]]


def container(**changes: Any) -> Break:
    """BloodMNIST with one image per class and part; a change of None takes an array away."""

    def build(root: Path) -> None:
        arrays: dict[str, Any] = {}
        for part in ("train", "val", "test"):
            arrays[f"{part}_images"] = np.zeros((8, 20, 20, 3), np.uint8)
            arrays[f"{part}_labels"] = np.arange(8, dtype=np.uint8)[:, None]
        arrays.update(changes)
        kept = {name: array for name, array in arrays.items() if array is not None}
        np.savez(root / "bloodmnist.npz", **kept)

    return build


def cut_off(root: Path) -> None:
    container()(root)
    path = root / "bloodmnist.npz"
    path.write_bytes(path.read_bytes()[:-200])


def two_containers(root: Path) -> None:
    container()(root)
    (root / "bloodmnist_64.npz").write_bytes((root / "bloodmnist.npz").read_bytes())


def tissue(columns: str, *rows: str, more: Sequence[str] = ()) -> Break:
    def build(root: Path) -> None:
        pictures(root, ["img/1.png_crop_1.png", "img/1.png_crop_2.png", *more])
        lines = [columns, *rows]
        write_csv(root / "adp.csv", [line.split(",") for line in lines])

    return build


def atlas(root: Path) -> None:
    pictures(root, ["training.png"])
    (root / "atlas.json").write_text("{}")


def voc(root: Path) -> None:
    pictures(root, ["JPEGImages/f.png"])
    (root / "Annotations").mkdir()
    (root / "Annotations" / "f.xml").write_text("<annotation/>")


FIRST = "1.png_crop_1.png"

BROKEN: Mapping[str, tuple[Break, type[DataError], str, str, str]] = {
    # name: (how to make it, error, in what, in where, in mend)
    "ALL-IDB2: a stray image": (
        allidb2("img/cell.tif"),
        LayoutError,
        "1 images are not of it: img/cell.tif",
        "data",
        "ImXXX_0.tif",
    ),
    "ALL-IDB2: a label that is neither 0 nor 1": (
        allidb2("img/Im003_2.tif"),
        LayoutError,
        "img/Im003_2.tif",
        "data",
        "ImXXX_1.tif",
    ),
    "ALL-IDB2: a number with two labels": (
        allidb2("img/Im001_0.tif"),
        LabelError,
        "1 numbers of ALL-IDB2 occur twice: img/Im001_0.tif and img/Im001_1.tif",
        "data",
        "keep the file",
    ),
    "ALL-IDB2: one class": (
        allidb2(marks={1: 1, 2: 1}),
        LabelError,
        "only one class: 'lymphoblast'",
        "data",
        "holds both",
    ),
    "ALL-IDB1: a stray image": (
        allidb1("im/field.jpg"),
        LayoutError,
        "1 files are not of it: im/field.jpg",
        "data",
        "xyc/ImXXX_Y.xyc",
    ),
    "ALL-IDB1: a number twice": (
        allidb1("im/Im002_1.jpg"),
        LabelError,
        "1 numbers of ALL-IDB1 occur twice",
        "data",
        "keep the file",
    ),
    "ALL-IDB1: a centroid that is no number": (
        allidb1(Im001_1="3\t4\n5\tsix\n"),
        LabelError,
        "xyc/Im001_1.xyc, line 2: '5\\tsix' is no 'x<TAB>y'",
        "xyc",
        "one line 'x<TAB>y' per blast",
    ),
    "ALL-IDB1: a negative centroid": (
        allidb1(Im001_1="-3\t4\n"),
        LabelError,
        "line 1: '-3\\t4' does not lie in a field",
        "xyc",
        "pixels of the field",
    ),
    "ALL-IDB1: a centroid of one number": (
        allidb1(Im001_1="34\n"),
        LabelError,
        "line 1: '34' is no 'x<TAB>y'",
        "xyc",
        "one line",
    ),
    "ALL-IDB1: centroids without a field": (
        allidb1(Im077_1="3\t4\n"),
        LabelError,
        "xyc/Im077_1.xyc names a field that is not in im/",
        "xyc",
        "restore these files",
    ),
    "ALL-IDB1: blasts of a healthy person": (
        allidb1(Im002_0="3\t4\n"),
        LabelError,
        "xyc/Im002_0.xyc lists 1 blasts in the field of a healthy person",
        "xyc",
        "restore these files",
    ),
    "C-NMC: a subject in two folds": (
        cnmc(
            "fold_0/all/UID_1_1_1_all.bmp",
            "fold_1/all/UID_1_2_1_all.bmp",
            "fold_0/hem/UID_H1_1_1_hem.bmp",
        ),
        SplitError,
        "1 subjects lie in two official folds, first '1' in fold_0 and fold_1",
        "data",
        "restore the publisher's folds",
    ),
    "C-NMC: label and folder disagree": (
        cnmc("fold_0/all/UID_1_1_1_all.bmp", "fold_0/hem/UID_2_1_1_all.bmp"),
        LabelError,
        "fold_0/hem/UID_2_1_1_all.bmp lies in 'hem' and is named 'all'",
        "data",
        "restore these files",
    ),
    "test phase: a missing column": (
        phase([row[:2] for row in ROWS], columns="Patient_ID,new_names"),
        LabelError,
        "phase.csv lacks the column labels",
        "phase.csv, line 1",
        "patient_id,new_names,labels",
    ),
    "test phase: a missing file": (
        phase([*ROWS, ["UID_58_1_1_all.bmp", "3.bmp", 1]]),
        LabelError,
        "line 4: 3.bmp does not exist",
        "phase.csv",
        "restore this file",
    ),
    "test phase: an image twice": (
        phase([*ROWS, ["UID_58_1_1_all.bmp", "1.bmp", 1]]),
        LabelError,
        "line 4: 1.bmp is listed twice",
        "phase.csv",
        "restore this file",
    ),
    "test phase: a label out of range": (
        phase([ROWS[0], ["UID_H9_1_1_hem.bmp", "2.bmp", 2]]),
        LabelError,
        "line 3: the label of 2.bmp is '2', not 0 or 1",
        "phase.csv",
        "a line is",
    ),
    "test phase: a label against the name": (
        phase([ROWS[0], ["UID_H9_1_1_hem.bmp", "2.bmp", 1]]),
        LabelError,
        "line 3: 2.bmp is labelled 1 (all) and was 'UID_H9_1_1_hem.bmp'",
        "phase.csv",
        "restore this file",
    ),
    "test phase: no patient": (
        phase([ROWS[0], ["", "2.bmp", 0]]),
        LabelError,
        "line 3: the Patient_ID is empty",
        "phase.csv",
        "restore this file",
    ),
    "test phase: a subject that was trained on": (
        phase(
            ROWS,
            "fold_0/all/UID_57_9_1_all.bmp",
            "fold_0/hem/UID_H1_9_1_hem.bmp",
        ),
        SplitError,
        "first '57' in fold_0 and preliminary test",
        "data",
        "restore the publisher's folds",
    ),
    "test phase: images of something else": (
        phase(ROWS, "cells/a.png"),
        LayoutError,
        "1 images belong neither to C-NMC's test phase nor to one copy of its training folds: "
        "cells/a.png",
        "data",
        "move the others away",
    ),
    "test phase: numbers in two folders": (
        phase(ROWS, "more/3.bmp"),
        LayoutError,
        "lie in 2 folders: ., more",
        "data",
        "one folder",
    ),
    "BloodMNIST: labels out of range": (
        container(val_labels=np.full((8, 1), 9, np.uint8)),
        LabelError,
        "val_labels holds 9: no class of BloodMNIST",
        "bloodmnist.npz",
        "labels are 0 to 7",
    ),
    "BloodMNIST: images of the wrong shape": (
        container(test_images=np.zeros((8, 20, 20), np.uint8)),
        LayoutError,
        "test_images has shape (8, 20, 20) and type uint8, not (N, H, W, 3) uint8",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: images that are no bytes": (
        container(test_images=np.zeros((8, 20, 20, 3), np.float32)),
        LayoutError,
        "type float32",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: labels that are no numbers": (
        container(train_labels=np.array(["a"] * 8)),
        LayoutError,
        "train_labels has shape (8,) and type <U1",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: more images than labels": (
        container(train_images=np.zeros((9, 20, 20, 3), np.uint8)),
        LayoutError,
        "train_images holds 9 images, train_labels 8 labels",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: an array is missing": (
        container(test_images=None),
        LayoutError,
        "there is no array 'test_images'",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: a class without images": (
        container(**{f"{p}_labels": np.zeros((8, 1), np.uint8) for p in ("train", "val", "test")}),
        LabelError,
        "classes without an image: eosinophil",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: cut off": (
        cut_off,
        LayoutError,
        "damaged or cut off",
        "bloodmnist.npz",
        "download it again",
    ),
    "BloodMNIST: two sizes": (
        two_containers,
        LayoutError,
        "2 files of BloodMNIST here: bloodmnist.npz, bloodmnist_64.npz",
        "data",
        "bloodmnist.npz",
    ),
    "an npz of something else": (
        lambda root: np.savez(root / "cells.npz", a=np.zeros(3)),
        LayoutError,
        "this folder holds no images",
        "data",
        "images end in",
    ),
    "ADP: no column of names": (
        tissue("name,E,E.M", f"{FIRST},1,0"),
        LabelError,
        "adp.csv lacks the column patch names",
        "adp.csv, line 1",
        "names the columns: patch names",
    ),
    "ADP: a value that is neither 0 nor 1": (
        tissue("Patch Names,E,C", f"{FIRST},1,0.5"),
        LabelError,
        "line 2: C of 1.png_crop_1.png is '0.5', not 0 or 1",
        "adp.csv",
        "restore",
    ),
    "ADP: a code of four levels": (
        tissue("Patch Names,E,E.M,E.M.S,E.M.S.X", f"{FIRST},1,0,0,0"),
        LabelError,
        "1 columns are no codes of ADP: E.M.S.X",
        "adp.csv, line 1",
        "up to 3 letters",
    ),
    "ADP: a code without the code above it": (
        tissue("Patch Names,E,C,C.D.I", f"{FIRST},1,0,0"),
        LabelError,
        "1 codes have no column for the code above them: C.D.I",
        "adp.csv, line 1",
        "each with the codes above it",
    ),
    "ADP: no codes": (
        tissue("Patch Names", FIRST),
        LabelError,
        "all columns are no codes of ADP",
        "adp.csv, line 1",
        "columns are Patch Names and codes",
    ),
    "ADP: a missing patch": (
        tissue("Patch Names,E,C", "9.png_crop_9.png,1,0"),
        LabelError,
        "line 2: 9.png_crop_9.png does not exist",
        "adp.csv",
        "restore",
    ),
    "ADP: a patch twice": (
        tissue("Patch Names,E,C", f"{FIRST},1,0", f"{FIRST},1,0"),
        LabelError,
        "line 3: 1.png_crop_1.png is listed twice (first on line 2)",
        "adp.csv",
        "restore",
    ),
    "ADP: a code twice": (
        tissue("Patch Names,E,C,E", f"{FIRST},1,0,1"),
        LabelError,
        "has the column 'e' twice",
        "adp.csv, line 1",
        "take one of the two away",
    ),
    "ADP: a patch in two folders": (
        tissue("Patch Names,E,C", f"{FIRST},1,0", more=[f"again/{FIRST}"]),
        LayoutError,
        "1 patches lie in several folders: 1.png_crop_1.png",
        "data",
        "keep one copy",
    ),
    "an atlas": (atlas, LayoutError, "an atlas, not a data set", "data", "cellkin inspect"),
    "whole fields with boxes": (voc, LayoutError, "whole fields", "data", "cellkin find"),
    "one class alone": (
        lambda root: pictures(root, ["a.png", "b.png"]),
        LayoutError,
        "2 images lie here without a label",
        "data",
        "if this folder is itself a class, give ",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_layouts_say_what_where_and_how_to_mend(name: str, tmp_path: Path) -> None:
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


def test_the_unbroken_ones_are_read(tmp_path: Path) -> None:
    """What the breaks start from is sound: the break alone is at fault."""
    sound: dict[str, Break] = {
        "ALL-IDB2": allidb2(),
        "ALL-IDB1": allidb1(),
        "C-NMC 2019 preliminary test phase": phase(ROWS),
        "BloodMNIST": container(),
        "ADP": tissue("Patch Names,E,C", f"{FIRST},1,0"),
    }
    for layout, build in sound.items():
        root = tmp_path / layout
        root.mkdir()
        build(root)
        assert datasets.open(root).layout == layout


def test_a_meaning_cannot_be_declared_for_tissue(tmp_path: Path) -> None:
    tissue("Patch Names,E,C", f"{FIRST},1,0")(tmp_path)
    with pytest.raises(LabelError, match="no classes of cells"):
        datasets.open(tmp_path, clinical={"E": "other cell"})


def test_other_containers(tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", a=np.zeros(3))
    with pytest.raises(LayoutError, match="not named as a data set") as caught:
        datasets.open(tmp_path / "cells.npz")
    assert "bloodmnist" in caught.value.mend
    with pytest.raises(LayoutError, match="no such file"):
        datasets.open(tmp_path / "bloodmnist.npz")


def test_published_data_one_folder_deeper(tmp_path: Path) -> None:
    allidb2()(tmp_path / "ALL_IDB2")
    allidb1()(tmp_path / "ALL_IDB1")
    with pytest.raises(LayoutError, match="ALL-IDB1 lies one folder deeper") as caught:
        datasets.open(tmp_path)
    assert caught.value.mend == f"open {tmp_path / 'ALL_IDB1'}"
