"""Servers as processes of their own: started with a log, waited for by what they answer, and never left behind."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from tests.conftest import ROOT

Found = TypeVar("Found")


@dataclass(frozen=True)
class Memory:
    """What a server takes: how many processes, their resident bytes, and these with shared pages counted once."""

    processes: int
    resident_bytes: int
    proportional_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """Measure a process with all that it started."""
        found = []
        for one in family(pid):
            with suppress(psutil.NoSuchProcess):
                found.append(one.memory_full_info())
        return cls(len(found), sum(one.rss for one in found), sum(one.pss for one in found))


@dataclass(frozen=True)
class Server:
    """A process that runs in a session of its own."""

    name: str
    process: subprocess.Popen
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """Kill it with SIGKILL, and everything it started: workers put flows into process groups of their own."""
        while alive := [one for one in family(self.pid) if one.status() != psutil.STATUS_ZOMBIE]:
            for one in alive:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(alive, timeout=10)
            self.process.poll()

    def stop(self) -> None:
        """Ask it to stop, and kill it when it hangs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.kill()


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants; nothing when it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running(name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """Keep a process running; whatever happens, neither it nor anything it started is left."""
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    server = Server(name, process, log)
    started = {one.pid: one for one in family(process.pid)}
    try:
        yield server
        started |= {one.pid: one for one in family(process.pid)}
    finally:
        server.kill()
        process.wait()
        for orphan in started.values():
            with suppress(psutil.NoSuchProcess):
                orphan.kill()


def wait_until(condition: Callable[[], Found], what: str, *servers: Server, limit_s: float = 300.0) -> Found:
    """Ask until the answer is true, and give it; say what the servers wrote when that takes too long."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()):
        ended = [one for one in servers if one.process.poll() is not None]
        if ended or time.monotonic() > deadline_s:
            last_words = "\n".join(f"{one.name}: {one.last_words()}" for one in ended or servers)
            why = f"{ended[0].name} ended" if ended else f"not within {limit_s:.0f} s"
            raise AssertionError(f"{what} did not happen: {why}\n{last_words}")
        time.sleep(0.5)
    return found


def answers(url: str) -> bool:
    """Return whether a server answers a health check."""
    try:
        with urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
