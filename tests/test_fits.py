"""Does an atlas fit new cells: tests of two batches, expected accuracy, measures, the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cellkin.cli import main as cli
from cellkin.core.arrays import Bytes
from cellkin.core.errors import DataError, DecisionError
from cellkin.core.fits import CARE, DISTANCE, FITS, LESS, MEASURES, UNFIT, Expected, Shift
from cellkin.core.records import Dataset
from cellkin.imaging.appearance import APPEARANCE, appearance
from cellkin.imaging.loading import load_prepared
from cellkin.measures.expected import above, expected_accuracy
from cellkin.measures.shift import corrected, energy_test, holm, shift
from cellkin.report.fits_page import save_fits, small_distributions
from cellkin.system import DecisionSupport
from cellkin.system.fits import FEWEST, MOST, chosen, judged, matched

# --- tests of two batches ------------------------------------------------------------------------


def test_the_energy_distance_is_its_formula(rng: np.random.Generator) -> None:
    """The p-value equals that of naive loops over every way to part few cells."""
    from itertools import combinations

    old, new = rng.normal(size=4), rng.normal(1.5, 1, size=3)
    both = np.concatenate([old, new])

    def energy(first: tuple[int, ...]) -> float:
        x = [both[i] for i in first]
        y = [both[i] for i in range(7) if i not in first]
        across = np.mean([abs(a - b) for a in x for b in y])
        within = [np.mean([abs(a - b) for a in side for b in side]) for side in (x, y)]
        return float(2 * across - sum(within))

    own = energy((0, 1, 2, 3))
    exact = np.mean([energy(some) >= own - 1e-9 for some in combinations(range(7), 4)])
    assert energy_test(old, new, seed=0) == pytest.approx(exact, abs=0.04)


def test_batches_of_one_source_get_uniform_p_values(rng: np.random.Generator) -> None:
    found = [
        energy_test(rng.normal(size=30), rng.normal(size=25), seed=i, permutations=199)
        for i in range(300)
    ]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.08)
    assert energy_test(rng.normal(size=30), rng.normal(2, 1, size=30), seed=0) < 0.001
    assert energy_test(rng.normal(size=60), rng.normal(0, 4, size=60), seed=0) < 0.01  # spread


def test_holm_is_the_step_down_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_shift_is_told_by_its_effect(rng: np.random.Generator) -> None:
    old = rng.normal(size=200)
    for moved, word in ((0.0, "none"), (0.45, "small"), (2.0, "large")):
        one = shift("white", old, old + moved)
        naive = np.mean(np.sign(np.subtract.outer(old + moved, old)))
        assert one.delta == pytest.approx(naive)
        assert one.effect == word
    many = corrected([shift("white", old, old + 2), shift("focus", old, old.copy())])
    assert [s.words for s in many] == ["much brighter", "alike"]
    assert many[0].adjusted == pytest.approx(2 * many[0].p)
    assert shift("white", old, old - 2).words == "much darker"


def test_every_measure_has_words_for_more_and_less() -> None:
    assert set(MEASURES) == {DISTANCE, *APPEARANCE}
    assert {more for _, _, more in MEASURES.values()} == set(LESS)


@pytest.mark.parametrize("bad", [([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0])])
def test_what_cannot_be_compared_is_refused(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(DecisionError):
        shift("white", *bad)


# --- expected accuracy ---------------------------------------------------------------------------


def test_the_same_cells_are_expected_to_be_as_right_as_they_were(rng: np.random.Generator) -> None:
    for n in (20, 77):
        sure = np.round(rng.uniform(size=n), 1)  # many ties
        right, even, once = rng.uniform(size=n) < sure, np.ones(n), np.ones(n)
        assert above(sure, right, sure, even, once) == pytest.approx(right.mean())
        weights = rng.integers(1, 4, size=n)
        repeated = np.repeat(np.arange(n), weights)
        assert above(sure, right, sure, weights.astype(float), once) == pytest.approx(
            above(sure[repeated], right[repeated], sure, np.ones(len(repeated)), once)
        )


def test_less_sure_calls_are_expected_to_be_less_right(rng: np.random.Generator) -> None:
    sure = rng.uniform(size=400)
    right, even = rng.uniform(size=400) < sure, np.ones(400)
    found = [expected_accuracy(sure, right, sure - drop, even) for drop in (0.0, 0.2, 0.4, 2.0)]
    shares = [one.accuracy for one in found]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
    low, high = found[0].low, found[0].high
    assert low is not None
    assert high is not None
    assert low < found[0].accuracy < high
    assert found[-1].low is None  # all alike: no interval of length zero


def test_expected_accuracy_is_refused_without_held_out_calls() -> None:
    few, none = np.arange(19.0), np.zeros(0)
    for sure, new, weights in ((few, few, few + 1), (np.arange(20.0), none, np.ones(20)),
                               (np.arange(20.0), few, np.zeros(20))):  # fmt: skip
        with pytest.raises(DecisionError):
            expected_accuracy(sure, sure > 3, new, weights)


# --- measures of a picture -----------------------------------------------------------------------


def drawn(light: tuple[int, int, int] = (230, 225, 235), stain: float = 1.0) -> Bytes:
    """A round nucleus on empty ground."""
    y, x = np.mgrid[:96, :96] - 48
    inside = (x**2 + y**2 < 18**2)[..., None]
    density = stain * np.array([0.9, 1.3, 0.4]) * inside
    return np.asarray(np.array(light) * np.exp(-density), np.uint8)


def test_light_and_stain_are_told_apart() -> None:
    plain = appearance(drawn())
    assert set(plain) == set(APPEARANCE)
    assert plain["nucleus"] == pytest.approx(36 / 96, abs=0.03)
    dark = appearance(drawn((150, 146, 153)))
    assert dark["white"] < plain["white"] - 60
    assert dark["stain"] == pytest.approx(plain["stain"], rel=0.05)
    assert dark["hue"] == pytest.approx(plain["hue"], rel=0.05)
    strong = appearance(drawn(stain=1.3))
    assert strong["stain"] > 1.2 * plain["stain"]
    assert strong["white"] == plain["white"]
    assert appearance(drawn((250, 225, 180)))["cast"] > plain["cast"] + 0.2


def test_what_a_picture_does_not_show_is_left_out() -> None:
    cut = drawn()
    cut[np.hypot(*(np.mgrid[:96, :96] - 48)) > 22] = 0
    assert "white" not in appearance(cut)
    assert "nucleus" in appearance(cut)
    empty = np.random.default_rng(0).integers(225, 235, (96, 96, 3)).astype(np.uint8)
    assert set(appearance(empty)) == {"white", "cast", "focus"}


# --- the whole question --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(support: DecisionSupport, smears: Dataset) -> list[Bytes]:
    """Cells of the atlas's own kind that are none of its references."""
    own = set(support.atlas.cells.ids)
    refs = [s.image for s in smears.samples if s.id not in own]
    return list(load_prepared(refs, support.atlas.encoder.preprocessor))


