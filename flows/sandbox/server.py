"""Serve recorded answers over HTTP: ``python -m flows.sandbox.server --port 0``.

One line of JSON on standard output says where, as soon as the server answers. With a pipe as its standard input it
ends with the process that holds the other end; started from a terminal or a service it serves until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.sandbox.answers import RecordedAnswers, UnknownLLM, UnknownPrompt

_MAX_BODY_BYTES = 2**20
_PARENT_CHECK_S = 1.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _RefusedRequest(Exception):
    """A request that is answered with an error object."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps(
            {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
        ).encode()


class SandboxApp:
    """An ASGI application over recorded answers.

    Completions, asked for tens of thousands of times a night, are answered here without the framework, which would
    take half of the time; everything else goes through Starlette.

    Parameters
    ----------
    answers
        The recorded answers.
    latency_s
        How long every completion is delayed, in seconds.
    """

    def __init__(self, answers: RecordedAnswers, latency_s: float) -> None:
        self._answers = answers
        self._latency_s = latency_s
        self._others = Starlette(
            routes=[
                Route("/v1/models", _document(answers.llm_list())),
                Route("/api/v1/models", _document(answers.catalog())),
            ]
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == "/v1/chat/completions" and scope["method"] == "POST":
            await self._complete(receive, send)
        else:
            await self._others(scope, receive, send)

    async def _complete(self, receive: Receive, send: Send) -> None:
        try:
            llm_id, text = _parse(await _read_body(receive))
            status, body = 200, self._find(llm_id, text)
        except _RefusedRequest as refusal:
            status, body = refusal.status, refusal.body
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _find(self, llm_id: str, text: str) -> bytes:
        try:
            return self._answers.completion(llm_id, text)
        except UnknownLLM:
            raise _RefusedRequest(404, "model_not_found", "no answers of this LLM are recorded") from None
        except UnknownPrompt:
            raise _RefusedRequest(
                400, "unknown_prompt", "the sandbox knows the answers to its recorded prompts only"
            ) from None


def _document(body: bytes) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return serve


async def _read_body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > _MAX_BODY_BYTES:
            raise _RefusedRequest(413, "too_large", "the request is longer than 1 MiB")
        message = await receive()
        body += message.get("body", b"")
    return body


def _parse(body: bytes) -> tuple[str, str]:
    try:
        request = json.loads(body)
        llm_id, text, streams = request["model"], request["messages"][-1]["content"], request.get("stream", False)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _RefusedRequest(400, "bad_request", "the body is not a chat completion request") from None
    if not isinstance(llm_id, str) or not isinstance(text, str):
        raise _RefusedRequest(400, "bad_request", "the model and the content of the last message must be strings")
    if streams:
        raise _RefusedRequest(400, "unsupported_parameter", "recorded answers are not streamed")
    return llm_id, text


def _announce_as_line(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class _AnnouncingServer(uvicorn.Server):
    """Announces where it serves, once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[dict[str, object]], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            host, port = sockets[0].getsockname()[:2]
            origin = f"http://{host}:{port}"
            facts = {"base_url": f"{origin}/v1", "catalog_url": f"{origin}/api/v1/models", "pid": os.getpid()}
            self._announce(facts)


def _stop_with_parent(server: uvicorn.Server) -> None:
    parent = os.getppid()
    # The parent is checked too, because a process that it forked may hold the other end of the pipe open.
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], _PARENT_CHECK_S)
        if readable and not os.read(0, 4096):
            break
    server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        sys.stderr.write(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for a free one\n"
        )
        raise SystemExit(os.EX_TEMPFAIL) from None
    return listener


def main(
    arguments: Sequence[str] | None = None, announce: Callable[[dict[str, object]], None] = _announce_as_line
) -> None:
    """Serve until the parent ends or a signal arrives.

    Parameters
    ----------
    arguments
        The command line; that of this process when None.
    announce
        Receives the addresses once the server runs; writes them as a line of JSON to standard output by default.
    """
    parser = argparse.ArgumentParser(prog="python -m flows.sandbox.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-s", type=float, default=0.0, help="how long every completion is delayed")
    options = parser.parse_args(arguments)
    listener = _listen(options.host, options.port)
    config = uvicorn.Config(
        SandboxApp(RecordedAnswers(), options.latency_s),
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _AnnouncingServer(config, announce)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
