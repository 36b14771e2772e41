"""Triggers that refuse to change what is kept for good, and whether a database still has them.

They hold back mistakes and other programs. Who owns the database can drop them, so a verification
does not rely on them: it says where one is missing, was changed or came beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, create_engine, text

from cellkin.web.store.relied import FIXED
from cellkin.web.store.tables import metadata


@dataclass(frozen=True)
class Guard:
    """What a table refuses.

    Attributes:
        words: why. keys: the columns that name a row. columns: those that never change; () for all.
        when: only of rows for which this holds, said of `OLD`.
    """

    table: str
    words: str
    keys: tuple[str, ...]
    columns: tuple[str, ...] = ()
    when: str = ""


GUARDS = (
    Guard("audit", "the audit log is append-only", ("number",)),
    Guard("pictures", "pictures of cells are never changed", ("cell",)),
    Guard("reference_pictures", "pictures of reference cells are never changed", ("atlas", "id")),
    Guard("atlases", "what is known of an atlas is never changed", ("id",)),
    Guard("looks", "what was measured of a cell is never changed", ("cell",)),
    Guard("uploads", "an upload is never changed", ("case", "key")),
    Guard("originals", "what is known of an original is never changed", ("sha256",)),
    Guard("original_bytes", "originals are never changed", ("sha256",)),
    Guard("cells", "what the atlas said is never changed", ("id",), FIXED["cells"]),
    Guard(
        "revisions",
        "a signed revision is never changed",
        ("case", "revision"),
        when="OLD.signed IS NOT NULL",
    ),
)


def renew(conn: Connection) -> None:
    """Make the triggers as this version knows them, in place of those of an earlier one."""
    sqlite = conn.dialect.name == "sqlite"
    for name, table in _present(conn):
        conn.exec_driver_sql(f"DROP TRIGGER {name}" + ("" if sqlite else f" ON {table}"))
    for statement in statements(sqlite).values():
        conn.exec_driver_sql(statement)
    if not sqlite:
        for guard in GUARDS:
            conn.exec_driver_sql(_truncating(guard))


def statements(sqlite: bool) -> dict[str, str]:
    """Name -> the statement that makes it, in the order of making."""
    made: dict[str, str] = {}
    for guard in GUARDS:
        made |= dict(_for_sqlite(guard) if sqlite else _for_postgresql(guard))
    return made


def _for_sqlite(guard: Guard) -> Iterator[tuple[str, str]]:
    table, of = guard.table, _of(guard)
    same = " AND ".join(f'"{key}" = NEW."{key}"' for key in guard.keys)
    there = f"{same} AND {guard.when.replace('OLD.', '')}" if guard.when else same
    replaced = f"EXISTS (SELECT 1 FROM {table} WHERE {there})"
    for what, verb, when in (
        ("update", f"UPDATE{of}", guard.when),
        ("delete", "DELETE", guard.when),
        ("replace", "INSERT", replaced),  # REPLACE INTO fires no trigger of DELETE
    ):
        name = f"{table}_no_{what}"
        yield (
            name,
            f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {f'WHEN {when} ' if when else ''}"
            f"BEGIN SELECT RAISE(ABORT, '{guard.words}'); END",
        )


def _for_postgresql(guard: Guard) -> Iterator[tuple[str, str]]:
    table = guard.table
    yield (
        f"{table}_guard",
        f"CREATE OR REPLACE FUNCTION {table}_guard() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{guard.words}'; END $$",
    )
    when = f"WHEN ({guard.when}) " if guard.when else ""
    yield (
        f"{table}_no_change",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE{_of(guard)} OR DELETE ON {table} "
        f"FOR EACH ROW {when}EXECUTE FUNCTION {table}_guard()",
    )


def _truncating(guard: Guard) -> str:
    return (
        f"CREATE TRIGGER {guard.table}_no_truncate BEFORE TRUNCATE ON {guard.table} "
        f"EXECUTE FUNCTION {guard.table}_guard()"
    )


def _of(guard: Guard) -> str:
    return " OF " + ", ".join(f'"{name}"' for name in guard.columns) if guard.columns else ""


def _present(conn: Connection) -> list[tuple[str, str]]:
    """Names of all triggers, and their tables."""
    query = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
        if conn.dialect.name == "sqlite"
        else "SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    )
    return [(str(name), str(table)) for name, table in conn.execute(text(query))]


def faults(conn: Connection) -> Iterator[str]:
    """Which triggers are missing, changed or added, and what else the schema should not hold."""
    expected = _expected(conn)
    present = _told_by_sqlite(conn) if conn.dialect.name == "sqlite" else _told_by_postgresql(conn)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            yield f"the trigger {name} is gone"
        elif name not in expected:
            yield f"{name} is none of this store's triggers"
        elif present[name] != expected[name]:
            yield f"the trigger {name} was changed"


SCHEMA = """
SELECT m.name, p.name, p.type, p."notnull", p.pk
FROM sqlite_master m, pragma_table_info(m.name) p
WHERE m.type = 'table' AND m.name NOT IN ('alembic_version', 'sqlite_sequence')
UNION ALL
SELECT m.name, l.origin, group_concat(i.name), l."unique", 0
FROM sqlite_master m, pragma_index_list(m.name) l, pragma_index_info(l.name) i
WHERE m.type = 'table' AND m.name <> 'alembic_version' GROUP BY m.name, l.name
UNION ALL
SELECT m.name, f."from", f."table" || '.' || f."to", 0, 0
FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'
"""
"""Columns, indexes and foreign keys of an SQLite store."""


def schema_faults(conn: Connection) -> Iterator[str]:
    """Where tables, columns, keys or indexes are not those that this version knows."""
    if conn.dialect.name == "sqlite":
        found = Counter(map(tuple, conn.exec_driver_sql(SCHEMA)))
        known = _known_schema()
        differing: list[Any] = [*(found - known), *(known - found)]
    else:
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        context = MigrationContext.configure(conn, opts={"compare_type": True})
        differing = compare_metadata(context, metadata)
    yield from (f"the schema is not this version's: {str(one)[:120]}" for one in differing)


@cache
def _known_schema() -> Counter[tuple[Any, ...]]:
    """The schema of a new store."""
    engine = create_engine("sqlite://")
    with engine.begin() as conn:
        metadata.create_all(conn)
        found = Counter(map(tuple, conn.exec_driver_sql(SCHEMA)))
    engine.dispose()
    return found


def _expected(conn: Connection) -> dict[str, str]:
    if conn.dialect.name == "sqlite":
        return statements(sqlite=True)
    named = {(g, f"{g.table}_no_{what}") for g in GUARDS for what in ("change", "truncate")}
    return {name: f"O BEGIN RAISE EXCEPTION '{guard.words}'; END" for guard, name in named}


def _told_by_sqlite(conn: Connection) -> dict[str, str]:
    query = text("SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'view')")
    return {str(name): str(sql) for name, sql in conn.execute(query)}


def _told_by_postgresql(conn: Connection) -> dict[str, str]:
    query = text(
        "SELECT t.tgname, t.tgenabled::text || ' ' || trim(p.prosrc) FROM pg_trigger t "
        "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
        "WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    )
    return {str(name): str(told) for name, told in conn.execute(query)}
