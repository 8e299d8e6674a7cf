"""A feature vector keeps what was expected of the LLM's level before its answers, and how much of it is prior.

Vectors that were stored before had no such prior: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for name in ("level_mean", "level_variance", "prior_share"):
        op.add_column("feature_vector", sa.Column(name, sa.Float(precision=53)))
