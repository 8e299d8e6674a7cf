"""An endpoint that misbehaves at the byte level: raw TCP, because HTTP servers refuse to be wrong in interesting ways.

The LLM id is a script of comma-separated steps, one per request for the same (LLM, prompt); the last one repeats:
``429,429,ok``. A name may precede it: ``cheap/500,ok``. `FakeEndpoint.scripts` assigns scripts to plain ids. For
requests without an LLM the first segment of the path is the script (`FakeEndpoint.url`).

Steps: ``ok``; an HTTP status (``503``), with ``@`` and a Retry-After (``429@2``) or ``!`` and an error code
(``400!context_length_exceeded``, ``200!429`` for an error inside a 200); or a name of `STEPS`.
"""

import asyncio
import email.utils
import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

_MAX_FLOOD_BYTES = 64 * 2**20


@dataclass
class FakeRequest:
    """A request that was received."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict = field(default_factory=dict)

    @property
    def llm_id(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def prompt(self) -> str:
        messages = self.body.get("messages") or [{"content": ""}]
        content = messages[-1]["content"]
        # Anthropic's clients send every text as a list of parts.
        return content if isinstance(content, str) else "".join(part["text"] for part in content)


@dataclass(frozen=True)
class FakeReply:
    """A whole response: a JSON document, or bytes as they are."""

    document: object
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.document if isinstance(self.document, bytes) else json.dumps(self.document).encode()


def completion(request: FakeRequest, text: object, **changes) -> dict:
    """Build the document of a chat completion; `changes` replace its members."""
    document = {
        "id": "fake-1",
        "object": "chat.completion",
        "created": 1,
        "model": request.llm_id,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }
    return {**document, **changes}


class FakeEndpoint:
    """Serve on loopback from a thread of its own until the ``with`` block ends.

    Parameters
    ----------
    answer
        Gives the text of an ``ok`` completion from the LLM id and the prompt.
    scripts
        Scripts by LLM id; ids that are not here are scripts themselves.
    documents
        JSON documents served to GET requests, by path.
    latency_s
        Before every response.
    drip_s
        Between two bytes of ``drip``.
    choose
        Gives the step of a request, None to follow its script.

    Attributes
    ----------
    replies
        Gives the response to a request by LLM id, before any script; None to follow the script.
    """

    def __init__(
        self,
        answer: Callable[[str, str], str] = lambda llm_id, prompt: "The answer is (A).",
        *,
        scripts: Mapping[str, str] | None = None,
        documents: Mapping[str, object] | None = None,
        latency_s: float = 0.0,
        drip_s: float = 0.05,
        choose: Callable[[FakeRequest], str | None] = lambda request: None,
    ):
        self.answer = answer
        self.scripts = dict(scripts or {})
        self.documents = dict(documents or {})
        self.latency_s = latency_s
        self.drip_s = drip_s
        self.choose = choose
        self.replies: dict[str, Callable[[FakeRequest], FakeReply | None]] = {}
        self.calls: Counter[str] = Counter()
        self.calls_per_prompt: Counter[tuple[str, str]] = Counter()
        self.requests: list[FakeRequest] = []
        self.bytes_sent = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.port = 0
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def url(self, script: str, path: str) -> str:
        """Return the address of a GET request that follows a script, for example of a catalog."""
        return f"http://127.0.0.1:{self.port}/{quote(script, safe='')}{path}"

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self):
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        tasks: set[asyncio.Task] = set()

        async def connected(reader, writer):
            task = asyncio.current_task()
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            try:
                await self._talk(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader, writer):
        while (request := await _receive(reader)) is not None:
            with self._lock:
                self.in_flight += 1
                self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            try:
                step = self._step(request)
                await asyncio.sleep(self.latency_s)
                reply = self.replies.get(request.llm_id, lambda request: None)(request)
                if reply is None:
                    keeps_open = await self._play(step, request, writer)
                else:
                    keeps_open = await self._reply(reply, writer)
            finally:
                with self._lock:
                    self.in_flight -= 1
            if not keeps_open:
                return

    def _step(self, request: FakeRequest) -> str:
        with self._lock:
            self.requests.append(request)
            if request.body:
                key = (request.llm_id, request.prompt)
                script = self.scripts.get(request.llm_id, request.llm_id.rpartition("/")[2])
            else:
                script, request.path = _script_of(request.path)
                key = (script, request.path)
            done = self.calls_per_prompt[key]
            self.calls[key[0]] += 1
            self.calls_per_prompt[key] += 1
        steps = script.split(",")
        return self.choose(request) or steps[min(done, len(steps) - 1)]

    async def _reply(self, reply: FakeReply, writer) -> bool:
        options = {"content_type": reply.content_type, "headers": reply.headers}
        await self.send(writer, reply.body, status=reply.status, **options)
        return True

    async def _play(self, step: str, request: FakeRequest, writer) -> bool:
        if step in STEPS:
            return await STEPS[step](self, request, writer) is not False
        status, _, code = step.partition("!")
        status, _, retry_after = status.partition("@")
        headers = {"Retry-After": _retry_after(retry_after)} if retry_after else {}
        # Whatever refuses a key may echo it.
        message = f"refused {request.headers.get('authorization', '')}"
        error = {"error": {"message": message, "type": "error", "code": int(code) if code.isdigit() else code or None}}
        await self.send(writer, json.dumps(error).encode(), status=int(status), headers=headers)
        return True

    async def send(
        self, writer, body: bytes, *, status=200, content_type="application/json", headers=None, length=None
    ):
        head = {"Content-Type": content_type, "Content-Length": len(body) if length is None else length}
        lines = [f"HTTP/1.1 {status} Fake", *(f"{k}: {v}" for k, v in {**head, **(headers or {})}.items())]
        await self.write(writer, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def write(self, writer, data: bytes):
        writer.write(data)
        await writer.drain()
        self.bytes_sent += len(data)

    async def send_document(self, writer, document: object):
        await self.send(writer, json.dumps(document).encode())


async def _receive(reader) -> FakeRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return FakeRequest(method, path, headers, json.loads(body) if body else {})


def _script_of(path: str) -> tuple[str, str]:
    first, _, rest = path.lstrip("/").partition("/")
    script = unquote(first)
    is_script = all(step in STEPS or step[:3].isdigit() for step in script.split(","))
    return (script, f"/{rest}") if is_script else ("ok", path)


def _retry_after(text: str) -> str:
    return email.utils.formatdate(time.time() + 2, usegmt=True) if text == "date" else text


Step = Callable[[FakeEndpoint, FakeRequest, asyncio.StreamWriter], Awaitable[bool | None]]
STEPS: dict[str, Step] = {}


def _step(name: str):
    def register(play: Step) -> Step:
        STEPS[name] = play
        return play

    return register


def _answers(name: str, build: Callable[[FakeRequest], dict]):
    """Register a step that sends a whole document."""

    async def play(fake, request, writer):
        await fake.send_document(writer, build(request))

    STEPS[name] = play


def _sends(name: str, body: bytes, **options):
    """Register a step that sends bytes as they are."""

    async def play(fake, request, writer):
        await fake.send(writer, body, **options)

    STEPS[name] = play


@_step("ok")
async def _ok(fake, request, writer):
    if request.method == "GET":
        document = fake.documents.get(request.path, {"object": "list", "data": [{"id": key} for key in fake.scripts]})
        await fake.send_document(writer, document)
    else:
        await fake.send_document(writer, completion(request, fake.answer(request.llm_id, request.prompt)))


def _choice(content: object, finish_reason: object = "stop", **message) -> list[dict]:
    return [
        {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    ]


_LONG_JSON = b'{"choices":[{"message":{"content":"' + b"x" * 200

_answers("nochoices", lambda r: completion(r, "", choices=[]))
_answers("nullchoices", lambda r: completion(r, "", choices=None))
_answers("nomessage", lambda r: completion(r, "", choices=[{"index": 0, "finish_reason": "stop"}]))
_answers("content-none", lambda r: completion(r, "", usage={"prompt_tokens": 12, "completion_tokens": 0}))
_answers("content-reasoned", lambda r: completion(r, "", choices=_choice(None, reasoning_content="Hm. (A)?")))
_answers("content-thought", lambda r: completion(r, "<think>Hm. (A)?</think>"))
_answers("interrupted", lambda r: completion(r, "", choices=_choice("The answer is (A", "error")))
_answers("content-null", lambda r: completion(r, None))
_answers("content-null-unfinished", lambda r: completion(r, "", choices=_choice(None, None)))
_answers("content-empty", lambda r: completion(r, ""))
_answers("content-int", lambda r: completion(r, 42))
_answers(
    "content-parts",
    lambda r: completion(r, [{"type": "text", "text": "The answer"}, {"type": "text", "text": " is (B)."}]),
)
_answers("content-image", lambda r: completion(r, [{"type": "image_url", "image_url": {"url": "x"}}]))
_answers("content-tools", lambda r: completion(r, "", choices=_choice(None, "tool_calls", tool_calls=[{"id": "1"}])))
_answers("content-odd", lambda r: completion(r, "a\0b\ud800c é"))
_answers("filtered", lambda r: completion(r, "", choices=_choice(None, "content_filter")))
_answers("length", lambda r: completion(r, "", choices=_choice("half an ans", "length")))
_answers("finish-int", lambda r: completion(r, "", choices=_choice("x", 7)))
_answers("choice-error", lambda r: completion(r, "", choices=[{**_choice("ha", "error")[0], "error": {"code": 502}}]))
_answers("usage-missing", lambda r: {k: v for k, v in completion(r, "x" * 40).items() if k != "usage"})
_answers("usage-negative", lambda r: completion(r, "x" * 40, usage={"prompt_tokens": -5, "completion_tokens": 3}))
_answers("usage-absurd", lambda r: completion(r, "x" * 40, usage={"prompt_tokens": 1, "completion_tokens": 10**12}))
_answers("usage-float", lambda r: completion(r, "x" * 40, usage={"prompt_tokens": 1.5, "completion_tokens": True}))
_answers("othermodel", lambda r: completion(r, "The answer is (A).", model="another-llm"))
_answers(
    "flagged", lambda r: {"error": {"message": "no", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "y"}}}
)

_sends("nan", b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":NaN}}')
_sends("dupkeys", b'{"choices":[{"message":{"content":"x","content":"y"},"finish_reason":"stop"}]}')
_sends("deep", b"[" * 200_000 + b"]" * 200_000)
_sends("garbled", b'{"choices": [{"message": {"content": "ha')
_sends("list", b"[]")
_sends("latin1", '{"choices": "é"}'.encode("latin-1"))
_sends("empty", b"")
_sends("204", b"", status=204)
_sends("html", b"<html><body>Welcome to the hotel network</body></html>", content_type="text/html")
_sends("text", b"all fine", content_type="text/plain")
_sends("json-as-text", json.dumps(completion(FakeRequest("", "", {}), "x")).encode(), content_type="text/plain")
_sends("html-502", b"<html>Bad gateway</html>", status=502, content_type="text/html")
_sends("sse", b'data: {"choices":[{"delta":{"content":"ha"}}]}\n\n', content_type="text/event-stream")
_sends("redirect", b"", status=302, headers={"Location": "http://169.254.169.254/latest/meta-data?token=x"})
_sends("gzipbomb", gzip.compress(b"x" * 2**24), headers={"Content-Encoding": "gzip"})
_sends("biglength", b"{", length=10**11)


def _refuses(name: str, parameter: str, error: dict):
    async def play(fake, request, writer):
        if parameter in request.body:
            await fake.send(writer, json.dumps({"error": error}).encode(), status=400)
        else:
            await _ok(fake, request, writer)

    STEPS[name] = play


_refuses(
    "no-temperature",
    "temperature",
    {"code": "unsupported_value", "param": "temperature", "message": "Only the default (1)"},
)
_refuses(
    "no-max-tokens",
    "max_tokens",
    {"code": None, "message": "'max_tokens' is not supported: use 'max_completion_tokens'"},
)
_refuses("no-messages", "messages", {"code": "unsupported_parameter", "param": "messages", "message": "unsupported"})


@_step("too-long")
async def _too_long(fake, request, writer):
    error = {"error": {"message": "This LLM's maximum context length is 4096 tokens", "code": 400}}
    await fake.send(writer, json.dumps(error).encode(), status=400)


@_step("redirect-with-key")
async def _redirect_with_key(fake, request, writer):
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    await fake.send(writer, b"", status=307, headers={"Location": f"https://{key}.example/"})


@_step("hang")
async def _hang(fake, request, writer):
    await asyncio.Event().wait()


@_step("drip")
async def _drip(fake, request, writer):
    body = json.dumps(completion(request, "slow")).encode()
    await fake.send(writer, b"", length=len(body))
    for position in range(len(body)):
        await fake.write(writer, body[position : position + 1])
        await asyncio.sleep(fake.drip_s)


@_step("drip-head")
async def _drip_head(fake, request, writer):
    for character in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + b"X: y\r\n" * 1000:
        await fake.write(writer, bytes([character]))
        await asyncio.sleep(fake.drip_s)


@_step("big")
async def _big(fake, request, writer):
    await fake.write(writer, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    for _ in range(_MAX_FLOOD_BYTES // 2**16):
        await fake.write(writer, chunk)
    return False


@_step("headers")
async def _headers(fake, request, writer):
    await fake.write(writer, b"HTTP/1.1 200 OK\r\n")
    for _ in range(_MAX_FLOOD_BYTES // 2**12):
        await fake.write(writer, b"X-Flood: " + b"y" * (2**12 - 11) + b"\r\n")
    return False


@_step("long-headers")
async def _long_headers(fake, request, writer):
    flood = {f"X-{number}": "y" * 1000 for number in range(50)}
    await fake.send(writer, json.dumps(completion(request, "x")).encode(), headers=flood)


@_step("trunc")
async def _trunc(fake, request, writer):
    await fake.send(writer, _LONG_JSON, length=10_000)
    return False


@_step("close")
async def _close(fake, request, writer):
    return False


@_step("garbage")
async def _garbage(fake, request, writer):
    await fake.write(writer, b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    return False


@_step("reset")
async def _reset(fake, request, writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False
