"""What the workstation says when the machine fails it: full disk, busy or absent store, bad words.

Statuses tell a program what to do, and no answer names a path or a host of the server.
"""

from __future__ import annotations

import base64
import errno
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from workstation import HOST, SYSTEM, Workstation, upload

from cellkin import train
from cellkin.core.artifacts import alone
from cellkin.core.errors import ArtifactError, CellkinError, OutputError
from cellkin.core.records import Dataset
from cellkin.learning.recipes import Recipe
from cellkin.report.exports import FORMULA, guarded
from cellkin.system import TrainOptions
from cellkin.web.problems import answer
from cellkin.web.store import Busy, Full, Store, database
from cellkin.web.store.converting import cursor_to
from cellkin.web.store.errors import NoCursor, Unreachable
from cellkin.web.uploads import shown_name

SECRETS = ("/srv/secret", "db.inside", "hunter2")
OUTAGES = {
    "busy": (Busy("the store is busy", where="/srv/secret/s.sqlite"), 503),
    "full": (Full("the disk is full", where="/srv/secret/s.sqlite"), 507),
    "absent": (Unreachable("no answer from db.inside hunter2", where="/srv/secret"), 503),
    "read-only": (OutputError("the store is read-only", where="/srv/secret"), 503),
    "damaged": (ArtifactError("/srv/secret is no longer what it was", where="/srv/secret"), 503),
}


# outages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", OUTAGES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_outage_is_told_without_the_insides_of_the_machine(
    shared: Workstation, monkeypatch: pytest.MonkeyPatch, what: str, method: str
) -> None:
    error, status = OUTAGES[what]

    def broken(*_: object, **__: object) -> None:
        raise error

    client = shared.client("rolf")
    for name in ("cases", "create_case"):
        monkeypatch.setattr(Store, name, broken)
    told = client.request(method, "/api/v1/cases", json={"pseudonym": "P"})
    assert told.status_code == status
    assert told.headers["content-type"] == "application/problem+json"
    assert not [secret for secret in SECRETS if secret in told.text]
    assert ("retry-after" in told.headers) is (status == 503)
    assert told.json()["mend"]


