"""Running times: what is measured, not how long it takes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_runs import tiny

from cellkin.core.errors import OutputError, RecipeError
from cellkin.study import timing
from cellkin.study.fold_cells import WorkOptions


def test_each_backbone_is_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "[timing]\nrepeats = 2\n"
    experiment = tiny(tmp_path, lists='kind = "timing"', more=more)
    out = tmp_path / "out"
    result = timing.measure(experiment, out, options=WorkOptions(device="cpu"))
    (row,) = result["rows"]
    assert row["backbone"] == "test_resnet"
    assert row["epochs"] == 2
    assert row["references"] == row["train_images"]
    assert row["train_ratio"] == row["train_seconds"] / row["bare_train_seconds"]
    assert all(row[key] > 0 for key in ("decide_ratio", "decide_replicated_ratio", "read_seconds"))
    kept = json.loads((out / "timing.json").read_text())
    assert kept["rows"] == result["rows"]
    assert kept["environment"]["threads"] == 1
    table = list(csv.reader((out / "timing.csv").read_text().splitlines()))
    assert table == timing.timing_table(result["rows"])
    assert (out / "timing.md").read_text().count("\n") == len(table) + 1
    assert not (out / "prepared").exists()

    with pytest.raises(OutputError):
        timing.measure(experiment, out, options=WorkOptions(device="cpu"))
    measured: list[Any] = []
    monkeypatch.setattr(timing, "_measured", lambda work, *rest: measured.append(work) or row)
    wider = replace(experiment, backbones=("test_resnet", "resnet34"))
    timing.measure(wider, out, options=WorkOptions(device="cpu", resume=True))
    assert [work.recipe.backbone for work in measured] == ["resnet34"]


def test_a_setting_that_says_nothing_is_refused(tmp_path: Path) -> None:
    for told, what in (
        ("repeat = 2", "unknown key 'repeat'"),
        ("repeats = 0", "nothing is measured"),
    ):
        with pytest.raises(RecipeError, match=what):
            tiny(tmp_path, lists='kind = "timing"', more=f"[timing]\n{told}\n")
