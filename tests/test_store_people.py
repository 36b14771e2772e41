"""People: accounts, logins and their throttling, sessions, tokens."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from storing import ANNA, ROOT, SECRET, VIEWER, Clock, with_anna

from cellkin.web.store import Forbidden, NotFound, Refused, Store, Throttled, people


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with with_anna(tmp_path / "s", clock) as opened:
        yield opened


def test_the_usual_hash_is_argon2id_and_not_cheap() -> None:
    found = people._hasher().hash("x")
    assert found.startswith("$argon2id$")
    assert people._hasher().memory_cost >= 19 * 1024  # OWASP's least, KiB


def test_a_password_is_checked_and_never_kept(store: Store, tmp_path: Path) -> None:
    assert store.check_password("Anna", SECRET) == store.user("Anna")
    for name, password in (("Anna", SECRET + "x"), ("nobody", SECRET), ("Anna", ""), ("", "")):
        with pytest.raises(Forbidden, match="password or the code is wrong"):
            store.check_password(name, password)
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in content
    assert b"$argon2id$" in content


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [
        ("ben", "short", "viewer"),
        ("ben", "x" * 257, "viewer"),
        ("ben", "ben-ben-ben-ben", "viewer"),
        ("ben", SECRET, "king"),
        ("", SECRET, "viewer"),
        ("x" * 81, SECRET, "viewer"),
        ("a\nb", SECRET, "viewer"),
        ("local", SECRET, "viewer"),
        ("anna", SECRET, "viewer"),  # differs from Anna in case alone
    ],
)
def test_accounts_that_are_refused(store: Store, name: str, password: str, role: str) -> None:
    with pytest.raises(Refused):
        store.add_user(ROOT, name, password, role)
    assert [user.name for user in store.users()] == ["Anna"]


def test_only_admins_keep_accounts(store: Store) -> None:
    anna = ANNA
    for attempt in (
        lambda: store.add_user(anna, "ben", SECRET, "admin"),
        lambda: store.change_user(anna, "Anna", role="admin"),
        lambda: store.set_password(anna, "Anna", SECRET + "2"),  # "anna" is not "Anna"
        lambda: store.add_token(anna, "Anna", ["read"]),
    ):
        with pytest.raises(Forbidden):
            attempt()
    with pytest.raises(NotFound):
        store.change_user(ROOT, "nobody", disabled=True)


def test_the_last_admin_stays(store: Store) -> None:
    store.add_user(ROOT, "ada", SECRET, "admin")
    for change in ({"role": "viewer"}, {"disabled": True}):
        with pytest.raises(Refused, match="last admin"):
            store.change_user(ROOT, "ada", **change)  # type: ignore[arg-type]
    store.change_user(ROOT, "Anna", role="admin")
    assert store.change_user(ROOT, "ada", disabled=True).disabled


def test_somebody_shut_out_can_do_nothing(store: Store) -> None:
    session = store.start_session("Anna")
    secret, _ = store.add_token(ROOT, "Anna", ["read"])
    store.change_user(ROOT, "Anna", disabled=True)
    assert store.session(session) is None
    assert store.token(secret) is None
    with pytest.raises(Forbidden):
        store.check_password("Anna", SECRET)
    store.change_user(ROOT, "Anna", disabled=False)
    assert store.session(session) is None  # a new login is needed
    assert store.check_password("Anna", SECRET).name == "Anna"


def test_a_new_password_ends_all_sessions(store: Store) -> None:
    session = store.start_session("Anna")
    store.set_password(ROOT, "Anna", "another long secret")
    assert store.session(session) is None
    with pytest.raises(Forbidden):
        store.check_password("Anna", SECRET)
    assert store.check_password("Anna", "another long secret")
    with pytest.raises(Refused):
        store.set_password(ROOT, "Anna", "short")


# throttling -------------------------------------------------------------------------------------


def fail(store: Store, times: int, name: str = "Anna", source: str = "10.0.0.1") -> None:
    for _ in range(times):
        with pytest.raises(Forbidden) as told:
            store.check_password(name, "wrong", source)
        assert not isinstance(told.value, Throttled)


def test_five_failures_shut_a_name_from_one_place_for_a_while(store: Store, clock: Clock) -> None:
    fail(store, 5)
    with pytest.raises(Throttled) as told:
        store.check_password("ANNA", SECRET, "10.0.0.1")
    assert 0 < told.value.seconds <= 15 * 60 + 1
    assert store.check_password("Anna", SECRET, "10.0.0.2")  # she herself, elsewhere
    clock.move(seconds=told.value.seconds)
    assert store.check_password("Anna", SECRET, "10.0.0.1")


def test_a_login_forgets_the_failures_before_it(store: Store) -> None:
    for _ in range(3):
        fail(store, 4)
        store.check_password("Anna", SECRET, "10.0.0.1")


def test_guessing_many_names_from_one_place_is_stopped(store: Store) -> None:
    for i in range(20):
        fail(store, 1, name=f"guess {i}")
    with pytest.raises(Throttled):
        store.check_password("Anna", SECRET, "10.0.0.1")


def test_guessing_one_name_from_many_places_is_stopped(store: Store) -> None:
    for i in range(50):
        fail(store, 1, source=f"10.0.1.{i}")
    with pytest.raises(Throttled):
        store.check_password("Anna", SECRET, "10.9.9.9")


def test_guessing_at_once_is_no_way_around(store: Store) -> None:
    """Each login counts before its password is looked at."""
    told: list[type[Exception]] = []

    def guess() -> None:
        try:
            store.check_password("Anna", "wrong", "10.0.0.1")
        except Forbidden as error:
            told.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(Forbidden) == 5
    assert told.count(Throttled) == 11


def test_throttled_attempts_do_not_fill_the_log(store: Store) -> None:
    fail(store, 5)
    entries = store.verify_log().entries
    with pytest.raises(Throttled):
        store.check_password("Anna", "wrong", "10.0.0.1")
    check = store.verify_log()
    assert (check.entries, check.intact) == (entries, True)


# sessions ---------------------------------------------------------------------------------------


def test_a_session_ends_when_it_is_not_used(store: Store, clock: Clock) -> None:
    secret = store.start_session("Anna", minutes=30)
    found = store.session(secret)
    assert found is not None
    assert found.user.name == "Anna"
    assert len(found.csrf) == 64
    assert secret not in found.csrf
    clock.move(minutes=29)
    assert store.session(secret) is not None  # prolonged
    clock.move(minutes=29)
    assert store.session(secret) is not None
    clock.move(minutes=30)
    assert store.session(secret) is None


def test_no_session_outlives_twelve_hours(store: Store, clock: Clock) -> None:
    secret = store.start_session("Anna", minutes=60)
    for _ in range(23):
        clock.move(minutes=31)
        assert store.session(secret) is not None
    clock.move(minutes=7)
    assert store.session(secret) is None


def test_sessions_end_and_are_kept_as_hashes(store: Store, tmp_path: Path) -> None:
    one, two = store.start_session("Anna"), store.start_session("Anna")
    store.end_session(one)
    store.end_session("nonsense")
    assert store.session(one) is None
    assert store.session(two) is not None
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert one.encode() not in content
    assert two.encode() not in content


# tokens -----------------------------------------------------------------------------------------


def test_a_token_has_scopes_and_an_end(store: Store, clock: Clock, tmp_path: Path) -> None:
    secret, told = store.add_token(ROOT, "Anna", ["upload", "read"], days=2, title="scanner")
    assert secret.startswith("ck_")
    assert told.scopes == ("read", "upload")
    found = store.token(secret)
    assert found == told == store.tokens("Anna")[0]
    assert store.token(secret + "x") is None
    clock.move(days=2)
    assert store.token(secret) is None
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in content


def test_a_token_can_be_ended_by_its_owner(store: Store) -> None:
    secret, told = store.add_token(ROOT, "Anna", ["read"])
    with pytest.raises(Forbidden):
        store.end_token(VIEWER, told.id)
    store.end_token(ROOT, told.id)
    assert store.token(secret) is None
    assert store.tokens()[0].ended
    with pytest.raises(NotFound):
        store.end_token(ROOT, "nothing")


@pytest.mark.parametrize(
    ("scopes", "days"), [([], 1), (["read", "root"], 1), (["read"], 0), (["read"], 367)]
)
def test_tokens_that_are_refused(store: Store, scopes: list[str], days: int) -> None:
    with pytest.raises(Refused):
        store.add_token(ROOT, "Anna", scopes, days=days)


def test_people_are_in_the_log_and_secrets_are_not(store: Store, tmp_path: Path) -> None:
    store.set_password(ROOT, "Anna", "another long secret")
    store.change_user(ROOT, "Anna", role="viewer")
    store.check_password("Anna", "another long secret", "10.0.0.1")
    fail(store, 1)
    store.add_token(ROOT, "Anna", ["read"])
    actions = [entry.action for entry in reversed(store.log()[0])][1:]
    assert actions == [
        "user added",
        "password changed",
        "user changed",
        "logged in",
        "login failed",
        "token made",
    ]
    assert store.verify_log().intact
    with closing(sqlite3.connect(tmp_path / "s")) as base:
        told = str(base.execute("SELECT * FROM audit").fetchall())
    assert "secret" not in told
    assert "argon2" not in told
