"""Rows of a night get the number of the ledger event that holds their digest, and what replaces or prunes them is kept.

Of rows that were stored before, no digest is known: NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = (
    "run",
    "llm",
    "llm_price",
    "catalog_fetch",
    "listing_text",
    "listing",
    "prompt",
    "prompt_set",
    "prompt_set_member",
    "embedding",
    "protocol",
    "outcome",
    "completion",
    "charge",
    "cluster_map",
    "cluster_map_array",
    "feature_vector",
    "router",
    "router_llm",
    "router_metric",
)
_LARGE = ("listing_text", "listing", "outcome", "completion")


def upgrade() -> None:
    """Add the column, an index of the rows that wait for a digest, and the table of what is kept of former rows."""
    for name in _TABLES:
        op.add_column(name, sa.Column("seal", sa.Integer()))
    is_open = sa.text("seal = 0")
    for name in _LARGE:
        op.create_index(f"ix_{name}_open", name, ["seal"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "retired_rows",
        sa.Column("table_name", sa.String(length=60), nullable=False),
        sa.Column("seal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ended", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("digest_sum", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "seal", "ended", name=op.f("pk_retired_rows")),
    )
