"""`cellkin verify`: who is held out, what is said, what is kept, and what maps say afterwards."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_report import Tags

from cellkin import report
from cellkin.atlas import Atlas
from cellkin.atlas.verified import keep_verification
from cellkin.cli import main as cli
from cellkin.core.artifacts import read_json
from cellkin.core.errors import ArtifactError, DataError, LabelError, OutputError, RecipeError
from cellkin.core.records import NOTICE, Dataset, ImageRef
from cellkin.imaging.fingerprints import fingerprints
from cellkin.proving.held_out import PARTS, PERSON, TRAINED, TWINS, held_out, spread_by_class
from cellkin.proving.outside import says_unlike
from cellkin.proving.proving import Verifying, verify
from cellkin.proving.verdicts import verdicts, warnings
from cellkin.report.plots import course_view, reliability_view
from cellkin.system import DecisionSupport

SMALL = Verifying(cells=12, networks=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of no cell: noise in colour, and one that is grey."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"noise-{i}.png")
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).convert("L").save(folder / "grey.png")
    return folder


@pytest.fixture(scope="module")
def verified(
    atlas_folder: Path, smears: Dataset, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of one verification."""
    out = tmp_path_factory.mktemp("verified") / "out"
    outside = {"noise": [ImageRef(p) for p in sorted(photos.iterdir())]}
    return out, verify(atlas_folder, smears, out, outside=outside, settings=SMALL)


