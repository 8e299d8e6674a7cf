"""The only door to an LLM: one OpenAI-compatible endpoint behind limits that hold whatever it does."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from .completion import Completion


class BoundedEndpoint:
    """Ask one OpenAI-compatible endpoint, within limits of time, size, concurrency and patience.

    Use it as an asynchronous context manager, in one event loop. Retries happen here and nowhere else, and only for
    failures of the infrastructure: a wrong answer is an answer.

    Parameters
    ----------
    name
        What the settings call the endpoint.
    base_url
        Up to and including ``/v1``; ``https`` unless the host is this machine or `allow_insecure`.
    api_key
        Sent only to the host of `base_url`; None sends none.
    concurrency
        Calls in flight at most.
    timeout_s
        Deadline of one attempt, from connecting to the last byte, in seconds.
    max_attempts
        How often one call may be sent.
    max_tokens, temperature
        Asked of the LLM; part of `sampling`.
    max_response_bytes
        Longest response body that is read.
    requests_per_second
        Pace at which attempts start at most; None sets none.
    allow_insecure
        Whether ``http`` to another machine is allowed.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: SecretStr | None = None,
        *,
        concurrency: int = 16,
        timeout_s: float = 60.0,
        max_attempts: int = 4,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        max_response_bytes: int = 4 * 2**20,
        requests_per_second: float | None = None,
        allow_insecure: bool = False,
    ) -> None:
        self.name = name
        self.base_url = base_url
        self.concurrency = concurrency
        self.max_tokens = max_tokens
        self.sampling = json.dumps({"max_tokens": max_tokens, "temperature": temperature}, separators=(",", ":"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def complete(self, llm_id: str, prompt: str) -> Completion:
        """Ask the LLM one prompt.

        Parameters
        ----------
        llm_id
            As the endpoint calls it.
        prompt
            The user message, exactly.

        Returns
        -------
        Completion
            The answer, whatever it says.

        Raises
        ------
        RateLimited, TransientEndpointError, FatalEndpointError, MalformedCompletion
            When there is no answer; ``kind`` is a key of `FAILURE_RULES`. ``attempts`` is 0 when nothing was sent,
            because the endpoint's circuit is open (kind ``circuit_open``, or the endpoint-wide kind that opened it).
        """
        raise NotImplementedError
