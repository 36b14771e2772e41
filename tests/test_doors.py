"""The three doors: look, decide, explain, of one image and of many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellkin.cli.main import main
from cellkin.core.errors import DecisionError, ImageError
from cellkin.core.records import Dataset, Decision, Evidence
from cellkin.imaging.preprocess import Prepared
from cellkin.system import DecisionSupport, Look

Door = Callable[..., Any]


@pytest.fixture(params=["look", "decide", "explain"])
def door(request: pytest.FixtureRequest, support: DecisionSupport) -> Door:
    found: Door = getattr(support, request.param)
    return found


@pytest.fixture
def paths(smears: Dataset) -> list[Path]:
    return [s.image.path for s in smears.samples[:3]]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A picture that the quality gate refuses."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.png"
    path.write_text("this is a text")
    return path


def plain(answer: Any) -> Any:
    """What two answers on the same image have in common."""
    if isinstance(answer, Look):
        return answer.features.vectors.tolist()
    decision = answer.decision if isinstance(answer, Evidence) else answer
    return {k: v for k, v in decision.to_json().items() if k != "image"}


def test_one_gives_one_and_a_sequence_gives_a_list(door: Door, paths: list[Path]) -> None:
    one, many = door(paths[0]), door(paths)
    assert isinstance(many, list)
    assert [plain(found) for found in many] == [plain(door(path)) for path in paths]
    assert plain(one) == plain(many[0]) == plain(door(tuple(paths[:1]))[0])


def test_whatever_an_image_is_given_as_the_answer_is_the_same(
    door: Door, support: DecisionSupport, smears: Dataset
) -> None:
    ref = smears.samples[0].image
    look = support.look(ref.path)
    array = np.asarray(Image.open(ref.path).convert("RGB"))
    kinds = [ref.path, str(ref.path), ref, array, Prepared("cell", look.image), look]
    found = door(kinds)
    assert all(plain(one) == plain(found[0]) for one in found)
    assert plain(door(kinds[4])) == plain(found[0])


def test_an_image_that_cannot_be_read_stops_no_other(
    door: Door, paths: list[Path], bad: Path
) -> None:
    """At the beginning, in the middle, at the end, across blocks, and alone."""
    for asked in ([bad, *paths], [paths[0], bad, paths[1]], [*paths, bad], [bad, bad]):
        for path, found in zip(asked, door(asked), strict=True):
            assert isinstance(found, ImageError) == (path == bad)
    assert str(bad) in str(door([bad])[0].where)
    with pytest.raises(ImageError):
        door(bad)
    with pytest.raises(DecisionError, match="no image"):
        door([])


def test_blocks_with_bad_images_keep_their_order(
    support: DecisionSupport, paths: list[Path], bad: Path
) -> None:
    asked = [bad if i % 3 == 0 else paths[i % 2] for i in range(70)]
    subjects = [f"person {i}" for i in range(70)]
    for path, found in zip(asked, support.decide(asked, subject=subjects), strict=True):
        assert isinstance(found, ImageError) == (path == bad)
        assert isinstance(found, ImageError) or found.query == str(path)


def test_one_subject_for_all_or_one_for_each(
    support: DecisionSupport, smears: Dataset, paths: list[Path]
) -> None:
    own = support.atlas.cells.subjects[0]
    count = support.atlas.cells.subjects.count(own)
    for ask in (support.decide, lambda *a, **k: [e.decision for e in support.explain(*a, **k)]):
        assert [d.left_out for d in ask(paths, subject=own)] == [count] * 3
        assert [d.left_out for d in ask(paths, subject=[own, None, own])] == [count, 0, count]
        with pytest.raises(DecisionError, match="2 subjects for 3 images"):
            ask(paths, subject=[own, None])


def test_the_gate_is_asked_unless_it_is_declined(
    support: DecisionSupport, noise: Path, paths: list[Path]
) -> None:
    def decisions(asked: Any, **how: Any) -> list[Decision]:
        return [*support.decide(asked, **how), *(e.decision for e in support.explain(asked, **how))]

    given = [noise, support.look(noise), paths[0]]
    for i, found in enumerate(decisions(given)):
        assert bool(found.quality) == (i % 3 != 2)
        assert found.quality is not None
    assert {d.quality for d in decisions(given, gate=False)} == {None}
    assert support.decide(noise).quality == support.explain(noise).decision.quality != ()


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["cellkin", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("verb", ["decide", "explain"])
def test_a_bad_file_stops_no_other_in_the_command(
    verb: str,
    atlas_folder: Path,
    paths: list[Path],
    bad: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All others are answered; the bad one is named, and the exit status says so."""
    out = ["--out", tmp_path / "why"] if verb == "explain" else ["--batch-size", 2]
    status = run(monkeypatch, verb, atlas_folder, paths[0], bad, *paths[1:], *out, "--json")
    told = capsys.readouterr()
    assert status == 2
    assert len(told.out.splitlines()) == 3
    assert all(str(path) in told.out for path in paths)
    assert "bad.png" in told.err
    assert "bad.png" not in told.out
    if verb == "explain":
        pages = sorted(p.parent.name for p in (tmp_path / "why").glob("*/evidence.html"))
        assert [page[:4] for page in pages] == ["0001", "0003", "0004"]
