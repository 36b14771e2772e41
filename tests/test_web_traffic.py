"""Nobody takes the workstation's memory, disk or connections: sizes, deadlines, and the proxy."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.types import Receive, Scope, Send
from workstation import SETTINGS, SYSTEM, Workstation, replace, running, workstation

from cellkin.core.errors import RecipeError
from cellkin.system import DecisionSupport
from cellkin.web.api import takes_uploads
from cellkin.web.bodies import OPEN_BODY, SMALL_BODY
from cellkin.web.settings import Settings, Traffic, Waiting
from cellkin.web.traffic import _counted_as

DEPLOY = Path(__file__).parents[1] / "deploy"
QUICK = Traffic(
    connections=12, per_address=6, header_seconds=0.4, grace_seconds=0.4, least_rate=2**20
)
LARGEST = 100_000  # bytes of one upload here
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
PATIENCE = 5  # seconds after which something that should have ended counts as going on for ever


@pytest.fixture(scope="module")
def small(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workstation, str, str]]:
    """A workstation with narrow bounds that runs; its port, and a token of a reviewer."""
    settings = replace(
        SETTINGS, traffic=QUICK, max_upload_bytes=LARGEST, waiting=Waiting(uploads=0.3)
    )
    with workstation(support, new_cells, tmp_path_factory.mktemp("small"), settings) as opened:
        secret, _ = opened.store.add_token(SYSTEM, "rolf", ("read", "upload"), days=1)
        with running(opened.app) as address:
            yield opened, address, secret


def connected(address: str) -> socket.socket:
    made = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))
    made.settimeout(PATIENCE)
    return made


def answered(one: socket.socket) -> bytes:
    """All that comes until the other side closes; a connection that was cut off gives nothing."""
    got = b""
    try:
        while piece := one.recv(65536):
            got += piece
    except ConnectionError:
        pass
    return got


def head(method: str, path: str, *more: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *more, "", "")).encode()


# how long a body may be ---------------------------------------------------------------------------


def test_the_route_says_how_long_a_body_may_be_whatever_its_header_claims(
    small: tuple[Workstation, str, str],
) -> None:
    client = small[0].client("anna")
    uploads = 0
    for route in iter_route_contexts(small[0].app.routes):
        path = re.sub(r"{[^}]*}", "x", str(route.path))
        for method in set(route.methods or ()) - {"GET", "HEAD"}:
            open_to_all = path == "/api/v1/session" and method == "POST"
            allowed = OPEN_BODY if open_to_all else SMALL_BODY
            for kind in ("multipart/form-data; boundary=x", "application/json"):
                headers = {"Content-Type": kind, "Content-Length": str(allowed + 1)}
                answer = client.request(method, path, headers=headers)
                taken = takes_uploads(method, path)
                assert (answer.status_code == 413) != taken, (method, path, kind)
                uploads += taken
                headers["Content-Length"] = str(LARGEST + SMALL_BODY + 1)
                assert client.request(method, path, headers=headers).status_code == 413
    assert uploads >= 6


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json"])
def test_a_body_of_unknown_length_is_cut_where_it_passes_the_bound(
    small: tuple[Workstation, str, str], kind: str
) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * OPEN_BODY:
            sent += 1024
            yield b"a" * 1024

    with httpx.Client(base_url=small[1]) as client:
        try:
            answer = client.post(
                "/api/v1/session", content=endless(), headers={"Content-Type": kind}
            )
        except httpx.TransportError:  # it was still sending when it was cut off
            return
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


# how slow one may be ------------------------------------------------------------------------------

SLOW = {
    "nothing": (b"", b""),
    "a header": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b""),
    "the body of a login": (
        head("POST", "/api/v1/session", "Content-Type: application/json", "Content-Length: 9000"),
        b"HTTP/1.1 408",
    ),
    "a body in pieces": (
        head("POST", "/api/v1/session", "Content-Type: text/json", "Transfer-Encoding: chunked"),
        b"HTTP/1.1 4",
    ),
    "a body that nobody reads": (
        head("POST", "/api/v1/cases/x/cells", "Content-Length: 90000"),
        b"HTTP/1.1 401",
    ),
}


@pytest.mark.parametrize("what", SLOW)
def test_who_sends_too_slowly_is_cut_off(small: tuple[Workstation, str, str], what: str) -> None:
    sent, told = SLOW[what]
    with connected(small[1]) as one:
        started = time.monotonic()
        one.sendall(sent)
        assert answered(one).startswith(told)
        assert time.monotonic() - started < PATIENCE


def test_an_upload_that_trickles_is_cut_off_though_each_piece_comes_in_time(
    small: tuple[Workstation, str, str],
) -> None:
    client = small[0].client("rolf")
    case = small[0].case(client)["id"]
    token = f"Authorization: Bearer {small[2]}"
    form = ("Content-Type: multipart/form-data; boundary=x", "Content-Length: 90000")
    with connected(small[1]) as one:
        one.sendall(head("POST", f"/api/v1/cases/{case}/cells", token, *form) + PART)
        started = time.monotonic()
        one.settimeout(0.05)
        got = b""
        while not got and time.monotonic() - started < PATIENCE:
            one.sendall(b"a")
            try:
                got = one.recv(100)
            except TimeoutError:
                continue
    assert got.startswith(b"HTTP/1.1 408")


def test_who_does_not_take_the_answer_is_cut_off() -> None:
    class Long:
        """An app whose answers are longer than all buffers on the way."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": bytes(32 * 2**20)})

    traffic = replace(QUICK, least_rate=2**30)
    with running(Long(), traffic) as address, connected(address) as one:
        one.sendall(head("GET", "/"))
        time.sleep(1.2)  # this is what is tested: nothing is read meanwhile
        assert len(answered(one)) < 32 * 2**20