@pytest.fixture(autouse=True)
def _no_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One verification has asked about them, in `verified`; the others need not."""
    monkeypatch.setattr("cellkin.proving.proving.photographs", dict)


# --- who is held out -----------------------------------------------------------------------------


def test_only_cells_that_the_atlas_has_never_seen_are_held_out(
    atlas_folder: Path, smears: Dataset
) -> None:
    atlas, split = Atlas.open(atlas_folder), read_json(atlas_folder / "split.json")
    held = held_out(atlas, smears)
    assert sorted(s.id for s in held.samples) == sorted(split["test"])
    seen = {PARTS[part]: len(split[name]) for part, name in
            {"reference": "train", "calibration": "calibration", "val": "val"}.items()}  # fmt: skip
    assert held.left_out == {reason: count for reason, count in seen.items() if count}


def test_a_trained_image_under_another_name_is_found_by_its_pixels(
    atlas_folder: Path, smears: Dataset
) -> None:
    """Renamed and without a subject, references would flatter every number."""
    atlas = Atlas.open(atlas_folder)
    renamed = replace(
        smears,
        samples=tuple(replace(s, id=f"other/{s.id}", subject=None) for s in smears),
    )
    held = held_out(atlas, renamed)
    assert held.left_out[TRAINED] >= len(atlas.cells)
    assert not set(fingerprints(held.images)) & set(atlas.encoder.trained_on)


def test_a_reference_cell_under_another_name_is_found_by_its_picture(
    atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    """In an atlas over cells that its network was not trained on, no fingerprint knows them."""
    folder = shutil.copytree(atlas_folder, tmp_path / "atlas")
    atlas = Atlas.open(folder)
    atlas.encoder.trained_on = ()
    Atlas.save(atlas, tmp_path / "untrained")
    twin = smears.select(atlas.cells.ids[:3])
    renamed = tuple(replace(s, id=f"other/{s.id}", subject=None) for s in twin)
    more = replace(smears, samples=(*smears.samples, *renamed))
    small = Verifying(cells=2, networks=2)
    result = verify(tmp_path / "untrained", more, tmp_path / "out", settings=small)
    assert result["left_out"][TWINS] == 3
    with pytest.raises(DataError, match="no cell of"):
        verify(tmp_path / "untrained", replace(smears, samples=renamed), tmp_path / "o")


def test_new_cells_of_known_people_are_no_new_people(atlas_folder: Path, smears: Dataset) -> None:
    atlas = Atlas.open(atlas_folder)
    assert atlas.facts["split"]["unit"] == "subject"
    known = atlas.cells.subjects[0]
    moved = replace(smears, samples=tuple(
        replace(s, id=f"new/{s.id}", subject=known) for s in smears.samples
    ))  # fmt: skip
    with pytest.raises(DataError, match="no cell of") as caught:
        held_out(atlas, moved)
    assert PERSON in caught.value.where


def test_classes_that_the_atlas_does_not_know_are_left_out(
    atlas_folder: Path, smears: Dataset
) -> None:
    atlas = Atlas.open(atlas_folder)
    foreign = replace(smears, samples=tuple(
        replace(s, id=f"x/{s.id}", subject=None, labels=(("basophil",),)) for s in smears.samples
    ))  # fmt: skip
    with pytest.raises(LabelError, match="measure this atlas"):
        held_out(atlas, foreign)


def test_the_sample_is_spread_over_the_classes(smears: Dataset) -> None:
    chosen = spread_by_class(smears.samples, 12, 0)
    counts = [sum(smears.samples[i].label == n for i in chosen) for n in smears.labels.names]
    assert len(set(chosen)) == 12
    assert max(counts) - min(counts) <= 1
    assert spread_by_class(smears.samples, 12, 0) == chosen
    assert spread_by_class(smears.samples, 12, 1) != chosen
    assert len(spread_by_class(smears.samples, 10_000, 0)) == len(smears)


# --- the result and its page ---------------------------------------------------------------------


def test_the_result_holds_every_measure(verified: tuple[Path, dict[str, Any]]) -> None:
    out, result = verified
    assert read_json(out / "verification.json") == json.loads(json.dumps(result))
    every = read_json(out / "held_out.json")
    assert len(every) == result["held_out"]
    assert {"truth", "subject", "unlike", "label"} <= every[0].keys()
    assert result["tested"] == 12
    assert result["completeness"]["methods"]["likeness"]["refused"] == 0
    assert result["completeness"]["methods"]["difference"]["largest"] <= 1e-4
    assert result["completeness"]["methods"]["contrast"]["largest"] <= 1e-4
    every_map = {"contrast", "grad-cam", "likeness", "difference"}
    assert set(result["deletion"]) == set(result["randomisation"]["methods"]) == every_map
    for found in result["attention"]["regions"].values():
        assert set(found) == {*every_map, "uniform"}
    assert result["attention"]["regions"].keys() == {"nucleus", "nucleus and cytoplasm"}
    assert "uniform" in result["attention"]["regions"]["nucleus"]
    assert result["stability"].keys() == {"jpeg", "rotation", "noise"}
    assert result["calibration"]["vote"]["n"] == result["held_out"]
    noise = result["outside"]["kinds"]["noise"]
    assert (noise["n"], noise["unreadable"]) == (3, 1)
    assert noise["unlike"]["share"] == 1
    assert noise["auroc"]["look"] == 1
    assert result["outside"]["kinds"].keys() == {"photographs of scikit-image", "noise"}
    # this network is too small for ranks within a cell, and says so instead of a number
    assert result["randomisation"]["methods"]["likeness"]["told_apart"] is None
    assert result["warnings"] == {}
    assert {v["state"] for v in result["verdicts"]} <= {"good", "warn", "bad"}


def test_the_numbers_of_the_vote_are_those_of_the_decisions(
    verified: tuple[Path, dict[str, Any]],
) -> None:
    out, result = verified
    every = read_json(out / "held_out.json")
    blast = [("lymphoblast" in d["label"]) == ("lymphoblast" in d["truth"]) for d in every]
    assert result["calibration"]["vote"]["accuracy"] == pytest.approx(np.mean(blast))
    assert result["outside"]["unlike"]["count"] == sum(d["unlike"] for d in every)
    assert result["outside"]["refused"]["count"] == sum(bool(d["reasons"]) for d in every)


def test_the_page_is_whole_in_itself_and_says_every_verdict(
    verified: tuple[Path, dict[str, Any]],
) -> None:
    out, result = verified
    html = (out / "verification.html").read_text(encoding="utf-8")
    tags = Tags(html)
    said = tags.words()
    for verdict in result["verdicts"]:
        assert verdict["text"] in said
    assert NOTICE in said
    assert "Drawn cells: synthetic" in said
    for name, attributes in tags.found:
        assert name not in ("script", "link", "iframe")
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith("data:")
    assert html.count("<svg") >= 6
    assert "of a uniform map" in said


def test_a_verification_that_was_stopped_goes_on(
    atlas_folder: Path, smears: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished parts are not measured twice, half ones are, and others' are not taken."""
    from cellkin.proving import heatmaps

    calls: list[str] = []
    for name in ("completeness", "deleted", "randomised", "stable"):
        original = getattr(heatmaps, name)

        def counted(*given: Any, name: str = name, original: Any = original) -> Any:
            calls.append(name)
            return original(*given)

        monkeypatch.setattr(heatmaps, name, counted)

    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    small, out = Verifying(cells=2, networks=2), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(heatmaps, "stable", interrupted)
        with pytest.raises(KeyboardInterrupt):
            verify(atlas_folder, smears, out, settings=small)
    assert not out.exists()
    assert (tmp_path / "out.verifying").is_dir()
    (tmp_path / "out.verifying" / "deletion.json").write_text("{half")
    assert calls == ["completeness", "randomised", "deleted"]
    calls.clear()
    verify(atlas_folder, smears, out, settings=small)
    assert calls == ["deleted", "stable"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    calls.clear()
    with pytest.raises(OutputError, match="something here already"):
        verify(atlas_folder, smears, out, settings=small)
    assert calls == []


@pytest.mark.parametrize("wrong", [{"cells": 0}, {"networks": 1}])
def test_settings_that_prove_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="proves nothing"):
        Verifying(**wrong)


