"""How many input tokens an LLM counts where one is estimated, beside its feature vector."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the ratio; vectors from before took it to be one."""
    op.add_column(
        "feature_vector", sa.Column("input_token_ratio", sa.Float(precision=53), server_default="1", nullable=False)
    )
