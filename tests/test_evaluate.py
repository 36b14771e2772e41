"""Running an experiment: resumed, interrupted, in workers, through Ray: the same table always."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_runs import tiny

from cellkin.core.engine import Crew, Trouble
from cellkin.core.errors import OutputError, RecipeError, SplitError
from cellkin.core.numbers import number
from cellkin.core.records import NO_CELL, NOTICE
from cellkin.core.studies import StudyRow
from cellkin.datasets.injecting.halving import Halving
from cellkin.imaging.loading import load_prepared
from cellkin.learning.encoder import Encoder
from cellkin.study import fold_cells, jobs
from cellkin.study.baselines import colour_histogram
from cellkin.study.drilldown import RIGHT, WRONG
from cellkin.study.evaluate import StudyOptions, Summary, evaluate
from cellkin.study.experiment_file import Experiment
from cellkin.study.fold_cells import Place, cells_in_fold, prepare
from cellkin.study.method_rows import study_rows
from cellkin.study.plan import plan
from cellkin.study.predictions import Results
from cellkin.study.sources import gather
from cellkin.system.runs import packaged_encoder

Tell = Callable[[str, int, int], None]


def run(experiment: Experiment, out: Path, **options: Any) -> Summary:
    told = {"crew": Crew(workers=1), "device": "cpu", **options}
    return evaluate(experiment, out, options=StudyOptions(**told))


def digest(out: Path) -> str:
    with Results.open(out, readonly=True) as results:
        return results.digest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """The experiment, evaluated without disturbance."""
    folder = tmp_path_factory.mktemp("whole")
    experiment = tiny(folder)
    summary = run(experiment, folder / "out", command="cellkin evaluate tiny.toml")
    assert (summary.planned, summary.done, summary.failures) == (9, 9, ())
    return experiment, folder / "out"


def test_every_cell_is_tested_once_by_every_method(whole: tuple[Experiment, Path]) -> None:
    with Results.open(whole[1], readonly=True) as results:
        labels = results.labels("smears")
        assert labels.names == ("normal", "lymphoblast")
        tested: dict[str, list[str]] = {}
        for job in results.jobs():
            predictions = results.predictions(job.key)
            tested.setdefault(job.method, []).extend(p.id for p in predictions)
            training = results.extra(job.key)["split"]
            for p in predictions:
                assert p.score is not None
                assert 0 <= p.score <= 1
                assert p.clinical == labels.clinical[p.label]
                assert len(p.neighbors) == (0 if "head" in job.method else 3)
                assert {n.subject for n in p.neighbors}.isdisjoint({p.subject})
            assert training["test"] == len(predictions)
        counts = {method: len(ids) for method, ids in tested.items()}
        assert len(set(map(frozenset, tested.values()))) == 1
        assert all(len(set(tested[method])) == n for method, n in counts.items())
        facts = results.facts()
    assert facts["command"] == "cellkin evaluate tiny.toml"
    assert facts["data"]["smears"]["drawn"] is True
    assert facts["environment"]["threads"] == 1


def test_nothing_but_results_is_left(whole: tuple[Experiment, Path]) -> None:
    found = {path.name for path in whole[1].iterdir() if not path.name.startswith(".")}
    assert found == {"results.sqlite", "data", "experiment.toml"}


def test_a_finished_run_has_nothing_left_to_do(whole: tuple[Experiment, Path]) -> None:
    experiment, out = whole
    before = digest(out)
    told: list[str] = []
    summary = run(experiment, out, resume=True, progress=lambda task, done, n: told.append(task))
    assert summary.done == summary.planned
    assert not [task for task in told if task.startswith("training")]
    assert digest(out) == before


def stop_at(moment: str) -> Tell:
    """A progress that presses Ctrl-C when it first hears of something."""

    def tell(task: str, done: int, total: int) -> None:
        if task.startswith(moment):
            raise KeyboardInterrupt

    return tell


def test_a_killed_worker_costs_its_job_alone(
    whole: tuple[Experiment, Path], tmp_path: Path
) -> None:
    experiment, out = whole
    killed: list[int] = []

    def kill(task: str, done: int, total: int) -> None:
        if task.startswith("jobs") and done and not killed:
            child = multiprocessing.active_children()[0]
            os.kill(child.pid or 0, signal.SIGKILL)
            killed.append(child.pid or 0)

    summary = run(experiment, tmp_path / "out", crew=Crew(workers=2), progress=kill)
    assert len(killed) == 1
    assert summary.failures == ()
    assert digest(tmp_path / "out") == digest(out)
    assert multiprocessing.active_children() == []


def test_ray_gives_the_same_table(whole: tuple[Experiment, Path], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    experiment, out = whole
    summary = run(experiment, tmp_path / "out", crew=Crew("ray", workers=1))
    assert summary.failures == ()
    assert digest(tmp_path / "out") == digest(out)


def workers_of_ray() -> list[int]:
    """Processes of Ray that are at work now, of those that this process started."""
    parents, at_work = dict[int, int](), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")")[-1].split()[1]
            )
            if (folder / "cmdline").read_bytes().startswith(b"ray::_attempt"):
                at_work.append(int(folder.name))
    return [pid for pid in at_work if os.getpid() in ancestors(pid, parents)]


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found = set()
    while pid := parents.get(pid, 0):
        found.add(pid)
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to find a worker")
def test_a_killed_ray_worker_costs_its_job_alone(
    whole: tuple[Experiment, Path], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    experiment, out = whole
    killed: list[int] = []

    def kill(task: str, done: int, total: int) -> None:
        if task.startswith("jobs") and done and not killed:
            deadline = time.monotonic() + 60
            while not (found := workers_of_ray()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])

    summary = run(experiment, tmp_path / "out", crew=Crew("ray", workers=1), progress=kill)
    assert len(killed) == 1
    assert summary.failures == ()
    assert digest(tmp_path / "out") == digest(out)


def test_a_run_that_fails_and_is_stopped_ends_with_the_same_table(
    whole: tuple[Experiment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second training fails; tried again, it is stopped in its second epoch; then it is done.

    A job that fails is told and stops no other.
    """
    experiment, out = whole
    train, calls = jobs.train_encoder, []

    def second_fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return train(*args, **kwargs)

    monkeypatch.setattr(jobs, "train_encoder", second_fails)
    summary = run(experiment, tmp_path / "out")
    assert (summary.planned, summary.done) == (9, 8)
    assert [f.job.method for f in summary.failures] == ["softmax head"]
    assert {f.kind for f in summary.failures} == {"MemoryError"}
    assert "--workers" in summary.failures[0].mend
    with Results.open(tmp_path / "out", readonly=True) as results:
        assert [job.fold for job in results.missing()] == [1]

    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "out", resume=True, progress=stop_at("training, epoch 2/2"))
    assert list((tmp_path / "out" / "work").glob("*/checkpoints/step-*"))
    with pytest.raises(OutputError) as caught:
        run(experiment, tmp_path / "out")
    assert "--resume" in caught.value.mend

    told: list[str] = []
    last = run(
        experiment, tmp_path / "out", resume=True, progress=lambda task, d, n: told.append(task)
    )
    assert (last.done, last.failures, len(calls)) == (9, (), 8)
    assert not [task for task in told if task.startswith("training, epoch 1/2")]
    assert digest(tmp_path / "out") == digest(out)


