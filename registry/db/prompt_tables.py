"""The tables of prompts: each prompt once, the frozen sets they are in, their embeddings, and what LLMs are asked."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from registry.db.columns import ArrayBlob, ExactText, PlainText
from registry.db.conventions import digest, metadata, one_of

ROLES = ("map", "representative", "gate", "hidden")

prompt = Table(
    "prompt",
    metadata,
    Column("id", Integer, primary_key=True),
    digest("digest", nullable=False, unique=True),
    Column("text", ExactText, nullable=False),
    Column("reference", ExactText, nullable=False),
    Column("grader", PlainText(100), nullable=False),
)

prompt_set = Table(
    "prompt_set",
    metadata,
    digest("digest", primary_key=True),
    Column("name", PlainText(200), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("shares_json", Text, nullable=False),
    Column("n_prompts", Integer, nullable=False),
)

prompt_set_member = Table(
    "prompt_set_member",
    metadata,
    digest("prompt_set_digest", ForeignKey("prompt_set.digest"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("prompt_id", Integer, ForeignKey("prompt.id"), nullable=False),
    Column("label", ExactText, nullable=False),
    Column("category", ExactText),
    Column("role", String(20), nullable=False),
    UniqueConstraint("prompt_set_digest", "prompt_id"),
    Index(None, "prompt_id"),
    one_of("role", ROLES),
)

embedding = Table(
    "embedding",
    metadata,
    Column("prompt_id", Integer, ForeignKey("prompt.id"), primary_key=True),
    Column("embedder_key", String(200), primary_key=True),
    Column("vector", ArrayBlob, nullable=False),
)

prompt_order = Table(
    "prompt_order",
    metadata,
    Column("id", Integer, primary_key=True),
    digest("digest", nullable=False, unique=True),
    digest("prompt_set_digest", ForeignKey("prompt_set.digest"), nullable=False),
    Column("role", String(20), nullable=False),
    Column("strategy", String(40), nullable=False),
    Column("n_random", Integer, nullable=False),
    Column("n_asked", Integer, nullable=False),
    Column("n_known", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("losses_json", Text, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Index(None, "prompt_set_digest"),
    one_of("role", ROLES),
)

prompt_order_member = Table(
    "prompt_order_member",
    metadata,
    Column("prompt_order_id", Integer, ForeignKey("prompt_order.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("prompt_id", Integer, ForeignKey("prompt.id"), nullable=False),
    Column("is_random", Boolean(create_constraint=False), nullable=False),
    UniqueConstraint("prompt_order_id", "prompt_id"),
    CheckConstraint("rank >= 1", name="rank_counted"),
)

asked_scope = Table(
    "asked_scope",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("llm_id", Integer, ForeignKey("llm.id"), nullable=False),
    Column("prompt_order_id", Integer, ForeignKey("prompt_order.id"), nullable=False),
    Column("sampling", String(2000), nullable=False),
    Column("n_prompts", Integer, nullable=False),
    Column("is_decided", Boolean(create_constraint=False), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Index(None, "llm_id", "prompt_order_id"),
)
