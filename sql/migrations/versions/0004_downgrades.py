"""Which parameters of a request had to be given up for an answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the names; of earlier answers it was only said at the end of the night."""
    op.add_column("outcome", sa.Column("downgrades", sa.String(100), server_default="", nullable=False))