def test_what_counts_as_unlike_and_as_far(atlas_folder: Path, smears: Dataset) -> None:
    decision = DecisionSupport.open(atlas_folder).decide(smears.samples[0].image.path)
    assert says_unlike(replace(decision, reasons=("unlike",)))
    assert says_unlike(replace(decision, quality=("not like its smears",)))
    for other in ({"reasons": ("ambiguous",)}, {"quality": ("underexposed",)}, {"quality": None}):
        assert not says_unlike(replace(decision, **{"reasons": (), **other}))  # refused, not unlike
    at = {p: replace(decision, distance_percentile=p).is_far(0.95) for p in (None, 95.0, 95.5)}
    assert at == {None: False, 95.0: False, 95.5: True}


# --- what is kept in the atlas -------------------------------------------------------------------


@pytest.fixture
def own_atlas(atlas_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(atlas_folder, tmp_path / "atlas"))


def failed(verified: tuple[Path, dict[str, Any]], *methods: str) -> dict[str, Any]:
    """A result in which some methods cannot be told from random networks."""
    result = json.loads(json.dumps(verified[1]))
    interval = {"mean": 0.8, "low": 0.7, "high": 0.9, "n": 12, "units": 12, "unit": "cell",
                "level": 0.95, "note": ""}  # fmt: skip
    for name in methods:
        result["randomisation"]["methods"][name] |= {"similarity": interval, "told_apart": False}
    result["warnings"] = warnings(result["randomisation"])
    return dict(result)