# how many there may be ----------------------------------------------------------------------------


def test_connections_are_counted_by_address(small: tuple[Workstation, str, str]) -> None:
    slow = replace(QUICK, header_seconds=PATIENCE)
    with running(small[0].app, slow) as address, ExitStack() as stack:
        inside = [stack.enter_context(connected(address)) for _ in range(slow.per_address)]
        with connected(address) as one:
            told = answered(one)
        assert told.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in told
        inside.pop().close()
        until = time.monotonic() + PATIENCE
        while told.startswith(b"HTTP/1.1 503") and time.monotonic() < until:
            with connected(address) as one:
                one.sendall(head("GET", "/healthz", "Connection: close"))
                told = answered(one)
        assert told.startswith(b"HTTP/1.1 200"), "a place that was left is not given again"


def test_behind_a_proxy_only_all_together_are_counted(
    small: tuple[Workstation, str, str],
) -> None:
    slow = replace(QUICK, header_seconds=PATIENCE)
    with running(small[0].app, slow, proxied=True) as address, ExitStack() as stack:
        for _ in range(slow.connections):
            stack.enter_context(connected(address))
        with connected(address) as one:
            assert answered(one).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_one_machine_counts_once(first: str, second: str, same: bool) -> None:
    assert (_counted_as(first) == _counted_as(second)) is same


@pytest.mark.parametrize("name", [*vars(Traffic())])
def test_impossible_bounds_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="impossible"):
        Traffic(**{name: 0})


# what lies on the disk ----------------------------------------------------------------------------


def begun(address: str, secret: str, case: str, size: int) -> socket.socket:
    """An upload of so many bytes of which the first have come."""
    one = connected(address)
    form = ("Content-Type: multipart/form-data; boundary=x", f"Content-Length: {size}")
    one.sendall(
        head("POST", f"/api/v1/cases/{case}/cells", f"Authorization: Bearer {secret}", *form)
    )
    one.sendall(b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n')
    return one


def test_uploads_that_were_begun_do_not_fill_the_disk(
    support: DecisionSupport, new_cells: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, max_upload_bytes=LARGEST, waiting=Waiting(uploads=0.2))
    with workstation(support, new_cells, tmp_path, settings) as opened:
        rolf, rita = (
            opened.store.add_token(SYSTEM, name, ("read", "upload"), days=1)[0]
            for name in ("rolf", "rita")
        )
        case, room = opened.case(opened.client("rolf"))["id"], opened.app.state.station.rooms.spool
        with running(opened.app) as address, begun(address, rolf, case, LARGEST - 1):
            until = time.monotonic() + PATIENCE
            while not room.taken and time.monotonic() < until:
                time.sleep(0.01)
            with begun(address, rolf, case, LARGEST - 1) as second:
                told = second.recv(65536)
            assert told.startswith(b"HTTP/1.1 503"), "one person's uploads take all the room"
            assert b"retry-after" in told.lower()
            with begun(address, rita, case, LARGEST - 1):
                while room.taken < 2 * (LARGEST - 1) and time.monotonic() < until:
                    time.sleep(0.01)
                assert room.taken == 2 * (LARGEST - 1), "hers waits for his"


def test_an_upload_of_many_files_opens_one(
    web: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    real = web.app.state.station.rooms.uploads.run

    async def counted(*given: object) -> object:
        nonlocal most
        most = len(os.listdir("/proc/self/fd"))
        return await real(*given)

    client = web.client("rolf")
    monkeypatch.setattr(web.app.state.station.rooms.uploads, "run", counted)
    before = len(os.listdir("/proc/self/fd"))
    files = [("files", (f"{i}.png", os.urandom(3000), "image/png")) for i in range(100)]
    answer = client.post("/api/v1/decide", files=files)
    assert len(answer.json()["refused"]) == 100
    assert most - before < 20


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"--x--\r\n", 422),
        (b"no form at all", 422),
        (PART[:-5] + b"a" * 9000, 422),
        (FIELD * 21 + b"--x--\r\n", 422),
        (b"--x\r\n\r\nb\r\n--x--\r\n", 422),
        ((PART + b"b\r\n") * 1001 + b"--x--\r\n", 413),
    ],
)
def test_a_form_that_is_none_is_refused(
    small: tuple[Workstation, str, str], body: bytes, status: int
) -> None:
    client = small[0].client("rolf")
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/api/v1/decide", content=body, headers=kind).status_code == status


