"""The failures of a run can be counted without looking through its answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the outcomes that are failures, and only those."""
    failed = sa.text("failure IS NOT NULL")
    op.create_index(
        "ix_outcome_failed",
        "outcome",
        ["run_id", "failure", "llm_id"],
        sqlite_where=failed,
        postgresql_where=failed,
    )
