"""Slow work never blocks quick work: rooms, turns by person, PDFs made once, time for uploads."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from workstation import SETTINGS, Workstation, png, running, upload, workstation

from cellkin.core.errors import OutputError
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.system import DecisionSupport
from cellkin.web.decoding import Batch, Decoders
from cellkin.web.frames import Companion, Frame, Silent
from cellkin.web.printing import Printing
from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings, Waiting
from cellkin.web.sharing import ASKER, Room, Rooms

SHORT = Waiting(*[0.2] * len(vars(Waiting())))


@pytest.fixture(scope="module")
def hasty(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workstation]:
    """A workstation where nothing waits for longer than a fifth of a second."""
    settings = replace(SETTINGS, waiting=SHORT)
    with workstation(support, new_cells, tmp_path_factory.mktemp("hasty"), settings) as opened:
        yield opened


# rooms --------------------------------------------------------------------------------------------


def run(crowd: Callable[[], Awaitable[Any]]) -> Any:
    """In a thread of its own: that of the tests may hold the loop of a browser."""
    with ThreadPoolExecutor(1) as alone:
        return alone.submit(anyio.run, crowd).result()


async def asked(room: Room, person: str, order: list[str], seconds: float = 0.0) -> None:
    ASKER.set(person)
    async with room.place():
        order.append(person)
        await anyio.sleep(seconds)


def test_who_has_least_inside_comes_next() -> None:
    order: list[str] = []

    async def crowd() -> None:
        room = Room("x", 2, waiting=100, seconds=5)
        async with anyio.create_task_group() as group:
            for person in [*["a"] * 6, "b", "c"]:
                group.start_soon(asked, room, person, order, 0.001)

    run(crowd)
    assert sorted(order) == [*["a"] * 6, "b", "c"]
    assert set(order[:3]) == {"a", "b", "c"}, "the others waited for all of one person's work"


def test_nobody_fills_a_room() -> None:
    async def crowd() -> int:
        room = Room("x", 4, waiting=100, seconds=5)
        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(asked, room, "a", [], 0.02)
            await anyio.sleep(0.01)
            return room.taken

    assert run(crowd) == 2


def test_who_waits_too_long_or_behind_too_many_is_told_to_come_again() -> None:
    refused: list[ProblemError] = []

    async def turned(room: Room, person: str) -> None:
        try:
            await asked(room, person, [], 0.5)
        except ProblemError as error:
            refused.append(error)

    async def crowd() -> None:
        room = Room("x", 1, waiting=4, seconds=0.05)
        async with anyio.create_task_group() as group:
            for person in "aaaab":
                group.start_soon(turned, room, person)
            await anyio.sleep(0.01)
            assert len(refused) == 1, "one person alone fills the queue"
            await anyio.sleep(0.1)
            assert len(refused) == 4
            group.cancel_scope.cancel()
        assert room.taken == 0, "places of those who left are not given again"

    run(crowd)
    assert {(one.status, one.headers["Retry-After"]) for one in refused} == {(503, "5")}


def test_a_large_one_is_not_starved_by_small_ones() -> None:
    order: list[str] = []

    async def sized(room: Room, person: str, size: int) -> None:
        ASKER.set(person)
        async with room.place(size):
            order.append(person)
            await anyio.sleep(0.01)

    async def crowd() -> None:
        room = Room("x", 10, waiting=100, seconds=5, share=10)
        async with anyio.create_task_group() as group:
            group.start_soon(sized, room, "first", 6)
            group.start_soon(sized, room, "large", 8)
            for i in range(5):
                group.start_soon(sized, room, f"small {i}", 3)

    run(crowd)
    assert order[:2] == ["first", "large"]


def test_work_that_fails_leaves_its_place() -> None:
    async def crowd() -> int:
        room = Room("x", 1, waiting=4, seconds=1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await room.run(_late)
        return room.taken

    assert run(crowd) == 0


def _late() -> None:
    raise TimeoutError("of the work itself")


# routes -------------------------------------------------------------------------------------------


def test_every_route_of_the_api_works_in_a_room(hasty: Workstation) -> None:
    """None of them runs in the threads that all share."""
    tried = 0
    for route in iter_route_contexts(hasty.app.routes):
        own = route.original_route
        if isinstance(own, APIRoute) and str(route.path).startswith("/api/"):
            assert inspect.iscoroutinefunction(own.endpoint), route.path
            tried += 1
    assert tried > 30


SLOW: dict[str, tuple[str, str, dict[str, Any]]] = {
    "writing": ("POST", "/api/v1/cases", {"json": {"pseudonym": "P"}}),
    "login": ("POST", "/api/v1/session", {"json": {"name": "r", "password": "x"}}),
    "reports": ("GET", "/api/v1/cases/x/report.html", {}),
    "printing": ("GET", "/api/v1/cases/x/report.pdf", {}),
    "evidence": ("GET", "/api/v1/cells/x/evidence", {}),
    "uploads": ("POST", "/api/v1/decide", {}),
    "spool": ("POST", "/api/v1/decide", {}),
}


def test_every_room_is_tried_here(hasty: Workstation) -> None:
    assert {*SLOW, "reading"} == set(vars(hasty.app.state.station.rooms))


@pytest.mark.parametrize("name", SLOW)
def test_a_full_room_is_503_and_looking_goes_on(
    hasty: Workstation, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rooms: Rooms = hasty.app.state.station.rooms
    monkeypatch.setattr(getattr(rooms, name), "space", 0)
    client = hasty.client("rolf")
    method, path, options = SLOW[name]
    if path.endswith("/decide"):
        options = {"files": [("files", hasty.cells[0])]}
    told = client.request(method, path, **options)
    assert told.status_code == 503, told.text
    assert int(told.headers["retry-after"]) > 0
    started = time.monotonic()
    assert client.get("/api/v1/me").status_code == 200
    assert time.monotonic() - started < 1


def test_one_hundred_slow_requests_do_not_stop_quick_ones(
    hasty: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each kind of slow work at once, with more requests than there are threads to share."""
    done = threading.Event()

    def slow(*_: object, **__: object) -> None:
        done.wait(20)
        raise OutputError("x")

    for name in ("check_password", "create_case"):
        monkeypatch.setattr(hasty.store, name, slow)
    monkeypatch.setattr(Printing, "pdf", slow)
    client = hasty.client("rolf")
    headers = {
        "Cookie": f"cellkin={client.cookies['cellkin']}",
        "X-CSRF-Token": client.headers["X-CSRF-Token"],
    }
    asked = (
        ("POST", "/api/v1/session", {"name": "rolf", "password": "x"}),
        ("POST", "/api/v1/cases", {"pseudonym": "P"}),
        ("GET", "/api/v1/cases/x/report.pdf", None),
    )
    limits = httpx.Limits(max_connections=100)
    with (
        running(hasty.app) as address,
        httpx.Client(base_url=address, headers=headers, timeout=30, limits=limits) as one,
        ThreadPoolExecutor(90) as pool,
    ):
        slow_ones = [
            pool.submit(one.request, method, path, json=body)
            for method, path, body in asked
            for _ in range(30)
        ]
        try:
            started = time.monotonic()
            for _ in range(5):
                assert one.get("/api/v1/me").status_code == 200
            took = time.monotonic() - started
        finally:
            done.set()
        statuses = {answer.result().status_code for answer in slow_ones}
    assert took < 5
    assert statuses == {503}


