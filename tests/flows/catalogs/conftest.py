"""A web server that answers what a test wants, byte by byte if necessary."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.catalogs import Catalog, open_catalog

PRICES = {"prompt": "0.000001", "completion": "0.000002"}


def openrouter_row(llm_id: str = "maker/llm", **changes: object) -> dict[str, object]:
    return {"id": llm_id, "name": "An LLM", "created": 1_700_000_000, "pricing": PRICES} | changes


def openrouter_document(*rows: object) -> bytes:
    return json.dumps({"data": list(rows)}).encode()


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class DocumentServer:
    """Answer every request with the given parts, at once or byte by byte; `release` ends an answer that hangs.

    With `answer` set, a request gets what that returns for its query; for None the parts, or an error without any.
    """

    parts: list[bytes] = field(default_factory=list)
    hangs_after: bool = False
    drip_s: float = 0.0
    requests: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    answer: Callable[[str], bytes | None] | None = None

    def serves(self, body: bytes, **options: str) -> str:
        self.parts = [response(body, **options)]
        return self.url


@pytest.fixture
def server() -> Iterator[DocumentServer]:
    state = DocumentServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = b""
            while b"\r\n\r\n" not in request:
                received = self.request.recv(65536)
                if not received:
                    return
                request += received
            state.requests.append(request.decode("latin-1"))
            parts = state.parts
            if state.answer is not None:
                body = state.answer(request.split(b" ")[1].decode("latin-1").partition("?")[2])
                parts = [response(body)] if body is not None else parts or [response(b"", status="400 Bad Request")]
            for piece in (bytes([byte]) for byte in b"".join(parts)) if state.drip_s else parts:
                if state.drip_s and state.release.wait(state.drip_s):
                    return
                self.request.sendall(piece)
            if state.hangs_after:
                state.release.wait(30)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Log nothing: these tests are about clients that give up halfway."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_address[1]}/api/v1/models"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        state.release.set()
        listening.shutdown()
        thread.join()


@pytest.fixture
def catalog_of(tmp_path: Path) -> Callable[..., Catalog]:
    """Open a catalog over a document written to disk."""

    def open_over(document: bytes | str, kind: str = "openrouter", **options: object) -> Catalog:
        path = tmp_path / "document"
        path.write_bytes(document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document)
        return open_catalog(name="listed", kind=kind, location=str(path), endpoint="router", **options)

    return open_over
