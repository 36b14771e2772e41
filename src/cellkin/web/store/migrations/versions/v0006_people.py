"""Groups of people, whose cases can be theirs alone; second factors; devices that people know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.String(32)
HASH = sa.String(64)
NAME = sa.String(80)


def upgrade() -> None:
    """Nobody is in a group, and every case is everybody's, as before."""
    op.add_column("users", sa.Column("groups", sa.Text, nullable=False, server_default="[]"))
    op.add_column("cases", sa.Column("group", NAME))
    op.create_table(
        "factors",
        sa.Column("user", NAME, sa.ForeignKey("users.name"), primary_key=True),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("hash", HASH, primary_key=True),
        sa.Column("user", NAME, sa.ForeignKey("users.name"), nullable=False),
        sa.Column("expires", TIME, nullable=False),
    )
