"""Files that have no name while they are written: who is killed leaves nothing behind."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from cellkin.core.artifacts import guarded_writes
from cellkin.core.errors import OutputError

NO_SUCH_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
LOCK = "lock"


def require_free(path: Path) -> None:
    """Refuse a place where something is.

    Raises:
        OutputError: there is something at `path`.
    """
    if path.exists():
        raise _taken(path)


def _taken(path: Path) -> OutputError:
    return OutputError("there is something here already", where=path, mend="give another name")


@contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write and read that becomes `path`, its owner's alone, when the block ends well.

    Where the system knows no files without a name, it has one in a folder that the next backup of
    this name takes away.

    Raises:
        OutputError: there is something at `path`, or it cannot be written.
    """
    with guarded_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _nameless(path.parent)
        if handle is not None:
            with os.fdopen(handle, "w+b") as file:
                yield file
                _name(file, Path(f"/proc/self/fd/{handle}"), path)
            return
        with locked_folder(path) as folder:
            building = folder / "building"
            with os.fdopen(os.open(building, os.O_RDWR | os.O_CREAT, 0o600), "w+b") as file:
                yield file
                _name(file, building, path)


def _nameless(folder: Path) -> int | None:
    """A new file without a name; None where the system has none."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except AttributeError:
        return None
    except OSError as error:
        if error.errno in NO_SUCH_FILES:
            return None
        raise


def _name(file: IO[bytes], source: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    put(source, path)


def put(source: Path, path: Path) -> None:
    """Give a file the name `path`, if nothing has it: two at once cannot overwrite each other.

    Raises:
        OutputError: there is something at `path`.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # with a folder given, the system follows the name in /proc to the file itself
        os.link(source, path.name, dst_dir_fd=folder, follow_symlinks=True)
        os.fsync(folder)
    except FileExistsError:
        raise _taken(path) from None
    finally:
        os.close(folder)


@contextmanager
def scratch(folder: Path) -> Iterator[tuple[sqlite3.Connection, IO[bytes]]]:
    """An empty SQLite database without a name, and its bytes; it ends with the block."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".scratch.")
    with os.fdopen(handle, "r+b") as file:
        base = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        os.unlink(name)
        with closing(base):
            base.execute("PRAGMA journal_mode = OFF")
            base.execute("PRAGMA synchronous = OFF")
            yield base, file


@contextmanager
def locked_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to build in; those that killed processes left are taken away."""
    with guarded_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*"):
            if not _locked(left / LOCK):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        with (folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _locked(lock: Path) -> bool:
    """Whether a living process holds a lock; a folder without one is not ours, or just begun."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
