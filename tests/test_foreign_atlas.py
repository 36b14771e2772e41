"""An atlas of a stranger: whatever is wrong with it is an `ArtifactError`, and soon."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cellkin.atlas import Atlas, signed
from cellkin.core.artifacts import TRUST, file_sha256, read_arrays, read_json, write_arrays
from cellkin.core.errors import ArtifactError, OutputError

SOON = 2.0  # seconds of processor time
Change = Callable[[Path], None]


@pytest.fixture
def foreign(atlas_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(atlas_folder, tmp_path / "atlas"))


def hashed(folder: Path, name: str) -> None:
    """Tell the manifest of new bytes: whoever makes an atlas makes its hashes too."""
    manifest = read_json(folder / "atlas.json")
    path = folder / name
    manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / "atlas.json").write_text(json.dumps(manifest))


def listed(**files: Any) -> Change:
    """A manifest with other names of files."""

    def change(folder: Path) -> None:
        manifest = read_json(folder / "atlas.json")
        manifest["files"] |= files
        (folder / "atlas.json").write_text(json.dumps(manifest))

    return change


def manifest(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changing(folder: Path) -> None:
        told = read_json(folder / "atlas.json")
        change(told)
        (folder / "atlas.json").write_text(json.dumps(told))

    return changing


def facts(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changing(folder: Path) -> None:
        told = read_json(folder / "facts.json")
        change(told)
        (folder / "facts.json").write_text(json.dumps(told))
        hashed(folder, "facts.json")

    return changing


def settings(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Changed settings of the encoder, told to both manifests."""

    def changing(folder: Path) -> None:
        inner = folder / "encoder"
        told = read_json(inner / "settings.json")
        change(told)
        (inner / "settings.json").write_text(json.dumps(told))
        own = read_json(inner / "encoder.json")
        data = (inner / "settings.json").read_bytes()
        own["files"]["settings.json"]["bytes"] = len(data)
        own["files"]["settings.json"]["sha256"] = file_sha256(inner / "settings.json")
        (inner / "encoder.json").write_text(json.dumps(own))
        hashed(folder, "encoder/settings.json")
        hashed(folder, "encoder/encoder.json")

    return changing


def text(name: str, content: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)
        if name != "atlas.json":
            hashed(folder, name)

    return change


def cells(*statements: str | tuple[str, tuple[Any, ...]]) -> Change:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "cells.sqlite")) as base, base:
            for one in statements:
                base.execute(*((one,) if isinstance(one, str) else one))
        hashed(folder, "cells.sqlite")

    return change


