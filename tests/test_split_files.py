"""Splits on disk, leakage that can be seen, and the verbs datasets, split and patches."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import allidb1_names, bloodmnist, cnmc_names, pictures, points, write_csv

from cellkin import datasets
from cellkin.cli import main as cli
from cellkin.core.errors import SplitError
from cellkin.core.records import Dataset, ImageRef, LabelSet, Sample, Split
from cellkin.datasets.parts import splits
from cellkin.datasets.parts.leakage import TWINS, hashed, leaders, leaks, twins
from cellkin.datasets.parts.split_files import open_splits, part_table, save_splits

LABELS = LabelSet(("normal", "lymphoblast"), {"normal": "other cell", "lymphoblast": "lymphoblast"})


def cells(hashes: Sequence[str | None], twin: Sequence[str] = ()) -> Dataset:
    """Two classes in turn; equal hashes are equal files, `twin` names documented duplicates."""
    names = [LABELS.names[i % 2] for i in range(len(hashes))]
    samples = tuple(
        Sample(
            f"{i:03d}",
            ImageRef(Path(f"{i}.png")),
            ((label,),),
            sha256=mark,
            annotations={TWINS: "pair"} if f"{i:03d}" in twin else {},
        )
        for i, (label, mark) in enumerate(zip(names, hashes, strict=True))
    )
    return Dataset("cells", samples, LABELS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 cells of two classes, the files 000 and 002 of one class equal."""
    names = [f"{LABELS.names[i % 2]}/{i:03d}.png" for i in range(30)]
    root = pictures(tmp_path / "cells", names)
    (root / names[2]).write_bytes((root / names[0]).read_bytes())
    return root


# --- leakage ---------------------------------------------------------------------------------


@given(
    marks=st.lists(st.sampled_from([None, "a", "b", "c", "d", "e"]), min_size=60, max_size=90),
    seed=st.integers(0, 5),
)
def test_equal_files_stay_together_when_images_are_dealt(
    marks: list[str | None], seed: int
) -> None:
    # Every class keeps enough images of its own to be dealt, whatever is equal.
    data = cells([*marks, *[None] * 40])
    for split in datasets.folds(data, n=4, seed=seed, unit="image"):
        assert leaks(split, data) == ()
        assert "LEAK" not in split.note
        ids = [i for part in split.parts().values() for i in part]
        assert sorted(ids) == [s.id for s in data]


def test_without_twins_a_split_is_what_it_was() -> None:
    plain = cells([None] * 40)
    marked = cells([f"{i}" for i in range(40)])
    assert datasets.folds(plain, seed=3) == datasets.folds(marked, seed=3)


def test_twins_are_joined_through_each_other() -> None:
    data = cells(["a", None, "a", None, "b", None, "b"], twin=["002", "004"])
    assert list(twins(data.samples).values()) == [("000", "002"), ("002", "004"), ("004", "006")]
    first = leaders(data.samples)
    assert {first[i] for i in ("000", "002", "004", "006")} == {"000"}
    assert first["001"] == "001"


def test_parts_of_one_file_are_no_equal_files() -> None:
    whole = cells(["a", "a"]).samples
    cut = tuple(
        replace(s, image=ImageRef(Path("f.png"), box=(i, 0, i + 20, 20)))
        for i, s in enumerate(whole)
    )
    assert twins(whole)
    assert twins(cut) == {}


def test_subjects_that_share_a_file_leak_and_it_is_said() -> None:
    base = cells([*("x" if i in (0, 1, 2, 3, 4, 5) else None for i in range(60))])
    people = tuple(replace(s, subject=f"S{i % 12}") for i, s in enumerate(base))
    split = datasets.single(replace(base, samples=people), seed=0)
    assert split.unit == "subject"
    assert "LEAK, equal files (x)" in split.note


