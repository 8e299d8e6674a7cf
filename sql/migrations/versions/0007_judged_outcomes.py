"""A judge may decide about answers in which no answer could be read; an outcome keeps who decided, and when.

About answers that were stored before, no judge has decided anything.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and index the outcomes that were judged, and only those."""
    op.add_column("outcome", sa.Column("judged_by", sa.Text()))
    moment = sa.DateTime(timezone=True).compile(dialect=op.get_bind().dialect)
    # As plain SQL: SQLite adds constraints with a column or not at all.
    op.execute(
        f"ALTER TABLE outcome ADD COLUMN judged_at {moment} CONSTRAINT ck_outcome_judged_in_doubt CHECK ("
        "(judged_at IS NULL) = (judged_by IS NULL) AND (judged_at IS NULL OR is_unreadable))"
    )
    judged = sa.text("judged_at IS NOT NULL")
    op.create_index("ix_outcome_judged", "outcome", ["judged_at"], sqlite_where=judged, postgresql_where=judged)
