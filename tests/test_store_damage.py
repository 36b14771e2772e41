"""Backups as of one moment, killed backups, and single bits that flipped on the disk."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from storing import ANNA, filled, fresh, new_cell, worked

from cellkin.core.errors import ArtifactError, OutputError
from cellkin.web.store import Store
from cellkin.web.store import backup as backing_up
from cellkin.web.store.nameless import locked_folder

FLIPS = 40  # docs/store.md tells of 200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = fresh(tmp_path / "s")
    yield opened
    opened.close()


# one moment -------------------------------------------------------------------------------------


def test_a_backup_ends_whatever_is_written_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit after every page that is copied: it never begins again."""
    case, _ = filled(store)
    monkeypatch.setattr(backing_up, "PAGES", 4)
    told: list[tuple[int, int]] = []

    def commit(task: str, done: int, total: int) -> None:
        told.append((done, total))
        store.add_cells(ANNA, case.id, [new_cell(100 + len(told))], None)

    path = store.backup(tmp_path / "b", commit)
    assert len(told) > 5
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    copy = Store.restore(path, tmp_path / "back")
    assert (copy.case(case.id), copy.verify_log().intact) == (case, True)
    copy.close()


def test_two_backups_of_one_name_do_not_overwrite_each_other(store: Store, tmp_path: Path) -> None:
    """Both begin where nothing is; the second to end is refused."""

    def second(task: str, done: int, total: int) -> None:
        if not (tmp_path / "b").exists():
            store.backup(tmp_path / "b")

    with pytest.raises(OutputError, match="already"):
        store.backup(tmp_path / "b", second)
    Store.restore(tmp_path / "b", tmp_path / "back").close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "back", "s", "s-shm", "s-wal"]


KILLED = """
    import sys
    sys.path.insert(0, {tests!r})
    from storing import *
    from cellkin.web.store import backup
    backup.PAGES = 4

    def wait(*told):
        print("in the middle", flush=True)
        sys.stdin.read()  # killed here

    {where} = wait
    Store.open({path!r}).backup({out!r}, wait)
"""


@pytest.mark.parametrize("where", ["unused", "backup._gather", "backup._copy_hashed"])
def test_a_killed_backup_leaves_nothing_behind(store: Store, tmp_path: Path, where: str) -> None:
    filled(store)
    (tmp_path / "to").mkdir()
    told = {"tests": str(Path(__file__).parent), "path": str(tmp_path / "s"), "where": where}
    source = textwrap.dedent(KILLED).format(out=str(tmp_path / "to" / "b"), **told)
    if where != "unused":
        source = source.replace(", wait)", ")")
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "in the middle"
        process.send_signal(signal.SIGKILL)
    assert list((tmp_path / "to").iterdir()) == []
    store.backup(tmp_path / "to" / "b")


def test_without_nameless_files_the_next_one_clears_away(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock says whether a folder's maker lives; no age and no luck."""
    monkeypatch.setattr("cellkin.web.store.nameless._nameless", lambda folder: None)
    (tmp_path / ".b.dead").mkdir()
    (tmp_path / ".b.dead" / "lock").touch()
    with locked_folder(tmp_path / "b") as living:
        assert store.backup(tmp_path / "b").is_file()
        assert living.is_dir()
    left = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("."))
    assert left == []


def test_a_full_disk_is_said_and_nothing_is_left(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backing_up, "_copy_pages", full)
    with pytest.raises(OutputError, match="disk is full"):
        store.backup(tmp_path / "to" / "b")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_restore_overwrites_nothing_that_appears_meanwhile(store: Store, tmp_path: Path) -> None:
    path = store.backup(tmp_path / "b")

    def appear(task: str, done: int, total: int) -> None:
        (tmp_path / "back").write_bytes(b"somebody else's")

    with pytest.raises(OutputError, match="already"):
        Store.restore(path, tmp_path / "back", appear)
    assert (tmp_path / "back").read_bytes() == b"somebody else's"


# bits -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A store in which everything has happened, in one file, and its backup."""
    folder = tmp_path_factory.mktemp("used")
    store = worked(fresh(folder / "s"))
    whole = store.backup(folder / "b").read_bytes()
    store.close()
    with closing(sqlite3.connect(folder / "s")) as base:
        base.execute("PRAGMA journal_mode = DELETE")
    return (folder / "s").read_bytes(), whole


def flipped(whole: bytes, seed: int) -> Iterator[tuple[int, bytes]]:
    """The same bytes with one bit flipped, and where."""
    chance = random.Random(seed)
    for _ in range(FLIPS):
        at = chance.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        yield at, bytes(changed)


def test_no_flipped_bit_of_a_backup_is_restored(used: tuple[bytes, bytes], tmp_path: Path) -> None:
    path = tmp_path / "b"
    for at, changed in [*flipped(used[1], 0), *flipped_at(used[1], -4096 * 8, -1)]:
        path.write_bytes(changed)
        with pytest.raises(ArtifactError):
            backing_up._require_known("0004", backing_up._copy_summed(path, tmp_path / "c"), path)
        assert at is not None
    path.write_bytes(used[1])
    assert backing_up._copy_summed(path, tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == used[1][:-4096]


def flipped_at(whole: bytes, *places: int) -> Iterator[tuple[int, bytes]]:
    for at in places:
        changed = bytearray(whole)
        changed[(at % (8 * len(whole))) // 8] ^= 1
        yield at, bytes(changed)


def told(base: sqlite3.Connection) -> list[Any]:
    """All that a store can answer from: every row of every table, but for tries to log in."""
    tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    wanted = sorted(set(tables) - {"attempts", "sqlite_sequence"})
    return [(name, base.execute(f"SELECT * FROM {name}").fetchall()) for name in wanted]


def test_no_flipped_bit_that_matters_is_verified_as_intact(
    used: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """What verifies although a bit flipped answers as it did before, see docs/store.md."""
    path, unseen = tmp_path / "s", 0
    with closing(sqlite3.connect(":memory:")) as base:
        base.deserialize(used[0])
        expected = told(base)
    for at, changed in flipped(used[0], 1):
        path.write_bytes(changed)
        if not _verifies(path):
            continue
        unseen += 1
        with closing(sqlite3.connect(path)) as base:
            assert told(base) == expected, at
    assert unseen < FLIPS


def _verifies(path: Path) -> bool:
    try:
        opened = Store.open(path)
    except Exception:
        return False
    try:
        return opened.verify_log().intact
    finally:
        opened.close()
        for beside in path.parent.glob(f"{path.name}-*"):
            beside.unlink()
