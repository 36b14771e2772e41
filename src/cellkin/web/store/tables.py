"""The tables of the store, as SQLAlchemy describes them; `migrations/` makes them.

Times and JSON are text, so that what was written comes back byte for byte on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    not_,
    select,
)

from cellkin.web.worklist.misfit import RELEASED

metadata = MetaData()

ID = String(32)
TIME = String(32)
HASH = String(64)

atlases = Table(
    "atlases",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("labels", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("registered", TIME, nullable=False),
)

references = Table(
    "reference_pictures",
    metadata,
    Column("atlas", String(80), ForeignKey("atlases.id"), nullable=False),
    Column("id", Text, nullable=False),
    Column("picture", LargeBinary, nullable=False),
    PrimaryKeyConstraint("atlas", "id"),
)

cases = Table(
    "cases",
    metadata,
    Column("id", ID, primary_key=True),
    Column("pseudonym", Text, nullable=False),
    Column("specimen", Text),
    Column("consecutive", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("flags", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("finals", Text, nullable=False),
    Column("cells", Integer, nullable=False),
    Column("held", Integer, nullable=False),
    Column("to_confirm", Integer, nullable=False),
    Column("unseen", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("atlas", String(80), ForeignKey("atlases.id")),
    Column("created", TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("signed", TIME),
    Column("signed_by", Text),
    Column("group", String(80)),
    Column("accepted_by", Text),
    Column("accepted_why", Text),
    Column("accession", Text, nullable=False, server_default=""),
    Column("remarks", Text, nullable=False, server_default=""),
    Column("conclusion", Text, nullable=False, server_default=""),
)
Index("cases_by_time", cases.c.created, cases.c.id)

cells = Table(
    "cells",
    metadata,
    Column("id", ID, primary_key=True),
    Column("case", ID, ForeignKey("cases.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", HASH, nullable=False),
    Column("proposed", Text, nullable=False),
    Column("final", Text),
    Column("disposition", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("confirmed", String(16)),
    Column("held_reasons", Text, nullable=False),
    Column("seen", Boolean, nullable=False),
    Column("opened", Boolean, nullable=False),
    Column("worry", Float(53), nullable=False),
    Column("comment", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reviewed_by", Text),
    Column("reviewed", TIME),
    Column("added", TIME, nullable=False),
    Column("atlas", String(80), ForeignKey("atlases.id"), nullable=False),
    Column("decision", Text, nullable=False),
    Column("gate", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    UniqueConstraint("case", "sha256"),
    UniqueConstraint("case", "position"),
)
ACCEPTED = select(cases.c.id).where(cases.c.accepted_by.is_not(None))
HELD = and_(
    cells.c.held_reasons != "[]",
    not_(and_(cells.c.held_reasons.in_(RELEASED), cells.c.case.in_(ACCEPTED))),
)
"""Whether a cell must be opened singly: there is a reason, and it is not distance alone in a case
that somebody went on with though it does not fit its atlas. That is derived, never stored."""

CELLS = select(cells, cases.c.accepted_by).join(cases, cells.c.case == cases.c.id)
"""What a record of a cell is made of."""

Index("cells_by_worry", cells.c.case, cells.c.worry.desc(), cells.c.position)

pictures = Table(
    "pictures",
    metadata,
    Column("cell", ID, ForeignKey("cells.id"), primary_key=True),
    Column("png", LargeBinary, nullable=False),
)

originals = Table(
    "originals",
    metadata,
    Column("sha256", HASH, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("um_per_pixel", Float(53)),
    Column("place", Text, nullable=False),
)

original_bytes = Table(
    "original_bytes",
    metadata,
    Column("sha256", HASH, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

views = Table(
    "views",
    metadata,
    Column("cell", ID, ForeignKey("cells.id"), nullable=False),
    Column("user", Text, nullable=False),
    Column("seen", TIME, nullable=False),
    Column("opened", TIME),
    PrimaryKeyConstraint("cell", "user"),
)

looks = Table(
    "looks",
    metadata,
    Column("cell", ID, ForeignKey("cells.id"), primary_key=True),
    Column("atlas", String(80), nullable=False),
    Column("day", String(10), nullable=False),
    Column("values", Text, nullable=False),
)
Index("looks_by_day", looks.c.atlas, looks.c.day)

uploads = Table(
    "uploads",
    metadata,
    Column("case", ID, ForeignKey("cases.id"), nullable=False),
    Column("key", String(200), nullable=False),
    Column("content", HASH, nullable=False),
    Column("cells", Text, nullable=False),
    Column("duplicates", Text, nullable=False),
    Column("at", TIME, nullable=False),
    PrimaryKeyConstraint("case", "key"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", ID, primary_key=True),
    Column("case", ID, ForeignKey("cases.id"), nullable=False),
    Column("files", Text, nullable=False),
    Column("received", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened", TIME, nullable=False),
    Column("opened_by", Text, nullable=False),
)
Index("batches_by_case", batches.c.case)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("case", ID, ForeignKey("cases.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("user", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("undone", Boolean, nullable=False),
    Column("at", TIME, nullable=False),
)
Index("reviews_by_case", reviews.c.case, reviews.c.user)

revisions = Table(
    "revisions",
    metadata,
    Column("case", ID, ForeignKey("cases.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened", TIME, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("signed", TIME),
    Column("signed_by", Text),
    Column("document", LargeBinary),
    Column("sha256", HASH),
    PrimaryKeyConstraint("case", "revision"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", TIME, nullable=False),
    Column("user", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("how", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("case", ID),
    Column("cell", ID),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("previous", HASH, nullable=False),
    Column("hash", HASH, nullable=False),
)
Index("audit_by_case", audit.c.case, audit.c.number)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("hash", HASH, nullable=False),
    Column("seal", HASH),
)

users = Table(
    "users",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("password", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("groups", Text, nullable=False, server_default="[]"),
)

factors = Table(
    "factors",
    metadata,
    Column("user", String(80), ForeignKey("users.name"), primary_key=True),
    Column("secret", String(64), nullable=False),
    Column("since", TIME, nullable=False),
    Column("used", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user", String(80), ForeignKey("users.name"), nullable=False),
    Column("expires", TIME, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("user", String(80), ForeignKey("users.name"), nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("started", TIME, nullable=False),
    Column("expires", TIME, nullable=False),
)
Index("sessions_by_user", sessions.c.user)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", ID, primary_key=True),
    Column("hash", HASH, nullable=False, unique=True),
    Column("user", String(80), ForeignKey("users.name"), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("created", TIME, nullable=False),
    Column("expires", TIME, nullable=False),
    Column("ended", Boolean, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(80), nullable=False),
    Column("source", String(80), nullable=False),
    Column("at", TIME, nullable=False),
)
Index("attempts_by_time", attempts.c.at)
