"""The verb evaluate: what it prints, what it leaves, how it says that it was stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_runs import tiny

from cellkin.cli import main as cli
from cellkin.study.experiment_file import experiment_names
from cellkin.study.predictions import Results


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cellkin", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_the_shipped_experiments_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(capsys, monkeypatch, "--list", "--json")
    assert status == 0
    assert list(json.loads(out)) == experiment_names()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ((), "no experiment is named"),
        (("ablation-smal",), "did you mean 'ablation-small'"),
        (("ablation-small", "--data", "here"), "--data NAME=FOLDER"),
        (("ablation-small", "--engine", "rai"), "did you mean 'ray'"),
        (("times-small", "--engine", "ray"), "measured by one process"),
        (("ablation-small", "--page"), "cellkin evaluate --page --out"),
        (("--page",), "there are no results"),
    ],
)
def test_mistakes_are_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    match: str,
) -> None:
    status, _, err = call(capsys, monkeypatch, *words, "--out", tmp_path / "out")
    assert status == 2
    assert match in err
    assert not (tmp_path / "out").exists()


def test_no_page_is_made_of_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Results.open(tmp_path).close()
    status, _, err = call(capsys, monkeypatch, "--page", "--out", tmp_path)
    assert status == 2
    assert "no job of this study is done yet" in err
    assert not (tmp_path / "tables").exists()


AS_AT_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs in the background
runpy.run_module("cellkin", run_name="__main__")
"""


def test_stopped_with_ctrl_c_it_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As at a terminal: a process, interrupted when its first job is done; then the rest."""
    tiny(tmp_path)
    words = ["evaluate", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", AS_AT_A_TERMINAL, *words, "--workers", "1"]
    environment = {**os.environ, "COLUMNS": "200"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stderr=log, env=environment) as process,
    ):
        deadline = time.monotonic() + 240
        while "jobs, 2 of" not in (tmp_path / "log").read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    text = (tmp_path / "log").read_text()
    assert "Stopped: what is done is kept" in text
    assert f"--out {tmp_path / 'out'} --workers 1 --resume" in text
    assert "Traceback" not in text
    assert "cellkin evaluate --page --out" in text
    status, out, _ = call(capsys, monkeypatch, "--page", "--out", tmp_path / "out", "--json")
    assert status == 0
    assert "planned jobs are missing" in Path(json.loads(out)["page"]).read_text()
    status, out, err = call(capsys, monkeypatch, *words[1:], "--workers", 1, "--resume", "--json")
    assert status == 0
    result = json.loads(out)
    assert (result["planned"], result["done"], result["failed"]) == (9, 9, [])
    assert Path(result["page"]).is_file()
    assert "9 of 9 jobs are done" in err
