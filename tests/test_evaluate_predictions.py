"""The file of predictions: whole jobs or none, and every number from it alone."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from cellkin.core.errors import ArtifactError
from cellkin.core.records import LabelSet, Neighbor
from cellkin.study.predictions import FILE, Failure, Job, Prediction, Results

JOB = Job("k1", "cellkin", "d", "none", "resnet18", "scratch", "quick", "image", 0, 1, 5)
NEIGHBOR = Neighbor("r", "a", 0.25, 1)
CELLS = [
    Prediction("x", "a", "b", "lymphoblast", "other cell", 0.2, "S1", "F1", {"a": 1, "b": 4}),
    Prediction("y", "b", "b", None, None, None, neighbors=(NEIGHBOR,), map_xy=(1.5, -2.0)),
]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    with Results.open(tmp_path) as results:
        results.add(JOB, CELLS, 1.5, {"space": "abc"})
        results.state("command", "cellkin evaluate")
    with Results.open(tmp_path / FILE, readonly=True) as again:
        assert again.jobs() == [JOB]
        assert again.predictions("k1") == CELLS
        assert (again.seconds("k1"), again.extra("k1")) == (1.5, {"space": "abc"})
        assert again.facts() == {"command": "cellkin evaluate"}


def test_a_job_that_cannot_be_written_whole_leaves_no_trace(tmp_path: Path) -> None:
    broken = replace(CELLS[1], id=None)  # type: ignore[arg-type]
    with Results.open(tmp_path) as results:
        with pytest.raises(sqlite3.IntegrityError):
            results.add(JOB, [CELLS[0], broken], 1.0)
        assert results.done() == set()
        results.add(JOB, CELLS, 1.0)
        with pytest.raises(sqlite3.IntegrityError):  # and the earlier one stays as it was
            results.add(JOB, [broken], 9.0)
        assert results.predictions("k1") == CELLS


def test_a_failure_is_forgotten_when_the_job_is_done(tmp_path: Path) -> None:
    with Results.open(tmp_path) as results:
        results.plan([JOB, replace(JOB, key="k2", fold=2)])
        results.fail(Failure(JOB, "TrainingError", "a", "b", "c"))
        results.fail(Failure(JOB, "TrainingError", "newer", "b", "c"))
        assert [f.what for f in results.failures()] == ["newer"]
        results.add(JOB, CELLS, 1.0)
        assert results.failures() == []
        assert [job.key for job in results.missing()] == ["k2"]


def test_jobs_come_in_the_order_of_the_plan_and_only_those(tmp_path: Path) -> None:
    first, second, stale = (replace(JOB, key=key) for key in ("z", "a", "m"))
    with Results.open(tmp_path) as results:
        for job in (second, stale, first):
            results.add(job, CELLS, 1.0)
        results.plan([first, second])
        assert results.jobs() == [first, second]


def test_the_digest_knows_predictions_and_not_the_time_they_took(tmp_path: Path) -> None:
    digests = []
    for name, seconds, cells in (("a", 1.0, CELLS), ("b", 2.0, CELLS), ("c", 1.0, CELLS[:1])):
        with Results.open(tmp_path / name) as results:
            results.add(JOB, cells, seconds)
            digests.append(results.digest())
    assert digests[0] == digests[1] != digests[2]


def test_classes_of_all_injections_together(tmp_path: Path) -> None:
    both = LabelSet(
        ("n", "a (1)", "a (2)"), {"n": "no cell", "a (1)": "lymphoblast"} | {"a (2)": "lymphoblast"}
    )
    none = LabelSet(("b", "a"), {"a": "lymphoblast", "b": "other cell"})
    with Results.open(tmp_path) as results:
        folds = [none.only(["b"]), none, both]
        for fold, own in enumerate(folds):
            injection = "both" if own is both else "none"
            one = replace(JOB, key=f"k{fold}", injection=injection, fold=fold)
            results.add(one, CELLS, 1.0, {"classes": own.to_json()})
        assert results.labels("d", "none") == none
        assert results.labels("d").names == ("b", "a", "n", "a (1)", "a (2)")
        with pytest.raises(ArtifactError, match="classes of 'e'"):
            results.labels("e")
        with pytest.raises(ArtifactError, match="classes of 'd'"):
            results.labels("d", "nothing")


def test_label_sets_are_joined_and_cut_down() -> None:
    first = LabelSet(("b", "a"), {"a": "lymphoblast", "b": "other cell"}, {"a": "A"})
    other = LabelSet(("c", "a"), {"a": "other cell", "c": "no cell"}, {"a": "not A", "c": "C"})
    both = first.joined(other)
    assert both.names == ("b", "a", "c")
    assert both.clinical == {"b": "other cell", "a": "lymphoblast", "c": "no cell"}
    assert both.titles == {"a": "A", "c": "C"}
    assert both.only(first.names) == first
    assert both.only(["c", "b"]).names == ("b", "c")
    assert set(both.only(["c", "b"]).clinical) == {"b", "c"}


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be looked at as one")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Results.open(tmp_path / "text.sqlite")
    with pytest.raises(ArtifactError, match="no results here"):
        Results.open(tmp_path, readonly=True)
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ArtifactError, match="schema 99"):
        Results.open(tmp_path / "newer.sqlite")
