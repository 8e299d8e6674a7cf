"""The first schema: catalogs and LLMs, prompts, outcomes, routers, promotions and the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.db.database import append_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table, then guard the ledger."""
    _ledger()
    _listing_text()
    _llm()
    _prompt()
    _prompt_set()
    _protocol()
    _schema_file()
    _embedding()
    _llm_price()
    _prompt_set_member()
    _run()
    _catalog_fetch()
    _charge()
    _cluster_map()
    _lease()
    _outcome()
    _cluster_map_array()
    _completion()
    _feature_vector()
    _listing()
    _router()
    _alias()
    _outbox()
    _promotion()
    _router_llm()
    _router_metric()
    for statement in append_only("ledger", is_sqlite=op.get_bind().dialect.name == "sqlite"):
        op.execute(statement)


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.LargeBinary(), nullable=False),
        sa.Column("payload_json", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ledger")),
        sa.UniqueConstraint("hash", name=op.f("uq_ledger_hash")),
    )
    op.create_index("ix_ledger_at", "ledger", ["at"])
    op.create_index("ix_ledger_subject", "ledger", ["subject"])


def _listing_text() -> None:
    op.create_table(
        "listing_text",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_listing_text")),
    )


def _llm() -> None:
    op.create_table(
        "llm",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("endpoint", sa.String(length=100), nullable=False),
        sa.Column("llm_id", sa.String(length=300), nullable=False),
        sa.Column("canonical_id", sa.String(length=300), nullable=True),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("catalog", sa.String(length=100), nullable=False),
        sa.Column("catalog_rank", sa.Integer(), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deprecated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_on", sa.Date(), nullable=False),
        sa.Column("last_seen_on", sa.Date(), nullable=False),
        sa.Column("context_tokens", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("status_reason", sa.LargeBinary(), nullable=True),
        sa.Column("refusal", sa.String(length=300), nullable=True),
        sa.CheckConstraint(
            "status IN ('available', 'withdrawn', 'quarantined', 'excluded')", name=op.f("ck_llm_status_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm")),
        sa.UniqueConstraint("endpoint", "llm_id", name=op.f("uq_llm_endpoint_llm_id")),
        sa.UniqueConstraint("key", name=op.f("uq_llm_key")),
    )


def _prompt() -> None:
    op.create_table(
        "prompt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.Column("grader", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
        sa.UniqueConstraint("digest", name=op.f("uq_prompt_digest")),
    )


def _prompt_set() -> None:
    op.create_table(
        "prompt_set",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("shares_json", sa.Text(), nullable=False),
        sa.Column("n_prompts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_prompt_set")),
    )


def _protocol() -> None:
    op.create_table(
        "protocol",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("grader", sa.String(length=120), nullable=False),
        sa.Column("sampling", sa.String(length=2000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_protocol")),
        sa.UniqueConstraint("grader", "sampling", name=op.f("uq_protocol_grader_sampling")),
    )


def _schema_file() -> None:
    op.create_table(
        "schema_file",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schema_file")),
    )


def _embedding() -> None:
    op.create_table(
        "embedding",
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("embedder_key", sa.String(length=200), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_embedding_prompt_id")),
        sa.PrimaryKeyConstraint("prompt_id", "embedder_key", name=op.f("pk_embedding")),
    )


def _llm_price() -> None:
    op.create_table(
        "llm_price",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("since_on", sa.Date(), nullable=False),
        sa.Column("catalog", sa.String(length=100), nullable=False),
        sa.Column("input_usd_per_mtok", sa.String(length=64), nullable=True),
        sa.Column("output_usd_per_mtok", sa.String(length=64), nullable=True),
        sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "(input_usd_per_mtok IS NULL) = (output_usd_per_mtok IS NULL)", name=op.f("ck_llm_price_both_or_neither")
        ),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_llm_price_llm_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_price")),
        sa.UniqueConstraint("llm_id", "since_on", "is_held", name=op.f("uq_llm_price_llm_id_since_on_is_held")),
    )


def _prompt_set_member() -> None:
    op.create_table(
        "prompt_set_member",
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.LargeBinary(), nullable=False),
        sa.Column("category", sa.LargeBinary(), nullable=True),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.CheckConstraint(
            "role IN ('map', 'representative', 'gate', 'hidden')", name=op.f("ck_prompt_set_member_role_known")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_prompt_set_member_prompt_id")),
        sa.ForeignKeyConstraint(
            ["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_prompt_set_member_prompt_set_digest")
        ),
        sa.PrimaryKeyConstraint("prompt_set_digest", "position", name=op.f("pk_prompt_set_member")),
        sa.UniqueConstraint(
            "prompt_set_digest", "prompt_id", name=op.f("uq_prompt_set_member_prompt_set_digest_prompt_id")
        ),
    )
    op.create_index("ix_prompt_set_member_prompt_id", "prompt_set_member", ["prompt_id"])


def _run() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_number", sa.Integer(), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("settings_json", sa.Text(), nullable=False),
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.LargeBinary(), nullable=True),
        sa.Column("summary_json", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "status IN ('active', 'completed', 'attention', 'failed', 'interrupted')", name=op.f("ck_run_status_known")
        ),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_run_attempt_counted")),
        sa.ForeignKeyConstraint(["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_run_prompt_set_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("key", name=op.f("uq_run_key")),
    )


def _catalog_fetch() -> None:
    op.create_table(
        "catalog_fetch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("catalog", sa.String(length=100), nullable=False),
        sa.Column("fetched_on", sa.Date(), nullable=False),
        sa.Column("digest", sa.String(length=100), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.Column("suspicion", sa.String(length=300), nullable=True),
        sa.Column("n_listings", sa.Integer(), nullable=False),
        sa.Column("n_quarantined", sa.Integer(), nullable=False),
        sa.Column("diff_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_catalog_fetch_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_fetch")),
        sa.UniqueConstraint("run_id", "catalog", "digest", name=op.f("uq_catalog_fetch_run_id_catalog_digest")),
    )
    op.create_index("ix_catalog_fetch_catalog_fetched_on", "catalog_fetch", ["catalog", "fetched_on"])


def _charge() -> None:
    op.create_table(
        "charge",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("cost_picousd", sa.BigInteger(), nullable=False),
        sa.Column("reserved_picousd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("calls >= 0", name=op.f("ck_charge_calls_counted")),
        sa.CheckConstraint("cost_picousd >= 0", name=op.f("ck_charge_cost_not_negative")),
        sa.CheckConstraint("reserved_picousd >= 0", name=op.f("ck_charge_reserved_not_negative")),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_charge_llm_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_charge_run_id")),
        sa.PrimaryKeyConstraint("run_id", "llm_id", "purpose", name=op.f("pk_charge")),
    )


def _cluster_map() -> None:
    op.create_table(
        "cluster_map",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=False),
        sa.Column("embedder_key", sa.String(length=200), nullable=False),
        sa.Column("n_clusters", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("n_clusters >= 1", name=op.f("ck_cluster_map_clusters_counted")),
        sa.ForeignKeyConstraint(
            ["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_cluster_map_prompt_set_digest")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_cluster_map_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster_map")),
        sa.UniqueConstraint("digest", name=op.f("uq_cluster_map_digest")),
    )
    op.create_index(
        "ix_cluster_map_prompt_set_digest_embedder_key", "cluster_map", ["prompt_set_digest", "embedder_key"]
    )


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("held_since_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_lease_run_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def _outcome() -> None:
    op.create_table(
        "outcome",
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("protocol_id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("failure", sa.String(length=60), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_picousd", sa.BigInteger(), nullable=True),
        sa.Column("latency_s", sa.Float(precision=53), nullable=True),
        sa.Column("finish_reason", sa.String(length=60), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False),
        sa.Column("served_llm", sa.String(length=300), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("lease_number", sa.Integer(), nullable=False),
        sa.CheckConstraint("(score IS NULL) <> (failure IS NULL)", name=op.f("ck_outcome_score_or_failure")),
        sa.CheckConstraint("attempts >= 1", name=op.f("ck_outcome_attempts_counted")),
        sa.CheckConstraint("cost_picousd IS NULL OR cost_picousd >= 0", name=op.f("ck_outcome_cost_not_negative")),
        sa.CheckConstraint("input_tokens IS NULL OR input_tokens >= 0", name=op.f("ck_outcome_input_tokens_counted")),
        sa.CheckConstraint(
            "latency_s IS NULL OR (latency_s >= 0 AND latency_s < 1e9)", name=op.f("ck_outcome_latency_finite")
        ),
        sa.CheckConstraint(
            "output_tokens IS NULL OR output_tokens >= 0", name=op.f("ck_outcome_output_tokens_counted")
        ),
        sa.CheckConstraint(
            "score IS NULL OR (score >= 0 AND score <= 1)", name=op.f("ck_outcome_score_in_unit_interval")
        ),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_outcome_llm_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_outcome_prompt_id")),
        sa.ForeignKeyConstraint(["protocol_id"], ["protocol.id"], name=op.f("fk_outcome_protocol_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_outcome_run_id")),
        sa.PrimaryKeyConstraint("llm_id", "protocol_id", "prompt_id", name=op.f("pk_outcome")),
        sqlite_with_rowid=False,
    )


def _cluster_map_array() -> None:
    op.create_table(
        "cluster_map_array",
        sa.Column("cluster_map_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("contents", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_map_id"], ["cluster_map.id"], name=op.f("fk_cluster_map_array_cluster_map_id")
        ),
        sa.PrimaryKeyConstraint("cluster_map_id", "name", name=op.f("pk_cluster_map_array")),
    )


def _completion() -> None:
    op.create_table(
        "completion",
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("protocol_id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("is_truncated", sa.Boolean(), nullable=False),
        sa.Column("full_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["llm_id", "protocol_id", "prompt_id"],
            ["outcome.llm_id", "outcome.protocol_id", "outcome.prompt_id"],
            name=op.f("fk_completion_llm_id_protocol_id_prompt_id"),
        ),
        sa.PrimaryKeyConstraint("llm_id", "protocol_id", "prompt_id", name=op.f("pk_completion")),
    )


def _feature_vector() -> None:
    op.create_table(
        "feature_vector",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cluster_map_id", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("errors", sa.LargeBinary(), nullable=False),
        sa.Column("standard_errors", sa.LargeBinary(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.Column("input_tokens", sa.LargeBinary(), nullable=False),
        sa.Column("output_tokens", sa.LargeBinary(), nullable=False),
        sa.Column("coefficients", sa.LargeBinary(), nullable=False),
        sa.Column("n_prompts", sa.Integer(), nullable=False),
        sa.Column("n_scored", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "n_scored >= 0 AND n_scored <= n_prompts", name=op.f("ck_feature_vector_scored_within_asked")
        ),
        sa.ForeignKeyConstraint(["cluster_map_id"], ["cluster_map.id"], name=op.f("fk_feature_vector_cluster_map_id")),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_feature_vector_llm_id")),
        sa.ForeignKeyConstraint(
            ["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_feature_vector_prompt_set_digest")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_feature_vector_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feature_vector")),
    )
    op.create_index("ix_feature_vector_cluster_map_id_llm_id", "feature_vector", ["cluster_map_id", "llm_id"])


def _listing() -> None:
    op.create_table(
        "listing",
        sa.Column("fetch_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=True),
        sa.Column("llm_key", sa.String(length=400), nullable=True),
        sa.Column("refusal", sa.LargeBinary(), nullable=True),
        sa.Column("is_quarantined", sa.Boolean(), nullable=False),
        sa.Column("text_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["fetch_id"], ["catalog_fetch.id"], name=op.f("fk_listing_fetch_id")),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_listing_llm_id")),
        sa.ForeignKeyConstraint(["text_digest"], ["listing_text.digest"], name=op.f("fk_listing_text_digest")),
        sa.PrimaryKeyConstraint("fetch_id", "position", name=op.f("pk_listing")),
    )
    op.create_index("ix_listing_llm_id", "listing", ["llm_id"])


def _router() -> None:
    op.create_table(
        "router",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("publish_key", sa.String(length=200), nullable=False),
        sa.Column("parent_digest", sa.String(length=64), nullable=True),
        sa.Column("cluster_map_digest", sa.String(length=64), nullable=False),
        sa.Column("prompt_set_digest", sa.String(length=64), nullable=False),
        sa.Column("embedder_key", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("files_json", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mlflow_name", sa.String(length=200), nullable=True),
        sa.Column("mlflow_version", sa.Integer(), nullable=True),
        sa.Column("mlflow_run_id", sa.String(length=64), nullable=True),
        sa.CheckConstraint("(mlflow_name IS NULL) = (mlflow_version IS NULL)", name=op.f("ck_router_published_or_not")),
        sa.ForeignKeyConstraint(
            ["cluster_map_digest"], ["cluster_map.digest"], name=op.f("fk_router_cluster_map_digest")
        ),
        sa.ForeignKeyConstraint(["parent_digest"], ["router.digest"], name=op.f("fk_router_parent_digest")),
        sa.ForeignKeyConstraint(["prompt_set_digest"], ["prompt_set.digest"], name=op.f("fk_router_prompt_set_digest")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_router_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_router")),
        sa.UniqueConstraint("digest", name=op.f("uq_router_digest")),
        sa.UniqueConstraint("mlflow_name", "mlflow_version", name=op.f("uq_router_mlflow_name_mlflow_version")),
        sa.UniqueConstraint("publish_key", name=op.f("uq_router_publish_key")),
    )


def _alias() -> None:
    op.create_table(
        "alias",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("router_digest", sa.String(length=64), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name IN ('champion', 'challenger', 'previous')", name=op.f("ck_alias_name_known")),
        sa.ForeignKeyConstraint(["router_digest"], ["router.digest"], name=op.f("fk_alias_router_digest")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_alias")),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(length=20), nullable=False),
        sa.Column("router_digest", sa.String(length=64), nullable=False),
        sa.Column("ledger_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.LargeBinary(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("alias IN ('champion', 'challenger', 'previous')", name=op.f("ck_outbox_alias_known")),
        sa.ForeignKeyConstraint(["ledger_number"], ["ledger.number"], name=op.f("fk_outbox_ledger_number")),
        sa.ForeignKeyConstraint(["router_digest"], ["router.digest"], name=op.f("fk_outbox_router_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_done_at", "outbox", ["done_at"])


def _promotion() -> None:
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("router_digest", sa.String(length=64), nullable=False),
        sa.Column("expected_champion", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("gate_json", sa.Text(), nullable=False),
        sa.Column("gate_passed", sa.Boolean(), nullable=False),
        sa.Column("report_digest", sa.String(length=64), nullable=True),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.LargeBinary(), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind IN ('promotion', 'rollback')", name=op.f("ck_promotion_kind_known")),
        sa.CheckConstraint(
            "status IN ('requested', 'approved', 'rejected', 'superseded', 'applied', 'failed')",
            name=op.f("ck_promotion_status_known"),
        ),
        sa.ForeignKeyConstraint(["expected_champion"], ["router.digest"], name=op.f("fk_promotion_expected_champion")),
        sa.ForeignKeyConstraint(["router_digest"], ["router.digest"], name=op.f("fk_promotion_router_digest")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_promotion_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.create_index("ix_promotion_router_digest", "promotion", ["router_digest"])
    op.create_index("ix_promotion_status", "promotion", ["status"])


def _router_llm() -> None:
    op.create_table(
        "router_llm",
        sa.Column("router_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("llm_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["llm_id"], ["llm.id"], name=op.f("fk_router_llm_llm_id")),
        sa.ForeignKeyConstraint(["router_id"], ["router.id"], name=op.f("fk_router_llm_router_id")),
        sa.PrimaryKeyConstraint("router_id", "position", name=op.f("pk_router_llm")),
        sa.UniqueConstraint("router_id", "llm_id", name=op.f("uq_router_llm_router_id_llm_id")),
    )


def _router_metric() -> None:
    op.create_table(
        "router_metric",
        sa.Column("router_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["router_id"], ["router.id"], name=op.f("fk_router_metric_router_id")),
        sa.PrimaryKeyConstraint("router_id", "name", name=op.f("pk_router_metric")),
    )
