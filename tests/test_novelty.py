"""Unknown kinds: told in a space that nobody trained, kept in the atlas, said in every decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellkin.atlas import Atlas, novel
from cellkin.core.artifacts import read_json
from cellkin.core.decisions import Decision
from cellkin.core.errors import ArtifactError, DecisionError, RecipeError
from cellkin.core.records import Dataset
from cellkin.decision import Conformal, Kinds, p_value
from cellkin.learning.frozen import STAGES, frozen_encoder
from cellkin.report.telling import tell
from cellkin.system import DecisionSupport, IndexOptions, index

# --- the oddness --------------------------------------------------------------------------------


def clouds(rng: np.random.Generator, count: int = 60) -> tuple[np.ndarray, list[str]]:
    """Three classes whose own scatter is large along directions that tell nothing."""
    middles = np.zeros((3, 12))
    middles[[0, 1, 2], [0, 1, 2]] = 4.0
    spread = np.where(np.arange(12) < 6, 0.5, 6.0)
    points = [m + rng.normal(size=(count, 12)) * spread for m in middles]
    return np.concatenate(points), [name for name in "abc" for _ in range(count)]


def test_oddness_is_the_angle_by_the_formula(rng: np.random.Generator) -> None:
    known, labels = clouds(rng)
    kinds = Kinds.fit(known, labels)
    scaled = (known - known.mean(0)) / (known.std(0) + 1e-6)
    means = {c: scaled[[x == c for x in labels]].mean(0) for c in "abc"}
    within = scaled - np.stack([means[c] for c in labels])
    scatter = within.T @ within / len(known)
    inverse = np.linalg.inv(scatter + 0.1 * np.trace(scatter) / 12 * np.eye(12))

    def cosine(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y)))

    odd, near = kinds.oddness(known[::7])
    for one, score, place in zip(scaled[::7], odd, near, strict=True):
        angles = [1 - cosine(one, means[c]) for c in "abc"]
        assert score == pytest.approx(min(angles))
        assert place == int(np.argmin(angles))


def test_an_unknown_kind_is_odd_and_no_answer_depends_on_the_others(
    rng: np.random.Generator,
) -> None:
    known, labels = clouds(rng)
    kinds = Kinds.fit(known, labels)
    strange = known[:60] - np.eye(12)[0] * 8.0  # off all means, no farther from the middle
    inside, outside = kinds.oddness(clouds(rng)[0])[0], kinds.oddness(strange)[0]
    assert np.mean(outside > np.quantile(inside, 0.95)) > 0.9
    alone = [kinds.oddness(row[None])[0][0] for row in strange[:5]]
    assert alone == kinds.oddness(strange)[0][:5].tolist()


def test_one_class_is_no_ground_to_call_a_kind_unknown() -> None:
    with pytest.raises(DecisionError, match="two known classes"):
        Kinds.fit(np.ones((4, 3)), ["a"] * 4)


def test_p_values_are_those_of_the_nearest_class_where_it_has_cells_enough() -> None:
    many, few = np.linspace(0, 1, 57), [0.9] * 3  # three times the 19 that are needed
    scores = Conformal.from_cells(
        ["a"] * 57 + ["b"] * 3, [str(i) for i in range(60)], [*many, *few], unit="cell"
    )
    assert p_value(scores, "a", 0.5, 0.95) == pytest.approx((1 + np.sum(many >= 0.5)) / 58)
    assert p_value(scores, "b", 0.5, 0.95) == pytest.approx((1 + np.sum(many >= 0.5) + 3) / 61)
    assert p_value(scores, "a", 0.5, 0.99) is None  # 99 are needed


def test_known_cells_are_refused_as_often_as_was_allowed(rng: np.random.Generator) -> None:
    refused = []
    for _ in range(12):
        known, labels = clouds(rng, 80)
        kinds = Kinds.fit(known, labels)
        odd, near = kinds.oddness(clouds(rng, 40)[0])
        scores = Conformal.from_cells(
            [kinds.classes[i] for i in near], [str(i) for i in range(len(odd))], odd, unit="cell"
        )
        odd, near = kinds.oddness(clouds(rng, 80)[0])
        p = [p_value(scores, kinds.classes[i], s, 0.9) for i, s in zip(near, odd, strict=True)]
        refused.append(np.mean([value is not None and value <= 0.1 for value in p]))
    assert np.mean(refused) == pytest.approx(0.1, abs=0.035)


# --- the space ----------------------------------------------------------------------------------


def weighed(stage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each channel (C, h, w) around the middle, position by position."""
    height, width = stage.shape[1:]
    total, mean, square = 0.0, np.zeros(len(stage)), np.zeros(len(stage))
    for i in range(height):
        for j in range(width):
            y, x = (i - (height - 1) / 2) / height, (j - (width - 1) / 2) / width
            weight = np.exp(-(x * x + y * y) / (2 * 0.15**2))
            total += weight
            mean += weight * stage[:, i, j]
            square += weight * stage[:, i, j].astype(np.float64) ** 2
    mean, square = mean / total, square / total
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def test_the_frozen_space_says_the_stages_and_hangs_on_no_batch(rng: np.random.Generator) -> None:
    encoder, space = frozen_encoder(48)
    images = rng.integers(0, 255, (5, 48, 48, 3)).astype(np.uint8)
    vectors = encoder.vectors(images)
    caught: list[np.ndarray] = []
    hooks = [
        encoder.network.body.blocks[i].register_forward_hook(  # type: ignore[union-attr,index]
            lambda _, __, out: caught.append(out.numpy())
        )
        for i in STAGES
    ]
    encoder.vectors(images[:1])
    for hook in hooks:
        hook.remove()
    told = [value for out in caught[-len(STAGES) :] for value in weighed(out[0])]
    assert vectors[0] == pytest.approx(np.concatenate(told), abs=1e-4)
    for i, image in enumerate(images):
        assert np.array_equal(encoder.vectors(image[None])[0], vectors[i])
    assert space != frozen_encoder(64)[1]


