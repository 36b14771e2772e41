"""Drift in the workstation: what is kept of each cell, the chart by day, its limits and words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from workstation import Workstation

from cellkin.core.fits import DISTANCE
from cellkin.system import DecisionSupport
from cellkin.system.fits import usual
from cellkin.web.store import Store
from cellkin.web.store.database import Database, address
from cellkin.web.store.migrating import HEAD, alembic_config, schema_version
from cellkin.web.worklist.drift import CHARTED, FAR, LEAST, charts

LIMITS: dict[str, tuple[float | None, float | None]] = {
    "white": (200.0, 240.0),
    DISTANCE: (None, FAR),
}


def day(values: list[float], name: str = "white") -> list[dict[str, float]]:
    return [{name: value} for value in values]


def test_a_day_beyond_its_limits_is_told_since_when() -> None:
    fine, dark = day([220.0] * LEAST), day([180.0] * LEAST)
    (chart,) = charts({"2026-01-01": fine, "2026-01-02": dark, "2026-01-03": dark}, LIMITS)
    assert [d.beyond for d in chart.days] == [False, True, True]
    assert chart.alarm
    assert chart.words.startswith("Since 2026-01-02 the cells are darker")
    (chart,) = charts({"2026-01-02": dark, "2026-01-03": fine}, LIMITS)
    assert not chart.alarm
    assert chart.words.startswith("Within its limits on 2026-01-03")
    (bright,) = charts({"2026-01-02": day([250.0] * LEAST)}, LIMITS)
    assert "brighter" in bright.words


def test_the_distance_has_no_lower_limit() -> None:
    near, far = day([1.0] * LEAST, DISTANCE), day([90.0] * LEAST, DISTANCE)
    assert not charts({"2026-01-01": near}, LIMITS)[0].alarm
    (chart,) = charts({"2026-01-01": near, "2026-01-02": far}, LIMITS)
    assert "farther" in chart.words


def test_few_cells_are_drawn_and_not_judged() -> None:
    (chart,) = charts({"2026-01-01": day([10.0] * (LEAST - 1))}, LIMITS)
    assert [(d.cells, d.beyond) for d in chart.days] == [(LEAST - 1, False)]
    assert not chart.alarm
    assert "nothing is judged" in chart.words
    assert charts({}, LIMITS) == []


def test_limits_are_the_middle_of_the_atlas(support: DecisionSupport) -> None:
    found = usual(support.atlas)
    assert set(found) <= set(CHARTED) | {"nucleus"}
    assert {"white", "focus"} <= set(found)
    assert all(low <= high for low, high in found.values())


def test_cells_that_are_uploaded_appear_on_their_day(web: Workstation) -> None:
    client = web.client("rolf")
    assert client.get("/api/v1/drift").json() == {"charts": []}
    web.case(client, 12)
    found = {chart["name"]: chart for chart in client.get("/api/v1/drift").json()["charts"]}
    assert {"white", DISTANCE} <= set(found)
    (today,) = found["white"]["days"]
    assert abs(datetime.fromisoformat(today["day"]).replace(tzinfo=UTC) - datetime.now(UTC)) < (
        timedelta(days=2)
    )
    assert today["cells"] == 12
    assert not found["white"]["alarm"]
    assert web.client("vera").get("/api/v1/drift").status_code == 200
    assert web.client().get("/api/v1/drift").status_code == 401


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A store of the first schema."""
    path = tmp_path / "older.sqlite"
    database = Database(address(path))
    with database.migrating() as tx:
        command.upgrade(alembic_config(tx.conn), "0001")
    database.close()
    return path


def test_older_stores_and_backups_open_without_looks(older: Path, tmp_path: Path) -> None:
    restored = Store.restore(older, tmp_path / "restored.sqlite")
    assert restored.daily_looks("any") == {}
    restored.close()
    with closing(sqlite3.connect(older)) as base:  # the backup itself is left as it was
        assert base.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    store = Store.open(older)
    assert store.daily_looks("any") == {}
    with store.database.reading() as conn:
        assert schema_version(conn) == HEAD
    store.close()
