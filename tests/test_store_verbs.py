"""The verbs that keep a store: users, log, backup, restore."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from storing import ANNA, decide_all, filled, fresh

from cellkin.cli import main as cli

SECRET = "correct horse battery"
Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `cellkin WORDS` in `tmp_path` with some standard input: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object, typed: str = "") -> Said:
        monkeypatch.setattr(sys, "argv", ["cellkin", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0, out, err)

    return call


@pytest.mark.parametrize(
    "words",
    [
        ("users", "add"),
        ("users", "list"),
        ("users", "password"),
        ("users", "disable"),
        ("log",),
        ("backup",),
        ("restore",),
    ],
)
def test_every_verb_has_help_with_examples(run: Run, words: tuple[str, ...]) -> None:
    status, out, _ = run(*words, "--help")
    assert status == 0
    assert f"cellkin {' '.join(words)}" in out.split("Examples:")[1]


def test_people_from_the_first_to_shutting_out(run: Run) -> None:
    status, out, err = run(
        "users", "add", "anna", "--role", "admin", "--stdin", "--json", typed=f"{SECRET}\n"
    )
    assert (status, json.loads(out)["role"]) == (0, "admin")
    assert "anna may sign in" in err
    assert run("users", "add", "ben", "--stdin", typed=f"{SECRET}\n")[0] == 0
    told = json.loads(run("users", "list", "--json")[1])["users"]
    assert [(u["name"], u["role"], u["disabled"]) for u in told] == [
        ("anna", "admin", False),
        ("ben", "reviewer", False),
    ]
    assert run("users", "disable", "ben")[0] == 0
    assert "ben  reviewer" in (shown := run("users", "list")[1])
    assert "shut out" in shown
    assert run("users", "disable", "ben", "--undo")[0] == 0
    assert run("users", "password", "ben", "--stdin", typed="another long secret\n")[0] == 0
    status, _, err = run("users", "disable", "anna")
    assert status == 2
    assert "last admin" in err
    log = run("log")[1]
    assert run("audit-log")[1] == log  # its name in version 0.1
    assert log.count("command line") == 5
    assert SECRET not in log


def test_a_password_is_never_taken_from_the_arguments_or_guessed(run: Run) -> None:
    status, _, err = run("users", "add", "anna")
    assert status == 2
    assert "--stdin" in err
    assert run("users", "add", "anna", "--stdin", typed="\n")[0] == 2
    assert run("users", "password", "nobody", "--stdin", typed=f"{SECRET}\n")[0] == 2


def test_a_store_that_is_not_there_is_said_and_not_made(run: Run, tmp_path: Path) -> None:
    for words in (("users", "list"), ("log",), ("backup", "b"), ("restore", "b")):
        status, _, err = run(*words, "--store", "nowhere.sqlite")
        assert (status, "there is no" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_verifying_backing_up_and_putting_back(run: Run, tmp_path: Path) -> None:
    store = fresh(tmp_path / "workstation.sqlite")
    case, _ = filled(store)
    store.sign(ANNA, case.id, decide_all(store, case.id).version)
    told = store.case_report(case.id).data["witness"]
    store.close()
    assert run("log", "--verify", "--heads", "heads.txt")[0] == 0
    status, out, _ = run("log", "--verify", "--heads", "heads.txt", "--json")
    check = json.loads(out)
    assert (status, check["intact"], check["faults"]) == (0, True, [])
    assert (tmp_path / "heads.txt").read_text() == f"{check['entries']} {check['head']}\n" * 2
    witness = f"{told['number']}:{told['hash']}"
    assert run("log", "--witness", witness)[0] == 0
    assert run("log", "--witness", witness[:-1] + "x")[0] == 2
    assert run("log", "--witness", "nonsense")[0] == 2
    assert run("log", "--case", case.id, "--json")[0] == 0
    assert json.loads(run("backup", "b.sqlite", "--json")[1])["bytes"] > 0
    assert run("backup", "b.sqlite")[0] == 2
    assert run("restore", "b.sqlite")[0] == 2  # the store is in the way
    status, out, _ = run("restore", "b.sqlite", "--store", "again.sqlite", "--json")
    assert (status, json.loads(out)["entries"]) == (0, check["entries"] + 1)  # of the backup
    assert run("restore", "b.sqlite", "--store", "third.sqlite")[0] == 0
    assert run("log", "--verify", "--store", "again.sqlite")[0] == 0


def test_tampering_is_told_with_exit_status_2(run: Run, tmp_path: Path) -> None:
    store = fresh(tmp_path / "workstation.sqlite")
    filled(store)
    store.close()
    assert run("log", "--verify", "--heads", "heads.txt")[0] == 0
    with closing(sqlite3.connect(tmp_path / "workstation.sqlite")) as base, base:
        base.execute("UPDATE cases SET pseudonym = 'other'")
    before = (tmp_path / "heads.txt").read_text()
    status, out, err = run("log", "--verify", "--heads", "heads.txt")
    assert status == 2
    assert "pseudonym is not what the log says" in out
    assert "tampered" in err
    assert (tmp_path / "heads.txt").read_text() == before