def test_hashes_are_of_files(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    data = hashed(datasets.open(folder), progress=lambda *step: seen.append(step))
    assert seen[-1] == ("comparing files", 30, 30)
    assert list(twins(data.samples).values()) == [("normal/000.png", "normal/002.png")]


# --- on disk ---------------------------------------------------------------------------------


def test_round_trip(folder: Path, tmp_path: Path) -> None:
    data = hashed(datasets.open(folder))
    folds = datasets.folds(data, n=5, seed=2)
    again = open_splits(save_splits(folds, data, tmp_path / "s.json"), datasets.open(folder))
    assert again == folds


def test_a_leaking_split_is_refused_unless_asked_for(folder: Path, tmp_path: Path) -> None:
    data = datasets.open(folder)
    rest = [s.id for s in data if s.id not in ("normal/000.png", "normal/002.png")]
    bad = Split(
        train=(*rest[:20], "normal/000.png"),
        val=tuple(rest[20:]),
        calibration=(),
        test=("normal/002.png",),
        unit="image",
        seed=0,
    )
    path = save_splits([bad], data, tmp_path / "s.json")
    with pytest.raises(SplitError, match="1 sets of equal images lie on two sides") as caught:
        open_splits(path, data)
    assert "normal/000.png, normal/002.png" in caught.value.what
    assert "--allow-leaks" in caught.value.mend
    (split,) = open_splits(path, data, leaky=True)
    assert split.note.startswith("LEAK, equal files")
    assert open_splits(save_splits([split], data, path), data, leaky=True) == (split,)


def test_a_split_of_fields_that_overlap_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, allidb1_names({9: 1, 10: 1, 1: 1, 2: 0, 3: 0, 4: 0}))
    data = datasets.open(tmp_path)
    ids = {Path(s.id).stem: s.id for s in data}
    split = Split(
        train=(ids["Im009_1"], ids["Im002_0"]),
        val=(ids["Im001_1"], ids["Im003_0"]),
        calibration=(),
        test=(ids["Im010_1"], ids["Im004_0"]),
        unit="slide/field",
        seed=0,
    )
    path = save_splits([split], data, tmp_path / "s.json")
    with pytest.raises(SplitError, match=r"'Im009_1\+Im010_1\+Im011_1' is on two sides"):
        open_splits(path, data)


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another kind": (lambda d: d.update(kind="atlas"), "holds no splits"),
    "newer schema": (lambda d: d.update(schema=7), "schema 7"),
    "no splits": (lambda d: d.update(splits=[]), "a part of these splits is empty"),
    "an empty part": (lambda d: d["splits"][0].update(test=[]), "a part of these splits is empty"),
    "a part is gone": (lambda d: d["splits"][0].pop("val"), "damaged"),
    "an unknown image": (lambda d: d["splits"][0]["test"].append("x"), "not in the data set"),
    "an image twice": (
        lambda d: d["splits"][0]["test"].append(d["splits"][0]["train"][0]),
        "on two sides",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_splits(name: str, folder: Path, tmp_path: Path) -> None:
    data = datasets.open(folder)
    path = save_splits([datasets.single(data)], data, tmp_path / "s.json")
    spoil, message = DAMAGE[name]
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError, match=message) as caught:
        open_splits(path, data)
    assert caught.value.mend
    with pytest.raises(SplitError, match="is missing"):
        open_splits(tmp_path / "none.json", data)


def test_a_table_counts_what_is_there(tmp_path: Path) -> None:
    names = cnmc_names({"hem": 24, "all": 36}, {"hem": 6, "all": 9}, folds=3)
    data = datasets.open(pictures(tmp_path, names))
    split = datasets.single(data, seed=0)
    rows = part_table(split, data)
    total = {name: sum(row["classes"][name] for row in rows.values()) for name in data.labels.names}
    assert total == data.counts()
    for part, ids in split.parts().items():
        assert rows[part]["images"] == len(ids)
        assert rows[part]["units"] == len({s.subject for s in data.select(ids)})
    assert sum(row["units"] for row in rows.values()) == len(data.subjects())


def test_official_folds_are_tested_in_turn(tmp_path: Path) -> None:
    names = cnmc_names({"hem": 24, "all": 36}, {"hem": 6, "all": 9}, folds=3)
    data = datasets.open(pictures(tmp_path, names))
    parts = splits.cut(data, n=3, unit="official")
    tested = [{s.fold for s in data.select(split.test)} for split in parts]
    assert tested == [{"fold_0"}, {"fold_1"}, {"fold_2"}]
    assert splits.cut(data, n=1, unit="official") == parts[2:]
    assert splits.cut(data, n=1, unit="auto") == (datasets.single(data),)
    with pytest.raises(SplitError, match="4 folds cannot be cut from the official ones"):
        splits.cut(data, n=4, unit="official")


# --- verbs -----------------------------------------------------------------------------------


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `cellkin ARGS` in this process: status, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cellkin", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else 0, out, err

    return call


@pytest.mark.parametrize("verb", ["datasets", "split", "patches"])
def test_help_has_examples(verb: str, run: Run) -> None:
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert f"cellkin {verb}" in out.partition("Examples")[2]


