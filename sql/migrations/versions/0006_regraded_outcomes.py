"""Answers can be graded again; which of them could not be read, and what was wrong with their usage, is kept.

Of answers that were stored before, both are unknown: NULL, not 0.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and index the outcomes that are regrades, and only those."""
    op.add_column("outcome", sa.Column("is_unreadable", sa.Boolean(create_constraint=False)))
    op.add_column("outcome", sa.Column("usage_flags", sa.Text()))
    # As plain SQL: SQLite adds constraints with a column or not at all.
    for name in ("asked_protocol_id", "former_protocol_id"):
        key = f"fk_outcome_{name}"
        op.execute(f"ALTER TABLE outcome ADD COLUMN {name} INTEGER CONSTRAINT {key} REFERENCES protocol (id)")
    is_old_grade = sa.Boolean(create_constraint=False)
    op.add_column("outcome", sa.Column("is_old_grade", is_old_grade, server_default=sa.false(), nullable=False))
    moment = sa.DateTime(timezone=True).compile(dialect=op.get_bind().dialect)
    op.execute(
        f"ALTER TABLE outcome ADD COLUMN regraded_at {moment} CONSTRAINT ck_outcome_regraded_from_another CHECK ("
        "(regraded_at IS NULL) = (asked_protocol_id IS NULL) AND (regraded_at IS NULL) = (former_protocol_id IS NULL))"
    )
    regraded = sa.text("regraded_at IS NOT NULL")
    op.create_index("ix_outcome_regraded", "outcome", ["regraded_at"], sqlite_where=regraded, postgresql_where=regraded)
