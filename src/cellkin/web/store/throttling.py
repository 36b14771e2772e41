"""Failed logins slow down whoever makes them, and lock out nobody who is known.

A stranger waits: 5 failures of one name from one place, 20 from one place, or 50 of one name, in 15
minutes. A device that a person signed in from before is known by a cookie: it is counted alone,
whatever others do, and waits half a minute after each further failure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, update

from cellkin.web.store.converting import storable
from cellkin.web.store.errors import Throttled
from cellkin.web.store.tables import attempts, devices

WINDOW = 15  # minutes that a failed login counts
PER_PERSON = 5  # failures of one name from one place, or from one known device
PER_PLACE = 20  # failures of all names from one place
PER_NAME = 50  # failures of one name from all places
PAUSE = 30  # seconds between tries of a known device
KNOWN = 180  # days that a device is known


def iso(moment: datetime) -> str:
    """A moment as records hold it."""
    return moment.isoformat(timespec="milliseconds")


def tidy(conn: Connection, now: datetime) -> None:
    """Forget what no longer counts. What was written by a clock that was set back since counts from
    now on: it neither lasts until then, nor is it forgotten.
    """
    conn.execute(delete(attempts).where(attempts.c.at <= iso(now - timedelta(minutes=WINDOW))))
    conn.execute(update(attempts).where(attempts.c.at > iso(now)).values(at=iso(now)))
    conn.execute(delete(devices).where(devices.c.expires <= iso(now)))


def is_known(conn: Connection, name: str, device: str) -> bool:
    """Whether this person signed in from this device before; `device` is its hash."""
    query = select(devices.c.user).where(devices.c.hash == device)
    found = conn.execute(query).scalar()
    return found is not None and str(found).lower() == name.lower()


def place_of(source: str, device: str) -> str:
    """What failures are counted by: an address, or a known device."""
    return f"device {device}"[:80] if device else storable(source[:80])


def throttle(conn: Connection, name: str, place: str, now: datetime, *, known: bool) -> None:
    """Refuse a login after too many failures.

    Raises:
        Throttled: too many.
    """
    own = attempts.c.name == storable(name.lower()[:80])
    here = attempts.c.source == place
    counted = select(func.count(), func.min(attempts.c.at), func.max(attempts.c.at))
    if known:
        count, _, last = conn.execute(counted.where(own, here)).one()
        if count >= PER_PERSON:
            _wait(datetime.fromisoformat(last) + timedelta(seconds=PAUSE) - now)
        return
    for query, most in (
        (counted.where(own, here), PER_PERSON),
        (counted.where(here), PER_PLACE),
        (counted.where(own, ~attempts.c.source.startswith("device ")), PER_NAME),
    ):
        count, first, _ = conn.execute(query).one()
        if count >= most:
            _wait(datetime.fromisoformat(first) + timedelta(minutes=WINDOW) - now)


def _wait(left: timedelta) -> None:
    seconds = int(left.total_seconds()) + 1
    if left > timedelta(0):
        said = f"{-(-seconds // 60)} minutes" if seconds > 60 else f"{seconds} seconds"
        raise Throttled(
            "too many failed logins", seconds=seconds, mend=f"wait {said}, then try again"
        )