# --- the atlas ----------------------------------------------------------------------------------


def test_an_atlas_keeps_its_frozen_side(atlas_folder: Path, smears: Dataset) -> None:
    atlas = Atlas.open(atlas_folder)
    assert atlas.frozen is not None
    assert atlas.frozen.vectors.shape[0] == len(atlas.cells)
    images = np.stack([atlas.image(i) for i in range(4)])
    encoder, space = frozen_encoder(atlas.encoder.preprocessor.size)
    assert space == atlas.frozen.space
    assert np.array_equal(encoder.vectors(images), atlas.frozen.vectors[:4])
    counts = atlas.frozen.scores.counts()
    assert sum(counts.values()) > 0
    assert atlas.id != replace(atlas, frozen=None).id


def test_every_decision_says_whether_the_kind_is_known(
    support: DecisionSupport, smears: Dataset
) -> None:
    found = support.decide([s.image.path for s in smears.samples[:6]])
    for one in found:
        assert isinstance(one, Decision)
        assert one.novelty is not None
        assert one.novelty.unknown == ("unknown" in one.reasons)
        assert Decision.from_json(one.to_json()) == one
        assert tell(one, support.atlas.labels).novelty[0]
    alone = support.decide(smears.samples[3].image.path)
    assert alone.novelty == found[3].novelty


def judged_by(support: DecisionSupport, smears: Dataset, scores: list[float]) -> Decision:
    """A decision where held-out cells were as odd as this."""
    atlas = support.atlas
    assert atlas.frozen is not None
    names = [str(i) for i in range(len(scores))]
    kept = Conformal.from_cells([atlas.labels.names[0]] * len(scores), names, scores, unit="cell")
    changed = replace(atlas, frozen=replace(atlas.frozen, scores=kept))
    return DecisionSupport(changed).decide(smears.samples[0].image.path)


def test_an_odd_cell_is_refused_and_few_cells_judge_nobody(
    support: DecisionSupport, smears: Dataset
) -> None:
    odd = judged_by(support, smears, [0.0] * 40)
    assert odd.novelty is not None
    assert (odd.novelty.unknown, odd.state) == (True, "abstained")
    assert "unknown" in odd.reasons
    assert "of no kind that it knows" in tell(odd, support.atlas.labels).because[-1]
    usual = judged_by(support, smears, [2.0] * 40)
    assert usual.novelty is not None
    assert not usual.novelty.unknown
    few = judged_by(support, smears, [0.0] * 5)
    assert few.novelty is not None
    assert (few.novelty.p, few.novelty.unknown) == (None, False)


def test_it_can_be_left_out_and_older_atlases_open_without(
    atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    folder = index(atlas_folder, smears, out=tmp_path / "off", options=IndexOptions(novelty="off"))
    told = read_json(folder / "facts.json")
    assert told["frozen"] is None
    without = DecisionSupport.open(folder)
    one = without.decide(smears.samples[0].image.path)
    assert one.novelty is None
    assert tell(one, without.atlas.labels).novelty[0] == "not available"
    with pytest.raises(RecipeError, match="--novelty"):
        IndexOptions(novelty="maybe")


def test_other_packaged_weights_are_refused(support: DecisionSupport, smears: Dataset) -> None:
    atlas = support.atlas
    assert atlas.frozen is not None
    other = replace(atlas, frozen=replace(atlas.frozen, space="another"))
    one = support.decide(smears.samples[0].image.path)
    with pytest.raises(ArtifactError, match="packaged weights"):
        novel(other, [one], atlas.image(0)[None])
