"""Whether a cell is held is derived from its reasons; the end of the log can be sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("cells", "held")
    op.add_column("audit_head", sa.Column("seal", sa.String(64)))
