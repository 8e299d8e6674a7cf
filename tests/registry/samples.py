"""Small, real rows for the tests of the registry."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from registry.llms import CatalogDiff, CatalogFetch, Listing, QuarantinedRow
from registry.outcomes import Outcome
from registry.prompts import Prompt, PromptSet
from registry.routers import ClusterMapRecord, RouterRecord
from registry.runs import Run
from registry.store import Registry
from routing.features import FeatureVector

NOW = datetime(2024, 9, 1, 2, 0, tzinfo=UTC)
TODAY = date(2024, 9, 1)
SAMPLING = '{"temperature":0}'
GRADERS = {"choice": "1"}


def start_night(registry: Registry, key: str = "night:2024-09-01:abc", **changes: Any) -> Run:
    wanted = {
        "as_of": TODAY,
        "settings_hash": "abc",
        "settings_json": "{}",
        "host": "host-a",
        "pid": 1,
        "now": NOW,
        "lease_s": 60.0,
    }
    return registry.runs.start(key, **(wanted | changes))


def listing(llm_id: str, price: str | None = "1", **changes: Any) -> Listing:
    amount = None if price is None else Decimal(price)
    wanted = {
        "catalog": "open",
        "endpoint": "router",
        "llm_id": llm_id,
        "canonical_id": None,
        "name": llm_id,
        "released_at": None,
        "context_tokens": 8192,
        "input_usd_per_mtok": amount,
        "output_usd_per_mtok": amount,
        "refusal": None,
        "deprecated_at": None,
        "raw": f'{{"id": "{llm_id}", "price": "{price}"}}',
    }
    return Listing(**(wanted | changes))


def fetch(
    listings: Sequence[Listing],
    digest: str,
    *,
    catalog: str = "open",
    is_complete: bool = True,
    quarantined: Sequence[QuarantinedRow] = (),
    **changes: Any,
) -> CatalogFetch:
    return CatalogFetch(catalog, tuple(listings), tuple(quarantined), is_complete, digest, **changes)


def record_fetch(registry: Registry, run: Run | int, fetched: CatalogFetch, on: date) -> CatalogDiff:
    """Record what one catalog listed, while every other catalog counts as unread; return what changed."""
    return registry.llms.record_fetches(run, [fetched], on)[0]


def know_llms(registry: Registry, run: Run, *llm_ids: str) -> tuple[str, ...]:
    """Make the registry know some priced LLMs; return their keys."""
    record_fetch(registry, run, fetch([listing(one) for one in llm_ids], "known"), TODAY)
    return tuple(f"router:{one}" for one in llm_ids)


def prompts(n: int, *, category: str | None = None) -> tuple[Prompt, ...]:
    return tuple(Prompt(f"p{i}", f"Question {i}?", "ABCD"[i % 4], "choice", category) for i in range(n))


def freeze(registry: Registry, n: int = 10) -> PromptSet:
    return registry.prompts.freeze("core", prompts(n))


def outcome(llm_key: str, prompt: Prompt, **changes: Any) -> Outcome:
    wanted = {
        "llm_key": llm_key,
        "prompt_digest": prompt.digest,
        "grader": "choice/1",
        "sampling": SAMPLING,
        "score": 1.0,
        "failure": None,
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": Decimal("0.00012"),
        "latency_s": 0.5,
        "finish_reason": "stop",
        "attempts": 1,
        "completion": "The answer is (A).",
        "usage_estimated": False,
        "asked_at": NOW + timedelta(minutes=1),
    }
    return Outcome(**(wanted | changes))


def failed(llm_key: str, prompt: Prompt, **changes: Any) -> Outcome:
    nothing = {"score": None, "failure": "rate_limited", "completion": None, "output_tokens": None, "cost_usd": None}
    return outcome(llm_key, prompt, **(nothing | changes))


def digest_of(number: int) -> str:
    return f"{number:064x}"


def cluster_map(prompt_set: PromptSet, number: int = 1, **changes: Any) -> ClusterMapRecord:
    wanted = {
        "digest": digest_of(number),
        "kind": "kmeans/1",
        "prompt_set_digest": prompt_set.digest,
        "embedder_key": "hashing@1/8",
        "n_clusters": 2,
        "seed": 0,
        "arrays": {"centers": np.arange(16, dtype=np.float32).reshape(2, 8)},
    }
    return ClusterMapRecord(**(wanted | changes))


def vector(error: float = 0.25) -> FeatureVector:
    values = np.array([error, 1 - error], dtype=np.float32)
    return FeatureVector(
        errors=values,
        standard_errors=values / 10,
        counts=np.array([4, 6], dtype=np.int64),
        input_tokens=values * 100,
        output_tokens=values * 10,
        coefficients=np.array([0.5, -3.0, 2.0], dtype=np.float32),
        n_prompts=12,
        n_scored=10,
        input_token_ratio=1 + error,
    )


def router(run: Run, prompt_set: PromptSet, number: int, llm_keys: Sequence[str], **changes: Any) -> RouterRecord:
    wanted = {
        "digest": digest_of(number),
        "publish_key": f"key-{number}",
        "parent_digest": None,
        "cluster_map_digest": digest_of(1),
        "prompt_set_digest": prompt_set.digest,
        "embedder_key": "hashing@1/8",
        "run_id": run.id,
        "llm_keys": tuple(llm_keys),
        "metrics": {"area": 0.5},
        "files_json": "{}",
        "created_at": NOW,
    }
    return RouterRecord(**(wanted | changes))


def save_routers(registry: Registry, run: Run, n: int = 3) -> tuple[str, ...]:
    """Store some routers; return their digests."""
    keys = know_llms(registry, run, "a", "b")
    prompt_set = freeze(registry)
    registry.routers.save_cluster_map(cluster_map(prompt_set))
    return tuple(registry.routers.save(router(run, prompt_set, 100 + i, keys)).digest for i in range(n))
