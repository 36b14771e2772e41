"""Who saw and opened which cell, who went on with a case that does not fit its atlas, and uploads
that are announced before they are sent.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(32)
TIME = sa.String(32)


def upgrade() -> None:
    """What the log says of earlier looking is taken over."""
    made = op.create_table(
        "views",
        sa.Column("cell", ID, sa.ForeignKey("cells.id"), nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.Column("opened", TIME),
        sa.PrimaryKeyConstraint("cell", "user"),
    )
    if rows := _looked():
        op.bulk_insert(made, rows)
    op.add_column("cases", sa.Column("accepted_by", sa.Text))
    op.add_column("cases", sa.Column("accepted_why", sa.Text))
    op.create_table(
        "batches",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("case", sa.String(32), sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("files", sa.Text, nullable=False),
        sa.Column("received", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("opened", sa.String(32), nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
    )
    op.create_index("batches_by_case", "batches", ["case"])


def _looked() -> list[dict[str, str | None]]:
    found: dict[tuple[str, str], dict[str, str | None]] = {}
    query = sa.text(
        'SELECT at, "user", action, cell, after FROM audit '
        "WHERE action IN ('cells seen', 'cell opened') ORDER BY number"
    )
    for at, user, action, cell, after in op.get_bind().execute(query):
        opened = action == "cell opened"
        for name in [cell] if opened else json.loads(after)["cells"]:
            fresh = {"cell": name, "user": user, "seen": at, "opened": None}
            row = found.setdefault((name, user), fresh)
            row["opened"] = row["opened"] or (at if opened else None)
    return list(found.values())