def test_datasets_by_command(run: Run) -> None:
    status, out, _ = run("datasets", "--json")
    assert status == 0
    listed = json.loads(out)["datasets"]
    assert {"ALL-IDB2", "ALL-IDB1", "PBC", "BloodMNIST", "C-NMC 2019"} <= {
        e["name"] for e in listed
    }
    status, out, _ = run("datasets")
    assert status == 0
    for entry in listed:
        assert f"\n{entry['name']}\n" in f"\n{out}"
        assert entry["licence"] in out
        assert entry["access"] in out


def test_split_by_command(run: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    status, out, err = run("split", folder, "--folds", 5, "--seed", 4, "--out", path)
    assert status == 0, err
    assert out.splitlines()[0] == "cells: 30 images, split by image, seed 4"
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("fold")] == [
        ["fold", str(i)] for i in range(1, 6)
    ]
    saved = open_splits(path, datasets.open(folder))
    assert len(saved) == 5
    status, out, _ = run("split", folder, "--folds", 5, "--seed", 4, "--json")
    told = json.loads(out)
    assert (told["unit"], told["seed"]) == ("image", 4)
    assert [s["parts"]["test"]["images"] for s in told["splits"]] == [len(s.test) for s in saved]


def test_official_parts_by_command(run: Run, tmp_path: Path) -> None:
    path = bloodmnist(tmp_path / "bloodmnist.npz", {"train": 24, "val": 16, "test": 9})
    status, out, err = run("split", path, "--by", "official")
    assert status == 0, err
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("test")] == ["9"]


def test_patches_by_command(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "f", allidb1_names({1: 1, 2: 0}), size=(70, 100))
    points(tmp_path / "f", "Im001_1", [(10, 10)])
    others = write_csv(tmp_path / "o.csv", [["field", "x", "y"], ["Im002_0", 40, 40]])
    out = tmp_path / "p.json"
    words = ["patches", tmp_path / "f", "--others", others, "--window", 32, "--out", out]
    status, said, err = run(*words, "--complete", "--json")
    assert status == 0, err
    counts = json.loads(said)["counts"]
    data = datasets.open(out)
    assert data.counts() == counts
    assert counts["normal"] == 1  # windows start every 24 pixels: only the one at (24, 24)
    assert json.loads(out.read_text())["made_by"]["complete"] == ["Im002_0"]
    status, said, _ = run("check", out, "--json")
    assert (status, json.loads(said)["counts"]) == (0, counts)
    assert run(*words)[0] == 0
    others.write_text("field,x,y\nIm002_0,400,40\n")
    status, _, err = run(*words)
    assert status == 2
    assert "outside of their field of 100 x 70" in err


def mistakes(data: Path, path: Path) -> dict[str, tuple[list[object], str]]:
    return {
        "folds beside a file": (["--split", path, "--folds", 3], "--folds and --by are given"),
        "a unit beside a file": (["--split", path, "--by", "image"], "--folds and --by are given"),
        "a fold without a file": (["--fold", 2], "--fold is about a saved split"),
        "leaks without a file": (["--allow-leaks"], "--allow-leaks is about a saved split"),
        "no such fold": (["--split", path, "--fold", 9], "there is no fold 9"),
        "no such file": (["--split", data / "none.json"], "none.json is missing"),
    }


@pytest.mark.parametrize("name", sorted(mistakes(Path(), Path())))
def test_mistakes_about_saved_splits(name: str, run: Run, folder: Path, tmp_path: Path) -> None:
    data = datasets.open(folder)
    path = save_splits(datasets.folds(hashed(data), n=5), data, tmp_path / "s.json")
    words, what = mistakes(folder, path)[name]
    status, _, err = run("train", folder, "--out", tmp_path / "o", *words)
    assert status == 2
    assert what in err
    assert "mend:" in err
    assert not (tmp_path / "o").exists()


def test_train_on_a_saved_fold(run: Run, folder: Path, tmp_path: Path) -> None:
    data = datasets.open(folder)
    folds = datasets.folds(hashed(data), n=5, seed=9)
    path = save_splits(folds, data, tmp_path / "s.json")
    fast = ["--backbone", "resnet18", "--init", "scratch", "--size", 32, "--epochs", 1, "--k", 1]
    out = tmp_path / "atlas"
    status, said, err = run(
        "train", folder, "--out", out, "--split", path, "--fold", 2, "--json", *fast
    )
    assert status == 0, err
    assert "split by image, seed 9" in err
    assert json.loads((out / "split.json").read_text()) == folds[1].to_json()
    assert json.loads(said)["split"]["test"] == len(folds[1].test)
