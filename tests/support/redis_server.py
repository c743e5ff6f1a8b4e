"""A real redis-server on a free port, in memory only, that a test may freeze and restart."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

START_TIMEOUT_S = 10.0


class RedisServer:
    """One server process. It keeps its port when it is stopped and started again."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Return once the server answers."""
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError(f"redis-server did not start on port {self.port}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Kill the server, and what it held with it. Safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flush(self) -> None:
        """Forget all data."""
        self.command("FLUSHALL")

    def command(self, line: str) -> str:
        """Send one command as a person would type it, and return the reply's beginning."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.recv(4096).decode()

    @property
    def connections(self) -> int:
        """How many clients are connected, the one that asks left out."""
        found = re.search(r"connected_clients:([0-9]+)", self.command("INFO clients"))
        assert found is not None
        return int(found[1]) - 1

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server accepts connections and says nothing."""
        assert self._process is not None
        with frozen(self._process.pid):
            yield

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith("+PONG")
        except OSError:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A running server; a missing binary skips the test, but fails it where ``CI`` is set."""
    binary = shutil.which("redis-server")
    if binary is None:
        reason = "redis-server is not installed; get it with: apt install redis-server"
        if os.environ.get("CI"):
            raise RuntimeError(reason)
        pytest.skip(reason)
    server = RedisServer(binary).start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Hold a process still. The signal alone returns while some of its threads still run."""
    os.kill(pid, signal.SIGSTOP)
    try:
        give_up = time.monotonic() + START_TIMEOUT_S
        while not _all_stopped(pid):
            assert time.monotonic() < give_up, f"process {pid} does not stop"
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _all_stopped(pid: int) -> bool:
    states = [
        # After the command's name in parentheses, which may hold anything.
        stat.read_text().rpartition(")")[2].split()[0]
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return all(state == "T" for state in states)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
