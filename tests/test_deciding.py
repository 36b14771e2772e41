"""Deciding on folders as jobs: streamed, kept, resumed, by any number of workers the same."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cellkin.cli import cells
from cellkin.cli.main import app
from cellkin.core.engine import Crew
from cellkin.core.errors import ImageError, RecipeError
from cellkin.core.kept import Answers, Jobs, part_of
from cellkin.core.records import Dataset
from cellkin.datasets.listing import Files
from cellkin.system.deciding import Asked, DecideWork, decide_all, decided


@pytest.fixture(scope="module")
def folder(smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images, one of which is none."""
    made = tmp_path_factory.mktemp("cells")
    for number in range(40):
        image = smears.samples[number % len(smears)].image.path
        shutil.copy(image, made / f"{number:03d}{image.suffix}")
    (made / "017.png").write_bytes(b"no picture")
    return made


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def lines(folder: Path, atlas_folder: Path) -> str:
    """What is printed in one go."""
    done = run("decide", atlas_folder, folder, "--json", "--workers", 1, "--batch-size", 7)
    assert isinstance(done.exception, ImageError)
    assert "017.png" in done.exception.where
    assert len(done.stdout.splitlines()) == 39
    return done.stdout


def test_the_order_is_that_of_the_names(lines: str) -> None:
    names = [json.loads(line)["image"] for line in lines.splitlines()]
    assert names == sorted(names)


def test_a_stopped_run_goes_on(
    folder: Path, atlas_folder: Path, lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "decisions.jsonl"
    command = ["decide", atlas_folder, folder, "--batch-size", 7, "--workers", 1, "--out", out]
    real, looked = cells.progress, []

    def stopping() -> object:
        from contextlib import contextmanager

        @contextmanager
        def tell():  # type: ignore[no-untyped-def]
            def stop(task: str, done: int, total: int) -> None:
                if done >= 14:
                    raise KeyboardInterrupt

            yield stop

        return tell()

    monkeypatch.setattr(cells, "progress", stopping)
    assert run(*command).exit_code != 0
    assert part_of(out).exists()
    assert not out.exists()
    monkeypatch.setattr(cells, "progress", real)
    from cellkin.system import deciding

    monkeypatch.setattr(
        deciding.DecisionSupport,
        "decide",
        lambda self, paths, decide=deciding.DecisionSupport.decide, **how: (
            looked.extend(paths) or decide(self, paths, **how)
        ),
    )
    assert isinstance(run(*command, "--resume").exception, ImageError)
    assert len(looked) == 26  # two of the six blocks were kept
    assert out.read_text() == lines
    assert [p.name for p in tmp_path.iterdir()] == ["decisions.jsonl"]


def test_workers_and_tables(folder: Path, atlas_folder: Path, lines: str, tmp_path: Path) -> None:
    out = tmp_path / "decisions.csv"
    run("decide", atlas_folder, folder, "--batch-size", 7, "--workers", 2, "--out", out)
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    told = [json.loads(line) for line in lines.splitlines()]
    assert [row["image"] for row in rows] == [one["image"] for one in told]
    assert [row["label"] for row in rows] == [one["label"] for one in told]
    assert [float(row["mean_distance"]) for row in rows] == [one["mean_distance"] for one in told]


def test_what_nothing_keeps_is_forgotten(folder: Path, atlas_folder: Path) -> None:
    """Without a file no answer stays: a million do not grow the memory."""
    asked = Asked(atlas_folder)
    files = Files(folder, tuple(sorted(p.name for p in folder.iterdir()))[:12])
    works = [DecideWork(block, asked, asked.state) for block in files.blocks(3)]
    jobs = Jobs(Crew(workers=1))
    with Answers(jobs) as answers:
        for number, work in enumerate(decide_all(works, answers, jobs)):
            assert work is works[number]
            assert len(list(decided(answers, work))) == 3
            answers.forget(work.key)
            assert not any(w.key in answers for w in works)


def test_only_what_is_written_can_be_resumed(folder: Path, atlas_folder: Path) -> None:
    done = run("decide", atlas_folder, folder, "--resume")
    assert isinstance(done.exception, RecipeError)
