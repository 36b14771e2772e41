"""The command line: answers, exit statuses, and what it says about mistakes."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellkin.cli import main as cli
from cellkin.core.records import NOTICE, Dataset


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `cellkin ARGS` in this process."""

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["cellkin", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return Result(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture
def cell(smears: Dataset) -> Path:
    return smears.samples[0].image.path


KEYS = {
    "image",
    "label",
    "clinical",
    "votes",
    "clinical_votes",
    "agreement",
    "mean_distance",
    "distance_percentile",
    "state",
    "neighbors",
    "provenance",
}


def test_decide_prints_one_object_per_image(run: Run, atlas_folder: Path, smears: Dataset) -> None:
    paths = [s.image.path for s in smears.samples[:8]]
    result = run("decide", atlas_folder, *paths, "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 0
    assert [row["image"] for row in rows] == [str(p) for p in paths]
    for row in rows:
        assert set(row) >= KEYS
        assert sum(row["votes"].values()) == sum(row["clinical_votes"].values()) == 3
        assert [n["rank"] for n in row["neighbors"]] == [1, 2, 3]
        kin = {"id", "label", "subject", "distance", "rank"}
        assert all(set(n) - {"twin"} == kin for n in row["neighbors"])
        assert row["mean_distance"] == pytest.approx(
            np.mean([n["distance"] for n in row["neighbors"]]), abs=2e-6
        )


def test_decide_gives_the_same_bytes_for_any_batch_and_any_run(
    run: Run, atlas_folder: Path, smears: Dataset
) -> None:
    paths = [s.image.path for s in smears.samples[:9]]
    answers = {
        run("decide", atlas_folder, *paths, "--json", "--batch-size", size).out
        for size in (1, 7, 9, 9)
    }
    assert len(answers) == 1


def test_decide_in_words(run: Run, atlas_folder: Path, cell: Path) -> None:
    result = run("decide", atlas_folder, cell)
    assert "mean distance" in result.out
    assert NOTICE.split(":")[0] in re.sub(r"\s+", " ", result.err)


def test_explain_writes_page_pictures_and_data(
    run: Run, atlas_folder: Path, cell: Path, tmp_path: Path
) -> None:
    result = run("explain", atlas_folder, cell, "--out", tmp_path / "why")
    assert result.status == 0
    names = {p.name for p in (tmp_path / "why").iterdir()}
    assert {"evidence.html", "evidence.json"} <= names
    assert len([n for n in names if n.endswith(".png")]) >= 4
    evidence = json.loads((tmp_path / "why" / "evidence.json").read_text())
    assert max(pair["completeness"] for pair in evidence["pairs"]) < 1e-4
    page = (tmp_path / "why" / "evidence.html").read_text()
    assert "research use only" in page
    assert not re.search(r"(src|href)=[\"']https?:", page)


def test_inspect_tells_what_an_atlas_is(run: Run, atlas_folder: Path) -> None:
    facts = json.loads(run("inspect", atlas_folder, "--json").out)
    assert set(facts) >= {
        "cells", "classes", "clinical", "backbone", "space", "k", "distance", "split", "test",
        "provenance",
    }  # fmt: skip
    assert set(facts["split"]) >= {"unit", "train", "val", "calibration", "test"}
    assert set(facts["test"]) >= {
        "n", "correct", "accuracy", "balanced_accuracy", "interval", "per_class", "sensitivity",
        "specificity",
    }  # fmt: skip
    assert facts["split"]["unit"] == "subject"
    assert facts["cells"] == facts["split"]["train"] == sum(facts["classes"].values())
    words = run("inspect", atlas_folder).out
    assert "reference cells" in words
    assert "research use only" in words


def test_draw_check_train_index_by_command(run: Run, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    drawn = run("draw", cells, "--cells", 60, "--subjects", 10, "--size", 48, "--seed", 2)
    assert drawn.status == 0
    checked = run("check", cells, "--json")
    assert sum(json.loads(checked.out)["counts"].values()) == 60
    fast = ["--backbone", "resnet18", "--init", "scratch", "--size", 32, "--epochs", 1, "--k", 3]
    trained = run("train", cells, "--out", tmp_path / "atlas", "--json", *fast)
    assert trained.status == 0, trained.err
    assert json.loads(trained.out)["backbone"] == "resnet18"
    assert "split by subject" in trained.err
    assert "recall" in trained.err
    indexed = run("index", tmp_path / "atlas", cells, "--out", tmp_path / "other", "--k", 3)
    assert indexed.status == 0, indexed.err


def test_draw_in_a_publishers_layout(run: Run, tmp_path: Path) -> None:
    words = ["--layout", "pbc", "--cells", 16, "--subjects", 4, "--seed", 1]
    done = run("draw", tmp_path / "small", *words, "--size", 40)
    assert done.status == 0
    assert "laid out as pbc" in done.err
    assert done.out == ""
    checked = json.loads(run("check", tmp_path / "small", "--json").out)
    assert sum(checked["counts"].values()) == 16
    assert run("draw", tmp_path / "full", *words).status == 0
    with Image.open(next((tmp_path / "full" / "basophil").iterdir())) as image:
        assert image.size == (360, 363), "the publisher's size where none is asked for"


def test_folds_are_scored_out_of_fold_and_resumable(run: Run, tmp_path: Path) -> None:
    cells, out = tmp_path / "cells", tmp_path / "folds"
    run("draw", cells, "--cells", 80, "--subjects", 10, "--size", 32)
    words = ["train", cells, "--out", out, "--folds", 3, "--backbone", "resnet18", "--json",
             "--init", "scratch", "--size", 32, "--epochs", 1, "--k", 3]  # fmt: skip
    first = run(*words)
    assert first.status == 0, first.err
    result = json.loads(first.out)
    assert result["n"] == 80
    assert [row["fold"] for row in result["folds"]] == [1, 2, 3]
    assert len(result["by_subject"]) == 10
    assert result["sensitivity"] is not None
    shutil.rmtree(out / "fold-2")
    again = run(*words, "--resume")
    assert json.loads(again.out) == result
    assert run(*words).status == 2


@pytest.mark.parametrize(
    "verb", ["demo", "draw", "check", "pretrain", "train", "index", "decide", "explain", "inspect"]
)
def test_every_verb_has_help_with_examples(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.status == 0
    assert f"cellkin {verb}" in result.out
    assert "Examples" in result.out


def test_demo_goes_the_whole_way_and_can_be_repeated(run: Run, tmp_path: Path) -> None:
    recipe = named(
        tmp_path / "tiny.toml",
        "backbone = 'resnet18'\ninit = 'scratch'\nsize = 32\nepochs = 1\nk = 3\n",
    )
    out = tmp_path / "demo"
    first = run("demo", "--out", out, "--recipe", recipe, "--cells", 100, "--pages", 5)
    assert first.status == 0, first.err
    page = out / "report" / "index.html"
    assert str(page) in first.err.replace("\n", "")
    text = page.read_text()
    assert "research use only" in text
    assert "rawn" in text
    pages = sorted((out / "report").glob("*/evidence.html"))
    assert len(pages) == 5
    assert all(f"{p.parent.name}/evidence.html" in text for p in pages)
    again = run("demo", "--out", out, "--recipe", recipe, "--cells", 100, "--pages", 5)
    assert again.status == 0
    assert "there already" in again.err


# mistakes of the user's: exit status 2, what, where, mend, no traceback ------------------------


def bad_png(path: Path) -> Path:
    path.write_text("this is a text")
    return path


def truncated(path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    return path


def grey(path: Path) -> Path:
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(path)
    return path


def folder_with(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(
            np.random.default_rng(len(name)).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        ).save(path / name)
    path.mkdir(exist_ok=True)
    return path


def damaged(atlas: Path, target: Path, name: str) -> Path:
    shutil.copytree(atlas, target)
    data = bytearray((target / name).read_bytes())
    data[len(data) // 3] ^= 4
    (target / name).write_bytes(bytes(data))
    return target


def named(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


Case = Callable[[Path, Path, Path], list[object]]

CASES: dict[str, Case] = {
    "a truncated TIFF": lambda t, a, c: ["decide", a, truncated(t / "x.tif")],
    "a text file called png": lambda t, a, c: ["decide", a, bad_png(t / "x.png")],
    "a greyscale image": lambda t, a, c: ["decide", a, grey(t / "x.png")],
    "a missing image": lambda t, a, c: ["decide", a, t / "none.png"],
    "an empty folder of images": lambda t, a, c: ["decide", a, folder_with(t / "empty")],
    "an empty file": lambda t, a, c: ["decide", a, named(t / "x.jpg", "")],
    "a jpeg called png": lambda t, a, c: [
        "decide", a, shutil.move(folder_with(t / "j", "x.jpg") / "x.jpg", t / "x.png")],
    "no atlas": lambda t, a, c: ["decide", folder_with(t / "none"), c],
    "a missing atlas": lambda t, a, c: ["inspect", t / "none"],
    "a flipped byte in the vectors": lambda t, a, c: [
        "decide", damaged(a, t / "bad", "features.safetensors"), c],
    "a flipped byte in the weights": lambda t, a, c: [
        "inspect", damaged(a, t / "bad", "encoder/weights.safetensors")],
    "a device that is not there": lambda t, a, c: ["decide", a, c, "--device", "cuda:9"],
    "an unknown option": lambda t, a, c: ["decide", a, c, "--jsn"],
    "an unknown verb": lambda t, a, c: ["decied", a, c],
    "out is a file": lambda t, a, c: ["explain", a, c, "--out", named(t / "f", "x")],
    "an empty data folder": lambda t, a, c: ["check", folder_with(t / "empty")],
    "a missing data folder": lambda t, a, c: ["train", t / "none", "--out", t / "o"],
    "a file for a data folder": lambda t, a, c: ["check", c],
    "one class only": lambda t, a, c: ["check", folder_with(t / "d", "normal/a.png")],
    "a class nobody knows": lambda t, a, c: [
        "check", folder_with(t / "d", "normal/a.png", "martian/b.png")],
    "a meaning without a class": lambda t, a, c: [
        "check", folder_with(t / "d", "normal/a.png"), "--clinical", "martian"],
    "an impossible meaning": lambda t, a, c: [
        "check", folder_with(t / "d", "normal/a.png", "martian/b.png"),
        "--clinical", "martian=evil"],
    "labels.csv without a column": lambda t, a, c: [
        "check", named(folder_with(t / "d", "a.png") / "labels.csv",
                       "file,lable\na.png,normal\n").parent],
    "labels.csv with a missing file": lambda t, a, c: [
        "check", named(folder_with(t / "d", "a.png") / "labels.csv",
                       "file,label\na.png,normal\nb.png,lymphoblast\n").parent],
    "an unknown recipe": lambda t, a, c: [
        "train", c.parents[1], "--out", t / "o", "--recipe", "quik"],
    "a recipe with an unknown key": lambda t, a, c: [
        "train", c.parents[1], "--out", t / "o", "--recipe", named(t / "r.toml", "epoch = 3")],
    "an unknown backbone": lambda t, a, c: [
        "train", c.parents[1], "--out", t / "o", "--backbone", "resnet19", "--init", "scratch"],
    "weights that are not there": lambda t, a, c: [
        "train", c.parents[1], "--out", t / "o", "--backbone", "resnet18", "--init", t / "w.pth"],
    "an existing out": lambda t, a, c: ["train", c.parents[1], "--out", a],
    "nothing to resume": lambda t, a, c: ["train", c.parents[1], "--out", t / "o", "--resume"],
    "zero epochs": lambda t, a, c: ["train", c.parents[1], "--out", t / "o", "--epochs", "0"],
    "an unknown distance": lambda t, a, c: [
        "index", a, c.parents[1], "--out", t / "o", "--distance", "euclid"],
    "k above the references": lambda t, a, c: [
        "index", a, c.parents[1], "--out", t / "o", "--k", "100000"],
    "too few drawn cells": lambda t, a, c: ["draw", t / "o", "--cells", "2"],
    "an unknown layout": lambda t, a, c: ["draw", t / "o", "--layout", "fodlers"],
    "drawing over something": lambda t, a, c: ["draw", c.parents[1]],
    "an unknown split unit": lambda t, a, c: [
        "train", c.parents[1], "--out", t / "o", "--by", "patient"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_a_mistake_gets_status_2_and_a_way_out(
    case: str, run: Run, atlas_folder: Path, cell: Path, tmp_path: Path
) -> None:
    result = run(*CASES[case](tmp_path, atlas_folder, cell))
    assert result.status == 2, result.err
    assert "Traceback" not in result.err
    assert not result.out.strip()
    if "option" in case or "verb" in case:
        assert "No such" in result.err
        return
    assert re.search(r"where: +\S", result.err), result.err
    assert re.search(r"mend: +\S", result.err), result.err
    assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob("o.training/checkpoints/*"))


def test_a_full_disk_is_said_and_leaves_nothing(
    run: Run, smears: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system refuses a write of the atlas: the target does not appear."""
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cellkin.atlas.atlas.write_cells", full)
    result = run("train", smears.root, "--out", tmp_path / "o", "--backbone", "resnet18", "--init",
                 "scratch", "--size", 32, "--epochs", 1)  # fmt: skip
    assert result.status == 2
    assert "disk is full" in result.err
    assert not (tmp_path / "o").exists()
    assert (tmp_path / "o.training").is_dir()
    monkeypatch.undo()


def test_our_own_mistake_is_status_1(
    run: Run, atlas_folder: Path, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("cellkin.system.support.decide", broken)
    result = run("decide", atlas_folder, cell)
    assert result.status == 1
    assert "our fault" in result.err
    assert "Traceback" not in result.err


def test_ctrl_c_is_said(
    run: Run, atlas_folder: Path, cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellkin.system.support.decide", stopped)
    result = run("decide", atlas_folder, cell)
    assert result.status == 130
    assert "--resume" in result.err


def test_what_was_written_is_not_overwritten_without_a_word(
    run: Run, atlas_folder: Path, smears: Dataset, cell: Path, tmp_path: Path
) -> None:
    """Neither a split that an atlas may rest on, nor the evidence of another cell."""
    for words in (
        ("split", smears.root, "--folds", 3, "--out", tmp_path / "splits.json"),
        ("explain", atlas_folder, cell, "--out", tmp_path / "why"),
    ):
        assert run(*words).status == 0
        again = run(*words)
        assert again.status == 2
        assert "--overwrite" in again.err
        assert run(*words, "--overwrite").status == 0


@pytest.mark.parametrize(
    ("option", "value", "mend"),
    [
        ("--size", 15, "give 16 or more"),
        ("--backbone", "resnet81", "did you mean 'resnet18'?"),
        ("--k", 9999, "choose k from 1 to "),
    ],
)
def test_what_no_training_can_do_is_refused_before_an_image_is_prepared(
    option: str, value: object, mend: str, run: Run, smears: Dataset, tmp_path: Path
) -> None:
    result = run("train", smears.root, option, value, "--out", tmp_path / "atlas")
    assert result.status == 2
    assert mend in result.err
    assert "reading images" not in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y", "/dev/null/x", "/sys/kernel/x"])
def test_a_place_that_cannot_be_written_is_the_users_to_mend(
    place: str, run: Run, smears: Dataset, atlas_folder: Path, cell: Path
) -> None:
    for words in (("split", smears.root, "--folds", 3), ("explain", atlas_folder, cell)):
        result = run(*words, "--out", place)
        assert result.status == 2, result.err
        assert "choose another --out" in result.err