def test_maps_of_a_method_that_failed_carry_a_warning_everywhere(
    own_atlas: Path, smears: Dataset, verified: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    keep_verification(own_atlas, failed(verified, "likeness"))
    dss = DecisionSupport.open(own_atlas)
    evidence = dss.explain(smears.samples[0].image.path)
    assert evidence.counter is not None
    for pair in (*evidence.pairs, *evidence.counter.pairs):
        assert "networks that have learned nothing draw nearly the same map" in pair.warning
        assert "0.80" in pair.warning
    assert evidence.heatmap is not None
    assert evidence.heatmap.warning == ""
    assert {d.warning for d in evidence.differences} == {""}
    data = evidence.to_json()
    assert all(pair["warning"] for pair in data["pairs"])
    assert data["heatmap"]["warning"] is None
    report.save_all(evidence, tmp_path / "page")
    said = Tags((tmp_path / "page" / "evidence.html").read_text(encoding="utf-8")).words()
    assert said.count("Not to be trusted on this atlas") == 1
    shown = len(evidence.pairs) + len(evidence.counter.pairs[:2])
    assert said.count("not to be trusted, see above") == shown
    assert "heatmaps not to be trusted: likeness" in dss.facts()["verified"]


def test_every_method_can_be_warned_of(
    own_atlas: Path, smears: Dataset, verified: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    keep_verification(own_atlas, failed(verified, "grad-cam", "difference"))
    evidence = DecisionSupport.open(own_atlas).explain(smears.samples[0].image.path)
    assert evidence.heatmap is not None
    assert evidence.heatmap.warning
    assert all(h.warning for h in evidence.reference_heatmaps)
    assert all(d.warning for d in evidence.differences)
    assert all(not pair.warning for pair in evidence.pairs)
    html = report.save(evidence, tmp_path / "page.html").read_text(encoding="utf-8")
    assert Tags(html).words().count("Not to be trusted on this atlas") == 2


def test_an_atlas_without_verification_has_no_warnings(
    atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    dss = DecisionSupport.open(atlas_folder)
    assert dss.atlas.warnings == {}
    assert "verified" not in dss.facts()
    html = report.save(dss.explain(smears.samples[0].image.path), tmp_path / "e.html")
    assert "trusted" not in html.read_text(encoding="utf-8")


def test_a_kept_verification_is_part_of_the_atlas(
    own_atlas: Path, verified: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    before = Atlas.open(own_atlas)
    keep_verification(own_atlas, verified[1])
    keep_verification(own_atlas, failed(verified, "likeness"))  # replaces the first
    atlas = Atlas.open(own_atlas)
    assert atlas.id == before.id  # what decides has not changed
    assert set(atlas.warnings) == {"likeness"}
    copy = Atlas.open(atlas.save(tmp_path / "copy"))
    assert copy.warnings == atlas.warnings
    (own_atlas / "verification.json").write_text("{}")
    with pytest.raises(ArtifactError, match="this file"):
        Atlas.open(own_atlas)


def test_a_verification_belongs_to_one_atlas(
    own_atlas: Path, verified: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(ArtifactError, match="not the atlas that was verified"):
        keep_verification(own_atlas, {**verified[1], "atlas": "another"})
    assert Atlas.open(own_atlas).verification is None


def test_killed_while_it_is_kept_the_atlas_stays_whole(
    own_atlas: Path, verified: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellkin.atlas import verified as keeping

    keep_verification(own_atlas, verified[1])
    real = keeping.write_json

    def dying_at(step: int) -> Callable[[Path, Any], None]:
        left = [step]

        def write(path: Path, data: Any) -> None:
            if not left[0]:
                raise MemoryError
            left[0] -= 1
            real(path, data)

        return write

    for step in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "write_json", dying_at(step))
            with pytest.raises(MemoryError):
                keep_verification(own_atlas, failed(verified, "likeness"))
        assert Atlas.open(own_atlas).warnings == {}  # the old one or none, never a broken atlas


# --- words ---------------------------------------------------------------------------------------


def test_verdicts_name_failures_and_gaps(verified: tuple[Path, dict[str, Any]]) -> None:
    result = failed(verified, "likeness")
    gain = {"mean": 0.12, "low": 0.05, "high": 0.2, "n": 60, "units": 12, "unit": "subject",
            "level": 0.95, "note": ""}  # fmt: skip
    own = result["deletion"]["likeness"]
    own["deletion"], own["insertion"] = gain, {**gain, "low": -0.01}
    result["outside"]["kinds"]["noise"]["unlike"] |= {"share": 0.5, "count": 5, "n": 10}
    said = {v["text"]: v["state"] for v in verdicts(result)}
    name = "Metric-Grad-CAM, likeness to the nearest kin"
    assert said[
        f"{name}: deletion beats random order: difference 0.12, 95 % interval 0.050 to 0.20 "
        "(12 subjects)."
    ] == "good"  # fmt: skip
    assert any(
        text.startswith(f"{name}: insertion does not beat random order") and state == "bad"
        for text, state in said.items()
    )
    assert any("cannot be told from 2 random networks" in t and s == "bad" for t, s in said.items())
    assert any(t.startswith("noise: 5 of 10") and s == "bad" for t, s in said.items())
    assert list(said.values()) == sorted(said.values(), key=["bad", "warn", "good"].index)
    result["completeness"]["methods"]["likeness"]["refused"] = 3
    assert "a defect" in verdicts(result)[0]["text"]


def test_without_masks_where_maps_point_is_not_claimed(
    verified: tuple[Path, dict[str, Any]],
) -> None:
    said = [v["text"] for v in verdicts({**verified[1], "attention": None})]
    (told,) = [text for text in said if text.startswith("Where the maps point was not measured")]
    assert told.endswith("no mask is there and no outline was found.")


def test_curves_stay_inside_their_picture() -> None:
    view = course_view([0, 0.5, 1], {"most": [3.0, -1.0, -1.0], "random": [3.0, 1.0, -1.0]})
    numbers = [float(n) for line in view["lines"] for p in line["path"][1:].split("L")
               for n in p.split(",")]  # fmt: skip
    assert min(numbers) >= 12
    assert max(numbers) <= 320
    assert course_view([0, 1], {"most": [2.0, 2.0]})["lines"][0]["path"]  # a flat line is drawn
    bins = [{"n": 9, "confidence": 1.0, "right": 1.0}, {"n": 1, "confidence": 0.2, "right": 0.0}]
    large, small = reliability_view(bins)["dots"]
    assert float(large["r"]) > float(small["r"]) >= 2.5
    assert float(large["y"]) < float(small["y"])  # more right is higher


# --- the verb ------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cellkin", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0), out, err

    return call


def test_the_verb_writes_the_page_and_keeps_the_result(
    run: Run, own_atlas: Path, smears: Dataset, photos: Path, tmp_path: Path
) -> None:
    words = ("verify", own_atlas, smears.root, "--out", tmp_path / "v", "--cells", 2,
             "--networks", 2, "--outside", f"noise={photos}", "--into-atlas", "--json")  # fmt: skip
    status, out, err = run(*words)
    assert status == 0
    result = json.loads(out)
    assert result["outside"]["kinds"]["noise"]["n"] == 3
    assert (tmp_path / "v" / "verification.html").is_file()
    assert "The page:" in err
    assert Atlas.open(own_atlas).verification is not None
    status, out, err = run("inspect", own_atlas)
    assert "verified    " in out
    status, out, err = run(*words)
    assert status == 2
    assert "--overwrite" in err


def test_mistakes_of_the_verb(
    run: Run, atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    words = ("verify", atlas_folder, smears.root, "--out", tmp_path / "v")
    for wrong in ("nothing", "=x", "name="):
        status, _, err = run(*words, "--outside", wrong)
        assert status == 2
        assert "write --outside NAME=FOLDER" in err
    status, _, err = run(*words, "--outside", f"none={tmp_path / 'absent'}")
    assert status == 2
    assert "no such file" in err
    assert not (tmp_path / "v").exists()
