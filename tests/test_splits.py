"""Splits: disjoint, complete, stratified, by subject, seeded, and independent of file order."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cellkin import datasets
from cellkin.core.errors import SplitError
from cellkin.core.records import OTHER_CELL, Dataset, ImageRef, LabelSet, Sample, Split
from cellkin.datasets.parts.balance import Unit, deal_cells, deal_units
from cellkin.datasets.parts.splits import SHARED_CALIBRATION


def dataset(samples: Sequence[Sample]) -> Dataset:
    names = tuple(sorted({s.label for s in samples}))
    labels = LabelSet(names, dict.fromkeys(names, OTHER_CELL))
    return Dataset("made", tuple(samples), labels, root=Path("made"))


def cell(
    i: int, label: str, subject: str | None = None, *, group: str | None = None, fold: str = ""
) -> Sample:
    name = f"{label}/{i:05d}.png"
    return Sample(
        name, ImageRef(Path(name)), ((label,),), subject=subject, group=group, fold=fold or None
    )


def by_image(counts: Sequence[int]) -> Dataset:
    return dataset([cell(i, f"c{k}") for k, n in enumerate(counts) for i in range(n)])


def by_subject(sizes: Sequence[tuple[int, int]], **extra: str) -> Dataset:
    """One subject per (class, cells)."""
    samples: list[Sample] = []
    for s, (k, n) in enumerate(sizes):
        samples += [cell(len(samples) + i, f"c{k}", f"s{s}", **extra) for i in range(n)]
    return dataset(samples)


def subject_of(data: Dataset) -> dict[str, str | None]:
    return {s.id: s.subject for s in data}


def all_ids(split: Split) -> list[str]:
    return [i for ids in split.parts().values() for i in ids]


image_counts = st.lists(st.integers(3, 40), min_size=2, max_size=5)
subject_sizes = st.lists(st.integers(1, 30), min_size=5, max_size=12).flatmap(
    lambda first: st.lists(st.integers(1, 30), min_size=5, max_size=12).map(
        lambda second: [(0, n) for n in first] + [(1, n) for n in second]
    )
)
seeds = st.integers(0, 2**31)


# --- properties ------------------------------------------------------------------------------


@given(image_counts, st.integers(3, 7), seeds)
@settings(max_examples=40, deadline=None)
def test_by_image_is_disjoint_complete_and_stratified(counts: list[int], n: int, seed: int) -> None:
    data = by_image(counts)
    labels = {s.id: s.label for s in data}
    assume(n <= len(data))
    splits = datasets.folds(data, n=n, seed=seed)
    tested = Counter(i for split in splits for i in split.test)
    assert tested == Counter(s.id for s in data), "every cell is tested exactly once"
    for i, split in enumerate(splits):
        assert split.unit == "image"
        assert sorted(all_ids(split)) == sorted(labels), "each cell lies in exactly one part"
        assert set(split.val) | set(split.calibration) == set(splits[(i + 1) % n].test)
        for k, count in enumerate(counts):
            found = sum(labels[j] == f"c{k}" for j in split.test)
            assert abs(found - count / n) < 1, "stratified within one cell"
        assert abs(len(split.test) - len(data) / n) < 1


@given(subject_sizes, seeds)
@settings(max_examples=40, deadline=None)
def test_by_subject_no_subject_is_on_two_sides(sizes: list[tuple[int, int]], seed: int) -> None:
    data = by_subject(sizes)
    owner = subject_of(data)
    splits = datasets.folds(data, seed=seed)
    assert Counter(i for s in splits for i in s.test) == Counter(list(owner))
    for split in splits:
        assert split.unit == "subject"
        assert sorted(all_ids(split)) == sorted(owner)
        sides = [{owner[i] for i in ids} for ids in split.parts().values()]
        assert sum(map(len, sides)) == len(set().union(*sides))
        labels = {i.split("/")[0] for i in split.test}
        assert labels == {"c0", "c1"}, "five subjects of a class reach all five folds"


@given(subject_sizes, seeds, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_files_does_not_matter_and_the_seed_decides(
    sizes: list[tuple[int, int]], seed: int, shuffler: random.Random
) -> None:
    data = by_subject(sizes)
    shuffled = list(data.samples)
    shuffler.shuffle(shuffled)
    other = dataclasses.replace(data, samples=tuple(shuffled))
    for unit in ("subject", "image"):
        assert datasets.folds(data, seed=seed, unit=unit) == datasets.folds(
            other, seed=seed, unit=unit
        )


def test_other_seeds_give_other_splits() -> None:
    image = {datasets.single(by_image([30, 30]), seed=seed).test for seed in range(10)}
    assert len(image) == 10
    data = by_subject([(k, n) for k in (0, 1) for n in range(4, 24)])
    subject = {
        frozenset(split.test for split in datasets.folds(data, seed=seed)) for seed in range(10)
    }
    assert len(subject) == 10, "the partition itself differs, not only the order of the folds"


def test_global_random_state_is_neither_read_nor_changed() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    first = datasets.single(by_image([20, 20]), seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # type: ignore[index]
    assert datasets.single(by_image([20, 20]), seed=3) == first


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(2, 6), seeds)
@settings(max_examples=40, deadline=None)
def test_deal_cells(counts: list[int], parts: int, seed: int) -> None:
    classes = {f"c{k}": [f"{k}-{i}" for i in range(n)] for k, n in enumerate(counts)}
    dealt = deal_cells(classes, parts, np.random.default_rng(seed))
    assert sorted(i for part in dealt for i in part) == sorted(
        i for c in classes.values() for i in c
    )
    totals = [len(part) for part in dealt]
    assert max(totals) - min(totals) <= 1
    for k in range(len(counts)):
        found = [sum(i.startswith(f"{k}-") for i in part) for part in dealt]
        assert max(found) - min(found) <= 1


@given(st.lists(st.integers(1, 60), min_size=10, max_size=40), seeds)
@settings(max_examples=30, deadline=None)
def test_dealt_units_are_about_even(sizes: list[int], seed: int) -> None:
    units = [Unit(f"u{i}", (f"u{i}",), (n,)) for i, n in enumerate(sizes)]
    dealt = deal_units(units, 5, np.random.default_rng(seed), train=True)
    assert sorted(u.name for part in dealt for u in part) == sorted(u.name for u in units)
    totals = [sum(u.counts[0] for u in part) for part in dealt]
    # Each unit went to the emptiest part: no part exceeds another by more than its last unit.
    assert max(totals) - min(totals) <= max(sizes)


def test_units_of_several_classes_reach_every_part() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        units = [Unit(f"a{i}", (), (int(rng.integers(1, 50)), 0, 0)) for i in range(5)]
        units += [Unit(f"b{i}", (), (0, int(rng.integers(1, 50)), 1)) for i in range(6)]
        units += [Unit(f"c{i}", (), (1, 1, int(rng.integers(1, 50)))) for i in range(5)]
        dealt = deal_units(units, 5, rng, train=True)
        for part in dealt:
            assert all(sum(u.counts[k] for u in part) > 0 for k in range(3))


def test_two_subjects_of_a_class_still_train_it_in_every_fold() -> None:
    data = by_subject([(0, 5)] * 8 + [(1, 4), (1, 7)])
    for seed in range(10):
        for split in datasets.folds(data, seed=seed):
            assert any(i.startswith("c1/") for i in split.train)


# --- units -----------------------------------------------------------------------------------


def test_the_unit_is_the_subject_then_the_group_then_the_image() -> None:
    subject = by_subject([(0, 2), (1, 2)])
    assert datasets.split_unit(subject) == "subject"
    group = dataset([cell(i, "c0", group=f"g{i // 2}") for i in range(4)])
    assert datasets.split_unit(group) == "slide/field"
    assert datasets.split_unit(by_image([3, 3])) == "image"


def test_fields_are_the_unit_where_some_subjects_are_not_known() -> None:
    known = [cell(i, "c0", group=f"g{i // 3}", subject="s") for i in range(30)]
    data = dataset([*known, *(cell(i, "c1", group=f"h{i // 3}") for i in range(30))])
    split = datasets.single(data)
    assert split.unit == "slide/field"
    assert "although subjects are known" in split.note


def test_groups_are_kept_on_one_side() -> None:
    data = dataset([cell(i, f"c{i // 30}", group=f"g{i // 3}") for i in range(60)])
    groups = {s.id: s.group for s in data}
    for split in datasets.folds(data):
        assert split.unit == "slide/field"
        sides = [{groups[i] for i in ids} for ids in split.parts().values()]
        assert sum(map(len, sides)) == 20


@pytest.mark.parametrize("what", ["subject", "slide/field"])
def test_a_unit_known_for_some_images_only_is_refused(what: str) -> None:
    known = {"subject": "s1"} if what == "subject" else {"group": "g1"}
    data = dataset([cell(0, "c0", **known), *(cell(i, "c1") for i in range(6))])
    with pytest.raises(SplitError) as caught:
        datasets.split_unit(data)
    assert f"6 of 7 images have no {what}" in caught.value.what
    assert "--by image" in caught.value.mend
    with pytest.raises(SplitError, match="6 of 7"):
        datasets.folds(data, unit=what)


def test_by_image_although_subjects_are_known_is_said() -> None:
    data = by_subject([(k, 6) for k in (0, 1) for _ in range(6)])
    split = datasets.single(data, unit="image")
    assert split.unit == "image"
    assert "by image although subjects are known: cells of one subject are on both" in split.note
    assert "although" not in datasets.single(data).note


# --- calibration -----------------------------------------------------------------------------


def test_calibration_is_about_half_of_the_validation_part() -> None:
    split = datasets.single(by_image([50, 100]))
    assert (len(split.val), len(split.calibration)) == (15, 15)
    labels = Counter(i.split("/")[0] for i in split.calibration)
    assert labels == {"c0": 5, "c1": 10}
    assert SHARED_CALIBRATION not in split.note


@given(subject_sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_calibration_keeps_every_class_or_is_not_cut(
    sizes: list[tuple[int, int]], seed: int
) -> None:
    for split in datasets.folds(by_subject(sizes), seed=seed):
        assert (SHARED_CALIBRATION in split.note) == (split.calibration == ())
        if split.calibration:
            halves = [{i.split("/")[0] for i in p} for p in (split.val, split.calibration)]
            assert halves[0] == halves[1]


def test_calibration_of_subjects_with_several_classes() -> None:
    """Subjects {0, 1}, {1, 2}, {0, 2}: two of each class, yet no cut leaves every class on both."""
    samples = []
    for s in range(15):
        for k in range(3):
            if k != s % 3:
                samples += [cell(len(samples) + i, f"c{k}", f"s{s}") for i in range(4)]
    data, undivided = dataset(samples), 0
    for seed in range(10):
        for split in datasets.folds(data, seed=seed):
            parts = [{i.split("/")[0] for i in p} for p in (split.val, split.calibration)]
            assert not split.calibration or parts[0] == parts[1]
            undivided += not split.calibration and len(parts[0]) == 3
    assert undivided, "the case in question occurs"


def test_one_validation_subject_per_class_is_not_divided() -> None:
    data = by_subject([(k, 10) for k in (0, 1) for _ in range(5)])
    for split in datasets.folds(data):
        assert split.calibration == ()
        assert SHARED_CALIBRATION in split.note


def test_two_validation_subjects_per_class_are_divided() -> None:
    data = by_subject([(k, 10) for k in (0, 1) for _ in range(10)])
    for split in datasets.folds(data):
        assert (len(split.val), len(split.calibration)) == (20, 20)


# --- official folds --------------------------------------------------------------------------


def official_data() -> Dataset:
    samples = []
    for s in range(36):
        fold, label = f"fold_{s % 3}", f"c{s // 18}"
        samples += [cell(10 * s + i, label, f"s{s}", fold=fold) for i in range(5)]
    return dataset(samples)


@pytest.mark.parametrize(("chosen", "tested"), [(None, "fold_2"), ("fold_0", "fold_0")])
def test_official_folds(chosen: str | None, tested: str) -> None:
    data = official_data()
    fold = {s.id: s.fold for s in data}
    split = datasets.official(data, test_fold=chosen, seed=1)
    assert set(split.test) == {i for i, f in fold.items() if f == tested}
    assert sorted(all_ids(split)) == sorted(fold)
    assert len(split.train) == 3 * (len(split.val) + len(split.calibration))
    datasets.verify_split(split, data)
    assert split == datasets.official(data, test_fold=chosen, seed=1)
    assert split != datasets.official(data, test_fold=chosen, seed=2)


def test_official_folds_that_cannot_be_used() -> None:
    data = official_data()
    with pytest.raises(SplitError, match="no official fold 'fold_9'") as caught:
        datasets.official(data, test_fold="fold_9")
    assert "did you mean" in caught.value.mend
    with pytest.raises(SplitError, match="6 of 6 images have no official fold"):
        datasets.official(by_image([3, 3]))
    moved = dataclasses.replace(data.samples[0], fold="fold_1")
    with pytest.raises(SplitError, match="two official folds, first 's0'"):
        datasets.official(dataclasses.replace(data, samples=(moved, *data.samples[1:])))
    one = tuple(dataclasses.replace(s, fold="only") for s in data)
    with pytest.raises(SplitError, match="two are needed"):
        datasets.official(dataclasses.replace(data, samples=one))


# --- what cannot be split --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "arguments", "what", "mend"),
    [
        (by_image([9, 9]), {"n": 2}, "2 folds are too few", "3 or more"),
        (by_image([9, 9]), {"seed": -1}, "a seed of -1", "positive"),
        (by_image([9, 9]), {"unit": "imgae"}, "unknown unit 'imgae'", "did you mean 'image'?"),
        (by_image([9, 9]), {"unit": "subject"}, "18 of 18 images have no subject", "labels.csv"),
        (by_image([9, 2]), {}, "too few images for a split: class 'c1' (2)", "3 images"),
        (by_subject([(0, 9)] * 6 + [(1, 9)]), {}, "too few subjects", "2 subjects"),
        (by_subject([(0, 9)] * 2 + [(1, 9)] * 2), {}, "5 folds cannot be cut", "at most 4"),
        (by_subject([(0, 9)] * 3 + [(1, 9)] * 3), {"n": 7}, "cut from 6 subjects", "--folds 6"),
        (by_image([]), {}, "no images", "add images"),
    ],
)
def test_what_cannot_be_split(
    data: Dataset, arguments: dict[str, int], what: str, mend: str
) -> None:
    with pytest.raises(SplitError) as caught:
        datasets.folds(data, **arguments)  # type: ignore[arg-type]
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize("persons", [1, 2, 3, 4])
def test_the_advice_for_few_subjects_is_right(persons: int) -> None:
    cells = [cell(i, f"c{i % 2}", f"s{i // 2 % persons}") for i in range(24)]
    data = dataset(cells)
    with pytest.raises(SplitError) as caught:
        datasets.single(data)
    assert f"from {persons} subject" in caught.value.what
    assert "a single split is the first of 5" in caught.value.what
    advised = [int(n) for n in re.findall(r"--folds (\d)", caught.value.mend)]
    assert advised
    for n in advised if persons >= 3 else ():
        assert len(datasets.folds(data, n=n)) == n
    if persons < 3:  # more persons are needed, and then what is advised can be cut
        more = [cell(100 + i, f"c{i % 2}", f"t{i // 2}") for i in range(2 * (3 - persons))]
        assert len(datasets.folds(dataset([*cells, *more]), n=advised[0])) == 3
    assert "--by image" in caught.value.mend
    assert datasets.single(data, unit="image").unit == "image"


@pytest.mark.parametrize(
    ("different", "what"),
    [
        ((1, 1), "cut from 2 different images"),
        ((2, 12), "too few images for a split: class 'c0' (2)"),
    ],
)
def test_copies_count_once_and_are_named(different: tuple[int, int], what: str) -> None:
    cells = [
        dataclasses.replace(cell(i, f"c{k}"), sha256=f"{k}{i % different[k]}")
        for k in range(2)
        for i in range(12)
    ]
    with pytest.raises(SplitError) as caught:
        datasets.single(dataset(cells))
    assert what in caught.value.what
    assert "copies and count once: c0/00000.png = " in caught.value.what
    assert f"and {12 // different[0] - 3} more" in caught.value.what
    assert "--by" not in caught.value.mend


def test_a_class_absent_from_the_test_part_is_said() -> None:
    data = by_subject([(0, 5)] * 10 + [(1, 5)] * 3)
    splits = datasets.folds(data)
    absent = [s for s in splits if not any(i.startswith("c1/") for i in s.test)]
    assert len(absent) == 2
    for split in splits:
        assert ("class 'c1' is absent from the test part" in split.note) == (split in absent)


def test_verify_split_finds_what_is_on_two_sides() -> None:
    data = by_subject([(k, 10) for k in (0, 1) for _ in range(10)])
    split = datasets.single(data)
    datasets.verify_split(split, data)
    twice = dataclasses.replace(split, test=(*split.test, split.train[0]))
    with pytest.raises(SplitError, match=r"image .* is on two sides of the split: train and test"):
        datasets.verify_split(twice, data)
    moved = dataclasses.replace(split, train=split.train[1:], test=(*split.test, split.train[0]))
    with pytest.raises(SplitError, match=r"subject 's.*' is on two sides of the split"):
        datasets.verify_split(moved, data)
    datasets.verify_split(dataclasses.replace(moved, unit="image"), data)
    strange = dataclasses.replace(split, test=("nowhere.png",))
    with pytest.raises(SplitError, match="1 images of this split are not in the data set"):
        datasets.verify_split(strange, data)
    with pytest.raises(SplitError, match="no slide/field"):
        datasets.verify_split(dataclasses.replace(split, unit="slide/field"), data)
    assert Split.from_json(split.to_json()) == split


# --- the published fault ---------------------------------------------------------------------


def test_fault_12_splits_are_seeded_stratified_and_by_subject() -> None:
    """The published code splits by image, without a seed and without strata."""
    data = by_subject([(k, n) for k in (0, 1) for n in range(3, 23)])
    owner = subject_of(data)
    first, second = datasets.folds(data, seed=7), datasets.folds(data, seed=7)
    assert first == second
    assert first != datasets.folds(data, seed=8)
    totals = Counter(s.label for s in data)
    for split in first:
        test_subjects = {owner[i] for i in split.test}
        others = {owner[i] for i in (*split.train, *split.val, *split.calibration)}
        assert not test_subjects & others
        for label, total in totals.items():
            share = sum(i.startswith(f"{label}/") for i in split.test) / total
            assert abs(share - 1 / 5) < 0.1


# --- the real images -------------------------------------------------------------------------


@pytest.mark.real
def test_real_cnmc_is_split_by_subject(real_data: Path) -> None:
    data = datasets.open(real_data / "cnmc2019")
    owner = subject_of(data)
    found = defaultdict(set)
    for number, split in enumerate(datasets.folds(data, seed=0)):
        assert split.unit == "subject"
        assert {i.split("/")[0] for i in split.test} == {"all", "hem"}
        for i in split.test:
            found[owner[i]].add(number)
    assert len(found) == 16
    assert all(len(numbers) == 1 for numbers in found.values())


@pytest.mark.real
def test_real_pbc_is_split_by_image(real_data: Path) -> None:
    data = datasets.open(real_data / "pbc")
    counts = data.counts()
    labels = {s.id: s.label for s in data}
    for split in datasets.folds(data, seed=0):
        assert split.unit == "image"
        assert split.note == ""
        for part, share in (("test", 0.2), ("train", 0.6), ("val", 0.1), ("calibration", 0.1)):
            found = Counter(labels[i] for i in split.parts()[part])
            for name, count in counts.items():
                assert abs(found[name] - share * count) < 2, (part, name)
