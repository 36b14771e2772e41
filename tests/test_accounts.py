"""Accounts: one's own password, names that look alike, patience with people who are known, second
factors, and cases that are a group's alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from storing import ROOT, SECRET, Clock, with_anna
from workstation import PASSWORD, SETTINGS, SYSTEM, Workstation, replace, workstation

from cellkin.system import DecisionSupport
from cellkin.web.store import Actor, Forbidden, NotFound, Proof, Refused, Store, Throttled, people
from cellkin.web.store.passwords import code_at

ANNA = Actor("Anna", "reviewer", "page")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with with_anna(tmp_path / "s", clock) as opened:
        yield opened


# passwords --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "short of 12",
        "password1234",
        "qwertyuiop12",
        "123456789012",
        "aaaaaaaaaaaaaa",
        "xx Anna xx 99",
    ],
)
def test_easy_passwords_are_refused_offline(store: Store, password: str) -> None:
    with pytest.raises(Refused):
        store.set_password(ROOT, "Anna", password)
    assert store.check_password("Anna", SECRET)


def test_a_new_password_ends_sessions_tokens_and_devices(store: Store) -> None:
    session, device = store.start_session("Anna"), store.know_device("Anna")
    secret, _ = store.add_token(ROOT, "Anna", ["read"])
    store.set_password(ROOT, "Anna", "another long secret")
    assert (store.session(session), store.token(secret)) == (None, None)
    assert not store.knows_device("Anna", device)
    assert store.verify_log().intact


def test_people_change_their_own_password_with_the_present_one(store: Store) -> None:
    with pytest.raises(Forbidden):
        store.change_own_password(ANNA, "not the present one", "another long secret")
    with pytest.raises(Refused):
        store.change_own_password(ANNA, SECRET, "short")
    store.change_own_password(ANNA, SECRET, "another long secret")
    assert store.check_password("Anna", "another long secret")


def test_role_and_password_change_together_or_not_at_all(store: Store) -> None:
    session = store.start_session("Anna")
    with pytest.raises(Refused):
        store.change_user(ROOT, "Anna", role="king", password="another long secret")
    with pytest.raises(Refused):
        store.change_user(ROOT, "Anna", role="viewer", password="short")
    assert store.user("Anna").role == "reviewer"
    assert store.session(session) is not None
    store.change_user(ROOT, "Anna", role="viewer", password="another long secret")
    assert store.check_password("Anna", "another long secret").role == "viewer"


@pytest.mark.parametrize("name", ["ANNA", "anna", "Аnna", "Anna\u200b", "Ａnna", "An na", "an-na"])
def test_names_that_look_alike_are_refused(store: Store, name: str) -> None:
    with pytest.raises(Refused):
        store.add_user(ROOT, name, SECRET, "viewer")


def test_figures_that_look_like_letters_are_no_new_name(store: Store) -> None:
    store.add_user(ROOT, "Olmo", SECRET, "viewer")
    for name in ("0lmo", "O1mo", "Olrno"):
        with pytest.raises(Refused):
            store.add_user(ROOT, name, SECRET, "viewer")
    store.add_user(ROOT, "Bo", SECRET, "viewer")


# throttling -------------------------------------------------------------------------------------


def fail(store: Store, times: int, source: str = "10.0.0.1", proof: Proof = people.NONE) -> None:
    for _ in range(times):
        with pytest.raises(Forbidden) as told:
            store.check_password("Anna", "wrong", source, proof=proof)
        assert not isinstance(told.value, Throttled)


def test_a_known_device_is_not_locked_out_by_others(store: Store) -> None:
    known = Proof(store.know_device("Anna"))
    fail(store, 5)
    for i in range(45):
        fail(store, 1, source=f"10.0.1.{i}")
    with pytest.raises(Throttled):
        store.check_password("Anna", SECRET, "10.9.9.9")
    assert store.check_password("Anna", SECRET, "10.0.0.1", proof=known)


def test_a_known_device_slows_down_and_no_more(store: Store, clock: Clock) -> None:
    known = Proof(store.know_device("Anna"))
    fail(store, 5, proof=known)
    with pytest.raises(Throttled) as told:
        store.check_password("Anna", SECRET, "10.0.0.1", proof=known)
    assert told.value.seconds <= 31
    clock.move(seconds=told.value.seconds)
    assert store.check_password("Anna", SECRET, "10.0.0.1", proof=known)


@pytest.mark.parametrize("secret", ["", "nonsense"])
def test_a_device_is_known_to_its_person_alone(store: Store, secret: str) -> None:
    store.add_user(ROOT, "ben", SECRET, "reviewer")
    fail(store, 5)
    for proof in (Proof(secret), Proof(store.know_device("ben"))):
        with pytest.raises(Throttled):
            store.check_password("Anna", SECRET, "10.0.0.1", proof=proof)


def test_a_clock_that_was_set_back_locks_nobody_out_and_forgets_nothing(
    store: Store, clock: Clock
) -> None:
    clock.move(days=300)
    fail(store, 5)
    clock.move(days=-300)
    with pytest.raises(Throttled) as told:
        store.check_password("Anna", SECRET, "10.0.0.1")
    assert told.value.seconds <= 15 * 60 + 1
    clock.move(seconds=told.value.seconds)
    assert store.check_password("Anna", SECRET, "10.0.0.1")


# second factors ---------------------------------------------------------------------------------


def test_codes_by_their_definition() -> None:
    """The values of RFC 6238, appendix B (SHA-1), their last six figures."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    times = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    assert {at: code_at(secret, at // 30) for at in times} == times


