"""Start and stop the sandbox server as a child process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from flows.errors import PrerequisiteError

if TYPE_CHECKING:
    from registry.prompts import Prompt

_N_NIGHT, _LONGEST = 450, 600
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 5.0


class Sandbox:
    """Serve the recorded answers of real LLMs on loopback for as long as the ``with`` block lasts.

    Parameters
    ----------
    latency_s
        How long every completion is delayed, in seconds.
    port
        Where to listen on 127.0.0.1; 0 takes a free one.
    """

    name = "sandbox"

    def __init__(self, latency_s: float = 0.0, port: int = 0) -> None:
        self.latency_s = latency_s
        self.port = port
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._address: dict[str, str] = {}

    @property
    def base_url(self) -> str:
        """Where completions are served, up to and including ``/v1``."""
        return self._address["base_url"]

    @property
    def catalog_url(self) -> str:
        """Where the catalog is served, in OpenRouter's format."""
        return self._address["catalog_url"]

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises
        ------
        PrerequisiteError
            It does not come up; the message holds what it wrote to its error stream.
        """
        command = [sys.executable, "-m", "flows.sandbox.server", "--port", str(self.port)]
        command += ["--latency-s", str(self.latency_s)]
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        # A session of its own: Ctrl-C reaches the night only, which still needs the server for the calls in flight.
        self._child = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._address = self._read_address(self._child)
        return self

    def stop(self) -> None:
        """Stop the server; do nothing when it is not running."""
        child, self._child = self._child, None
        if child is not None:
            child.terminate()
            try:
                child.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    @staticmethod
    def prompts() -> tuple[Prompt, ...]:
        """Return the 1,500 recorded prompts, whose text is the exact user message that the server knows."""
        from flows.sandbox.recording import read_prompts
        from registry.prompts import Prompt

        return tuple(
            Prompt(
                prompt_id=row.prompt_id, text=row.text, reference=row.reference, grader="choice", category=row.category
            )
            for row in read_prompts()
        )

    @classmethod
    def night_prompts(cls) -> tuple[Prompt, ...]:
        """Return the prompts of nights on the sandbox: every so many of the shorter ones, so that a night is short."""
        shorter = [one for one in cls.prompts() if len(one.text) <= _LONGEST]
        return tuple(shorter[place * len(shorter) // _N_NIGHT] for place in range(_N_NIGHT))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_address(self, child: subprocess.Popen[bytes]) -> dict[str, str]:
        first_line: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=lambda: first_line.put(child.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        try:
            line = first_line.get(timeout=_START_LIMIT_S)
        except queue.Empty:
            line = b""
        if line:
            return json.loads(line)
        child.kill()
        exit_code = child.wait()
        said = self._said()
        self.stop()
        raise PrerequisiteError(
            f"the sandbox server did not start (exit code {exit_code}): {said}",
            unchanged="nothing was called",
            hint="choose another port, or 0 for a free one" if exit_code == os.EX_TEMPFAIL else "",
        )

    def _said(self) -> str:
        if self._stderr is None:
            return "nothing on its error stream"
        self._stderr.seek(0)
        return self._stderr.read()[-2000:].decode("utf-8", "replace").strip() or "nothing on its error stream"
