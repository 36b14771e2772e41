"""Nobody gets in unknown, no change without proof, nothing that strangers send acts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from workstation import (
    HOST,
    PASSWORD,
    SETTINGS,
    SYSTEM,
    Workstation,
    add_people,
    replace,
    sign_in,
    upload,
    workstation,
)

from cellkin.core.errors import RecipeError
from cellkin.system import DecisionSupport
from cellkin.web.app import create_app
from cellkin.web.security import POLICY, is_public
from cellkin.web.settings import Settings
from cellkin.web.store import ROLES, Store

OPEN = {("GET", "/healthz"), ("GET", "/login"), ("POST", "/api/v1/session")}
OPEN |= {("GET", "/static/{version}/{name}")}
"""All that answers a stranger; a new route must not be in it."""


def routes(station: Workstation) -> list[tuple[str, str, RouteContext]]:
    """(method, path, route) of everything that the app answers."""
    found = []
    for route in iter_route_contexts(station.app.routes):
        for method in sorted(route.methods or {"GET"}):
            found.append((method, str(route.path), route))
    return found


def filled(path: str) -> str:
    return re.sub(r"{[^}]*}", "x", path)


def needs(dependant: Dependant) -> set[tuple[str, str]]:
    """Roles and scopes that a route asks for, anywhere among its dependencies."""
    own = getattr(dependant.call, "needs", None)
    found = {own} if own else set()
    return found.union(*(needs(d) for d in dependant.dependencies))


# login --------------------------------------------------------------------------------------------


def test_every_route_refuses_a_stranger(shared: Workstation) -> None:
    client = shared.client()
    tried = 0
    for method, path, _ in routes(shared):
        method = "GET" if method == "HEAD" else method
        if (method, path) in OPEN:
            continue
        answer = client.request(method, filled(path), follow_redirects=False)
        assert answer.status_code == 401, (method, path, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json"
        tried += 1
    assert tried > 30


def test_what_is_open_is_what_is_meant_to_be(shared: Workstation) -> None:
    found = {(m, p) for m, p, _ in routes(shared) if is_public(m, filled(p))}
    assert found <= OPEN | {("HEAD", path) for _, path in OPEN}
    assert found >= OPEN


def test_open_routes_hold_no_data(web: Workstation) -> None:
    case = web.case(web.client("rolf"), cells=1)
    stranger = web.client()
    for path in ("/healthz", "/login", "/static/x/api.js"):
        text = stranger.get(path).text
        assert case["id"] not in text
        assert "P-1" not in text


def test_a_page_sends_a_stranger_to_the_login(shared: Workstation) -> None:
    answer = shared.client().get(
        "/cases/abc?x=1", headers={"Accept": "text/html"}, follow_redirects=False
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/cases/abc%3Fx%3D1"


@pytest.mark.parametrize("path", ["//evil.example/", "/%2f%2fevil.example", "/\\evil.example"])
def test_the_login_leads_nowhere_else(shared: Workstation, path: str) -> None:
    answer = shared.client().get(path, headers={"Accept": "text/html"}, follow_redirects=False)
    assert answer.headers.get("location", "/login").startswith("/login")


def test_every_route_of_the_api_asks_for_a_role(shared: Workstation) -> None:
    free = {"sign_in", "sign_out", "me"}
    asked = 0
    for _, path, route in routes(shared):
        if path.startswith("/api/") and isinstance(route.original_route, APIRoute):
            if route.name in free:
                continue
            assert len(needs(route.original_route.dependant)) == 1, path
            asked += 1
    assert asked > 25


def test_a_viewer_changes_nothing_and_a_reviewer_is_no_admin(shared: Workstation) -> None:
    """Every route, tried with every role below the one it asks for."""
    people = {"viewer": "vera", "reviewer": "rolf"}
    clients = {role: shared.client(name) for role, name in people.items()}
    tried = 0
    for method, path, route in routes(shared):
        if not isinstance(route.original_route, APIRoute):
            continue
        for role, _ in needs(route.original_route.dependant):
            for below in ROLES[: ROLES.index(role)]:
                answer = clients[below].request(method, filled(path), json={})
                assert answer.status_code == 403, (below, method, path, answer.text)
                tried += 1
    assert tried > 15


def test_a_session_ends(web: Workstation) -> None:
    client = web.client("rolf")
    cookie = client.cookies["cellkin"]
    assert client.get("/api/v1/cases").status_code == 200
    left = client.delete("/api/v1/session")
    assert left.status_code == 204
    assert left.headers["clear-site-data"] == '"cache"', "the browser would keep pictures"
    client.cookies.set("cellkin", cookie)
    assert client.get("/api/v1/cases").status_code == 401


def test_the_cookie_is_out_of_reach(shared: Workstation) -> None:
    answer = shared.client().post("/api/v1/session", json={"name": "rolf", "password": PASSWORD})
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=strict" in told
    assert "domain" not in told
    assert PASSWORD not in answer.text


def test_behind_tls_the_cookie_travels_over_tls_alone(
    support: DecisionSupport, new_cells: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, secure_cookies=True)
    with workstation(support, new_cells, tmp_path, settings) as opened:
        client = TestClient(opened.app, base_url="https://localhost")
        answer = client.post("/api/v1/session", json={"name": "rolf", "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith("__Host-cellkin=")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "strict-transport-security" in answer.headers
        assert client.get("/api/v1/cases").status_code == 200


def test_failed_logins_are_slowed_down(web: Workstation) -> None:
    client = web.client()
    wrong = {"name": "rolf", "password": "not the password"}
    answers = [client.post("/api/v1/session", json=wrong).status_code for _ in range(8)]
    assert answers[0] == 401
    assert answers[-1] == 429
    right = client.post("/api/v1/session", json={"name": "rolf", "password": PASSWORD})
    assert right.status_code == 429, "guessing goes on where the right password still works"
    assert int(right.headers["retry-after"]) > 0
    assert client.get("/api/v1/me").status_code == 401


def test_a_wrong_name_and_a_wrong_password_sound_alike(web: Workstation) -> None:
    told = [
        web.client().post("/api/v1/session", json={"name": name, "password": "wrong one"}).json()
        for name in ("rolf", "nobody")
    ]
    assert told[0] == told[1]


# changes ------------------------------------------------------------------------------------------


def test_every_change_needs_the_csrf_token(shared: Workstation) -> None:
    client = shared.client("anna")
    good = client.headers.pop("X-CSRF-Token")
    tried = 0
    for method, path, _ in routes(shared):
        if method in ("GET", "HEAD") or (method, path) in OPEN:
            continue
        for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": good[:-1]}):
            answer = client.request(method, filled(path), headers=headers)
            assert answer.status_code == 403, (method, path)
            assert answer.json()["type"].endswith(":csrf")
        tried += 1
    assert tried > 12
    assert client.get("/api/v1/me").status_code == 200, "it was signed out without proof"


def test_one_session_s_csrf_token_is_no_good_in_another(shared: Workstation) -> None:
    first, second = shared.client("rolf"), shared.client("rita")
    second.headers["X-CSRF-Token"] = first.headers["X-CSRF-Token"]
    assert second.post("/api/v1/cases", json={"pseudonym": "x"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    shared: Workstation, headers: dict[str, str]
) -> None:
    client = shared.client("rolf")
    answer = client.post("/api/v1/cases", json={"pseudonym": "x"}, headers=headers)
    assert answer.status_code == 403
    login = {"name": "rolf", "password": PASSWORD}
    assert shared.client().post("/api/v1/session", json=login, headers=headers).status_code == 403


def test_there_is_no_socket(shared: Workstation) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        shared.client("rolf").websocket_connect("/api/v1/cases"),
    ):
        pass


def test_no_other_site_may_read(shared: Workstation) -> None:
    client = shared.client("rolf")
    answer = client.get("/api/v1/cases", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# hosts and headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:8765", "", "127.0.0.1.nip.io"]
)
def test_a_foreign_host_is_refused(shared: Workstation, host: str) -> None:
    answer = shared.client("rolf").get("/api/v1/cases", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["type"].endswith(":unknown-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765"])
def test_its_own_names_are_known(shared: Workstation, host: str) -> None:
    assert shared.client().get("/healthz", headers={"Host": host}).status_code == 200


def test_every_answer_carries_the_policy(shared: Workstation) -> None:
    client = shared.client("rolf")
    for path in ("/", "/login", "/api/v1/cases", "/api/v1/cases/none", "/nowhere", "/healthz"):
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe-inline" not in POLICY
    foreign = client.get("/", headers={"Host": "evil.example"})
    assert foreign.headers["content-security-policy"] == POLICY


def test_an_error_of_ours_tells_nothing(
    shared: Workstation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret of the inside")

    client = shared.client("rolf")
    monkeypatch.setattr(Store, "cases", broken)
    answer = client.get("/api/v1/cases")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == POLICY
    assert "secret" not in answer.text
    assert "secret of the inside" in caplog.text


def test_a_long_body_is_refused(shared: Workstation) -> None:
    client = shared.client("rolf")
    answer = client.post("/api/v1/cases", json={"pseudonym": "x", "note": "y" * 2**21})
    assert answer.status_code == 413
    endless = (b"y" * 2**16 for _ in range(40))
    answer = client.post(
        "/api/v1/cases", content=endless, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 413)


# tokens -------------------------------------------------------------------------------------------


def bearer(station: Workstation, *scopes: str, name: str = "rolf") -> TestClient:
    secret, _ = station.store.add_token(SYSTEM, name, scopes, days=1)
    return TestClient(station.app, base_url=HOST, headers={"Authorization": f"Bearer {secret}"})


def test_a_token_does_what_its_scopes_say(web: Workstation) -> None:
    reading, writing = bearer(web, "read"), bearer(web, "read", "upload")
    assert reading.get("/api/v1/cases").status_code == 200
    assert reading.post("/api/v1/cases", json={"pseudonym": "x"}).status_code == 403
    made = writing.post("/api/v1/cases", json={"pseudonym": "x"})
    assert made.status_code == 201, "a token needs no CSRF token"
    case = made.json()
    signing = writing.post(f"/api/v1/cases/{case['id']}/sign", json={"version": case["version"]})
    assert signing.status_code == 403
    assert bearer(web, "read", "admin").get("/api/v1/log").status_code == 403, "rolf is no admin"
    assert bearer(web, "admin", name="anna").get("/api/v1/log").status_code == 200


def test_a_token_ends(web: Workstation) -> None:
    client = web.client("rolf")
    made = client.post("/api/v1/tokens", json={"scopes": ["read"], "days": 1}).json()
    header = {"Authorization": f"Bearer {made['secret']}"}
    program = TestClient(web.app, base_url=HOST, headers=header)
    assert program.get("/api/v1/cases").status_code == 200
    assert client.delete(f"/api/v1/tokens/{made['token']['id']}").status_code == 204
    assert program.get("/api/v1/cases").status_code == 401
    assert made["secret"] not in client.get("/api/v1/tokens").text


def test_a_token_makes_no_tokens(web: Workstation) -> None:
    answer = bearer(web, "read", "admin", name="anna").post(
        "/api/v1/tokens", json={"scopes": ["read"], "days": 366}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Basic cm9sZjp4", "bearer"])
def test_a_wrong_token_is_no_way_in(shared: Workstation, header: str) -> None:
    client = TestClient(shared.app, base_url=HOST)
    answer = client.get("/api/v1/cases", headers={"Authorization": header})
    assert answer.status_code == 401


def test_a_wrong_token_does_not_fall_back_to_the_cookie(shared: Workstation) -> None:
    client = shared.client("rolf")
    answer = client.get("/api/v1/cases", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401


# what strangers write -----------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


def test_script_in_names_and_notes_stays_text(web: Workstation) -> None:
    client = web.client("rolf")
    made = client.post("/api/v1/cases", json={"pseudonym": SCRIPT, "note": SCRIPT}).json()
    name = f'"><img src=x onerror=alert(1)>{SCRIPT}.png'
    data = web.cells[0][1]
    added = upload(client, made["id"], [("x.png", data)])
    assert added.status_code == 201
    other = client.post(
        f"/api/v1/cases/{made['id']}/cells",
        files=[("files", (name, web.cells[1][1], "image/png"))],
    )
    assert other.status_code == 201
    for path in ("/", f"/cases/{made['id']}", f"/cells/{added.json()['added'][0]['id']}"):
        page = client.get(path)
        assert SCRIPT not in page.text, "pages are shells without data"
    listed = client.get("/api/v1/cases")
    assert listed.headers["content-type"] == "application/json"
    assert listed.json()["items"][0]["pseudonym"] == SCRIPT


HOSTILE = (
    "' OR '1'='1",
    "'; DROP TABLE cases; --",
    "%",
    "_",
    "\\",
    '"',
    "P-1' UNION SELECT password FROM users --",
)


def test_sql_in_the_search_is_text(web: Workstation) -> None:
    client = web.client("rolf")
    web.case(client)
    for search in HOSTILE:
        answer = client.get("/api/v1/cases", params={"search": search})
        assert answer.status_code == 200
        assert answer.json()["items"] == [], search
    assert len(client.get("/api/v1/cases", params={"search": "p-1"}).json()["items"]) == 1


@pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd"])
@pytest.mark.parametrize(
    "under", ["/static/x/", "/api/v1/atlas/cells/", "/api/v1/cells/", "/api/v1/cases/"]
)
def test_no_path_leads_to_the_disk(shared: Workstation, under: str, path: str) -> None:
    answer = shared.client("anna").get(f"{under}{path}")
    assert "root:" not in answer.text
    assert answer.status_code in (401, 404, 422)


# where it may listen ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_without_accounts_it_listens_on_loopback_alone(host: str) -> None:
    with pytest.raises(RecipeError, match="one person on this machine") as caught:
        Settings(host=host)
    assert "--accounts" in caught.value.mend
    Settings(host=host, accounts=True)


def test_without_accounts_one_local_reviewer_acts(
    support: DecisionSupport, new_cells: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    with workstation(support, new_cells, tmp_path, replace(SETTINGS, accounts=False)) as opened:
        client = opened.client()
        me = client.get("/api/v1/me").json()
        assert (me["user"], me["role"], me["accounts"]) == ("local", "reviewer", False)
        refused = client.post("/api/v1/cases", json={"pseudonym": "x"})
        assert refused.status_code == 403, "a page of a stranger could do this"
        client.headers["X-CSRF-Token"] = me["csrf"]
        assert client.post("/api/v1/cases", json={"pseudonym": "x"}).status_code == 201
        assert client.get("/api/v1/log").status_code == 403
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
        answer = client.post("/api/v1/session", json={"name": "x", "password": "y"})
        assert answer.status_code == 409


def test_a_signed_in_person_who_is_shut_out_is_out(web: Workstation) -> None:
    client = web.client("rita")
    web.store.change_user(SYSTEM, "rita", disabled=True)
    assert client.get("/api/v1/cases").status_code == 401
    with pytest.raises(AssertionError):
        sign_in(web.client(), "rita")


def test_names_beside_its_own_are_asked_for(support: DecisionSupport, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    add_people(store)
    settings = Settings(host="0.0.0.0", accounts=True, hosts=("lab.example.org",))
    app = create_app(support, store, settings)
    try:
        client = TestClient(app, base_url="http://lab.example.org")
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "localhost"}).status_code == 421
    finally:
        app.state.station.close()
        store.close()
