"""Published layouts: what is written is read again, and counts of full size are complete."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import (
    adp,
    adp_codes,
    allidb1_names,
    allidb2_names,
    bloodmnist,
    cnmc_names,
    linked,
    pbc_names,
    picture,
    pictures,
    points,
    write_csv,
)

from cellkin import datasets
from cellkin.core.errors import ImageError, LabelError, LayoutError, SplitError
from cellkin.core.records import LYMPHOBLAST, OTHER_CELL, Dataset, ImageRef
from cellkin.datasets import known
from cellkin.datasets.parts.leakage import TWINS
from cellkin.datasets.published import Published
from cellkin.datasets.readers import allidb1, cnmc, cnmc_test, pbc
from cellkin.imaging import npz, series
from cellkin.imaging.decode import decode
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import Preprocessor


def by_id(data: Dataset) -> dict[str, str]:
    return {sample.id: sample.label for sample in data}


def whole(data: Dataset) -> Published:
    entry = known.published_as(data)
    assert entry is not None
    return entry


# --- ALL-IDB2 --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["img/", ""])
def test_allidb2(folder: str, tmp_path: Path) -> None:
    marks = {1: 1, 2: 1, 130: 1, 131: 0, 223: 0, 226: 0, 257: 0}
    names = [f"{folder}{name.removeprefix('img/')}" for name in allidb2_names(marks)]
    pictures(tmp_path, names)
    data = datasets.open(tmp_path)
    assert data.layout == "ALL-IDB2"
    labels = {0: "normal", 1: "lymphoblast"}
    assert by_id(data) == dict(zip(names, [labels[m] for m in marks.values()], strict=True))
    assert data.labels.clinical == {"normal": OTHER_CELL, "lymphoblast": LYMPHOBLAST}
    assert data.subjects() == ()
    twins = {s.id for s in data if TWINS in s.annotations}
    assert twins == {f"{folder}Im{n}_0.tif" for n in (223, 226, 257)}
    assert any("Im223_0 = Im257_0" in note for note in data.notes)
    assert datasets.check(data).ok


def test_what_is_documented_of_published_images_is_not_said_of_drawn_ones(tmp_path: Path) -> None:
    pictures(tmp_path / "two", allidb2_names({222: 0, 223: 0, 257: 0, 1: 1}))
    pictures(tmp_path / "one", allidb1_names({93: 0, 108: 0, 9: 1, 10: 1}))
    for name in ("one", "two"):
        (tmp_path / name / "dataset.json").write_text('{"drawn": true}')
    two = datasets.open(tmp_path / "two")
    assert not any(TWINS in s.annotations for s in two)
    assert known.published_as(two) is None
    assert {s.group for s in datasets.open(tmp_path / "one")} == {
        "Im093_0",
        "Im108_0",
        "Im009_1",
        "Im010_1",
    }


def test_documented_duplicates_stay_together_in_a_split_by_image(tmp_path: Path) -> None:
    marks = {n: int(n <= 130) for n in range(1, 261)}
    data = datasets.open(linked(tmp_path / "data", allidb2_names(marks)))
    twins = {s.id for s in data if TWINS in s.annotations}
    assert len(twins) == 11
    for split in datasets.folds(data, n=5, seed=1):
        sides = {part for part, ids in split.parts().items() if twins & set(ids)}
        assert len(sides) == 1
        assert "LEAK" not in split.note
    assert sorted(i for s in datasets.folds(data, n=5, seed=1) for i in s.test) == sorted(
        by_id(data)
    )


# --- ALL-IDB1 --------------------------------------------------------------------------------


def test_allidb1(tmp_path: Path) -> None:
    marks = {1: 1, 9: 1, 11: 1, 93: 0, 108: 0, 50: 0}
    pictures(tmp_path, allidb1_names(marks), size=(30, 40))
    listed = {"Im001_1": [(3, 4), (39, 29)], "Im009_1": [(1.5, 2)], "Im011_1": []}
    for name, centroids in listed.items():
        points(tmp_path, name, centroids)
    points(tmp_path, "Im050_0", [])
    data = datasets.open(tmp_path)
    assert data.layout == "ALL-IDB1"
    fields = {Path(s.id).stem: s for s in data}
    assert {name: s.label for name, s in fields.items()} == {
        "Im001_1": "lymphoblast",
        "Im009_1": "lymphoblast",
        "Im011_1": "lymphoblast",
        "Im050_0": "normal",
        "Im093_0": "normal",
        "Im108_0": "normal",
    }
    found = {n: fields[n].annotations["blasts"] for n in listed}
    assert found == {name: [list(map(float, p)) for p in ps] for name, ps in listed.items()}
    assert "blasts" not in fields["Im093_0"].annotations
    assert fields["Im009_1"].group == fields["Im011_1"].group == "Im009_1+Im010_1+Im011_1"
    assert fields["Im093_0"].group == fields["Im108_0"].group == "Im093_0+Im108_0"
    assert fields["Im050_0"].group == "Im050_0"
    text = " ".join(data.notes)
    assert "list blasts only" in text
    assert "healthy people carry no positions" in text
    assert "1 .xyc files of fields with blasts list none: im/Im011_1.jpg" in text
    assert "no images by their names" not in text
    report = datasets.check(data)
    assert report.ok
    assert report.total_groups == 4


def test_allidb1_survives_a_description(tmp_path: Path) -> None:
    pictures(tmp_path, allidb1_names({1: 1, 2: 0}), size=(30, 40))
    points(tmp_path, "Im001_1", [(3, 4)])
    data = datasets.open(tmp_path)
    again = datasets.open(datasets.save(data, tmp_path / "fields.json"))
    for left, right in zip(data, again, strict=True):
        assert (left.id, left.labels, left.group) == (right.id, right.labels, right.group)
        assert dict(left.annotations) == dict(right.annotations)


def test_overlapping_fields_stay_on_one_side(tmp_path: Path) -> None:
    marks = {n: int(n in range(9, 58)) for n in range(1, 109)}
    data = datasets.open(linked(tmp_path / "data", allidb1_names(marks)))
    assert datasets.split_unit(data) == "slide/field"
    split = datasets.single(data, seed=0)
    groups = {part: {s.group for s in data.select(ids)} for part, ids in split.parts().items()}
    assert not groups["train"] & groups["test"]
    assert any("+" in str(g) for g in set().union(*groups.values()))


def test_check_names_centroids_outside_of_their_field(tmp_path: Path) -> None:
    pictures(tmp_path, allidb1_names({1: 1, 2: 0}), size=(30, 40))
    points(tmp_path, "Im001_1", [(39, 29), (40, 5)])
    report = datasets.check(tmp_path)
    assert not report.ok
    assert report.misplaced == (
        ("im/Im001_1.jpg", "1 of 2 centroids lie outside of it, first (40, 5)"),
    )
    assert any(line.startswith("misplaced: im/Im001_1.jpg") for line in report.lines())


# --- C-NMC's test phase ----------------------------------------------------------------------

TESTED = [
    ["Patient_ID", "new_names", "labels"],
    ["UID_57_29_1_all.bmp", "1.bmp", 1],
    ["UID_57_22_2_all.bmp", "2.bmp", 1],
    ["UID_H49_35_1_hem.bmp", "10.bmp", 0],
    ["UID_h49_36_1_hem.bmp", "3.bmp", 0],
]


def test_cnmc_test_phase(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{n}.bmp" for n in (1, 2, 3, 10)])
    write_csv(tmp_path / "C-NMC_test_prelim_phase_data_labels.csv", TESTED)
    data = datasets.open(tmp_path)
    assert data.layout == cnmc_test.LAYOUT
    assert by_id(data) == {"1.bmp": "all", "2.bmp": "all", "10.bmp": "hem", "3.bmp": "hem"}
    assert data.subjects() == ("57", "H49")
    assert {s.group for s in data} == {"57_29", "57_22", "H49_35", "H49_36"}
    assert data.labels.titles["hem"] == "normal B-lymphoid precursor"
    assert data.notes == ()


def test_cnmc_test_phase_that_names_subjects_only(tmp_path: Path) -> None:
    pictures(tmp_path, ["1.bmp", "2.bmp"])
    rows = [TESTED[0], ["P7", "1.bmp", 1], ["P8", "2.bmp", 0]]
    data = datasets.open(write_csv(tmp_path / "t.csv", rows).parent)
    assert data.subjects() == ("P7", "P8")
    assert {s.group for s in data} == {None}


@pytest.mark.parametrize("above", ["", "C-NMC_training_data/"])
def test_cnmc_test_phase_beside_the_training_folds(above: str, tmp_path: Path) -> None:
    trained = [f"{above}{n}" for n in cnmc_names({"hem": 4, "all": 5}, {"hem": 2, "all": 3}, 2)]
    pictures(tmp_path, [*trained, *(f"test/{n}.bmp" for n in (1, 2, 3, 10))])
    write_csv(tmp_path / "labels_of_test.csv", TESTED)
    data = datasets.open(tmp_path)
    assert data.layout == cnmc_test.BOTH
    assert {s.fold for s in data} == {"fold_0", "fold_1", "preliminary test"}
    assert set(by_id(data)) == {*trained, *(f"test/{n}.bmp" for n in (1, 2, 3, 10))}
    assert all(s.image.path == tmp_path / s.id for s in data)
    assert len(data.subjects()) == 7
    split = datasets.official(data, seed=0)
    assert {s.fold for s in data.select(split.test)} == {"preliminary test"}


WHOLE = {  # where the training folds, the preliminary and the final test phase and the csv lie
    "side by side": ("", "C-NMC_test_prelim_phase_data/", "C-NMC_test_final_phase_data/", ""),
    "as archived": (
        "C-NMC_training_data/",
        "C-NMC_test_prelim_phase_data/C-NMC_test_prelim_phase_data/",
        "C-NMC_test_final_phase_data/C-NMC_test_final_phase_data/",
        "C-NMC_test_prelim_phase_data/",
    ),
    "by task": (
        "C-NMC_Leukemia/training_data/",
        "C-NMC_Leukemia/validation_data/C-NMC_test_prelim_phase_data/",
        "C-NMC_Leukemia/testing_data/C-NMC_test_final_phase_data/",
        "C-NMC_Leukemia/validation_data/",
    ),
}


@pytest.mark.parametrize("layout", WHOLE)
def test_the_whole_of_cnmc_as_it_comes(layout: str, tmp_path: Path) -> None:
    training, prelim, final, table = WHOLE[layout]
    trained = [f"{training}{n}" for n in cnmc_names({"hem": 6, "all": 6}, {"hem": 3, "all": 3}, 3)]
    tested = [f"{prelim}{n}.bmp" for n in (1, 2, 3, 10)]
    pictures(tmp_path, [*trained, *tested, *(f"{final}{n}.bmp" for n in range(1, 12))])
    write_csv(tmp_path / table / "C-NMC_test_prelim_phase_data_labels.csv", TESTED)
    data = datasets.open(tmp_path)
    assert data.layout == cnmc_test.BOTH
    assert set(by_id(data)) == {*trained, *tested}
    assert by_id(data)[f"{prelim}10.bmp"] == "hem"
    assert "11 cells of the final test phase have no label: not read" in data.notes


def test_numbered_cells_that_nobody_can_tell_apart_are_never_to_be_joined(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{folder}/{n}.bmp" for folder in ("one", "two") for n in (1, 2, 3, 10)])
    write_csv(tmp_path / "labels_of_test.csv", TESTED)
    with pytest.raises(LayoutError, match="lie in 2 folders: one, two") as caught:
        datasets.open(tmp_path)
    assert "never into one folder" in caught.value.mend


def test_a_users_own_csv_makes_no_published_data_set(tmp_path: Path) -> None:
    pictures(tmp_path, ["normal/1.png", "lymphoblast/2.png"])
    write_csv(tmp_path / "meta.csv", [["Patient_ID", "labels", "E"], ["p", 1, 2]])
    data = datasets.open(tmp_path)
    assert data.layout == "class folders"
    assert any("meta.csv" in note for note in data.notes)


# --- BloodMNIST ------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_bloodmnist(compress: bool, tmp_path: Path) -> None:
    path = bloodmnist(
        tmp_path / "bloodmnist_28.npz", {"train": 24, "val": 8, "test": 9}, compress=compress
    )
    data = datasets.open(path)
    assert (len(data), data.layout) == (41, "BloodMNIST")
    assert data.labels.names == tuple(pbc.CLASSES)
    assert data.labels.title("ig") == "immature granulocyte"
    assert data.labels.positive is None
    assert [s.id for s in datasets.open(tmp_path)] == [s.id for s in data]
    with np.load(path) as arrays:
        for sample in data:
            assert sample.fold is not None
            row = sample.image.row
            assert data.labels.index(sample.label) == arrays[f"{sample.fold}_labels"][row, 0]
            assert np.array_equal(decode(sample.image), arrays[f"{sample.fold}_images"][row])


def test_bloodmnists_own_parts_are_kept(tmp_path: Path) -> None:
    data = datasets.open(
        bloodmnist(tmp_path / "bloodmnist.npz", {"train": 24, "val": 16, "test": 9})
    )
    split = datasets.official(data, seed=0)
    assert split.test == tuple(sorted(s.id for s in data if s.fold == "test"))
    assert split.train == tuple(sorted(s.id for s in data if s.fold == "train"))
    assert {*split.val, *split.calibration} == {s.id for s in data if s.fold == "val"}
    with pytest.raises(SplitError, match="tests on 'test'"):
        datasets.official(data, test_fold="val")


def test_a_container_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.open(
        bloodmnist(tmp_path / "bloodmnist.npz", {"train": 40, "val": 8, "test": 8})
    )
    opened: list[str] = []
    true_stream = npz._stream
    restarts: list[int] = []

    def counted(archive: object, member: str, where: str) -> object:
        stream = true_stream(archive, member, where)  # type: ignore[arg-type]
        opened.append(member)
        seek = stream.seek

        def seen(offset: int, whence: int = 0) -> int:
            if offset < stream.tell():
                restarts.append(offset)
            return seek(offset, whence)

        stream.seek = seen  # type: ignore[method-assign]
        return stream

    monkeypatch.setattr(npz, "_stream", counted)
    refs = [sample.image for sample in data]
    mixed = [refs[i] for i in np.random.default_rng(0).permutation(len(refs))]
    geometry = Preprocessor(size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    loaded = load_prepared(mixed, geometry)
    assert sorted(opened) == ["test_images", "train_images", "val_images"]
    assert restarts == []
    for ref, image in zip(mixed, loaded, strict=True):
        assert np.array_equal(image, geometry.prepare(decode(ref)))


def test_a_field_is_decoded_once_for_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [picture(tmp_path / f"{i}.png", i, (60, 80)) for i in range(2)]
    boxes = [(x, y, x + 20, y + 20) for x in (0, 31, 60) for y in (0, 40)]
    refs = [ImageRef(path, box=box) for box in boxes for path in paths]
    expected = [decode(ref) for ref in refs]
    decoded: list[Path] = []

    def counted(source: Path | ImageRef, **options: Any) -> Any:
        decoded.append(source if isinstance(source, Path) else source.path)
        return decode(source, **options)

    monkeypatch.setattr(series, "decode", counted)
    with series.Series() as opened:
        found = {i: opened.decode(refs[i]) for i in series.in_reading_order(refs)}
    assert sorted(decoded) == sorted(paths)
    assert all(np.array_equal(found[i], image) for i, image in enumerate(expected))


def test_faults_in_a_container_are_named_and_the_rest_is_tried(tmp_path: Path) -> None:
    data = datasets.open(bloodmnist(tmp_path / "bloodmnist.npz", {"train": 8, "val": 8, "test": 8}))
    first = data.samples[0].image
    bad = [replace(first, row=99), replace(first, row=98), first]
    geometry = Preprocessor(size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(ImageError, match="2 images cannot be used") as caught:
        load_prepared(bad, geometry)
    assert "row 99" in caught.value.where
    assert "row 98" in caught.value.where


# --- ADP -------------------------------------------------------------------------------------


def test_adp(tmp_path: Path) -> None:
    codes = ["E", "E.M", "E.M.S", "E.M.C", "C", "C.D", "T"]
    ones = {
        "001.png_crop_1.png": ["E", "E.M", "E.M.S"],
        "001.png_crop_2.png": ["C", "T"],
        "002.png_crop_1.png": [],
    }
    pictures(tmp_path / "img_res_1um_bicubic", ones)
    adp(tmp_path, list(ones), codes, ones)
    data = datasets.open(tmp_path)
    assert data.layout == "ADP"
    assert data.levels == (
        ("E", "C", "T"),
        ("E", "E.M", "C", "C.D", "T"),
        tuple(codes),
    )
    assert data.labels.names == ()
    assert {Path(s.id).name: s.labels for s in data} == {
        "001.png_crop_1.png": (("E",), ("E", "E.M"), ("E", "E.M", "E.M.S")),
        "001.png_crop_2.png": (("C", "T"),) * 3,
        "002.png_crop_1.png": ((), (), ()),
    }
    assert {Path(s.id).name: s.group for s in data} == {
        "001.png_crop_1.png": "001",
        "001.png_crop_2.png": "001",
        "002.png_crop_1.png": "002",
    }
    again = datasets.open(datasets.save(data, tmp_path / "adp.json"))
    assert (again.levels, [s.labels for s in again]) == (data.levels, [s.labels for s in data])
    report = datasets.check(data)
    assert report.ok
    assert report.counts == {"E": 1, "E.M": 1, "E.M.S": 1, "E.M.C": 0, "C": 1, "C.D": 0, "T": 1}
    assert report.images == 3
    assert any("label levels of 3 / 5 / 7 codes" in line for line in report.missing)
    assert "  E.M: 1 images; 1 png; 1 20 x 20" in report.lines()


def test_adp_says_that_a_code_lacks_the_code_above_it(tmp_path: Path) -> None:
    pictures(tmp_path / "patches", ["a.png", "b.png"])
    adp(tmp_path, ["a.png", "b.png"], ["E", "E.M"], {"a.png": ["E.M"], "b.png": ["E"]})
    data = datasets.open(tmp_path)
    text = " ".join(data.notes)
    assert "1 patches carry a code without the code above it" in text
    assert "2 patches are not named <slide>_crop_<n>" in text


def test_several_labels_per_image_are_no_cells(tmp_path: Path) -> None:
    from cellkin.system import index, train

    pictures(tmp_path / "p", ["a.png", "b.png"])
    adp(tmp_path, ["a.png", "b.png"], ["E", "C"], {"a.png": ["E"], "b.png": ["E", "C"]})
    data = datasets.open(tmp_path)
    for refuses in (
        lambda: datasets.folds(data),
        lambda: datasets.single(data),
        lambda: datasets.official(data),
        lambda: train(data, out=tmp_path / "atlas"),
        lambda: index(tmp_path, data, out=tmp_path / "atlas"),
    ):
        with pytest.raises(LabelError, match="several labels per image") as caught:
            refuses()
        assert "pretraining" in caught.value.mend
    assert not (tmp_path / "atlas").exists()


# --- counts of the full size -----------------------------------------------------------------


def test_complete_cnmc(tmp_path: Path) -> None:
    names = cnmc_names(cnmc.PUBLISHED_COUNTS, {"hem": 26, "all": 47})
    data = datasets.open(linked(tmp_path / "data", names))
    assert (len(data), len(data.subjects())) == (10_661, 73)
    assert {s.fold for s in data} == {"fold_0", "fold_1", "fold_2"}
    assert whole(data).missing(data) == []
    (tmp_path / "data" / names[0]).unlink()
    part = datasets.open(tmp_path / "data")
    assert whole(part).missing(part) == ["1 of 3,389 hem missing"]


def test_complete_cnmc_test_phase(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Patient_ID", "new_names", "labels"]]
    for i in range(1867):
        ill = i < 1219
        subject = f"{80 + i % 13}" if ill else f"H{80 + i % 15}"
        label = "all" if ill else "hem"
        rows.append([f"UID_{subject}_{i}_1_{label}.bmp", f"{i + 1}.bmp", int(ill)])
    linked(tmp_path / "data", [f"prelim/{row[1]}" for row in rows[1:]])
    write_csv(tmp_path / "data" / "t.csv", rows)
    data = datasets.open(tmp_path / "data")
    assert data.layout == cnmc_test.LAYOUT
    assert whole(data).missing(data) == []
    names = cnmc_names(cnmc.PUBLISHED_COUNTS, {"hem": 26, "all": 47})
    linked(
        tmp_path / "data" / "C-NMC_training_data",
        [n for n in names if "/hem/" in n or "UID_1_" in n],
    )
    both = datasets.open(tmp_path / "data")
    assert whole(both).missing(both) == ["7,117 of 8,491 all missing", "46 of 101 subjects missing"]


def test_complete_pbc(tmp_path: Path) -> None:
    data = datasets.open(linked(tmp_path / "data", pbc_names(pbc.PUBLISHED_COUNTS)))
    assert (len(data), data.layout) == (17_092, "PBC")
    assert whole(data).missing(data) == []


def test_complete_allidb2_is_checked(tmp_path: Path) -> None:
    marks = {n: int(n <= 130) for n in range(1, 261)}
    report = datasets.check(linked(tmp_path / "data", allidb2_names(marks)))
    assert report.complete is True
    assert report.counts == {"normal": 130, "lymphoblast": 130}
    assert "complete: the counts are those of ALL-IDB2, section 5.1 of the paper" in report.lines()
    assert json.loads(json.dumps(report.to_json()))["complete"] is True


def test_complete_allidb1_is_checked(tmp_path: Path) -> None:
    marks = {n: int(n <= 49) for n in range(1, 109)}
    linked(tmp_path / "data", allidb1_names(marks))
    report = datasets.check(tmp_path / "data")
    assert (report.images, report.complete) == (108, True)


def test_complete_bloodmnist(tmp_path: Path) -> None:
    path = tmp_path / "bloodmnist.npz"
    labels = np.repeat(np.arange(8, dtype=np.uint8), list(pbc.PUBLISHED_COUNTS.values()))[:, None]
    cuts = {"train": (0, 17_092, 2), "val": (1, 17_092, 4), "test": (3, 17_092, 4)}
    arrays = {}
    for part, (start, stop, step) in cuts.items():
        arrays[f"{part}_labels"] = labels[start:stop:step]
        arrays[f"{part}_images"] = np.zeros((len(labels[start:stop:step]), 2, 2, 3), np.uint8)
    np.savez(path, **arrays)
    data = datasets.open(path)
    assert len(data) == 17_092
    assert whole(data).missing(data) == []


def test_complete_adp(tmp_path: Path) -> None:
    names = [f"{slide:03d}.png_crop_{i}.png" for slide in range(1, 101) for i in range(177)][
        :17_668
    ]
    codes = adp_codes()
    linked(tmp_path / "data", [f"img/{name}" for name in names])
    adp(tmp_path / "data", names, codes, {})
    data = datasets.open(tmp_path / "data")
    assert [len(level) for level in data.levels] == [9, 26, 38]
    assert len({s.group for s in data}) == 100
    assert whole(data).missing(data) == []


@pytest.mark.parametrize(("name", "total"), [("ALL-IDB2", 390), ("ALL-IDB Patches", 9318)])
def test_complete_after_class_injection(name: str, total: int, tmp_path: Path) -> None:
    """The tables of the paper hold data sets after class injection; they come as descriptions."""
    from cellkin.core.records import LabelSet, Sample
    from cellkin.datasets.vocabulary import KNOWN

    entry = next(e for e in known.PUBLISHED if e.name == f"{name} after class injection")
    assert sum(entry.counts.values()) == entry.total == total
    image = ImageRef(picture(tmp_path / "x.png"))
    samples = tuple(
        Sample(f"{label}/{i}", image, ((label,),))
        for label, n in entry.counts.items()
        for i in range(n)
    )
    labels = LabelSet(tuple(entry.counts), {n: KNOWN[n].clinical for n in entry.counts})
    data = Dataset(name, samples, labels, layout=name, root=tmp_path)
    saved = datasets.open(datasets.save(data, tmp_path / "d.json"))
    assert whole(saved) == entry
    assert entry.missing(saved) == []


# --- the registry ----------------------------------------------------------------------------


def test_the_registry_is_whole() -> None:
    names = [entry.name for entry in known.PUBLISHED]
    assert len(names) == len(set(names)) == 11
    layouts = {reader.LAYOUT for reader in datasets.READERS} - {"class folders", "labels.csv"}
    assert layouts <= {entry.layout for entry in known.PUBLISHED}
    for entry in known.PUBLISHED:
        assert not entry.counts or sum(entry.counts.values()) == entry.total
        assert entry.citation
        assert entry.licence
        assert entry.access
        assert entry.specimen
        if entry.specimen != "tissue":
            assert entry.stain is not None
            assert "eosin" not in entry.stain.lower()
            assert "H&E" not in "\n".join(entry.lines())
        json.dumps(entry.to_json())


def test_documented_groups_name_fields_once() -> None:
    numbers = [n for _, group in allidb1.OVERLAPPING for n in group]
    assert len(numbers) == len(set(numbers)) == 23
