"""The same store on a real PostgreSQL server, where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from storing import (
    ANNA,
    BEN,
    BLAST,
    ROOT,
    decide_all,
    every_cell,
    filled,
    ids,
    new_cell,
    prepared,
)

from cellkin.core.errors import ArtifactError, OutputError
from cellkin.web.store import Conflict, Refused, Store
from cellkin.web.store.tables import metadata


def program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps them out of the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="cellkin-pg-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(open_folder: Path) -> Iterator[str]:
    """A server of its own that listens on a socket alone; the URL of it, without a database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = open_folder
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    options = ["-D", str(data), "-A", "trust", "-U", "cellkin", "-E", "UTF8", "--no-sync"]
    subprocess.run([initdb, *options], check=True, capture_output=True, user=user, cwd=folder)
    settings = [
        *("-c", "listen_addresses="),
        *("-c", f"unix_socket_directories={folder}"),
        *("-c", "fsync=off"),
    ]
    with subprocess.Popen(
        [postgres, "-D", str(data), *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        user=user,
        cwd=folder,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("".join(said))
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        yield f"postgresql://cellkin@/{{}}?host={folder}"
        process.terminate()
        process.wait()
        drain.join()


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """A new empty database."""
    import psycopg

    name = f"db{abs(hash(request.node.name))}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    return server.format(name)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = prepared(Store.open(url))
    yield opened
    opened.close()


def test_the_whole_way_of_a_case(store: Store) -> None:
    store.add_user(ROOT, "anna", "a long enough secret", "reviewer")
    assert store.check_password("anna", "a long enough secret").role == "reviewer"
    assert store.session(store.start_session("anna")) is not None
    assert store.token(store.add_token(ROOT, "anna", ["read"])[0]) is not None
    case, cells = filled(store)
    assert store.add_cells(ANNA, case.id, [new_cell(0)], "again").duplicates == ("cell 0.png",)
    assert len(every_cell(store, case.id)) == 6
    case = store.case(case.id)
    with pytest.raises(Refused):
        store.sign(ANNA, case.id, case.version)
    _, case = store.review(ANNA, cells[0].id, case.version, disposition="artefact", reason="dirt")
    with pytest.raises(Conflict):
        store.review(BEN, cells[1].id, case.version - 1, label=BLAST)
    _, case = store.undo(ANNA, case.id, case.version)
    case = store.confirm_many(BEN, case.id, case.version, ids(cells[2:]))
    case = store.sign(BEN, case.id, decide_all(store, case.id).version)
    first = store.case_report(case.id).raw
    case = store.amend(ANNA, case.id, case.version, "second look")
    assert store.case_report(case.id, 1).raw == first
    found = store.cases(search="p-", status="amended", flag="duplicates")[0]
    assert [c.id for c in found] == [case.id]
    assert store.verify_log().intact


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET \"user\" = 'x'", "DELETE FROM audit", "TRUNCATE audit", "TRUNCATE pictures"],
)
def test_the_server_refuses_to_change_the_log(store: Store, statement: str) -> None:
    filled(store)
    with (
        pytest.raises(DBAPIError, match=r"append-only|never changed"),
        store.database.engine.begin() as conn,
    ):
        conn.execute(text(statement))
    assert store.verify_log().intact


def test_a_signed_document_cannot_be_changed(store: Store) -> None:
    case, _ = filled(store)
    store.sign(ANNA, case.id, decide_all(store, case.id).version)
    with (
        pytest.raises(DBAPIError, match="never changed"),
        store.database.engine.begin() as conn,
    ):
        conn.execute(text("UPDATE revisions SET document = ''"))


def test_two_servers_on_one_database_lose_and_double_nothing(store: Store, url: str) -> None:
    """Each has its own lock in memory; the head of the log keeps them apart."""
    case, cells = filled(store, plain=12, blasts=0)
    stores = [Store.open(url) for _ in range(3)]

    def work(k: int) -> None:
        for cell in cells[k::3]:
            while True:
                try:
                    version = stores[k].case(case.id).version
                    stores[k].review(ANNA, cell.id, version, label="neutrophil")
                    break
                except Conflict:
                    continue

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.case(case.id).version == case.version + 12
    check = store.verify_log()
    assert check.intact
    for other in stores:
        other.close()


def test_backups_go_from_one_database_into_the_other(
    store: Store, server: str, url: str, tmp_path: Path
) -> None:
    import psycopg

    case, cells = filled(store)
    store.review(ANNA, cells[0].id, case.version, label=BLAST)
    path = store.backup(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    in_file = Store.restore(path, tmp_path / "file")
    assert in_file.verify_log() == store.verify_log()
    assert in_file.image(cells[0].id) == store.image(cells[0].id)
    in_file.close()
    with pytest.raises(OutputError, match="already"):
        Store.restore(path, url)
    with psycopg.connect(server.format("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE restored")
    again = Store.restore(path, server.format("restored"))
    assert again.verify_log() == store.verify_log()
    case = again.case(case.id)
    undone, case = again.undo(ANNA, case.id, case.version)
    assert undone[0].state == "proposed"
    again.review(ANNA, cells[0].id, case.version, label=BLAST)  # numbers go on where they were
    again.close()


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ArtifactError, match="cannot be opened") as told:
        Store.open(f"postgresql://cellkin:hidden@/x?host={tmp_path}")
    assert "hidden" not in str(told.value)
