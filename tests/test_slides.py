"""Fields and slides as jobs: stopped, resumed, killed, by any engine, the same is found."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import deque
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from cellkin.cli.main import app
from cellkin.core.engine import Crew
from cellkin.core.errors import ArtifactError, ImageError, OutputError
from cellkin.core.kept import Answers, Jobs, Kept, part_of
from cellkin.drawing.camera import subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field
from cellkin.smear import jobs as works
from cellkin.smear.finding import find_all
from cellkin.smear.ruler import RED_CELL
from cellkin.smear.writing import to_geojson, to_json

TASK = "finding cells"
FIELDS = (300, 10_500)  # the 17th part of a slide, of the second job, begins at 10,752
Tell = Any


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strip of 18 parts, two jobs of them, mostly empty; cells lie across the border as well."""
    rng = np.random.default_rng(5)
    style = subject_style(rng).in_field(rng, 1.0)
    scale = 24 / (2 * style.red_radius)
    kinds = ["lymphoblast"] * 6
    rgb, _, _ = draw_field(kinds, rng, style, Canvas((420, 560), scale), 0.8)
    whole = np.full((420, 11_800, 3), rgb.reshape(-1, 3).max(axis=0), np.uint8)
    for left in FIELDS:
        whole[:, left : left + 560] = rgb
    path = tmp_path_factory.mktemp("slide") / "slide.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": RED_CELL / 24, "PhysicalSizeXUnit": "µm"}
    tiles: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, whole, metadata=metadata, **tiles)
    return path


@pytest.fixture(scope="module")
def undisturbed(slide: Path) -> str:
    """What one process finds in one go."""
    return told([slide])


def told(paths: list[Path], jobs: Jobs = Jobs(), progress: Tell = lambda *told: None) -> str:
    found = find_all(paths, jobs=jobs, progress=progress)
    return json.dumps([to_json(found), *map(to_geojson, found)])


def stop_after(count: int) -> Tell:
    def tell(task: str, done: int, total: int) -> None:
        if task == TASK and done == count:
            raise KeyboardInterrupt

    return tell


def test_a_slide_is_several_jobs_and_a_cell_is_found_once(
    slide: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = json.loads(undisturbed)[0]["fields"][0]["cells"]
    whites = [c for c in cells if c["kind"] == "white cell"]
    assert 10 <= len(whites) <= 12
    middles = np.array([[c["x"], c["y"]] for c in whites])
    away = np.hypot(*(middles[:, None] - middles).transpose(2, 0, 1))
    assert away[~np.eye(len(away), dtype=bool)].min() > 20
    one, other = (
        sorted((c["x"] - left, c["y"]) for c in whites if left <= c["x"] < left + 560)
        for left in FIELDS
    )
    np.testing.assert_allclose(one, other, atol=6)  # a job's border changes nothing
    monkeypatch.setattr(works, "TOGETHER", 1000)
    assert told([slide]) == undisturbed


def test_a_stopped_search_goes_on_and_finds_the_same(
    slide: Path, undisturbed: str, tmp_path: Path
) -> None:
    out = tmp_path / "cells.json"
    for stopped, resume in ((1, False), (2, True)):
        with pytest.raises(KeyboardInterrupt):
            told([slide], Jobs(out=out, resume=resume), stop_after(stopped))
        assert part_of(out).exists()
    with pytest.raises(OutputError, match="kept here what it had done") as error:
        told([slide], Jobs(out=out))
    assert "--resume" in error.value.mend
    assert told([slide], Jobs(out=out, resume=True)) == undisturbed
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="no stopped run"):
        told([slide], Jobs(out=out, resume=True))


def test_a_killed_worker_loses_its_parts_alone(slide: Path, undisturbed: str) -> None:
    killed: list[int] = []

    def kill(task: str, done: int, total: int) -> None:
        if task == TASK and done == 2 and not killed:  # a job of parts is done; the other is not
            child = multiprocessing.active_children()[0].pid or 0
            os.kill(child, signal.SIGKILL)
            killed.append(child)

    assert told([slide], Jobs(Crew(workers=2)), kill) == undisturbed
    assert len(killed) == 1
    assert multiprocessing.active_children() == []


