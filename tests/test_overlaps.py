"""Fields that overlap are found whatever their light, focus and scale, and end in one grouping with
what is documented and with what the audit finds.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cellkin import datasets
from cellkin.core.records import Dataset
from cellkin.datasets.auditing import audit, merged
from cellkin.datasets.auditing.fields import FieldLook, field_look, overlapping
from cellkin.datasets.locating.locating import Located, locate
from cellkin.datasets.parts.grouping import clusters, grouped
from cellkin.datasets.readers import allidb1, allidb2
from cellkin.drawing import scene
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.drawn import subject_style
from cellkin.imaging.decode import decode

Bytes = NDArray[np.uint8]
WIDTH, HEIGHT = 640, 480
SCALE = 5.0  # pixels per micrometre, as in a field of 2592 x 1944 shrunk to 1000


def draw_scene(seed: int, width: int, height: int, style: int = 0) -> Bytes:
    rng = np.random.default_rng(seed)
    look = subject_style(np.random.default_rng(style))
    kinds = ["neutrophil", "lymphocyte"] if width > 200 else ["lymphocyte"]
    return scene.draw_field(kinds, rng, look, Canvas((height, width), SCALE))[0]


SMEAR = draw_scene(1, 1240, 940)


def neighbors(share: float, scale: float, diagonal: bool) -> tuple[Bytes, Bytes]:
    """Two fields of one smear that share so much of their area; the second is resampled."""
    wide, high = round(WIDTH / scale), round(HEIGHT / scale)
    along = np.sqrt(share) if diagonal else share
    x = round(WIDTH - along * min(WIDTH, wide))
    y = round(HEIGHT - along * min(HEIGHT, high)) if diagonal else 0
    second = cv2.resize(SMEAR[y : y + high, x : x + wide], (WIDTH, HEIGHT))
    return SMEAR[:HEIGHT, :WIDTH], np.asarray(second, np.uint8)


def blurred(rgb: Bytes) -> Bytes:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2.2), np.uint8)


def cast(rgb: Bytes) -> Bytes:
    return (255 * (rgb / 255) ** [1.2, 0.85, 1.0] * [1.0, 0.8, 0.9]).astype(np.uint8)


def exposed(rgb: Bytes) -> Bytes:
    return (0.65 * rgb.astype(np.float32) + 10).astype(np.uint8)


def noisy(rgb: Bytes) -> Bytes:
    noise = np.random.default_rng(3).normal(0, 3, rgb.shape)
    coded = cv2.imencode(".jpg", np.clip(rgb + noise, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


@pytest.fixture(scope="module")
def strangers() -> list[FieldLook]:
    """Fields of the same style, two in which one cell of the smear is strewn all over, and, last,
    the first field of `neighbors`.
    """
    found = [draw_scene(seed, WIDTH, HEIGHT) for seed in (2, 3)]
    rng = np.random.default_rng(5)
    for _ in range(2):
        field = np.full((HEIGHT, WIDTH, 3), 225, np.uint8)
        for x, y in rng.integers(0, (WIDTH - 60, HEIGHT - 60), (90, 2)):
            field[y : y + 60, x : x + 60] = np.minimum(
                field[y : y + 60, x : x + 60], SMEAR[200:260, 200:260]
            )
        found.append(field)
    return [field_look(rgb) for rgb in (*found, SMEAR[:HEIGHT, :WIDTH])]


@pytest.mark.parametrize(
    ("change", "share", "scale", "diagonal"),
    [
        ((), 0.1, 1.0, False),
        ((blurred,), 0.2, 1.0, True),
        ((cast,), 0.1, 1.0, True),
        ((exposed,), 0.15, 1.0, False),
        ((), 0.15, 0.9, True),
        ((), 0.4, 1.1, False),
        ((blurred, cast, exposed), 0.12, 1.1, False),
        ((blurred, cast, exposed), 0.3, 0.9, True),
    ],
)
def test_neighbors_are_found_and_strangers_are_not(
    change: tuple[object, ...],
    share: float,
    scale: float,
    diagonal: bool,
    strangers: list[FieldLook],
) -> None:
    _, second = neighbors(share, scale, diagonal)
    for step in change:
        second = step(second)  # type: ignore[operator]
    looks = [field_look(noisy(second)), *strangers]
    (found,) = overlapping(looks)
    assert (found.first, found.second) == (0, len(looks) - 1)
    assert found.share == pytest.approx(share, abs=0.03)
    assert np.linalg.det(found.matrix[:, :2]) ** -0.5 == pytest.approx(scale, abs=0.01)


def test_fields_that_show_nothing_overlap_with_nothing() -> None:
    empty, small = (np.full((n, n, 3), 230, np.uint8) for n in (400, 9))
    assert overlapping([field_look(rgb) for rgb in (empty, small, empty, SMEAR)]) == []
    assert overlapping([]) == []


def test_a_place_that_was_photographed_again_and_other_slides(real_data: Path) -> None:
    """Two photographs of one place; six fields of other slides."""
    fields = sorted((real_data / "chula" / "fields").glob("*.jpg"))
    slides = {path.name.split("_")[0]: path for path in fields}
    again = [real_data / "chula" / "fields" / f"B-30_{n}.jpg" for n in ("0097", "0106")]
    others = [path for slide, path in slides.items() if slide != "B-30"][:6]
    found = overlapping([field_look(decode(path)) for path in (*again, *others)])
    assert [(pair.first, pair.second) for pair in found] == [(0, 1)]


# one grouping ----------------------------------------------------------------------------------


names = st.sampled_from("abcdefgh")


@given(st.lists(st.lists(names, max_size=3)), st.dictionaries(names, st.sampled_from("rstu")))
def test_groups_are_the_connected_components_of_all_links(
    links: list[list[str]], own: dict[str, str]
) -> None:
    """Against spreading along the links until nothing moves."""
    reach = {i: {i} for i in own}
    together = [*([i, j] for i in own for j in own if own[i] == own[j]), *links]
    for _ in own:
        for link in together:
            known = [i for i in link if i in own]
            whole = set().union(*(reach[i] for i in known))
            for i in whole:
                reach[i] = whole
    found = grouped(own, links)
    for i, j in itertools.product(own, repeat=2):
        assert (found[i] == found[j]) == (j in reach[i])
    assert {name for group in found.values() for name in group.split("+")} == set(own.values())


def test_clusters_do_not_hang_on_the_order() -> None:
    links = [("a", "b"), ("c", "d"), ("b", "e"), ("x", "y", "z")]
    for order in itertools.permutations(links):
        assert clusters(order) == (("a", "b", "e"), ("x", "y", "z"), ("c", "d"))


def save(path: Path, rgb: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def located(folder: Path) -> Located:
    return locate(folder / "crops", folder / "fields", scales=(1, 1), all_orientations=False)


def test_a_cell_in_two_fields_joins_them(tmp_path: Path) -> None:
    """Its crops show one cell, turned by a quarter: the pair of crops joins the fields."""
    first, second = draw_scene(11, 420, 400), draw_scene(12, 420, 400)
    second[100:240, 100:240] = np.rot90(first[60:200, 60:200])
    save(tmp_path / "fields" / "a.png", first)
    save(tmp_path / "fields" / "b.png", second)
    save(tmp_path / "fields" / "c.png", draw_scene(13, 420, 400))
    save(tmp_path / "crops" / "1.png", first[60:190, 60:190])
    save(tmp_path / "crops" / "2.png", second[104:234, 104:234])
    found = located(tmp_path)
    assert [place.field for place in found.crops] == ["a.png", "b.png"]
    assert {place.group for place in found.crops} == {"a.png+b.png"}
    assert found.groups == {"a.png": "a.png+b.png", "b.png": "a.png+b.png", "c.png": "c.png"}
    assert found.counts()["found"] == 2


def test_documented_fields_and_cells_are_joined_unless_they_are_drawn(tmp_path: Path) -> None:
    for number, name in enumerate(("Im018_1", "Im019_1", "Im020_1", "Im018_0")):
        save(tmp_path / "fields" / "im" / f"{name}.jpg", draw_scene(20 + number, 300, 260))
    for number, name in enumerate(("Im222_0", "Im256_0", "Im300_0", "Im222_1")):
        save(tmp_path / "crops" / "img" / f"{name}.tif", draw_scene(30 + number, 140, 140))
    for crops, fields in (("crops", "fields"), ("crops/img", "fields/im")):
        found = locate(tmp_path / crops, tmp_path / fields, scales=(1, 1), all_orientations=False)
        assert sorted(map(sorted, _sets(found.groups))) == [
            ["Im018_0"],
            ["Im018_1", "Im019_1"],
            ["Im020_1"],
        ]
        cells = {place.crop: place.group for place in found.crops}
        assert sorted(map(sorted, _sets(cells))) == [
            ["Im222_0", "Im256_0"],
            ["Im222_1"],
            ["Im300_0"],
        ]
    for folder in ("crops", "fields"):
        (tmp_path / folder / "dataset.json").write_text(json.dumps({"drawn": True}))
    found = locate(
        tmp_path / "crops/img", tmp_path / "fields/im", scales=(1, 1), all_orientations=False
    )
    assert len(set(found.groups.values())) == len({place.group for place in found.crops}) == 4


def _sets(groups: dict[str, str]) -> list[set[str]]:  # type: ignore[type-arg]
    return [
        {Path(i).stem for i, g in groups.items() if g == group} for group in set(groups.values())
    ]


@pytest.fixture
def fields(tmp_path: Path) -> Dataset:
    """Four fields: two overlap, out of focus and in other colours; one has the label of another."""
    first, second = neighbors(0.3, 1.0, diagonal=False)
    save(tmp_path / "normal" / "1.png", first)
    save(tmp_path / "normal" / "2.png", draw_scene(2, WIDTH, HEIGHT))
    save(tmp_path / "lymphoblast" / "1.png", cast(blurred(second)))
    save(tmp_path / "lymphoblast" / "2.png", draw_scene(3, WIDTH, HEIGHT))
    return datasets.open(tmp_path)


def test_the_audit_finds_overlapping_fields_and_joins_them(fields: Dataset) -> None:
    report = audit(fields)
    (pair,) = report.pairs
    assert {pair.first, pair.second} == {"normal/1.png", "lymphoblast/1.png"}
    assert (pair.kind, pair.crosses[0]) == ("overlap", "class")
    assert pair.overlap == pytest.approx(0.3, abs=0.02)
    assert "overlapping by " in pair.relation
    assert "in other colours" in pair.relation
    groups = {sample.id: sample.group for sample in merged(fields, report.groups)}
    assert groups["normal/1.png"] == groups["lymphoblast/1.png"]
    assert len(set(groups.values())) == 3


def test_more_fields_than_can_be_compared_are_said(
    fields: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pairs", "auditing"):
        monkeypatch.setattr(f"cellkin.datasets.auditing.{module}.FIELDS", 3)
    report = audit(fields)
    assert report.pairs == ()
    assert any("4 whole fields of view are too many" in note for note in report.notes)


def test_what_readers_document_is_what_their_groups_say(tmp_path: Path) -> None:
    for name in ("Im018_1", "Im019_1", "Im020_0"):
        save(tmp_path / "im" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    listing = datasets.listing.list_folder(tmp_path)
    both = dict.fromkeys(("im/Im018_1.png", "im/Im019_1.png"), "Im018_1+Im019_1")
    assert allidb1.documented(listing) == both
    assert allidb2.documented(listing) == ((),)
    groups = {sample.id: sample.group for sample in datasets.open(tmp_path)}
    assert groups == {
        "im/Im018_1.png": "Im018_1+Im019_1",
        "im/Im019_1.png": "Im018_1+Im019_1",
        "im/Im020_0.png": "Im020_0",
    }
