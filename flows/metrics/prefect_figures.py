"""What the Prefect server says of the nights, as samples; asked over HTTP, because Prefect takes long to import."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from flows.errors import FlowError
from flows.metrics.listed import Samples
from flows.text import sanitize
from flows.urls import http_url

FLOW = "night"
DEPLOYMENT = "nightly"
_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20


def note_prefect(samples: Samples) -> None:
    """Note whether nights run, wait, and have a worker; nothing when no server is configured.

    Raises
    ------
    FlowError
        The server did not answer, or not as Prefect's does.
    """
    api_url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if http_url(api_url) is None:
        return
    samples.put("prefect_up", 0)
    deployment = _asked(api_url, f"/deployments/name/{FLOW}/{DEPLOYMENT}")
    late, running = (_count(api_url, name) for name in ("Late", "Running"))
    pool = _asked(api_url, f"/work_pools/{deployment['work_pool_name']}") if deployment else None
    samples.put("prefect_up", 1)
    samples.put("prefect_nights_late", late)
    samples.put("prefect_nights_running", running)
    if pool is not None:
        samples.put("prefect_pool_ready", pool.get("status") == "READY", sanitize(pool["name"]))


def _count(api_url: str, state: str) -> int:
    """Count the flow runs of the night in one state."""
    wanted = {"flows": {"name": {"any_": [FLOW]}}, "flow_runs": {"state": {"name": {"any_": [state]}}}}
    found = _asked(api_url, "/flow_runs/count", wanted)
    return int(found or 0)


def _asked(api_url: str, path: str, content: dict[str, Any] | None = None) -> Any:
    """Ask the server; None when it does not know the thing."""
    body = None if content is None else json.dumps(content).encode()
    request = Request(f"{api_url}{path}", data=body, headers={"Content-Type": "application/json", **_credentials()})  # noqa: S310
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - only http and https get here
            return json.loads(answer.read(_MOST_BYTES))
    except HTTPError as error:
        if error.code == 404:
            return None
        raise FlowError(f"The Prefect server answered with HTTP {error.code}.", hint="check PREFECT_API_URL") from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise FlowError(f"The Prefect server did not answer: {reason}.", hint="check PREFECT_API_URL") from None


def _credentials() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
