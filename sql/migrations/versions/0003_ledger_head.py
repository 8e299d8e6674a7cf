"""Which event of the ledger is the last, beside the ledger: a ledger that was cut off at its end is found out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the row and let it name the event that is the last now."""
    op.create_table(
        "ledger_head",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_head")),
    )
    op.execute(
        "INSERT INTO ledger_head (name, number, hash) "
        "SELECT 'ledger', number, hash FROM ledger WHERE number = (SELECT MAX(number) FROM ledger)"
    )
