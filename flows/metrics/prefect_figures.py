"""What the Prefect server reports about nights, as samples; read over HTTP, because Prefect takes long to import."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from flows.errors import FlowError
from flows.metrics.listed import Samples
from flows.text import sanitize
from flows.urls import http_url

if TYPE_CHECKING:
    from httpx2 import Client

FLOW = "night"
DEPLOYMENT = "nightly"
_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
_HINT = "check PREFECT_API_URL"


def note_prefect(samples: Samples) -> None:
    """Note whether nights run, wait, and have a worker; nothing when no server is configured.

    Raises
    ------
    FlowError
        The URL is malformed, or the server did not answer as a Prefect server does.
    """
    api_url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not api_url:
        return
    samples.put("prefect_up", 0)
    if http_url(api_url) is None:
        raise FlowError("PREFECT_API_URL is not an http:// or https:// URL.", hint=_HINT)
    # Imported only here: most readings have no server to ask.
    import httpx2

    try:
        with httpx2.Client(timeout=_TIMEOUT_S, headers=_credentials(), follow_redirects=True) as client:
            deployment = _fetched(client, f"{api_url}/deployments/name/{FLOW}/{DEPLOYMENT}")
            late, running = (_count(client, api_url, state) for state in ("Late", "Running"))
            pool = _fetched(client, f"{api_url}/work_pools/{deployment['work_pool_name']}") if deployment else None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise FlowError(f"The Prefect server did not answer: {type(error).__name__}.", hint=_HINT) from None
    samples.put("prefect_up", 1)
    samples.put("prefect_nights_late", late)
    samples.put("prefect_nights_running", running)
    if pool is not None:
        samples.put("prefect_pool_ready", pool.get("status") == "READY", sanitize(pool["name"]))


def _count(client: Client, api_url: str, state: str) -> int:
    """Count the night's flow runs in one state."""
    filters = {"flows": {"name": {"any_": [FLOW]}}, "flow_runs": {"state": {"name": {"any_": [state]}}}}
    return int(_fetched(client, f"{api_url}/flow_runs/count", filters) or 0)


def _fetched(client: Client, url: str, content: dict[str, Any] | None = None) -> Any:
    """Return the server's answer, read up to a limit; None when there is no such thing."""
    with client.stream("GET" if content is None else "POST", url, json=content) as response:
        if response.status_code == 404:
            return None
        if not response.is_success:
            raise FlowError(f"The Prefect server answered with HTTP {response.status_code}.", hint=_HINT)
        return json.loads(next(response.iter_bytes(_MOST_BYTES), b""))


def _credentials() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