def test_a_turn_that_comes_with_its_deadline_is_no_fault_and_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deadline passes, and the place is given before the one who waited hears of it."""

    async def crowd() -> tuple[int, int]:
        room = Room("x", 2, waiting=9, seconds=5)

        @contextmanager
        def too_late(_: float) -> Iterator[None]:
            yield
            raise TimeoutError

        monkeypatch.setattr("cellkin.web.sharing.fail_after", too_late)
        with pytest.raises(ProblemError) as caught:
            await asked(room, "a", [])
        return caught.value.status, room.taken

    assert run(crowd) == (503, 0)


# PDFs ---------------------------------------------------------------------------------------------


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Pages that were made PDFs; the process is not asked."""
    pages: list[bytes] = []

    def ask(self: Companion, head: object, body: bytes, seconds: float) -> Frame:
        pages.append(body)
        time.sleep(0.05)
        return {}, b"%PDF-" + body[:10]

    monkeypatch.setattr(Companion, "__init__", lambda self, module: None)
    monkeypatch.setattr(Companion, "alive", lambda self: True)
    monkeypatch.setattr(Companion, "kill", lambda self: None)
    monkeypatch.setattr(Companion, "ask", ask)
    return pages


def test_what_is_missing_for_pdf_is_501(
    hasty: Workstation, printed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_: object) -> Frame:
        return {"what": "PDF needs Pango", "where": "report.pdf", "mend": "install it"}, b""

    monkeypatch.setattr(Companion, "ask", lacks)
    client = hasty.client("rolf")
    told = client.get(f"/api/v1/cases/{hasty.case(client)['id']}/report.pdf")
    hasty.app.state.station.printing.close()
    assert (told.status_code, told.json()["mend"]) == (501, "install it")