def test_cells_of_the_same_kind_are_alike(support: DecisionSupport) -> None:
    batch = [support.atlas.image(i) for i in range(0, len(support.atlas.cells), 2)]
    found = support.fits(batch)
    assert found.cells == len(batch) >= FEWEST
    assert not any(s.found for s in found.shifts if s.name != DISTANCE)
    assert any(note.startswith(f"{len(batch)} of the cells are reference") for note in found.notes)
    assert found.expected is None  # too few test cells, and that is said
    assert "needs 20 held-out test calls" in found.expected_absent
    assert sum(found.calls.values()) == len(batch)


def test_another_light_is_found_and_named(support: DecisionSupport, batch: list[Bytes]) -> None:
    dark = [(0.6 * image).astype(np.uint8) for image in batch]
    found = support.fits(dark)
    words = {s.name: s.words for s in found.shifts}
    assert words["white"] == "much darker"
    assert found.verdict in (CARE, UNFIT)
    assert any(reason.startswith("Light: much darker") for reason in found.reasons)


def test_too_few_cells_and_unreadable_ones(
    support: DecisionSupport, batch: list[Bytes], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="too few"):
        support.fits(batch[: FEWEST - 1])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = support.fits([*batch, tmp_path / "broken.png"])
    assert found.cells == len(batch)
    assert any("1 pictures cannot be used" in note for note in found.notes)