def test_results_of_another_experiment_are_kept_apart(whole: tuple[Experiment, Path]) -> None:
    experiment, out = whole
    with pytest.raises(RecipeError, match="results of the experiment 'tiny'"):
        run(replace(experiment, name="other"), out, resume=True)
    with pytest.raises(OutputError, match="no results to go on"):
        run(experiment, out / "nowhere", resume=True)


def test_a_start_that_failed_stands_in_nobodys_way(tmp_path: Path) -> None:
    """Nothing was planned in it: the corrected experiment, under any name, begins there."""
    wrong = replace(tiny(tmp_path), name="wrong", units=("patient",))
    with pytest.raises(SplitError):
        run(wrong, tmp_path / "out")
    right = replace(tiny(tmp_path), methods=("colour histogram + neighbours",))
    assert run(right, tmp_path / "out").done == 3
    (tmp_path / "mine" / "data").mkdir(parents=True)
    with pytest.raises(OutputError, match="something here already"):
        run(right, tmp_path / "mine")


def test_weights_that_nobody_asks_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not ask for weights of 'resnet34'"):
        run(tiny(tmp_path), tmp_path / "out", inits={"resnet34": tmp_path / "nope"})


def test_two_runs_on_one_folder(whole: tuple[Experiment, Path]) -> None:
    from cellkin.core.artifacts import alone

    with alone(whole[1]), pytest.raises(OutputError, match="another run is at work"):
        run(whole[0], whole[1], resume=True)