# what stands in front of it -----------------------------------------------------------------------


def test_the_unit_allows_as_many_files_as_the_bounds_need() -> None:
    unit = (DEPLOY / "cellkin.service").read_text(encoding="utf-8")
    found = re.search(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 2 * Traffic().connections + 1024


def test_the_proxy_takes_and_refuses_what_the_workstation_does(
    small: tuple[Workstation, str, str],
) -> None:
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    traffic, unit = Traffic(), {"k": 2**10, "m": 2**20}
    sizes = [int(n) * unit[u] for n, u in re.findall(r"client_max_body_size\s+(\d+)([km]);", text)]
    assert sizes == [SMALL_BODY, OPEN_BODY, Settings().max_upload_bytes + SMALL_BODY]
    assert f"limit_conn          cellkin {traffic.per_address};" in text
    for name in ("client_header_timeout", "client_body_timeout", "send_timeout"):
        assert re.search(rf"{name}\s+{traffic.header_seconds:g}s;", text), name
    found = re.search(r"location ~ (\S+) {", text)
    assert found is not None
    for route in iter_route_contexts(small[0].app.routes):
        path = re.sub(r"{[^}]*}", "x", str(route.path))
        if path.startswith("/api/"):
            long = bool(re.search(found[1], path))
            assert long is takes_uploads("POST", path), f"deploy/nginx.conf and {path}"


@contextmanager
def nginx(folder: Path, address: str) -> Iterator[tuple[str, str]]:
    """A real nginx with the configuration that is shipped; its addresses with and without TLS.
    Times are a fifteenth, and two requests of one address may be under way.
    """
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found or not shutil.which("openssl"):
        pytest.skip("no nginx on this machine: apt-get install nginx-light openssl")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    certificate = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]
    certificate += ["-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"]
    subprocess.run(certificate, cwd=folder, check=True, capture_output=True)
    site = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for old, new in {
        "listen 443 ssl": f"listen 127.0.0.1:{ports[0]} ssl",
        "listen 80": f"listen 127.0.0.1:{ports[1]}",
        "/etc/ssl/cells.example.org.pem": f"{folder}/cert.pem",
        "/etc/ssl/private/cells.example.org.key": f"{folder}/key.pem",
        "127.0.0.1:8765": urlsplit(address).netloc,
        "cellkin 100;": "cellkin 2;",
        " 15s;": " 1s;",
    }.items():
        assert old in site, old
        site = site.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; {temporary}\n{site}\n}}\n"
    )
    words = [found, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as server:
        try:
            _wait_for(ports[0], server)
            yield f"https://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(
        server.stderr.read() if server.poll() is not None and server.stderr else ""
    )


def test_a_real_proxy_lets_through_what_it_should(
    small: tuple[Workstation, str, str], tmp_path: Path
) -> None:
    opened, secret = small[0], small[2]
    case = opened.case(opened.client("rolf"))["id"]
    patient = replace(QUICK, header_seconds=PATIENCE, grace_seconds=PATIENCE)
    with (
        running(opened.app, patient, proxied=True) as address,
        nginx(tmp_path, address) as (safe, plain),
        httpx.Client(base_url=safe, verify=False, headers={"Host": "127.0.0.1"}) as client,
    ):
        assert client.get("/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{plain}/x").headers["location"].startswith("https://")
        login, cells = "/api/v1/session", f"/api/v1/cases/{case}/cells"
        assert client.post(login, content=bytes(OPEN_BODY + 1)).status_code == 413
        assert client.post("/api/v1/cases", content=bytes(SMALL_BODY + 1)).status_code == 413
        client.headers["Authorization"] = f"Bearer {secret}"
        files = [("files", opened.cells[0])]
        assert client.post(cells, files=files).status_code == 201
        too_long = client.post(cells, content=bytes(LARGEST + SMALL_BODY + 1))
        assert too_long.headers["content-type"] == "application/problem+json", "nginx said it"
        assert too_long.status_code == 413
        _slow_ones_are_cut_off(safe)
        _two_at_once_and_no_more(client, safe)


def secured(address: str) -> socket.socket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connected(address))


def _slow_ones_are_cut_off(address: str) -> None:
    with secured(address) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127.")
        assert answered(one)[:12] in (b"", b"HTTP/1.1 408")


def _two_at_once_and_no_more(client: httpx.Client, address: str) -> None:
    slow = head("POST", "/api/v1/session", "Content-Length: 100")
    with secured(address) as one, secured(address) as two:
        for each in (one, two):
            each.sendall(slow)
        until, status = time.monotonic() + PATIENCE, 0
        while status != 503 and time.monotonic() < until:
            status = client.get("/healthz").status_code
        assert status == 503
