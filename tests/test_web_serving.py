"""`cellkin serve` as a process: its mistakes, the documented client, and kill -9 in the middle."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from workstation import SETTINGS, SYSTEM, Workstation, replace, running, upload, workstation

from cellkin.cli import serving_http
from cellkin.cli.serving_http import adding_people, open_door, require_web
from cellkin.core.errors import OutputError, RecipeError
from cellkin.core.records import Dataset
from cellkin.system import DecisionSupport
from cellkin.web.example import PSEUDONYM
from cellkin.web.settings import Settings
from cellkin.web.store import Store

GUIDE = Path(__file__).parents[1] / "docs" / "api.md"


# the documented client ----------------------------------------------------------------------------


def test_the_documented_client_works(web: Workstation, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "client.py").write_text(code)
    (tmp_path / "cells").mkdir()
    for name, data in web.cells[:3]:
        (tmp_path / "cells" / name).write_bytes(data)
    secret, _ = web.store.add_token(SYSTEM, "rolf", ("read", "upload"), days=1)
    with running(web.app) as address:
        words = [sys.executable, "client.py", address, secret, "cells"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line.split("\t")[0] for line in done.stdout.splitlines()) == sorted(
        name for name, _ in web.cells[:3]
    )
    cases, _ = web.store.cases()
    assert [(case.pseudonym, case.cells) for case in cases] == [("P-17", 3)]


# mistakes -----------------------------------------------------------------------------------------


def test_a_taken_port_is_said_before_anything_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match="cannot be listened on") as caught:
            open_door(port)
    assert "--port" in caught.value.mend


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name == "fastapi" else found(name)

    require_web()
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(RecipeError, match="not installed") as caught:
        require_web()
    assert caught.value.where == "fastapi"
    assert "pip install 'cellkin[web]'" in caught.value.mend


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "for one person on this machine"),
        (["--accounts"], "cellkin users add NAME --role admin --store {store}"),
    ],
)
def test_the_command_refuses_what_is_not_safe(
    atlas_folder: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    done = subprocess.run(
        command(atlas_folder, tmp_path / "store.sqlite", words),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert told.format(store=tmp_path / "store.sqlite") in done.stderr


def test_the_password_of_a_store_is_not_repeated() -> None:
    assert "s3cret" not in adding_people("postgresql://anna:s3cret@db/cells")
    assert adding_people("a b.sqlite").endswith("--store 'a b.sqlite'")


def test_the_demo_s_workstation_opens_with_a_prepared_case(
    support: DecisionSupport, smears: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, bool]] = []

    def shut(_: object, store: Store, settings: Settings, door: socket.socket) -> None:
        shown.append((store.cases()[0][0].pseudonym, settings.accounts))

    monkeypatch.setattr(serving_http, "run", shut)
    test = next(cells for cells in support.atlas.held_out if cells.part == "test")
    door = open_door(0)
    serving_http.serve_example(support, smears.select(test.ids), tmp_path / "s.sqlite", door)
    assert shown == [(PSEUDONYM, False)]
    assert door.fileno() == -1, "the port stays taken"


# kill -9 ------------------------------------------------------------------------------------------


def command(atlas: Path, store: Path, words: Sequence[str] = ()) -> list[str]:
    start = [sys.executable, "-m", "cellkin", "serve", str(atlas), "--store", str(store)]
    return [*start, "--port", "0", "--device", "cpu", "--least-view", "0", *words]


@contextmanager
def served(atlas: Path, store: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A server process without accounts, and a client that may change things."""
    with subprocess.Popen(command(atlas, store), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line))
        )
        try:
            with httpx.Client(base_url=address, timeout=60) as client:
                client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
                yield server, client
        finally:
            server.kill()


def send(client: httpx.Client, case: str, cells: Sequence[tuple[str, bytes]], key: str) -> int:
    """Upload; the status, or 0 where the connection broke."""
    files = [("files", (name, data, "image/png")) for name, data in cells]
    try:
        answer = client.post(
            f"/api/v1/cases/{case}/cells", files=files, headers={"Idempotency-Key": key}
        )
    except httpx.TransportError:
        return 0
    assert answer.status_code == 201, answer.text
    return answer.status_code


def ready_to_sign(client: httpx.Client, cells: Sequence[tuple[str, bytes]]) -> dict[str, object]:
    """A case in which everything was looked at as it must be."""
    case = client.post("/api/v1/cases", json={"pseudonym": "to sign"}).json()
    assert send(client, case["id"], cells, "first") == 201
    found = client.get(f"/api/v1/cases/{case['id']}/cells").json()["items"]
    client.post(f"/api/v1/cases/{case['id']}/seen", json={"cells": [c["id"] for c in found]})
    for cell in found:
        client.post(f"/api/v1/cells/{cell['id']}/opened")
        body = {"version": case["version"], "label": cell["proposed"]}
        answer = client.post(f"/api/v1/cells/{cell['id']}/review", json=body)
        case = answer.json()["case"]
    return dict(case)


def test_killed_while_uploading_and_signing_nothing_is_half_done(
    atlas_folder: Path,
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path: Path,
) -> None:
    store = tmp_path / "store.sqlite"
    parts = [new_cells[i : i + 3] for i in range(0, 12, 3)]
    statuses: dict[int, int] = {}
    with served(atlas_folder, store) as (server, client):
        signing = ready_to_sign(client, new_cells[12:14])
        case = client.post("/api/v1/cases", json={"pseudonym": "to fill"}).json()["id"]

        def work(turn: int) -> None:
            options = {"base_url": client.base_url, "headers": client.headers, "timeout": 60}
            with httpx.Client(**options) as own:
                statuses[turn] = send(own, case, parts[turn], f"part-{turn}")

        threads = [threading.Thread(target=work, args=(turn,)) for turn in range(len(parts))]
        for thread in threads:
            thread.start()
        while not any(statuses.values()) and any(t.is_alive() for t in threads):
            time.sleep(0.001)  # the first was answered, others are under way
        sign = threading.Thread(target=signed, args=(client, signing))
        sign.start()
        server.send_signal(signal.SIGKILL)
        for thread in (*threads, sign):
            thread.join()
    opened = Store.open(store)
    assert opened.verify_log().faults == ()
    check_signing(opened, str(signing["id"]))
    held = {cell.name for cell in opened.cells(case)[0]}
    opened.close()
    for turn, part in enumerate(parts):
        names = {name for name, _ in part}
        assert names <= held or not names & held, "half of an upload"
        assert names <= held or statuses[turn] != 201, "an upload that was answered is lost"
    with workstation(support, new_cells, tmp_path, replace(SETTINGS, accounts=False)) as again:
        client = again.client()
        client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
        for turn, part in enumerate(parts):
            assert upload(client, case, part, f"part-{turn}").status_code == 201
        found = again.store.cells(case)[0]
        assert sorted(c.name for c in found) == sorted(n for part in parts for n, _ in part)
        assert again.store.verify_log().faults == ()


def signed(client: httpx.Client, case: dict[str, object]) -> None:
    body = {"version": case["version"]}
    try:
        client.post(f"/api/v1/cases/{case['id']}/sign", json=body)
    except httpx.TransportError:
        return


def check_signing(store: Store, case_id: str) -> None:
    """Signed with its frozen document, or open as if nothing had been asked."""
    case, revision = store.case(case_id), store.revisions(case_id)[0]
    if case.status == "signed":
        assert json.loads(store.case_report(case_id).raw)["signed_by"] == "local"
        assert revision.sha256 is not None
    else:
        assert (case.status, case.signed, revision.sha256) == ("open", None, None)