def test_a_crew_that_cannot_be() -> None:
    for wrong, match in ((("rey",), "did you mean 'ray'"), (("local", "10.0.0.1"), "--engine ray")):
        with pytest.raises(RecipeError) as caught:
            Crew(*wrong)
        assert match in caught.value.mend
    assert Trouble.of(ValueError("x")).kind == "ValueError"


def test_external_cells_are_decided_on_under_their_mapped_classes(tmp_path: Path) -> None:
    more = """
[data.cutout]
drawn = { layout = "cnmc", cells = 24, subjects = 6, size = 48, seed = 2 }
[[external]]
train = "smears"
test = "cutout"
classes = { all = "lymphoblast", hem = "normal" }
"""
    experiment = tiny(tmp_path, maps=True, more=more)
    experiment = replace(experiment, methods=("frozen ImageNet + neighbours",))
    summary = run(experiment, tmp_path / "out")
    assert (summary.planned, summary.failures) == (6, ())
    with Results.open(tmp_path / "out", readonly=True) as results:
        outer = [job for job in results.jobs() if job.tested_on]
        assert {job.tested_on for job in outer} == {"cutout"}
        assert {job.dataset for job in outer} == {"smears"}
        for job in outer:
            predictions = results.predictions(job.key)
            assert len(predictions) == 24
            assert all(p.map_xy is not None for p in predictions)
            assert {p.truth for p in predictions} == {"lymphoblast", "normal"}
            for p in predictions:
                assert ("/all/" in p.id) == (p.truth == "lymphoblast")


def test_halves_are_fitted_on_training_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the other cells look like, the rule is the same; they are only assigned."""
    experiment = tiny(tmp_path, lists='injections = ["both"]')
    gathered = gather(experiment, {}, tmp_path, lambda *told: None)
    work = next(w for w in plan(experiment, gathered, {}) if w.kind == "trained")
    data = gathered["smears"].dataset
    train = set(work.split.train)
    rng = np.random.default_rng(0)
    side = np.array([int(s.id[-5]) % 2 for s in data.samples])  # two clouds far apart
    vectors = rng.normal(size=(len(data), 8)) + 20 * side[:, None]
    fitted: list[Any] = []
    fit = Halving.fit

    def noted(points: Any, **how: Any) -> Halving:
        fitted.append(points)
        return fit(points, **how)

    monkeypatch.setattr(fold_cells.Halving, "fit", noted)
    monkeypatch.setattr(fold_cells, "LEAST_CELLS", 1)
    monkeypatch.setattr("cellkin.datasets.injecting.halving.LEAST_CELLS", 1)
    assigned = []
    for other in (0.0, 5.0):
        seen = np.array([s.id in train for s in data.samples])
        moved = np.where(seen[:, None], vectors, vectors + other)
        monkeypatch.setattr(fold_cells, "_imagenet", lambda *told, moved=moved: moved)
        cells, told = cells_in_fold(work, Place(tmp_path), lambda *told: None)
        assert told[0]["class"] == "lymphoblast"
        assigned.append([s.label for s in cells.data.samples if s.id in train])
    own = [i for i, s in enumerate(data.samples) if s.label == "lymphoblast" and s.id in train]
    assert len(fitted) == 2
    for points in fitted:
        np.testing.assert_array_equal(points, vectors[own])
    assert assigned[0] == assigned[1]


def test_images_are_prepared_once_and_shared(tmp_path: Path) -> None:
    experiment = replace(tiny(tmp_path), methods=("frozen ImageNet + neighbours",))
    gathered = gather(experiment, {}, tmp_path, lambda *told: None)
    works = plan(experiment, gathered, {})
    told: list[str] = []
    prepare(works, Place(tmp_path), lambda task, done, n: told.append(task))
    count = len(gathered["smears"].dataset)
    assert told.count("reading images") == count
    before = len(told)
    cells = [cells_in_fold(w, Place(tmp_path), lambda task, d, n: told.append(task)) for w in works]
    assert len(told) == before
    for fold, _ in cells:
        assert isinstance(fold.images, np.memmap)
        assert not fold.images.flags.writeable
    samples = gathered["smears"].dataset.samples
    fresh = load_prepared([s.image for s in samples], packaged_encoder(32, "cpu").preprocessor)
    np.testing.assert_array_equal(cells[0][0].images, fresh)


def test_colour_histogram_against_a_naive_loop(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    for image, found in zip(images, colour_histogram(images), strict=True):
        counts = np.zeros((8, 8, 8))
        for r, g, b in image.reshape(-1, 3):
            counts[r // 32, g // 32, b // 32] += 1
        np.testing.assert_allclose(found, np.sqrt(counts.reshape(-1) / 20))


def test_kept_atlases_decide_as_the_table_says(tmp_path: Path) -> None:
    from cellkin.atlas import Atlas, decide
    from cellkin.core.records import Features

    experiment = replace(tiny(tmp_path), methods=("cellkin",))
    run(experiment, tmp_path / "out", keep_atlases=True)
    with Results.open(tmp_path / "out", readonly=True) as results:
        by_space = {results.extra(job.key)["space"]: job for job in results.jobs()}
        folders = sorted((tmp_path / "out" / "atlases").iterdir())
        assert len(folders) == 3
        atlas = Atlas.open(folders[0])
        predictions = results.predictions(by_space[atlas.space].key)
    data = gather(experiment, {}, tmp_path / "out", lambda *told: None)["smears"].dataset
    assert NO_CELL not in {data.labels.clinical[p.truth] for p in predictions}
    ids = tuple(p.id for p in predictions)
    encoder: Encoder = atlas.encoder
    images = load_prepared([s.image for s in data.select(ids)], encoder.preprocessor)
    decisions = decide(atlas, Features(ids, encoder.vectors(images), atlas.space))
    assert [d.label for d in decisions] == [p.label for p in predictions]
    assert [d.neighbors[0].id for d in decisions] == [p.neighbors[0].id for p in predictions]


def test_decisions_of_every_place_of_a_matrix_have_their_evidence(tmp_path: Path) -> None:
    """The page of a decision is of the very decision that the table holds."""
    more = """
