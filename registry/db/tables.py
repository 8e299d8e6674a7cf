"""The tables of the registry, their keys and the rules that the database itself enforces.

Every derived row points at what it was derived from, so that an auditor can walk from an alias to each single answer:
alias -> router -> feature vector, cluster map -> outcome -> prompt, LLM -> price, listing -> catalog fetch -> run.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from registry.db.columns import ArrayBlob, ExactDecimal, ExactText, PlainText, Usd, UtcDateTime
from registry.db.conventions import digest, index_of_known, metadata, one_of
from registry.db.prompt_tables import (
    asked_scope,
    embedding,
    prompt,
    prompt_order,
    prompt_order_member,
    prompt_set,
    prompt_set_member,
)
from registry.db.seals import sealed

VERSION_TABLE = "uniroute_alembic_version"
LLM_STATUSES = ("available", "withdrawn", "quarantined", "excluded")
RUN_STATUSES = ("active", "completed", "attention", "failed", "interrupted")
PROMOTION_STATUSES = ("requested", "approved", "rejected", "superseded", "applied", "failed")
ALIASES = ("champion", "challenger", "previous")
_JUDGED = "(judged_at IS NULL) = (judged_by IS NULL) AND (judged_at IS NULL OR is_unreadable)"

schema_file = Table(
    "schema_file",
    metadata,
    Column("name", String(100), primary_key=True),
    digest("sha256", nullable=False),
)

# --- runs -----------------------------------------------------------------------------------------------------------

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", PlainText(200), nullable=False, unique=True),
    Column("as_of", Date, nullable=False),
    Column("status", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_number", Integer, nullable=False),
    Column("settings_hash", String(64), nullable=False),
    Column("settings_json", Text, nullable=False),
    digest("prompt_set_digest", ForeignKey("prompt_set.digest")),
    Column("host", PlainText(255), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("verdict", ExactText),
    Column("summary_json", ExactText),
    one_of("status", RUN_STATUSES),
    CheckConstraint("attempt >= 1", name="attempt_counted"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
    Column("host", PlainText(255)),
    Column("pid", BigInteger),
    Column("held_since_at", UtcDateTime),
    Column("heartbeat_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
)

# --- catalogs and LLMs ----------------------------------------------------------------------------------------------

llm = Table(
    "llm",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", PlainText(400), nullable=False, unique=True),
    Column("endpoint", String(100), nullable=False),
    Column("llm_id", PlainText(300), nullable=False),
    Column("canonical_id", PlainText(300)),
    Column("name", PlainText(300), nullable=False),
    Column("catalog", String(100), nullable=False),
    Column("catalog_rank", Integer, nullable=False),
    Column("released_at", UtcDateTime),
    Column("deprecated_at", UtcDateTime),
    Column("first_seen_on", Date, nullable=False),
    Column("last_seen_on", Date, nullable=False),
    Column("context_tokens", BigInteger),
    Column("status", String(20), nullable=False),
    Column("status_reason", ExactText),
    Column("refusal", PlainText(300)),
    UniqueConstraint("endpoint", "llm_id"),
    one_of("status", LLM_STATUSES),
)

llm_price = Table(
    "llm_price",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("llm_id", Integer, ForeignKey("llm.id"), nullable=False),
    Column("since_on", Date, nullable=False),
    Column("catalog", String(100), nullable=False),
    Column("input_usd_per_mtok", ExactDecimal),
    Column("output_usd_per_mtok", ExactDecimal),
    Column("is_held", Boolean(create_constraint=False), nullable=False),
    UniqueConstraint("llm_id", "since_on", "is_held"),
    CheckConstraint("(input_usd_per_mtok IS NULL) = (output_usd_per_mtok IS NULL)", name="both_or_neither"),
)

catalog_fetch = Table(
    "catalog_fetch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("catalog", String(100), nullable=False),
    Column("fetched_on", Date, nullable=False),
    Column("digest", String(100), nullable=False),
    Column("is_complete", Boolean(create_constraint=False), nullable=False),
    Column("suspicion", PlainText(300)),
    Column("n_listings", Integer, nullable=False),
    Column("n_quarantined", Integer, nullable=False),
    Column("diff_json", Text, nullable=False),
    UniqueConstraint("run_id", "catalog", "digest"),
    Index(None, "catalog", "fetched_on"),
)

listing_text = Table(
    "listing_text",
    metadata,
    digest("digest", primary_key=True),
    Column("raw", ExactText, nullable=False),
)

listing = Table(
    "listing",
    metadata,
    Column("fetch_id", Integer, ForeignKey("catalog_fetch.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("llm_id", Integer, ForeignKey("llm.id")),
    Column("llm_key", PlainText(400)),
    Column("refusal", ExactText),
    Column("is_quarantined", Boolean(create_constraint=False), nullable=False),
    digest("text_digest", ForeignKey("listing_text.digest"), nullable=False),
    Index(None, "llm_id"),
)

# --- outcomes -------------------------------------------------------------------------------------------------------

protocol = Table(
    "protocol",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("grader", String(120), nullable=False),
    Column("sampling", String(2000), nullable=False),
    UniqueConstraint("grader", "sampling"),
)

outcome = Table(
    "outcome",
    metadata,
    Column("llm_id", Integer, ForeignKey("llm.id"), primary_key=True),
    Column("protocol_id", Integer, ForeignKey("protocol.id"), primary_key=True),
    Column("prompt_id", Integer, ForeignKey("prompt.id"), primary_key=True),
    Column("score", Float(53)),
    Column("failure", PlainText(60)),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_picousd", Usd),
    Column("latency_s", Float(53)),
    Column("finish_reason", PlainText(60)),
    Column("attempts", Integer, nullable=False),
    Column("usage_estimated", Boolean(create_constraint=False), nullable=False),
    Column("served_llm", PlainText(300)),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("lease_number", Integer, nullable=False),
    Column("downgrades", String(100), server_default="", nullable=False),
    # Of answers from before these two were measured they are unknown.
    Column("is_unreadable", Boolean(create_constraint=False)),
    Column("usage_flags", Text),
    # A regrade: the protocol under which the answer was asked and paid for, where its text is, and that of the grade
    # it replaces.
    Column("asked_protocol_id", Integer, ForeignKey("protocol.id")),
    Column("former_protocol_id", Integer, ForeignKey("protocol.id")),
    # The text was gone, so the grade that was replaced stays.
    Column("is_old_grade", Boolean(create_constraint=False), server_default=false(), nullable=False),
    Column("regraded_at", UtcDateTime),
    Column("judged_by", Text),  # no answer could be read, so that the score was 0 until this judge decided
    Column("judged_at", UtcDateTime),
    CheckConstraint("(score IS NULL) <> (failure IS NULL)", name="score_or_failure"),
    CheckConstraint("score IS NULL OR (score >= 0 AND score <= 1)", name="score_in_unit_interval"),
    CheckConstraint("input_tokens IS NULL OR input_tokens >= 0", name="input_tokens_counted"),
    CheckConstraint("output_tokens IS NULL OR output_tokens >= 0", name="output_tokens_counted"),
    CheckConstraint("cost_picousd IS NULL OR cost_picousd >= 0", name="cost_not_negative"),
    CheckConstraint("latency_s IS NULL OR (latency_s >= 0 AND latency_s < 1e9)", name="latency_finite"),
    CheckConstraint("attempts >= 1", name="attempts_counted"),
    CheckConstraint(
        "(regraded_at IS NULL) = (asked_protocol_id IS NULL) AND (regraded_at IS NULL) = (former_protocol_id IS NULL)",
        name="regraded_from_another",
    ),
    CheckConstraint(_JUDGED, name="judged_in_doubt"),
    # The failures of a night are counted every few seconds, among answers that are many times more.
    index_of_known("ix_outcome_failed", "run_id", "failure", "llm_id", known="failure"),
    # Every night asks what was regraded since the last one, and every gate what was judged since the champion.
    index_of_known("ix_outcome_regraded", "regraded_at", known="regraded_at"),
    index_of_known("ix_outcome_judged", "judged_at", known="judged_at"),
    # Clustered by key: the table of one LLM is one range of pages, and completions live elsewhere.
    sqlite_with_rowid=False,
)

completion = Table(
    "completion",
    metadata,
    Column("llm_id", Integer, primary_key=True),
    Column("protocol_id", Integer, primary_key=True),
    Column("prompt_id", Integer, primary_key=True),
    Column("text", ExactText, nullable=False),
    Column("is_truncated", Boolean(create_constraint=False), nullable=False),
    digest("full_digest", nullable=False),
    ForeignKeyConstraint(
        ["llm_id", "protocol_id", "prompt_id"], ["outcome.llm_id", "outcome.protocol_id", "outcome.prompt_id"]
    ),
)

charge = Table(
    "charge",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    Column("llm_id", Integer, ForeignKey("llm.id"), primary_key=True),
    Column("purpose", String(40), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("cost_picousd", Usd, nullable=False),
    Column("reserved_picousd", Usd, nullable=False),
    CheckConstraint("calls >= 0", name="calls_counted"),
    CheckConstraint("cost_picousd >= 0", name="cost_not_negative"),
    CheckConstraint("reserved_picousd >= 0", name="reserved_not_negative"),
)

# --- routers --------------------------------------------------------------------------------------------------------

cluster_map = Table(
    "cluster_map",
    metadata,
    Column("id", Integer, primary_key=True),
    digest("digest", nullable=False, unique=True),
    Column("kind", String(60), nullable=False),
    digest("prompt_set_digest", ForeignKey("prompt_set.digest"), nullable=False),
    Column("embedder_key", String(200), nullable=False),
    Column("n_clusters", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
    CheckConstraint("n_clusters >= 1", name="clusters_counted"),
    Index(None, "prompt_set_digest", "embedder_key"),
)

cluster_map_array = Table(
    "cluster_map_array",
    metadata,
    Column("cluster_map_id", Integer, ForeignKey("cluster_map.id"), primary_key=True),
    Column("name", String(60), primary_key=True),
    Column("contents", ArrayBlob, nullable=False),
)

feature_vector = Table(
    "feature_vector",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cluster_map_id", Integer, ForeignKey("cluster_map.id"), nullable=False),
    Column("llm_id", Integer, ForeignKey("llm.id"), nullable=False),
    digest("prompt_set_digest", ForeignKey("prompt_set.digest"), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    digest("digest", nullable=False),
    Column("errors", ArrayBlob, nullable=False),
    Column("standard_errors", ArrayBlob, nullable=False),
    Column("counts", ArrayBlob, nullable=False),
    Column("input_tokens", ArrayBlob, nullable=False),
    Column("output_tokens", ArrayBlob, nullable=False),
    Column("coefficients", ArrayBlob, nullable=False),
    Column("n_prompts", Integer, nullable=False),
    Column("n_scored", Integer, nullable=False),
    Column("input_token_ratio", Float(53), nullable=False, server_default="1"),
    # What was expected of the LLM's level before its answers; NULL when nothing was, as in all vectors of before.
    Column("level_mean", Float(53)),
    Column("level_variance", Float(53)),
    Column("prior_share", Float(53)),
    Column("overall", Float(53)),
    Column("overall_standard_error", Float(53)),
    CheckConstraint("n_scored >= 0 AND n_scored <= n_prompts", name="scored_within_asked"),
    Index(None, "cluster_map_id", "llm_id"),
)

router = Table(
    "router",
    metadata,
    Column("id", Integer, primary_key=True),
    digest("digest", nullable=False, unique=True),
    Column("publish_key", PlainText(200), nullable=False, unique=True),
    digest("parent_digest", ForeignKey("router.digest")),
    digest("cluster_map_digest", ForeignKey("cluster_map.digest"), nullable=False),
    digest("prompt_set_digest", ForeignKey("prompt_set.digest"), nullable=False),
    Column("embedder_key", String(200), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("files_json", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("mlflow_name", String(200)),
    Column("mlflow_version", Integer),
    Column("mlflow_run_id", String(64)),
    digest("folder_digest"),  # of the whole version folder; NULL when it was published before this was kept
    UniqueConstraint("mlflow_name", "mlflow_version"),
    CheckConstraint("(mlflow_name IS NULL) = (mlflow_version IS NULL)", name="published_or_not"),
)

router_llm = Table(
    "router_llm",
    metadata,
    Column("router_id", Integer, ForeignKey("router.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("llm_id", Integer, ForeignKey("llm.id"), nullable=False),
    UniqueConstraint("router_id", "llm_id"),
)

router_metric = Table(
    "router_metric",
    metadata,
    Column("router_id", Integer, ForeignKey("router.id"), primary_key=True),
    Column("name", String(120), primary_key=True),
    Column("value", Float(53), nullable=False),
)

alias = Table(
    "alias",
    metadata,
    Column("name", String(20), primary_key=True),
    digest("router_digest", ForeignKey("router.digest"), nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    one_of("name", ALIASES),
)

# --- promotions and the ledger --------------------------------------------------------------------------------------

promotion = Table(
    "promotion",
    metadata,
    Column("id", Integer, primary_key=True),
    digest("router_digest", ForeignKey("router.digest"), nullable=False),
    digest("expected_champion", ForeignKey("router.digest")),
    Column("kind", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("gate_json", Text, nullable=False),
    Column("gate_passed", Boolean(create_constraint=False), nullable=False),
    digest("report_digest"),
    Column("requested_by", PlainText(200), nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("decided_by", PlainText(200)),
    Column("decided_at", UtcDateTime),
    Column("reason", ExactText),
    Column("applied_at", UtcDateTime),
    Column("run_id", Integer, ForeignKey("run.id")),
    one_of("status", PROMOTION_STATUSES),
    one_of("kind", ("promotion", "rollback")),
    Index(None, "status"),
    Index(None, "router_digest"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event", String(100), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", ExactText, nullable=False),
    Column("payload_json", Text, nullable=False),
    digest("previous_hash", nullable=False),
    digest("hash", nullable=False, unique=True),
    Index(None, "subject"),
    Index(None, "at"),
)

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("number", Integer, nullable=False),
    digest("hash", nullable=False),
)

signed_head = Table(
    "signed_head",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    digest("hash", nullable=False),
    Column("signed_at", UtcDateTime, nullable=False),
    Column("signature_json", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alias", String(20), nullable=False),
    digest("router_digest", ForeignKey("router.digest"), nullable=False),
    Column("ledger_number", Integer, ForeignKey("ledger.number"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", ExactText),
    Column("done_at", UtcDateTime),
    one_of("alias", ALIASES),
    Index(None, "done_at"),
)

_SOURCES = (run, llm, llm_price, catalog_fetch, listing_text, listing, prompt, prompt_set, prompt_set_member, embedding)
_RESULTS = (protocol, outcome, completion, charge, cluster_map, cluster_map_array, feature_vector)
_VERSIONS = (router, router_llm, router_metric)
_ASKED = (prompt_order, prompt_order_member, asked_scope)
SEALED_TABLES = sealed(*_SOURCES, *_RESULTS, *_VERSIONS, *_ASKED, indexed=(listing_text, listing, outcome, completion))
"""The tables whose rows `registry.ledger.facts` puts under digests of the ledger when a night ends."""
