"""A feature vector keeps the LLM's level, what was expected of it before its answers, and how much of it is prior.

Vectors that were stored before had no such prior: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for name in ("level_mean", "level_variance", "prior_share", "overall", "overall_standard_error"):
        op.add_column("feature_vector", sa.Column(name, sa.Float(precision=53)))
