"""The audit: planted duplicates are found, different cells are not, and marks are named."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cellkin import datasets
from cellkin.cli import main as cli
from cellkin.core.arrays import Bytes
from cellkin.core.errors import CellkinError, LayoutError, OutputError, SplitError
from cellkin.core.findings import ALARM, SILENT, AuditReport, DuplicatePair
from cellkin.core.records import NOTICE, Dataset, Split
from cellkin.datasets.auditing import alignment, audit, merged, proposals, read_split, write_merged
from cellkin.datasets.auditing.pictures import Keypoints, keypoints, mirrored, picture
from cellkin.datasets.auditing.shortcuts import measure
from cellkin.datasets.parts.grouping import clusters
from cellkin.drawing.drawn import draw
from cellkin.imaging.decode import decode
from cellkin.report import headlines, save_audit
from cellkin.report.audits import SHOWN, shown_pairs
from cellkin.system import audit as audit_folder

Rng = np.random.Generator


def _cropped(image: Bytes, rng: Rng) -> Bytes:
    height, width = image.shape[:2]
    tall, wide = round(0.9 * height), round(0.9 * width)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    return image[top : top + tall, left : left + wide]


def _recoded(image: Bytes) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


PLANTS: dict[str, Callable[[Bytes, Rng], Bytes]] = {
    "exact": lambda image, rng: image,
    "re-encoded": lambda image, rng: _recoded(image),
    "rotated": lambda image, rng: np.rot90(image, int(rng.integers(1, 4))),
    "mirrored": lambda image, rng: image[:, ::-1],
    "cropped": _cropped,
}


def plant(source: Dataset, folder: Path, each: int, seed: int = 0) -> tuple[Dataset, set[str]]:
    """A folder of the images of `source` and `each` plants of every kind; the pairs "a|b"."""
    rng = np.random.default_rng(seed)
    rows, truth = [], set()
    chosen = rng.permutation(len(source))[: each * len(PLANTS)]
    kinds = dict(zip(chosen.tolist(), list(PLANTS) * each, strict=True))
    for number, sample in enumerate(source):
        image = decode(sample.image)
        _write(folder, f"{number:04d}.png", image)
        rows.append((f"{number:04d}.png", sample.label, sample.subject or ""))
        if number in kinds:
            name = f"{number:04d}-{kinds[number]}.png"
            _write(folder, name, PLANTS[kinds[number]](image, rng))
            rows.append((name, sample.label, sample.subject or ""))
            truth.add(f"{number:04d}.png|{name}")
    _table(folder, rows, source)
    return datasets.open(folder), truth


def _write(folder: Path, name: str, image: Bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(folder / name, compress_level=1)


def _table(folder: Path, rows: Sequence[Sequence[str]], source: Dataset) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "subject"), *rows])
    with (folder / "classes.csv").open("w", newline="") as file:
        pairs = [(name, source.labels.clinical[name]) for name in source.labels.names]
        csv.writer(file).writerows([("label", "clinical"), *pairs])


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def names(report: AuditReport) -> set[str]:
    return {"|".join(sorted((pair.first, pair.second))) for pair in report.pairs}


def sorted_pairs(truth: set[str]) -> set[str]:
    return {"|".join(sorted(pair.split("|"))) for pair in truth}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, set[str], AuditReport]:
    root = tmp_path_factory.mktemp("audit")
    source = datasets.open(draw(root / "drawn", cells=48, subjects=6, size=96, seed=5))
    data, truth = plant(source, root / "planted", each=4)
    return data, sorted_pairs(truth), audit(data)


# duplicates ------------------------------------------------------------------------------------


def test_every_planted_duplicate_is_found_and_nothing_else(
    planted: tuple[Dataset, set[str], AuditReport],
) -> None:
    """Recall 1.0; cells of one drawn subject share stain, focus and kind, and are no pair."""
    _, truth, report = planted
    assert names(report) == truth
    assert len(truth) == 20


def test_pairs_are_named_by_how_they_differ(
    planted: tuple[Dataset, set[str], AuditReport],
) -> None:
    for pair in planted[2].pairs:
        kind = next(k for k in PLANTS if k in pair.first or k in pair.second)
        if kind == "exact":
            assert pair.kind == "same file"
        elif kind == "rotated":
            assert "rotated by" in pair.relation
            assert "mirrored" not in pair.relation
            assert any(f" {turn} degrees" in pair.relation for turn in (90, 180, 270))
        elif kind == "cropped":
            assert pair.relation.startswith("cropped to 8"), pair.relation
        else:
            assert kind in pair.relation, pair.relation


@pytest.mark.parametrize("name", ["pbc", "cnmc2019"])
def test_planted_duplicates_of_real_cells(real_data: Path, tmp_path: Path, name: str) -> None:
    """Recall 1.0 and at most 1 % false pairs; what the publisher's own data hold is none."""
    whole = datasets.open(real_data / name)
    some = replace(whole, samples=whole.samples[:: len(whole) // 25])
    data, truth = plant(some, tmp_path / name, each=4)
    report = audit(data)
    found = names(report)
    roots = {pair: frozenset(name[:4] for name in pair.split("|")) for pair in found}
    originals = {roots[pair] for pair in found if "-" not in pair}
    assert sorted_pairs(truth) <= found
    false = [pair for pair, root in roots.items() if len(root) == 2 and root not in originals]
    assert len(false) <= 0.01 * len(found)
    assert len(originals) <= 2


def test_real_cells_of_two_subjects_that_are_one(real_data: Path) -> None:
    """C-NMC holds equal cells under two subjects; neighbours in the list are different cells."""
    whole = datasets.open(real_data / "cnmc2019")
    some = [s for s in whole if "_H2_1_" in s.id or "_H6_1_" in s.id or "_H11_15_" in s.id]
    found = names(audit(replace(whole, samples=tuple(some))))
    assert found == {f"hem/UID_H2_1_{cell}_hem.png|hem/UID_H6_1_{cell}_hem.png" for cell in (1, 2)}


def test_overlapping_windows_of_one_field(tmp_path: Path, real_data: Path) -> None:
    image = decode(sorted((real_data / "pbc" / "eosinophil").glob("*.jpg"))[0])
    width = image.shape[1]
    _write(tmp_path / "a", "left.png", image[:, : round(0.7 * width)])
    _write(tmp_path / "b", "right.png", image[:, round(0.3 * width) :])
    data = datasets.open(tmp_path, clinical={"a": "other cell", "b": "other cell"})
    (pair,) = audit(data).pairs
    assert pair.kind == "overlap"
    assert pair.overlap == pytest.approx(0.4 / 0.7, abs=0.03)
    assert pair.crosses == ("class",)


def test_black_around_cells_makes_no_pair(tmp_path: Path, rng: Rng) -> None:
    """Round cells on black, each with a bright rim and a texture of its own."""
    rows, columns = np.mgrid[:120, :120]
    for number in range(12):
        noise = cv2.GaussianBlur(rng.normal(0, 60, (120, 120, 3)), (0, 0), 4) * 4
        radius = np.hypot(rows - 60, columns - 60)
        cell = np.clip(noise + (90, 50, 120) + 60 * (radius > 36)[..., None], 20, 255)
        cell[radius > 40] = 0
        _write(tmp_path / "ab"[number % 2], f"{number}.png", cell.astype(np.uint8))
    data = datasets.open(tmp_path, clinical={"a": "other cell", "b": "other cell"})
    assert audit(data).pairs == ()


def test_crossings_are_named_and_listed_first(tmp_path: Path, smears: Dataset) -> None:
    images = [decode(s.image) for s in smears.samples[:12]]
    rows = [(f"{i}.png", "ab"[i % 2], f"S{i % 4}") for i in range(12)]
    for i, image in enumerate(images):
        _write(tmp_path, f"{i}.png", image)
    _write(tmp_path, "wrong.png", images[0][:, ::-1])
    _write(tmp_path, "same.png", images[4])
    rows += [("wrong.png", "b", "S0"), ("same.png", "a", "S3")]
    _table(tmp_path, rows, replace(smears, labels=_two_classes()))
    data = datasets.open(tmp_path)
    ids = [s.id for s in data]
    split = Split(tuple(i for i in ids if i != "same.png"), (), (), ("same.png",), "image", 0)
    first, second = audit(data, splits=[split]).pairs
    assert {first.first, first.second} == {"0.png", "wrong.png"}
    assert first.crosses == ("class",)
    assert second.kind == "same file"
    assert second.crosses == ("split", "subject")


def _two_classes() -> Any:
    from cellkin.core.records import LabelSet

    return LabelSet(("a", "b"), {"a": "lymphoblast", "b": "other cell"})


# the parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_are_those_of_numpy(orientation: int, rng: Rng) -> None:
    image = rng.integers(0, 255, (7, 11, 3)).astype(np.uint8)
    matrix, size = alignment.oriented(orientation, image.shape[:2])
    turned = np.rot90(image[:, ::-1] if orientation > 3 else image, orientation % 4)
    moved = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_NEAREST)
    assert size == turned.shape[:2]
    assert np.array_equal(moved, turned)
    grids = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
    grid_matrix, _ = alignment.oriented(orientation, (12, 12))
    warped = cv2.warpAffine(grids[0], grid_matrix, (12, 12), flags=cv2.INTER_NEAREST)
    assert np.array_equal(warped, proposals.turned(grids, orientation)[0])


def test_keypoints_of_a_mirror_image(smears: Dataset) -> None:
    image = decode(smears.samples[0].image)
    seen, other = picture(image), picture(np.ascontiguousarray(image[:, ::-1]))
    ours, theirs = keypoints(seen), keypoints(other)
    apart = np.linalg.norm(
        ours.vectors[:, None].astype(float) - mirrored(theirs.vectors)[None], axis=2
    )
    nearest = theirs.xy[apart.argmin(1)]
    back = np.stack([seen.shape[1] - 1 - nearest[:, 0], nearest[:, 1]], 1)
    assert (np.linalg.norm(back - ours.xy, axis=1) < 2).mean() > 0.7


def test_the_work_grows_with_the_images_not_with_their_pairs(rng: Rng) -> None:
    """Counted, not timed: pairs laid over each other per image stay few as images become many."""
    for count in (50, 800):
        base = cv2.GaussianBlur(rng.normal(size=(12, 12, 3)), (0, 0), 2).astype(np.float32) * 40
        noise = rng.normal(0, 8, (count, 1, 12, 12, 3)).astype(np.float32)
        grids = np.repeat(base + noise + 120, 10, axis=1)
        found = proposals.by_looks(grids)
        assert len(found) <= proposals.PER_IMAGE * count
        assert len(found) > 0


def test_unlike_keypoints_propose_nothing(rng: Rng) -> None:
    points = [
        Keypoints(
            rng.uniform(0, 160, (40, 2)).astype(np.float32),
            rng.integers(0, 120, (40, 128)).astype(np.uint8),
        )
        for _ in range(30)
    ]
    assert len(proposals.by_keypoints(points)) <= 2


def test_clusters() -> None:
    pairs = [("a", "b"), ("c", "d"), ("b", "e"), ("x", "y"), ("d", "c")]
    assert clusters(pairs) == (("a", "b", "e"), ("c", "d"), ("x", "y"))


# shortcuts -------------------------------------------------------------------------------------


def test_a_planted_corner_mark_is_named(tmp_path: Path, smears: Dataset) -> None:
    """A small pale square in one corner of one class: the corners tell the class, and are named."""
    rows = []
    for i, sample in enumerate(smears.samples[:90]):
        image = decode(sample.image).copy()
        label = "ab"[(i // 3) % 2]
        if label == "a":
            image[1:4, 1:4] = 250
        _write(tmp_path, f"{i}.png", image)
        rows.append((f"{i}.png", label, sample.subject or ""))
    _table(tmp_path, rows, replace(smears, labels=_two_classes()))
    report = audit(datasets.open(tmp_path))
    states = {cue.name: cue.state for cue in report.cues}
    assert states.pop("corners") == ALARM
    assert set(states.values()) == {SILENT}
    told = [head["text"] for head in headlines(report) if head["state"] == "bad"]
    assert any(text.startswith("The four corners alone tell the class") for text in told)


@pytest.mark.parametrize("groups", ["image", "subject", "one label per subject"])
def test_no_alarm_without_a_shortcut(groups: str) -> None:
    """Labels dealt by chance, eight seeds; subjects differ strongly in the cue."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        owner = np.repeat(np.arange(24), 12)
        values = rng.normal(size=(len(owner), 6)) + 3 * rng.normal(size=(24, 6))[owner]
        labels = rng.integers(0, 3, len(owner))
        if groups == "one label per subject":
            labels = rng.permutation(np.arange(24) % 3)[owner]
        units = [str(i) for i in (range(len(owner)) if groups == "image" else owner)]
        cue = measure("corners", values.astype(np.float32), [str(x) for x in labels], units)
        assert cue is not None
        assert cue.state == SILENT, (seed, cue)


def test_what_belongs_to_the_subject_is_no_news_about_the_class() -> None:
    """Without groups the subject's own colour would pass for a cue of the class; with them not."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(16), 20)
    values = (3 * rng.normal(size=(16, 3))[owner] + rng.normal(size=(320, 3))).astype(np.float32)
    labels = [str(x) for x in (rng.permutation(16) % 2)[owner]]
    naive = measure("mean colour", values, labels, [str(i) for i in range(320)])
    fair = measure("mean colour", values, labels, [str(x) for x in owner])
    assert naive is not None
    assert fair is not None
    assert naive.state == ALARM
    assert fair.state == SILENT


def test_sizes_that_differ_between_classes_are_told(rng: Rng) -> None:
    """Half of one class in another size: seen among few values, each shared by many images."""
    labels = np.repeat(["a", "b", "c"], 200)
    sizes = np.where((labels == "c") & (np.arange(600) % 2 == 0), 360, 363)[:, None]
    units = [str(i) for i in range(600)]
    cue = measure("size and format", sizes.astype(np.float32), list(labels), units)
    assert cue is not None
    assert cue.state == ALARM
    assert cue.told["c"] == 0.5
    dealt = [str(x) for x in rng.permutation(labels)]
    nothing = measure("size and format", sizes.astype(np.float32), dealt, units)
    assert nothing is not None
    assert nothing.state == SILENT


def test_a_strong_cue_is_told_by_subject_and_a_constant_one_is_chance() -> None:
    owner = np.repeat(np.arange(24), 8)
    truth = (np.arange(24) % 2)[owner]
    labels, units = [str(x) for x in truth], [str(x) for x in owner]
    strong = measure("border", truth[:, None].astype(np.float32) * 20, labels, units)
    nothing = measure("border", np.full((192, 4), 7, np.float32), labels, units)
    assert strong is not None
    assert nothing is not None
    assert strong.balanced_accuracy == 1.0
    assert strong.verdict == "The border strip alone tells the class almost surely"
    assert nothing.state == SILENT
    assert nothing.null[0] <= nothing.balanced_accuracy <= nothing.null[1]


# groups, splits and files ----------------------------------------------------------------------


def test_merged_units_keep_duplicates_on_one_side(
    planted: tuple[Dataset, set[str], AuditReport], tmp_path: Path
) -> None:
    data, _, report = planted
    first, second = data.subjects()[:2]
    one = next(s.id for s in data if s.subject == first)
    two = next(s.id for s in data if s.subject == second)
    joined = merged(data, [*report.groups, (one, two)])
    assert f"{first}+{second}" in joined.subjects()
    assert len(joined.subjects()) == len(data.subjects()) - 1
    opened = datasets.open(write_merged(data, [(one, two)], tmp_path / "merged.json"))
    assert opened.subjects() == joined.subjects()
    table = _rows(write_merged(data, [(one, two)], tmp_path / "labels.csv"))
    groups = {row["file"]: row["group"] for row in table}
    assert groups[one] == groups[two]
    assert len(set(groups.values())) == len(data) - 1
    with pytest.raises(LayoutError, match="written as"):
        write_merged(data, (), tmp_path / "groups.txt")


def test_a_saved_split_is_read(tmp_path: Path, smears: Dataset) -> None:
    split = datasets.single(smears)
    (tmp_path / "split.json").write_text(json.dumps(split.to_json()))
    assert read_split(tmp_path) == read_split(tmp_path / "split.json") == (split,)
    several = datasets.folds(smears, n=3)
    data = {"splits": [one.to_json() for one in several]}
    (tmp_path / "folds.json").write_text(json.dumps(data))
    assert read_split(tmp_path / "folds.json") == several
    (tmp_path / "bad.json").write_text("{}")
    for path, match in ((tmp_path / "bad.json", "no split"), (tmp_path / "x", "no saved split")):
        with pytest.raises(SplitError, match=match):
            read_split(path)


def test_unreadable_images_are_told(tmp_path: Path, smears: Dataset) -> None:
    for i, sample in enumerate(smears.samples[:6]):
        _write(tmp_path / "ab"[i % 2], f"{i}.png", decode(sample.image))
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    data = datasets.open(tmp_path, clinical={"a": "other cell", "b": "other cell"})
    report = audit(data)
    assert [name for name, _ in report.unreadable] == ["a/broken.png"]
    assert any("cannot be read" in head["text"] for head in headlines(report))
    broken = replace(data, samples=tuple(s for s in data if "broken" in s.id))
    with pytest.raises(CellkinError, match="none of the images"):
        audit(broken)


def test_the_folder_and_the_verb(
    planted: tuple[Dataset, set[str], AuditReport],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, truth, report = planted
    words = ["audit", str(data.root), "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", ["cellkin", *words, "--groups", str(tmp_path / "g.json")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert not stopped.value.code
    assert "audit.html" in err
    assert printed["found"]["same file"] == 4
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written == json.loads(json.dumps(report.to_json()))
    rows = _rows(tmp_path / "out" / "audit.csv")
    assert {"|".join(sorted((r["first"], r["second"]))) for r in rows} == truth
    page = (tmp_path / "out" / "audit.html").read_text()
    assert NOTICE in page
    assert "synthetic" not in page  # the planted folder does not say that it is drawn
    assert page.count('class="pair"') == len(truth)
    with pytest.raises(OutputError, match="something here"):
        audit_folder(data, out=tmp_path / "out")


# the page --------------------------------------------------------------------------------------


def _page(report: AuditReport, folder: Path) -> str:
    image = np.full((40, 60, 3), 200, np.uint8)
    return save_audit(report, lambda name: image, folder / "audit.html").read_text()


def test_a_page_without_findings_says_so(
    planted: tuple[Dataset, set[str], AuditReport], tmp_path: Path
) -> None:
    report = replace(planted[2], pairs=(), groups=(), cues=(), subject_cues=())
    page = _page(report, tmp_path)
    assert "No two images show the same, nor overlap" in page
    assert "Not measured" in page
    assert 'class="pair"' not in page


def test_a_page_of_5000_findings_stays_readable(
    planted: tuple[Dataset, set[str], AuditReport], tmp_path: Path
) -> None:
    sides: tuple[tuple[str, str], ...] = (("train", "train"), ("train", "test"))
    pairs = tuple(
        DuplicatePair(
            f"a{i}<b>", f"b{i}", ("x", "y") if i % 3 == 0 else ("x", "x"), (None, None),
            sides[i % 2], "near duplicate", "mirrored", 0.9, 1.0, 1.0,
        )
        for i in range(5000)
    )  # fmt: skip
    report = replace(planted[2], pairs=pairs)
    page = _page(report, tmp_path)
    assert len(shown_pairs(report)) == 3 * SHOWN == page.count('class="pair"')
    assert "1607 more pairs of this section" in page
    assert "<b>" not in "".join(page.split("a0")[1][:8])
    assert len(page) < 3_000_000
