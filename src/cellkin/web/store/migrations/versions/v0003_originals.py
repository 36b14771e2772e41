"""Uploaded files are kept as they came, each once, under the SHA-256 of its bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellkin.web.store.migrations.versions.v0001_first import HASH, guard

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No store kept originals before: the column that was meant for them is empty."""
    op.create_table(
        "originals",
        sa.Column("sha256", HASH, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("um_per_pixel", sa.Float(53)),
        sa.Column("place", sa.Text, nullable=False),
    )
    op.create_table(
        "original_bytes",
        sa.Column("sha256", HASH, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.drop_column("pictures", "original")
    guard("originals", "what is known of an original is never changed", "")
    guard("original_bytes", "originals are never changed", "")
