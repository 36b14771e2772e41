"""How the cells of each day look: what the chart of drift is drawn from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Cells that were added before stay without a row: their pictures were not measured."""
    op.create_table(
        "looks",
        sa.Column("cell", sa.String(32), sa.ForeignKey("cells.id"), primary_key=True),
        sa.Column("atlas", sa.String(80), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("values", sa.Text, nullable=False),
    )
    op.create_index("looks_by_day", "looks", ["atlas", "day"])
