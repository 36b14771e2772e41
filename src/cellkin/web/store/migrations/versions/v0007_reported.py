"""What a report says beside the count: an accession number, remarks and a conclusion."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("accession", "remarks", "conclusion"):
        op.add_column("cases", sa.Column(name, sa.Text, nullable=False, server_default=""))