def test_a_document_is_printed_once(
    hasty: Workstation, printed: list[bytes], new_cells: list[tuple[str, bytes]]
) -> None:
    client = hasty.client("rolf")
    case = hasty.case(client)
    printing = Printing(Settings())
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(printing.pdf, hasty.store, case["id"]) for _ in range(8)]
        assert len({one.result() for one in asked}) == 1
    assert len(printed) == 1
    change = {"version": case["version"], "note": "another document"}
    assert client.patch(f"/api/v1/cases/{case['id']}", json=change).status_code == 200
    printing.pdf(hasty.store, case["id"])
    assert len(printed) == 2


def test_a_pdf_that_takes_too_long_is_503_and_the_next_one_is_made(
    hasty: Workstation, printed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = hasty.case(hasty.client("rolf"))["id"]
    printing = Printing(Settings())
    good = Companion.ask

    def silent(*_: object) -> None:
        raise Silent(timed_out=True)

    monkeypatch.setattr(Companion, "ask", silent)
    with pytest.raises(ProblemError, match="more than 60 seconds") as caught:
        printing.pdf(hasty.store, case)
    assert caught.value.status == 503
    monkeypatch.setattr(Companion, "ask", good)
    assert printing.pdf(hasty.store, case).startswith(b"%PDF-")


# decoding -----------------------------------------------------------------------------------------


class Slow:
    """In place of the process: images take as many seconds as their bytes say."""

    def __init__(self, module: str) -> None:
        pass

    def alive(self) -> bool:
        return True

    def kill(self) -> None:
        pass

    def ask(self, head: object, body: bytes, seconds: float) -> Frame:
        time.sleep(float(body))
        return {}, b""


@pytest.mark.parametrize(("workers", "least"), [(1, 2), (2, 1)])
def test_one_person_s_images_do_not_hold_up_another_s(
    monkeypatch: pytest.MonkeyPatch, workers: int, least: int
) -> None:
    monkeypatch.setattr("cellkin.web.decoding.Companion", Slow)
    decoders = Decoders(packaged_lite0(48), replace(SETTINGS, workers=workers))
    many = [decoders.submit(b"0.04", "a", Batch("anna")) for _ in range(10)]
    hers = decoders.submit(b"0", "b", Batch("vera"))
    hers.result(5)
    assert sum(one.done() for one in many) <= least
    for one in many:
        one.result(5)
    decoders.close()


def test_the_images_of_one_upload_have_so_much_time_together(
    hasty: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def slow(self: Companion, head: dict[str, str], body: bytes, seconds: float) -> Frame:
        asked.append(head["name"])
        time.sleep(0.05)
        return {"what": "no picture", "where": "", "mend": "x"}, b""

    monkeypatch.setattr(Companion, "ask", slow)
    station = hasty.app.state.station
    short = replace(station, settings=replace(station.settings, upload_seconds=0.12))
    monkeypatch.setitem(hasty.app.state._state, "station", short)
    client = hasty.client("rolf")
    told = upload(client, hasty.case(client)["id"], [(f"{i}.png", png(9, 9)) for i in range(30)])
    assert told.status_code == 422
    assert "too long" in told.json()["detail"]
    assert len(asked) <= 4
