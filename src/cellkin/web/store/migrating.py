"""Bring a store's schema to the newest version, by alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from cellkin.core.errors import ArtifactError
from cellkin.web.store import guards, upgrading
from cellkin.web.store.database import Database

HEAD = "0007"
TOLD = "0004"  # from this schema on the log tells all that people rely on
FOLDER = Path(__file__).parent / "migrations"


def schema_version(conn: Connection) -> str | None:
    """The version of the schema that a store has, None for an empty database."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def migrate(database: Database) -> None:
    """Make or renew the schema; nothing happens where it is the newest.

    Raises:
        ArtifactError: the database belongs to something else, or to a newer cellkin.
    """
    with database.reading() as conn:
        if schema_version(conn) == HEAD:
            return
    with database.migrating() as tx:
        _check(tx.conn, database.where)
        before = schema_version(tx.conn)
        _upgrade(tx.conn)
        guards.renew(tx.conn)
        if before is not None and before < TOLD:
            upgrading.tell(tx)


def _check(conn: Connection, where: str) -> None:
    version = schema_version(conn)
    if version is None and inspect(conn).get_table_names():
        raise ArtifactError(
            "this database holds tables of something else",
            where=where,
            mend="give an empty database, or a new path",
        )
    if version is not None and version > HEAD:
        raise ArtifactError(
            f"this store has schema {version}, this cellkin knows {HEAD}",
            where=where,
            mend="use the cellkin that wrote it, or a newer one",
        )


def _upgrade(conn: Connection) -> None:
    from alembic import command

    command.upgrade(alembic_config(conn), "head")


def alembic_config(conn: Connection | None = None) -> Any:
    """What alembic needs to know; `conn` is the connection that migrations run on."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = conn
    return config