def test_of_very_many_cells_some_are_measured() -> None:
    some, notes = chosen(list(range(1000)))
    assert len(some) == MOST
    assert (some[0], some[-1]) == (0, 999)
    assert notes == [f"{MOST} of 1000 cells were measured"]
    assert chosen([1, 2]) == ([1, 2], [])


def test_the_atlas_side_has_the_classes_of_the_calls() -> None:
    labels = ["a"] * 500 + ["b"] * 500 + ["c"] * 3
    rows = matched(labels, {"a": 30, "b": 10, "c": 40}, most=80)
    picked = [labels[i] for i in rows]
    assert [picked.count(c) for c in "abc"] == [30, 10, 3]
    assert len(set(rows)) == len(rows)


def test_the_verdict_follows_distance_and_expectation() -> None:
    same = Shift("white", 1, 1, 9, 9, 0.0, 0.05, 1.0, 1.0)
    dark = Shift("white", 2, 1, 9, 9, -1.0, 0.9, 0.001, 0.001)
    fine = Expected(0.95, 0.9, 1.0, 0.96, 50)
    poor = Expected(0.70, 0.6, 0.8, 0.96, 50)
    assert judged([same], 0.05, fine) == (FITS, ())
    assert judged([dark], 0.05, fine)[0] == CARE
    assert judged([same], 0.2, fine)[0] == CARE
    assert judged([same], 0.3, None)[0] == UNFIT
    assert judged([same], 0.05, poor)[0] == UNFIT
    assert judged([same], 0.05, None) == (FITS, ())


def test_the_page_shows_both_sides(
    support: DecisionSupport, batch: list[Bytes], tmp_path: Path
) -> None:
    found = support.fits(batch)
    atlas = support.atlas
    page = save_fits(found, atlas.labels, support.facts(), atlas.provenance, tmp_path).read_text()
    data = json.loads((tmp_path / "fits.json").read_text())
    assert data["verdict"] == found.verdict
    assert page.count("data:image/") == len(found.old.typical) + len(found.new.typical)
    for one in found.shifts:
        assert MEASURES[one.name][0] in page
    assert "script" not in page.lower()


def test_small_distributions_of_equal_values_are_drawn() -> None:
    view = small_distributions(np.ones(5), np.ones(3))
    assert view["old"].startswith("M0,")
    assert view["old"].endswith("Z")
    assert view["low"] != view["high"]


def test_the_verb_answers_in_lines_json_and_status(
    atlas_folder: Path,
    smears: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = [str(s.image.path) for s in smears.samples[:60]]

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cellkin", "fits", str(atlas_folder), *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    status, out, _ = run(*cells, "--out", tmp_path / "fit")
    assert status == 0
    assert "reference cells of this atlas" in out  # most of them are
    assert (tmp_path / "fit" / "fits.html").is_file()
    assert run(*cells, "--out", tmp_path / "fit")[0] == 2  # something is there
    status, _, err = run(*cells[:5])
    assert (status, "too few" in err) == (2, True)
    status, out, _ = run(*cells, "--json", "--strict")
    told = json.loads(out)
    assert status == (2 if told["verdict"] == UNFIT else 0)
    assert {s["name"] for s in told["shifts"]} <= set(MEASURES)
