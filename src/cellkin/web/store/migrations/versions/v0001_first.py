"""The first schema: cases, cells, reviews, revisions, people, and the append-only audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(32)
TIME = sa.String(32)
HASH = sa.String(64)

APPEND_ONLY = {
    "audit": "the audit log is append-only",
    "pictures": "pictures of cells are never changed",
    "reference_pictures": "pictures of reference cells are never changed",
}
SIGNED = "a signed revision is never changed"


def upgrade() -> None:
    for name, columns in TABLES.items():
        op.create_table(name, *columns)
    for index in INDEXES:
        op.create_index(*index)
    op.execute(f"INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '{'0' * 64}')")
    for table, words in APPEND_ONLY.items():
        guard(table, words, "")
    guard("revisions", SIGNED, "OLD.signed IS NOT NULL")


def guard(table: str, words: str, when: str) -> None:
    """Triggers that refuse to change or remove rows of a table, `when` a condition holds."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    (_guard_sqlite if sqlite else _guard_postgresql)(table, words, when)


def _guard_sqlite(table: str, words: str, when: str) -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"{f'WHEN {when} ' if when else ''}BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )


def _guard_postgresql(table: str, words: str, when: str) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_guard() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW "
        f"{f'WHEN ({when}) ' if when else ''}EXECUTE FUNCTION {table}_guard()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"EXECUTE FUNCTION {table}_guard()"
    )


TABLES: dict[str, tuple[sa.schema.SchemaItem, ...]] = {
    "atlases": (
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("registered", TIME, nullable=False),
    ),
    "reference_pictures": (
        sa.Column("atlas", sa.String(80), sa.ForeignKey("atlases.id"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("picture", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("atlas", "id"),
    ),
    "cases": (
        sa.Column("id", ID, primary_key=True),
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column("specimen", sa.Text),
        sa.Column("consecutive", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("finals", sa.Text, nullable=False),
        sa.Column("cells", sa.Integer, nullable=False),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("to_confirm", sa.Integer, nullable=False),
        sa.Column("unseen", sa.Integer, nullable=False),
        sa.Column("duplicates", sa.Integer, nullable=False),
        sa.Column("atlas", sa.String(80), sa.ForeignKey("atlases.id")),
        sa.Column("created", TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("signed", TIME),
        sa.Column("signed_by", sa.Text),
    ),
    "cells": (
        sa.Column("id", ID, primary_key=True),
        sa.Column("case", ID, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("proposed", sa.Text, nullable=False),
        sa.Column("final", sa.Text),
        sa.Column("disposition", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("confirmed", sa.String(16)),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("held_reasons", sa.Text, nullable=False),
        sa.Column("seen", sa.Boolean, nullable=False),
        sa.Column("opened", sa.Boolean, nullable=False),
        sa.Column("worry", sa.Float(53), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("reviewed_by", sa.Text),
        sa.Column("reviewed", TIME),
        sa.Column("added", TIME, nullable=False),
        sa.Column("atlas", sa.String(80), sa.ForeignKey("atlases.id"), nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("gate", sa.Text, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.UniqueConstraint("case", "sha256"),
        sa.UniqueConstraint("case", "position"),
    ),
    "pictures": (
        sa.Column("cell", ID, sa.ForeignKey("cells.id"), primary_key=True),
        sa.Column("png", sa.LargeBinary, nullable=False),
        sa.Column("original", sa.LargeBinary),
    ),
    "uploads": (
        sa.Column("case", ID, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("content", HASH, nullable=False),
        sa.Column("cells", sa.Text, nullable=False),
        sa.Column("duplicates", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("case", "key"),
    ),
    "reviews": (
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("case", ID, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.Column("at", TIME, nullable=False),
    ),
    "revisions": (
        sa.Column("case", ID, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened", TIME, nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
        sa.Column("signed", TIME),
        sa.Column("signed_by", sa.Text),
        sa.Column("document", sa.LargeBinary),
        sa.Column("sha256", HASH),
        sa.PrimaryKeyConstraint("case", "revision"),
    ),
    "audit": (
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("case", ID),
        sa.Column("cell", ID),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("previous", HASH, nullable=False),
        sa.Column("hash", HASH, nullable=False),
    ),
    "audit_head": (
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("hash", HASH, nullable=False),
    ),
    "users": (
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    ),
    "sessions": (
        sa.Column("hash", HASH, primary_key=True),
        sa.Column("user", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("minutes", sa.Integer, nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
    ),
    "api_tokens": (
        sa.Column("id", ID, primary_key=True),
        sa.Column("hash", HASH, nullable=False, unique=True),
        sa.Column("user", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
    ),
    "attempts": (
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("source", sa.String(80), nullable=False),
        sa.Column("at", TIME, nullable=False),
    ),
}
INDEXES = (
    ("cases_by_time", "cases", ["created", "id"]),
    ("cells_by_worry", "cells", ["case", sa.text("worry DESC"), "position"]),
    ("reviews_by_case", "reviews", ["case", "user"]),
    ("audit_by_case", "audit", ["case", "number"]),
    ("sessions_by_user", "sessions", ["user"]),
    ("attempts_by_time", "attempts", ["at"]),
)
