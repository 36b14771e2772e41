"""Folders on disk: a JSON manifest beside safetensors and SQLite files, hashed, written atomically.

A folder appears whole or not at all: it is built under a temporary name beside its target, flushed
to the disk and renamed. Its manifest holds the SHA-256 of every other file, so a flipped byte is
found on opening. Nothing here is ever a pickle.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.errors import ArtifactError, OutputError, damaged

CHUNK = 1 << 20
TRUST = "CELLKIN_TRUST"
"""The environment variable that names the keys of those whose atlases are opened."""


def digest(data: Any) -> str:
    """SHA-256 (hex) of plain data, by its canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            total.update(block)
    return total.hexdigest()


@contextmanager
def guarded_writes(where: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into an `OutputError` that names the place.

    Raises:
        OutputError: the operating system refused the write.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space, then run the same command again"),
            errno.EDQUOT: ("the disk quota is used up", "free some space, then run again"),
            errno.EACCES: ("no permission to write here", "choose another --out"),
            errno.EPERM: ("no permission to write here", "choose another --out"),
            errno.EROFS: ("this file system is read-only", "choose another --out"),
            errno.EFBIG: ("the file grew past the size allowed here", "choose another --out"),
            errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another --out"),
            errno.EEXIST: ("something of this name is already here", "choose another --out"),
        }
        if error.errno not in reasons and not _is_there(error, where):
            raise
        other = (f"this place cannot be written: {error.strerror}", "choose another --out")
        what, mend = reasons.get(error.errno or 0, other)
        raise OutputError(what, where=where, mend=mend) from error


def _is_there(error: OSError, where: Path) -> bool:
    """Whether the system complained about this place, and not about something that was read."""
    named = Path(str(error.filename))
    return named.is_relative_to(Path(where).parent) or Path(where).is_relative_to(named)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made if missing, so that no second run works on it; the system lets go when
    the process ends, however it ends.

    Raises:
        OutputError: another run holds it.
    """
    with guarded_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                "another run is at work here",
                where=folder,
                mend="wait for it, stop it, or choose another --out",
            ) from None
        yield


@contextmanager
def new_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Build a folder under a temporary name; rename it to `target` when the block ends well.

    Yields:
        the temporary folder to write into; it is removed if the block raises.

    Raises:
        OutputError: `target` exists already (and `overwrite` is off), or cannot be written.
    """
    target = Path(target)
    if not overwrite:
        refuse_existing(target)
    with guarded_writes(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        os.chmod(building, 0o755)
    try:
        with guarded_writes(target):
            yield building
            _flush(building)
            _replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def refuse_existing(target: Path) -> None:
    """Raise where something would be overwritten; an empty folder is free to use.

    Raises:
        OutputError: `target` exists and is not an empty folder.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise OutputError(
            "there is something here already",
            where=target,
            mend="choose another --out, or add --overwrite to replace it",
        )


def _replace(building: Path, target: Path) -> None:
    if not target.exists():
        os.rename(building, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.rename(target, aside / "old")
    os.rename(building, target)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name beside `path`; it is flushed and takes the place of
    `path` when the block ends well.

    Yields:
        the temporary file to write; it is removed if the block raises.

    Raises:
        OutputError: the file cannot be written.
    """
    with guarded_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.chmod(part, 0o644)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)
    return path


def write_pieces(path: Path, pieces: Iterable[str]) -> Path:
    """Write a text file atomically, piece by piece: it need not fit in memory.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    return path


def write_table(path: Path, rows: Iterable[Iterable[Any]]) -> Path:
    """Write rows as a CSV file, atomically; None is an empty cell.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_pieces(path, map(csv_line, rows))


def csv_line(row: Iterable[Any]) -> str:
    """A row of a CSV file; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(row)  # so a carriage return gets quotes too
    return text.getvalue().removesuffix("\r\n") + "\n"


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, atomically; NaN is refused, it is no JSON."""
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_text(path: Path, data: Any) -> None:
    """Write a text as it is, plain data as JSON."""
    if isinstance(data, str):
        write_bytes(path, data.encode())
    else:
        write_json(path, data)


def read_json(path: Path) -> Any:
    """Plain data from a JSON file.

    Raises:
        ArtifactError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{path.name} is missing", where=path, mend="give the folder that cellkin wrote"
        ) from None
    except (ValueError, OSError) as error:
        raise damaged(path.name, error, where=path) from error
    except RecursionError as error:
        raise damaged(path.name, ValueError("nested too deep"), where=path) from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays as one safetensors file.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with guarded_writes(path):
        try:
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(path))
            os.chmod(path, 0o644)  # as every other file; the library makes it the owner's alone
        except SafetensorError as error:  # it wraps what the operating system said
            code = re.search(r"code: (\d+)", str(error))
            raise OSError(int(code[1]), str(error)) if code else error from error


def read_arrays(path: Path) -> dict[str, Array]:
    """Named arrays of a safetensors file.

    Raises:
        ArtifactError: the file is missing, cut off or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path.name, error, where=path) from error


def map_array(path: Path, name: str) -> Array:
    """One float16 array of a safetensors file, read-only and paged in only where it is read.

    Raises:
        ArtifactError: the file is cut off, or holds no such array.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[name]
        if entry["dtype"] != "F16":
            raise ValueError(f"{name} is of type {entry['dtype']}")
        start = 8 + length + entry["data_offsets"][0]
        return np.memmap(path, np.float16, "r", start, tuple(entry["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path.name, error, where=path) from error