def test_ray_finds_the_same(slide: Path, undisturbed: str) -> None:
    pytest.importorskip("ray")
    assert told([slide], Jobs(Crew("ray", workers=1))) == undisturbed


def test_a_killed_command_leaves_what_its_successor_goes_on_with(
    slide: Path, tmp_path: Path
) -> None:
    """kill -9 in the middle; the bytes are those of an undisturbed command."""
    script = (
        "import os, signal, sys\nfrom cellkin.cli import finding, main as m\n"
        "from contextlib import contextmanager\n"
        "@contextmanager\n"
        "def deadly():\n"
        "    yield lambda task, done, n: done == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "finding.progress = deadly\n"
        "sys.argv = ['cellkin', *sys.argv[1:]]; m.main()\n"
    )
    out, other = tmp_path / "a.json", tmp_path / "b.json"
    command = ["find", str(slide), "--out", str(out), "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert part_of(out).exists()
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    assert CliRunner().invoke(app, [*command[:3], str(other)]).exit_code == 0
    assert out.read_bytes() == other.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_what_is_kept_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    jobs, again = (Jobs(out=tmp_path / "cells.json", resume=resume) for resume in (False, True))
    with Answers(jobs):
        with pytest.raises(OutputError, match="another run is at work"):
            Answers(again)
        assert part_of(tmp_path / "cells.json").exists()
    part_of(tmp_path / "cells.json").write_bytes(b"no database, but a text of some length" * 100)
    with pytest.raises(ArtifactError, match="no file of a stopped run"):
        Answers(again)


def test_a_full_disk_is_told_and_what_was_kept_before_stays(tmp_path: Path) -> None:
    out, some = tmp_path / "cells.json", Kept({}, {"a": np.zeros(1000)})
    with Answers(Jobs(out=out)) as answers:
        answers.keep("before", some)
        answers._base.execute("PRAGMA max_page_count = 8")
        with pytest.raises(OutputError, match="the disk is full") as error:
            deque(map(answers.keep, map(str, range(100)), repeat(some)), maxlen=0)
        assert "--resume" in error.value.mend
    with Answers(Jobs(out=out, resume=True)) as answers:
        assert len(answers.arrays("before")["a"]) == 1000


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("file/cells.json", "a file, not a folder|already here"),
        (f"{'x' * 300}.json", "File name too long"),
        ("/proc/cells.json", "cannot be written|no permission|read-only"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_with_its_reason(
    tmp_path: Path, where: str, told: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=told):
        Answers(Jobs(out=tmp_path / where))


def test_a_damaged_file_of_a_stopped_run_is_told(tmp_path: Path) -> None:
    out, some = tmp_path / "cells.json", Kept({}, {"a": np.zeros(5000)})
    with Answers(Jobs(out=out)) as answers:
        for number in range(5):
            answers.keep(str(number), some)
    whole = part_of(out).read_bytes()
    part_of(out).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with (
        pytest.raises(ArtifactError, match="no file of a stopped run"),
        Answers(Jobs(out=out, resume=True)) as answers,
    ):
        answers.facts("1")


def test_unreadable_fields_are_named_and_the_others_written(slide: Path, tmp_path: Path) -> None:
    fields = tmp_path / "fields"
    fields.mkdir()
    with tifffile.TiffFile(slide) as tiff:
        Image.fromarray(tiff.asarray()[:, 250:850]).save(fields / "good.png")
    (fields / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "cells.json"
    done = CliRunner().invoke(app, ["find", str(fields), "--out", str(out), "--json"])
    assert isinstance(done.exception, ImageError)
    assert "bad.png" in done.exception.where
    (one,) = json.loads(out.read_text())["fields"]
    assert one["field"].endswith("good.png")
    assert one["cells"]
    assert json.loads(done.stdout) == json.loads(out.read_text())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.json", "fields"]
