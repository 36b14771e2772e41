"""The manifest of a folder: its kind and schema, and the size and SHA-256 of every other file.

A manifest is not believed: it may come from a stranger. Its files lie inside its folder, under
plain names and behind no link, and who reads a folder reads nothing that it does not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cellkin.core.artifacts import file_sha256, read_json, write_json
from cellkin.core.errors import ArtifactError

MEND_FOLDER = "restore the folder from a copy, or make it again; nothing in it was used"


def write_manifest(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write `folder/name` with `data` and the size and SHA-256 of every file under the folder."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() != name
    }
    write_json(folder / name, {**data, "files": files})


def read_manifest(
    folder: Path, name: str, *, kind: str, schema: int, needs: Iterable[str] = ()
) -> dict[str, Any]:
    """Read a manifest and check kind, schema version, sizes and hashes of all files it lists; who
    reads the folder reads nothing that it does not list.

    Args:
        needs: files that it must list.

    Raises:
        ArtifactError: no such folder or manifest, another kind, a newer schema, a missing file,
            one with other bytes than when it was written, or one that lies outside the folder.
    """
    folder = Path(folder)
    if not (folder / name).is_file():
        raise ArtifactError(
            f"this is no {kind}: it holds no {name}",
            where=folder,
            mend=f"give a folder that cellkin wrote as {kind}",
        )
    manifest = read_json(folder / name)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise ArtifactError(
            f"{name} does not describe this kind of folder: {kind}",
            where=folder / name,
            mend=f"give a folder that cellkin wrote as {kind}",
        )
    if manifest.get("schema") not in range(1, schema + 1):
        raise ArtifactError(
            f"this {kind} has schema {manifest.get('schema')}, this cellkin reads {schema}",
            where=folder / name,
            mend="install the cellkin that wrote it, or make it again with this one",
        )
    for relative, expected in _listed(manifest, folder / name, needs).items():
        _check_file(folder, relative, expected)
    return manifest


def _listed(manifest: Mapping[str, Any], where: Path, needs: Iterable[str]) -> dict[str, Any]:
    """The files of a manifest, which is not believed: plain names inside the folder, with sizes and
    hashes.
    """
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_is_entry, files.values())):
        raise ArtifactError(
            "the manifest has no list of files with their sizes and hashes",
            where=where,
            mend=MEND_FOLDER,
        )
    if unfit := [relative for relative in files if not _is_inside(relative)]:
        raise ArtifactError(
            f"the manifest names a file outside its folder: {unfit[0][:80]!r}",
            where=where,
            mend=MEND_FOLDER,
        )
    if lacking := [one for one in needs if one not in files]:
        raise ArtifactError(
            f"the manifest does not name {lacking[0]}: what it does not name is not read",
            where=where,
            mend=MEND_FOLDER,
        )
    return files


def _is_entry(expected: Any) -> bool:
    return (
        isinstance(expected, dict)
        and type(expected.get("bytes")) is int
        and isinstance(expected.get("sha256"), str)
    )


def _is_inside(relative: str) -> bool:
    """Whether this is the plain name of a file below a folder."""
    parts = relative.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not set(relative) & set("\\:\0")


def _check_file(folder: Path, relative: str, expected: Mapping[str, Any]) -> None:
    path = folder / relative
    steps = [path, *path.parents][: relative.count("/") + 1]
    if any(step.is_symlink() for step in steps):
        raise ArtifactError(
            "a file of this folder is a link that leads elsewhere", where=path, mend=MEND_FOLDER
        )
    if not path.is_file():
        raise ArtifactError("a file of this folder is missing", where=path, mend=MEND_FOLDER)
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ArtifactError(
            f"this file has {size} bytes, {expected['bytes']} were written",
            where=path,
            mend=MEND_FOLDER,
        )
    if file_sha256(path) != expected["sha256"]:
        raise ArtifactError(
            "this file was changed after it was written (its SHA-256 differs)",
            where=path,
            mend=MEND_FOLDER,
        )
