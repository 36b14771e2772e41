"""Reference cells as pictures: near copies, the border, the typical cell; words by percentiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellkin import report
from cellkin.atlas import Atlas
from cellkin.atlas.portrait import NAMES, NOTHING, Portrait
from cellkin.atlas.portraying import border, described, looks, near_equal
from cellkin.core.artifacts import read_json
from cellkin.core.descriptions import MEASURES, Trait, Traits
from cellkin.core.errors import ArtifactError
from cellkin.core.records import Evidence, LabelSet
from cellkin.evidence.traits import NO_PORTRAIT, traits
from cellkin.report.morphology import morphology, sentence
from cellkin.system import DecisionSupport
from cellkin.system.company import Company
from cellkin.web.evidence import evidence_json


@pytest.fixture(scope="module")
def atlas(support: DecisionSupport) -> Atlas:
    return support.atlas


@pytest.fixture(scope="module")
def images(atlas: Atlas) -> list[np.ndarray]:
    return [np.asarray(atlas.image(i)) for i in range(len(atlas.cells))]


def grouped(atlas: Atlas, *together: int) -> Atlas:
    """The atlas with these references as near copies of each other."""
    assert atlas.portrait is not None
    groups = np.arange(len(atlas.cells)) + 10_000
    groups[list(together)] = 1
    return replace(atlas, portrait=replace(atlas.portrait, groups=groups))


def seen(atlas: Atlas, image: np.ndarray) -> Evidence:
    return DecisionSupport(atlas).explain(image, gate=False)


# what is kept ------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["turned", "mirrored", "brighter", "another"])
def test_near_copies_are_found_however_they_lie(
    atlas: Atlas, images: list[np.ndarray], changed: str
) -> None:
    near, _ = atlas.index.nearest(atlas.scaled, 1, exclude=[{i} for i in range(len(images))])
    twin = int(near[0, 0])
    made = {
        "turned": np.rot90(images[0]),
        "mirrored": images[0][:, ::-1],
        "brighter": np.clip(images[0] * 1.05, 0, 255).astype(np.uint8),
        "another": np.random.default_rng(0).integers(0, 255, images[0].shape).astype(np.uint8),
    }[changed]
    groups = near_equal(atlas, [*images[:twin], made, *images[twin + 1 :]])
    assert (groups[0] == groups[twin]) is np.bool_(changed != "another")


def test_the_border_is_where_a_cell_has_kin_of_another_side(atlas: Atlas) -> None:
    own = atlas.own(atlas.cells.owners(atlas.unit))
    sides = [atlas.labels.side(label) for label in atlas.cells.labels]
    found = border(atlas)
    assert found.any()
    assert not found.all()
    for i in range(0, len(sides), 7):
        away = np.linalg.norm(atlas.scaled - atlas.scaled[i], axis=1)
        away[list(own[i] | {i})] = np.inf
        kin = np.argsort(away, kind="stable")[: atlas.k]
        assert found[i] == any(sides[j] != sides[i] for j in kin)


def test_classes_with_few_cells_are_not_described_and_large_ones_in_part() -> None:
    rows = described(["few"] * 19 + ["enough"] * 20 + ["many"] * 400)
    assert [int(((rows >= a) & (rows < b)).sum()) for a, b in ((0, 19), (19, 39), (39, 439))] == [
        0, 20, 150,
    ]  # fmt: skip
    assert described(["a"] * 3).shape == (0,)


def test_a_portrait_is_kept_in_the_folder_and_decides_nothing(
    atlas: Atlas, atlas_folder: Path
) -> None:
    kept = atlas.portrait
    assert kept is not None
    told = read_json(atlas_folder / "facts.json")["portrait"]
    read = Portrait.read(told, kept.arrays())
    assert read is not None
    assert all(np.array_equal(getattr(read, n), getattr(kept, n)) for n in NAMES)
    assert replace(atlas, portrait=None).id == atlas.id
    assert Portrait.read(None, {}) is None
    with pytest.raises(ArtifactError, match="portrait"):
        Portrait.read(told, {})


# who is shown ------------------------------------------------------------------------------------


def test_near_copies_share_one_place_and_another_cell_takes_the_other(
    atlas: Atlas, images: list[np.ndarray], tmp_path: Path
) -> None:
    first = seen(atlas, images[5])
    kin = [atlas.cells.positions[n.id] for n in first.decision.neighbors]
    changed = grouped(atlas, *kin[:2])
    evidence = seen(changed, images[5])
    assert [n.id for n in evidence.decision.neighbors] == [n.id for n in first.decision.neighbors]
    assert evidence.copies == ("", evidence.decision.neighbors[0].id, *[""] * (atlas.k - 2))
    roles = [one.role for one in evidence.beside]
    assert roles.count("next kin") == 1
    page = report.save(evidence, tmp_path / "page.html").read_text(encoding="utf-8")
    said = "kin 2 is a near copy of it and voted as well"
    assert said in page
    assert "Neighbour 2," not in page
    sent = evidence_json(evidence, {"id": "q", "image": ""})
    assert sent["copies"][0] == said
    assert [one["id"] for one in sent["beside"]] == [b.neighbor.id for b in evidence.beside]


def test_no_picture_is_shown_twice(atlas: Atlas, images: list[np.ndarray]) -> None:
    """Neither among kin, opponents and those beside, whatever the groups are."""
    for position in (0, 9, 21):
        whole = seen(atlas, images[position])
        assert whole.counter is not None
        kin, against = whole.decision.neighbors, whole.counter.neighbors
        mixed = grouped(atlas, *(atlas.cells.positions[n.id] for n in (kin[0], against[0])))
        evidence = seen(mixed, images[position])
        assert evidence.counter is not None
        shown = [n for n, c in zip(kin, evidence.copies, strict=True) if not c]
        shown += [*evidence.counter.neighbors, *(one.neighbor for one in evidence.beside)]
        groups = Company(mixed).groups(shown)
        assert len(set(groups)) == len(groups)


def test_the_typical_cell_is_the_medoid_and_the_borderline_one_is_near(
    atlas: Atlas, images: list[np.ndarray]
) -> None:
    evidence = seen(atlas, images[0])
    label, company = evidence.decision.label, Company(atlas)
    rows = [i for i, name in enumerate(atlas.cells.labels) if name == label]
    sums = [((atlas.scaled[rows] - atlas.scaled[i]) ** 2).sum() for i in rows]
    assert company._typical[label][0] == rows[int(np.argmin(sums))]
    assert {one.neighbor.label for one in evidence.beside if one.role != "next kin"} <= {label}
    assert atlas.portrait is not None
    for one in evidence.beside:
        position = atlas.cells.positions[one.neighbor.id]
        away = np.linalg.norm(atlas.scaled[position] - atlas.scaled[0])
        assert one.neighbor.distance == pytest.approx(away, abs=1e-3)
        assert one.role != "borderline" or atlas.portrait.border[position]


def test_an_atlas_without_a_portrait_opens_and_says_so(
    atlas: Atlas, images: list[np.ndarray]
) -> None:
    evidence = seen(replace(atlas, portrait=None), images[0])
    assert evidence.beside == ()
    assert evidence.traits == Traits(
        (), evidence.decision.label, evidence.traits and evidence.traits.other, 0, 0, NO_PORTRAIT
    )
    assert evidence.beside_absent == NO_PORTRAIT
    assert morphology(evidence.traits, atlas.labels) == {"absent": NO_PORTRAIT}


# words -------------------------------------------------------------------------------------------

LABELS = LabelSet(("lymphoblast", "normal"), {"lymphoblast": "lymphoblast", "normal": "other cell"})


def test_percentiles_are_shares_of_the_cells_of_a_class(
    atlas: Atlas, images: list[np.ndarray]
) -> None:
    """By hand: as many cells of each class as have at least, or at most, as much."""
    image = images[0]
    value = looks([image])[0][0]
    names, own = atlas.cells.labels, atlas.cells.labels[0]
    other = next(n for n in names if not atlas.labels.right(n, own))
    rows = np.array([i for i, n in enumerate(atlas.cells.labels) if n in (own, other)])[:60]
    measures = np.tile(value, (len(rows), 1)).astype(np.float32)
    is_own = np.array([atlas.labels.right(atlas.cells.labels[i], own) for i in rows])
    measures[:, 0] += np.where(is_own, 0.1, -0.1)  # a larger nucleus in all of its class
    measures[0, 0] = NOTHING
    assert atlas.portrait is not None
    kept = replace(atlas.portrait, rows=rows, measures=measures,
                   codes=np.zeros((len(rows), 11), np.uint8), words={})  # fmt: skip
    found = traits(replace(atlas, portrait=kept), image, own, other)
    assert (found.cells, found.others) == (int(is_own.sum()), int((~is_own).sum()))
    first = found.found[0]
    assert first.name == MEASURES[0]
    assert (first.own, first.other, first.more) == (1.0, 0.0, True)
    assert not any(t.learned for t in found.found)  # the words of another network are left out


def test_a_trait_in_words_is_a_percentile_and_no_cause() -> None:
    trait = Trait("nucleus_share", 0.84, 0.9, 0.12)
    assert sentence(trait, "lymphoblast", "normal") == (
        "The nucleus fills 84 % of the cell, as much or more in 90 % of the lymphoblasts of this "
        "atlas; among “normal” 12 %."
    )
    word = Trait("chromatin_density", "dense", 0.6, None, learned=True)
    told = sentence(word, "lymphoblast", None)
    assert (
        told
        == "Chromatin density: dense, the same word for 60 % of the lymphoblasts of this atlas."
    )
    both = morphology(Traits((trait, word), "lymphoblast", "normal", 40, 25), LABELS)
    assert both["sentences"] == [sentence(trait, "lymphoblast", "normal")]
    assert (both["own_title"], both["other_title"]) == ("40 lymphoblasts", "25 “normal”")
    assert both["extrapolated"]
    assert [row["learned"] for row in both["rows"]] == [False, True]
    assert not {"because", "cause", "diagnos"} & set(" ".join(both["sentences"]).lower().split())
    few = Traits((trait,), "Lymphocyte", None, 40, 0)
    assert not morphology(few, LabelSet(("Lymphocyte",), {"Lymphocyte": "other cell"}))[
        "extrapolated"
    ]
    assert morphology(None, LABELS) == {"absent": "not asked"}
