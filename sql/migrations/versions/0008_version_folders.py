"""A router keeps the digest of its whole version folder, and heads of the ledger can be signed.

Of versions that were published before, the digest of the folder is unknown: NULL, until `doctor --repair` fills it in.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and the table of the signed heads."""
    op.add_column("router", sa.Column("folder_digest", sa.String(length=64)))
    op.create_table(
        "signed_head",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signature_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_signed_head")),
    )