def test_every_error_of_a_machine_is_an_outage() -> None:
    """None of them, whatever its class, becomes a mistake of the person who asked."""
    kinds = [OutputError, ArtifactError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        told = answer(kind("x", where="/srv/secret"))
        assert told.status_code in (503, 507), kind
        assert b"/srv/secret" not in told.body
    assert answer(CellkinError("x", where="field")).status_code == 422


def test_a_full_disk_under_an_upload_is_507(
    shared: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = shared.client("rolf")
    case = shared.case(client)["id"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/secret/tmp")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    told = upload(client, case, shared.cells[:1])
    assert told.status_code == 507
    assert "/srv/secret" not in told.text


def test_a_store_that_is_locked_is_503_and_reading_goes_on(
    web: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY", 200)
    client = web.client("rolf")
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for method, path in (("POST", "/api/v1/cases"), ("DELETE", "/api/v1/session")):
        told = client.request(method, path, json={"pseudonym": "P"})
        assert told.status_code == 503, path
        assert "retry-after" in told.headers
    assert client.get("/api/v1/cases").status_code == 200
    other.execute("ROLLBACK")
    other.close()
    assert client.post("/api/v1/cases", json={"pseudonym": "P"}).status_code == 201


def test_all_who_wait_for_a_lock_wait_at_the_same_time(
    web: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY", 300)
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        waiting = [pool.submit(web.store.create_case, SYSTEM, "P") for _ in range(8)]
        assert all(isinstance(one.exception(), Busy) for one in waiting)
        took = time.monotonic() - started
    other.close()
    assert took < 8 * 0.3, "one after another"


def test_a_session_in_use_does_not_wait_for_a_change(web: Workstation, tmp_path: Path) -> None:
    secret = web.store.start_session("rolf", minutes=30)
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("UPDATE sessions SET minutes = 12 * 60")  # so that its use would prolong it
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert web.store.session(secret) is not None
    assert time.monotonic() - started < database.BUSY / 1000 / 2
    other.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_store_whose_file_is_gone_takes_no_change(
    web: Workstation, tmp_path: Path, how: str
) -> None:
    client = web.client("rolf")
    file = tmp_path / "store.sqlite"
    if how == "deleted":
        file.unlink()
    else:
        file.rename(tmp_path / "elsewhere.sqlite")
    if how == "replaced":
        file.write_bytes((tmp_path / "elsewhere.sqlite").read_bytes())
    told = client.post("/api/v1/cases", json={"pseudonym": "P"})
    assert told.status_code == 503, "what is written now would be lost"
    assert str(tmp_path) not in told.text
    web.store.database.engine.dispose()
    if how != "replaced":
        assert client.get("/api/v1/cases").status_code == 503
        assert not file.exists(), "an empty store was begun in its place"


# words --------------------------------------------------------------------------------------------

CURSORS = (
    f"[{2**63}, 1]",
    f"[{-(2**70)}, 1]",
    f"[{2**63}]",
    f"[1, {10**300}]",
    '["\\ud800", 1]',
    '["2026-01-01", "\\u0000"]',
    "[" * 300,
    "{}",
    "null",
)


@pytest.mark.parametrize("key", CURSORS)
def test_a_cursor_that_is_none_is_422(shared: Workstation, key: str) -> None:
    cursor = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    client = shared.client("anna")
    case = shared.case(shared.client("rolf"))["id"]
    for path in ("/cases", f"/cases/{case}/cells", "/log", "/atlas/cells"):
        told = client.get(f"/api/v1{path}", params={"cursor": cursor})
        assert told.status_code == 422, (path, told.text)


@pytest.mark.parametrize("kinds", [(int,), (int, int), (str, int)])
def test_numbers_that_no_database_holds_are_no_cursor(kinds: tuple[type, ...]) -> None:
    def coded(number: int) -> str:
        key = [number if kind is int else "x" for kind in kinds]
        return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")

    assert cursor_to(coded(2**63 - 1), kinds)
    with pytest.raises(NoCursor):
        cursor_to(coded(2**63), kinds)


@pytest.mark.parametrize("sign", FORMULA)
def test_no_width_of_a_sign_begins_a_formula(sign: str) -> None:
    full = {chr(ord(sign) + 0xFEE0)} if "!" <= sign <= "~" else set()
    small = {"=": "﹦", "+": "﹢", "-": "﹣", "@": "﹫", "%": "﹪"}.get(sign)
    for first in {sign, *full, *([small] if small else [])}:
        assert guarded(f"{first}1+1") == f"'{first}1+1"


TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
MARKS = "\u061c\u200e\u200f"


@pytest.mark.parametrize("mark", [*TURNS, *MARKS])
def test_marks_that_turn_writing_are_in_no_name(shared: Workstation, mark: str) -> None:
    client, admin = shared.client("rolf"), shared.client("anna")
    name = f"P-1{mark}gnp.exe"
    assert client.post("/api/v1/cases", json={"pseudonym": name}).status_code == 422
    case = shared.case(client)
    change = {"version": case["version"], "specimen": name}
    assert client.patch(f"/api/v1/cases/{case['id']}", json=change).status_code == 422
    user = {"name": name, "password": "a long enough one"}
    assert admin.post("/api/v1/users", json=user).status_code == 422
    assert mark not in shown_name(f"{name}.png")
    note = client.post("/api/v1/cases", json={"pseudonym": "P", "note": f"a{mark}b"})
    assert (note.status_code == 422) is (mark in TURNS), "notes in such scripts need the marks"


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 201), ("https://localhost", 403), ("ftp://localhost", 403)],
)
def test_an_origin_is_also_its_scheme(shared: Workstation, origin: str, status: int) -> None:
    client = shared.client("rolf")
    told = client.post("/api/v1/cases", json={"pseudonym": "P"}, headers={"Origin": origin})
    assert told.status_code == status


def test_behind_tls_the_origin_is_https(shared: Workstation) -> None:
    client = TestClient(shared.app, base_url=HOST.replace("http", "https"))
    login = {"name": "rolf", "password": "wrong"}
    for origin, status in (("https://localhost", 401), ("http://localhost", 403)):
        told = client.post("/api/v1/session", json=login, headers={"Origin": origin})
        assert told.status_code == status


# two at work --------------------------------------------------------------------------------------


def test_a_second_training_in_one_folder_is_refused(
    smears: Dataset, small_recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "atlas.training"
    (run / "checkpoints" / "step-00001").mkdir(parents=True)
    with alone(run), pytest.raises(OutputError, match="another run is at work"):
        train(smears, small_recipe, out=tmp_path / "atlas", options=TrainOptions(resume=True))
    assert (run / "checkpoints" / "step-00001").is_dir(), "the first one's work was removed"


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from cellkin.core.artifacts import alone\n"
        "with alone(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another run"), alone(tmp_path):
            pass
        other.kill()
    with alone(tmp_path):
        pass
