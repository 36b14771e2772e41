"""A place outside the database for large files, each under the SHA-256 of its bytes: a folder, or
whatever fsspec reaches ("s3://BUCKET/PREFIX").
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import guarded_writes
from cellkin.core.errors import ArtifactError, OutputError, RecipeError


class Shelf:
    """Files by their SHA-256; what lies there already is not written again.

    Args:
        place: a folder, which is made, or a URL.

    Raises:
        RecipeError: nothing here reaches such a URL. OutputError: the folder cannot be made.
    """

    def __init__(self, place: str) -> None:
        self.place = place if "://" in place else os.path.abspath(os.path.expanduser(place))
        self._files, self._root = _reached(self.place)
        with guarded_writes(Path(self.place)):
            self._files.makedirs(self._root, exist_ok=True)
            if self.local:
                os.chmod(self._root, 0o700)  # for its owner alone, as the store is

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "file" in self._files.protocol

    def put(self, sha256: str, data: bytes) -> None:
        """Keep bytes; they appear whole or not at all.

        Raises:
            OutputError: they cannot be written.
        """
        path = self._path(sha256)
        with guarded_writes(Path(self.place)):
            if self._files.exists(path):
                return
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if not self.local:
                self._files.pipe_file(path, data)
                return
            building = f"{path}.{secrets.token_hex(4)}"
            with open(os.open(building, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(building, path)

    def get(self, sha256: str) -> bytes:
        """The bytes, whose digest is checked.

        Raises:
            ArtifactError: they are gone, or no longer what they were.
        """
        try:
            data = bytes(self._files.cat_file(self._path(sha256)))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"an original cannot be read: {error}",
                where=f"{self.place}, {sha256[:12]}",
                mend="give --originals the place that they were kept in, or restore a backup",
            ) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactError(
                "an original is no longer what was uploaded",
                where=f"{self.place}, {sha256[:12]}",
                mend="restore it from a backup",
            )
        return data

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"


def _reached(place: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        files, root = url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise RecipeError(
            f"this place for originals cannot be reached: {error}",
            where=place,
            mend="give a folder, or install what fsspec needs for it (s3://: pip install s3fs)",
        ) from None
    except OSError as error:
        raise OutputError(f"no such place: {error}", where=place, mend="check it") from None
    return files, str(root).rstrip("/")
