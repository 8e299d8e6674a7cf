"""The embedded default endpoint: recorded answers of real LLMs behind a real OpenAI-compatible HTTP server."""

from __future__ import annotations

from flows.sandbox.process import Sandbox

__all__ = ["Sandbox"]