[data.other]
drawn = { layout = "cnmc", cells = 12, subjects = 6, size = 48, seed = 2 }

[[external]]
train = "smears"
test = "other"
classes = { all = "lymphoblast", hem = "normal" }
"""
    experiment = replace(tiny(tmp_path, maps=True, more=more), units=("image",))
    assert run(experiment, tmp_path / "out").failures == ()
    with Results.open(tmp_path / "out", readonly=True) as results:
        found = [row for row in study_rows(results) if row.dataset == "smears"]
    assert {row.tested_on for row in found} == {"smears", "other"}
    for row in found:
        if row.proposed:
            check_pages(row, tmp_path / "out")
        else:
            assert not any(call.page for call in row.calls)

    own = next(row for row in found if row.proposed)
    shown = [call for call in own.calls if call.page]
    (tmp_path / "out" / str(shown[0].page)).unlink()  # a page that is gone is no link
    with Results.open(tmp_path / "out", readonly=True) as results:
        again = next(row for row in study_rows(results) if row.proposed)
    assert sum(call.page is not None for call in again.calls) == len(shown) - 1


def check_pages(own: StudyRow, out: Path) -> None:
    for fold in (1, 2, 3):
        places: dict[tuple[str, str], list[bool]] = {}
        for call in own.calls:
            if call.fold == fold:
                places.setdefault((call.truth, call.label), []).append(call.page is not None)
        for (truth, label), shown in places.items():
            assert sum(shown) == min(len(shown), RIGHT if truth == label else WRONG)
    for call in own.calls:
        if call.page:
            text = (out / call.page).read_text(encoding="utf-8")
            assert call.id in text
            assert f"This call is {'right' if call.truth == call.label else 'wrong'}." in text
            assert 'href="../../index.html"' in text
            assert NOTICE in text
            for neighbor in call.neighbors:
                assert neighbor.id in text
                assert number(neighbor.distance) in text


def test_evidence_that_cannot_be_written_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full", where="a page", mend="make room")

    monkeypatch.setattr(jobs, "save_pages", full)
    experiment = replace(tiny(tmp_path, maps=True), methods=("cellkin",))
    summary = run(experiment, tmp_path / "out")
    assert (summary.done, summary.failures) == (3, ())
    with Results.open(tmp_path / "out", readonly=True) as results:
        assert all("disk is full" in results.extra(j.key)["no_evidence"] for j in results.jobs())