def arrays(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changing(folder: Path) -> None:
        held = dict(read_arrays(folder / "features.safetensors"))
        change(held)
        write_arrays(folder / "features.safetensors", held)
        hashed(folder, "features.safetensors")

    return changing


def link(name: str, *, folder_too: bool = False) -> Change:
    """A file, or its folder, that is a link to the same bytes elsewhere."""

    def change(folder: Path) -> None:
        step = folder / name if not folder_too else (folder / name).parent
        elsewhere = folder.parent / "elsewhere"
        shutil.move(step, elsewhere)
        step.symlink_to(elsewhere)

    return change


def huge(side: int) -> bytes:
    """A PNG of side x side white pixels, small while it is packed."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(b"\0" + b"\xff" * 3 * side) for _ in range(side)) + rows.flush()
    made = io.BytesIO()
    made.write(b"\x89PNG\r\n\x1a\n")
    head = side.to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    for kind, body in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
        check = zlib.crc32(kind + body).to_bytes(4)
        made.write(len(body).to_bytes(4) + kind + body + check)
    return made.getvalue()


def small(mode: str, side: int, form: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new(mode, (side, side)).save(data, form)
    return data.getvalue()


ENTRY = {"bytes": 3, "sha256": "0" * 64}
DEEP = "[" * 200_000
ENDLESS = (
    "CREATE VIEW cells AS WITH RECURSIVE n(position) AS "
    "(SELECT 0 UNION ALL SELECT position + 1 FROM n) SELECT position, 'reference' AS part, "
    "'x' || position AS id, 'y' AS label, NULL AS subject, NULL AS grp, NULL AS place, "
    "NULL AS png, NULL AS mark FROM n"
)
PUT = "UPDATE cells SET png = ? WHERE position = 0 AND part = 'reference'"
FOREIGN: dict[str, Change] = {
    "no files": manifest(lambda told: told.update(files={})),
    "no list of files": manifest(lambda told: told.pop("files")),
    "a list that is none": manifest(lambda told: told.update(files=["facts.json"])),
    "a file without a hash": listed(**{"facts.json": {}}),
    "an absolute path": listed(**{"/etc/passwd": ENTRY}),
    "a path that leads out": listed(**{"../elsewhere": ENTRY}),
    "a path that leads out and in": listed(**{"encoder/../../x": ENTRY}),
    "a path with a drive": listed(**{"c:x": ENTRY}),
    "a path of another system": listed(**{"..\\x": ENTRY}),
    "a name that is empty": listed(**{"": ENTRY}),
    "a link": link("facts.json"),
    "a linked folder": link("encoder/settings.json", folder_too=True),
    "a deep manifest": text("atlas.json", DEEP),
    "deep facts": text("facts.json", DEEP),
    "facts that are a list": text("facts.json", "[]"),
    "facts that are nothing": text("facts.json", "null"),
    "a number of 5,000 digits": text("facts.json", "1" * 5000),
    "facts without classes": facts(lambda told: told.pop("labels")),
    "k that is no number": facts(lambda told: told.update(k="many")),
    "k larger than the atlas": facts(lambda told: told.update(k=10**9)),
    "a distance that nobody knows": facts(lambda told: told.update(distance="x")),
    "held-out parts that are none": facts(lambda told: told.update(held_out_parts=["x"])),
    "an encoder of a hub": settings(lambda told: told.update(backbone="hf-hub:evil/model")),
    "an encoder that nobody knows": settings(lambda told: told.update(backbone="nothing")),
    "a document of elsewhere": settings(lambda told: told.update(documents=["../../../secret"])),
    "an endless view": cells("ALTER TABLE cells RENAME TO old", ENDLESS),
    "a view beside the cells": cells("CREATE VIEW more AS SELECT * FROM cells"),
    "a trigger": cells("CREATE TRIGGER t AFTER INSERT ON cells BEGIN SELECT 1; END"),
    "another table": cells("CREATE TABLE more (x)"),
    "a column that is computed": cells("ALTER TABLE cells ADD x AS (zeroblob(1000000000))"),
    "an index of an expression": cells(
        "DROP INDEX by_id", "CREATE INDEX by_id ON cells (id || id)"
    ),
    "an unknown label": cells("UPDATE cells SET label = 'unheard of'"),
    "a label that is a number": cells("UPDATE cells SET label = x'00'"),
    "a cell less": cells("DELETE FROM cells WHERE position = 0 AND part = 'reference'"),
    "a picture of 169 megapixels": cells((PUT, (huge(13_000)[:4096],))),
    "a picture of another size": cells((PUT, (small("RGB", 7),))),
    "a picture that is a JPEG": cells((PUT, (small("RGB", 64, "JPEG"),))),
    "a picture that is text": cells((PUT, ("x",))),
    "vectors of another number": arrays(lambda held: held.update(vectors=held["vectors"][1:])),
    "vectors of another length": arrays(lambda held: held.update(vectors=held["vectors"][:, 1:])),
    "vectors without numbers": arrays(lambda held: held.update(vectors=held["vectors"] * np.nan)),
    "a map of another size": arrays(lambda held: held.update(xy=held["xy"][1:])),
    "no scale": arrays(lambda held: held.pop("scale")),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_atlas_is_refused_soon(foreign: Path, what: str) -> None:
    FOREIGN[what](foreign)
    started = time.process_time()
    with pytest.raises(ArtifactError):
        Atlas.open(foreign)
    assert time.process_time() - started < SOON


EARLIER_TABLES = {
    "before marks": ("place", "mark"),
    "before places": ("place",),
}
"""Columns that earlier versions did not have."""


@pytest.mark.parametrize("when", EARLIER_TABLES)
def test_cells_of_every_earlier_table_are_read(foreign: Path, when: str) -> None:
    missing = EARLIER_TABLES[when]
    with closing(sqlite3.connect(foreign / "cells.sqlite")) as base, base:
        (made,) = base.execute("SELECT sql FROM sqlite_master WHERE name = 'cells'").fetchone()
        names = [row[1] for row in base.execute("PRAGMA table_info(cells)")]
        kept = ", ".join(name for name in names if name not in missing)
        for name in missing:
            made = made.replace(f" {name} TEXT,", "")
        base.execute("ALTER TABLE cells RENAME TO present")
        base.execute("DROP INDEX by_id")
        base.execute(made)
        base.execute(f"INSERT INTO cells SELECT {kept} FROM present")
        base.execute("DROP TABLE present")
        base.execute("CREATE UNIQUE INDEX by_id ON cells (id)")
    hashed(foreign, "cells.sqlite")
    atlas = Atlas.open(foreign)
    assert atlas.mark(0)
    assert atlas.image(0).ndim == 3


def test_a_damaged_page_of_the_cells_is_found(foreign: Path) -> None:
    path = foreign / "cells.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:4200] = b"\xff" * 104
    path.write_bytes(data)
    hashed(foreign, "cells.sqlite")
    with pytest.raises(ArtifactError):
        Atlas.open(foreign)


def test_what_the_manifest_does_not_name_is_not_read(foreign: Path) -> None:
    """Optional files that lie there are none of the atlas's."""
    told = read_json(foreign / "atlas.json")
    for name in ("verification.json", "maps.safetensors", "encoder/seen.safetensors"):
        told["files"].pop(name, None)
        (foreign / name).write_text("{}")
    (foreign / "atlas.json").write_text(json.dumps(told))
    opened = Atlas.open(foreign)
    assert (opened.verification, opened.maps, opened.encoder.seen_pixels) == (None, None, ())


# signatures -------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Two public keys; the private ones lie beside."""
    return signed.new_key(tmp_path / "own"), signed.new_key(tmp_path / "other")


def test_only_what_a_trusted_key_signed_is_opened(
    foreign: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = keys
    Atlas.open(foreign)
    monkeypatch.setenv(TRUST, str(own))
    with pytest.raises(ArtifactError, match="not signed"):
        Atlas.open(foreign)
    signed.sign(foreign / "atlas.json", own.with_suffix(""))
    Atlas.open(foreign)
    monkeypatch.setenv(TRUST, str(other))
    with pytest.raises(ArtifactError, match="none of the trusted keys"):
        Atlas.open(foreign)
    monkeypatch.setenv(TRUST, os.pathsep.join(map(str, (other, own))))
    Atlas.open(foreign)
    facts(lambda told: told.update(k=3))(foreign)  # with its hash in the manifest
    with pytest.raises(ArtifactError, match="none of the trusted keys"):
        Atlas.open(foreign)


def test_a_signature_is_not_part_of_what_it_signs(foreign: Path, keys: tuple[Path, Path]) -> None:
    before = (foreign / "atlas.json").read_bytes()
    beside = signed.sign(foreign / "atlas.json", keys[0].with_suffix(""))
    assert (beside.name, len(beside.read_bytes())) == ("atlas.json.sig", 64)
    assert (foreign / "atlas.json").read_bytes() == before


def test_keys_that_are_none(foreign: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private = keys[0].with_suffix("")
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputError, match="already"):
        signed.new_key(private)
    (tmp_path / "text").write_text("no key")
    for path in (tmp_path / "text", tmp_path / "missing", keys[0]):
        with pytest.raises(ArtifactError, match="no key"):
            signed.sign(foreign / "atlas.json", path)
    signed.sign(foreign / "atlas.json", private)
    with pytest.raises(ArtifactError, match="no key"):
        signed.require_signed(foreign / "atlas.json", [private])
