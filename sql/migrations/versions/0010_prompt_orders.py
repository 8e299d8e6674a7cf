"""Prompt orders: which representative prompts new LLMs are asked first, and how many of them each LLM was asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the orders, their prompts, and the scopes of profiles."""
    op.create_table(
        "prompt_order",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("strategy", sa.String(length=40), nullable=False),
        sa.Column("n_random", sa.Integer(), nullable=False),
        sa.Column("n_asked", sa.Integer(), nullable=False),
        sa.Column("n_known", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("losses_json", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("seal", sa.Integer()),
        sa.CheckConstraint(
            "role IN ('map', 'representative', 'gate', 'hidden')", name=op.f("ck_prompt_order_role_known")
        ),
        sa.ForeignKeyConstraint(
            ["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_prompt_order_prompt_set_digest")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_prompt_order_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_order")),
        sa.UniqueConstraint("digest", name=op.f("uq_prompt_order_digest")),
    )
    op.create_index(op.f("ix_prompt_order_prompt_set_digest"), "prompt_order", ["prompt_set_digest"])
    op.create_table(
        "prompt_order_member",
        sa.Column("prompt_order_id", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("is_random", sa.Boolean(), nullable=False),
        sa.Column("seal", sa.Integer()),
        sa.CheckConstraint("rank >= 1", name=op.f("ck_prompt_order_member_rank_counted")),
        sa.ForeignKeyConstraint(
            ["prompt_order_id"], ["prompt_order.id"], name=op.f("fk_prompt_order_member_prompt_order_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_prompt_order_member_prompt_id")),
        sa.PrimaryKeyConstraint("prompt_order_id", "rank", name=op.f("pk_prompt_order_member")),
        sa.UniqueConstraint(
            "prompt_order_id", "prompt_id", name=op.f("uq_prompt_order_member_prompt_order_id_prompt_id")
        ),
    )
    op.create_table(
        "asked_scope",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("prompt_order_id", sa.Integer(), nullable=False),
        sa.Column("sampling", sa.String(length=2000), nullable=False),
        sa.Column("n_prompts", sa.Integer(), nullable=False),
        sa.Column("is_decided", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("seal", sa.Integer()),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_asked_scope_llm_id")),
        sa.ForeignKeyConstraint(["prompt_order_id"], ["prompt_order.id"], name=op.f("fk_asked_scope_prompt_order_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_asked_scope_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asked_scope")),
    )
    op.create_index(op.f("ix_asked_scope_llm_id_prompt_order_id"), "asked_scope", ["llm_id", "prompt_order_id"])