def test_a_second_factor_is_asked_for_and_its_code_is_good_once(store: Store, clock: Clock) -> None:
    secret = store.set_factor(ROOT, "Anna")

    def code(late: int = 0) -> Proof:
        return Proof(code=code_at(secret, int(clock().timestamp()) // 30 + late))

    for proof in (people.NONE, Proof(code="000000"), code(-3)):
        with pytest.raises(Forbidden):
            store.check_password("Anna", SECRET, proof=proof)
    assert store.check_password("Anna", SECRET, proof=code(-1))
    assert store.check_password("Anna", SECRET, proof=code())
    with pytest.raises(Forbidden):
        store.check_password("Anna", SECRET, proof=code())  # again
    store.end_factor(ROOT, "Anna")
    assert store.check_password("Anna", SECRET)
    assert store.verify_log().intact
    with pytest.raises(Forbidden):
        store.set_factor(ANNA, "Anna")


def test_an_admin_without_the_second_factor_does_less(
    support: DecisionSupport, new_cells: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, second_factor=True)
    with workstation(support, new_cells, tmp_path, settings) as opened:
        assert opened.client("anna").get("/api/v1/users").status_code == 403
        opened.store.set_factor(SYSTEM, "anna")
        client = opened.client("anna")
        assert client.get("/api/v1/users").status_code == 200
        login = {"name": "anna", "password": PASSWORD}
        assert opened.client().post("/api/v1/session", json=login).status_code == 401


# on the web -------------------------------------------------------------------------------------


def test_ones_own_password_on_the_web(web: Workstation) -> None:
    client = web.client("rolf")
    wanted = {"current": "wrong", "new": "another long secret"}
    assert client.post("/api/v1/me/password", json=wanted).status_code == 403
    wanted["current"] = PASSWORD
    assert client.post("/api/v1/me/password", json=wanted).status_code == 204
    assert client.get("/api/v1/me").status_code == 401
    login = {"name": "rolf", "password": wanted["new"]}
    answer = web.client().post("/api/v1/session", json=login)
    assert answer.status_code == 201
    device = next(c for c in answer.headers.get_list("set-cookie") if "-device=" in c).lower()
    assert "httponly" in device
    assert "samesite=strict" in device


# groups -----------------------------------------------------------------------------------------


def routes(station: Workstation) -> list[tuple[str, str]]:
    """(method, path) of everything that the API answers."""
    found = []
    for route in iter_route_contexts(station.app.routes):
        if isinstance(route.original_route, APIRoute) and str(route.path).startswith("/api/"):
            found += [(method, str(route.path)) for method in sorted(route.methods or ())]
    return found


@pytest.fixture
def hidden(web: Workstation) -> tuple[Workstation, dict[str, str]]:
    """A case that is a group's, of which rolf is and rita is not, and words that only it holds."""
    web.store.change_user(SYSTEM, "rolf", groups=["haematology"])
    case = web.case(web.client("rolf"), cells=1)
    assert case["group"] == "haematology"
    (cell,), _ = web.store.cases()[0], None
    found = web.store.cells(case["id"])[0][0]
    assert cell.id == case["id"]
    return web, {"case": case["id"], "cell": found.id}


def test_no_route_gives_a_group_s_case_to_others(
    hidden: tuple[Workstation, dict[str, str]],
) -> None:
    """Every route that names a case or a cell answers as if there were none; no other tells of
    either. A new route is tried by itself.
    """
    web, named = hidden
    rita, told = web.client("rita"), 0
    before = web.store.case(named["case"])
    for method, path in routes(web):
        names = "{case}" in path or "{cell}" in path
        if method == "DELETE" and not names:
            continue  # it signs out
        filled = re.sub(r"{(\w+)[^}]*}", lambda m: named.get(m[1], "x"), path)
        answer = rita.request(method, filled, json={})
        assert not names or answer.status_code == 404, (method, path, answer.status_code)
        assert names or not any(word in answer.text for word in named.values()), path
        told += names
    assert told > 15
    assert web.store.case(named["case"]) == before


def test_a_group_s_case_is_there_for_its_people_and_for_admins(
    hidden: tuple[Workstation, dict[str, str]],
) -> None:
    web, named = hidden
    for name in ("rolf", "anna"):
        client = web.client(name)
        assert client.get(f"/api/v1/cases/{named['case']}").status_code == 200
        assert len(client.get("/api/v1/cases").json()["items"]) == 1
    assert web.client("rita").get("/api/v1/cases").json()["items"] == []
    rolf = web.client("rolf")
    case = rolf.get(f"/api/v1/cases/{named['case']}").json()
    change = {"version": case["version"], "group": "others"}
    assert rolf.patch(f"/api/v1/cases/{case['id']}", json=change).status_code in (403, 409, 422)
    opened = rolf.patch(f"/api/v1/cases/{case['id']}", json={**change, "group": ""})
    assert opened.status_code == 200
    assert web.client("rita").get(f"/api/v1/cases/{case['id']}").status_code == 200


def test_who_is_in_several_groups_says_whose_a_case_is(web: Workstation) -> None:
    web.store.change_user(SYSTEM, "rolf", groups=["a", "b"])
    rolf = Actor("rolf", "reviewer", "page")
    with pytest.raises(Refused, match="several"):
        web.store.create_case(rolf, "P")
    assert web.store.create_case(rolf, "P", group="b").group == "b"
    assert web.store.create_case(rolf, "P", group="").group is None
    with pytest.raises(Refused, match="not in this group"):
        web.store.create_case(rolf, "P", group="c")
    with pytest.raises(NotFound):
        web.store.require_seen(
            Actor("rita", "reviewer", "page"), case=web.store.create_case(rolf, "P", group="a").id
        )
    assert web.store.verify_log().intact


def test_a_look_at_a_case_leaves_one_entry(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client)["id"]
    for _ in range(3):
        client.get(f"/api/v1/cases/{case}")
    client.get(f"/api/v1/cases/{case}/report.json")
    web.app.state.station.lookers.close()
    told = [(e.action, e.user) for e in web.store.log(case=case)[0]]
    assert told.count(("case viewed", "rolf")) == 1
    assert told.count(("report given", "rolf")) == 1
