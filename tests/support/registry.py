"""A real OCI registry on a free port, and something between it and a client that lies on demand."""

import asyncio
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import pytest

from lattice.aio import processes
from tests.support.command_line import free_port

START_TIMEOUT_S = 20.0

USER = "alice"
PASSWORD = "wonderland"
HTPASSWD = f"{USER}:$2b$04$qr.XgAGMrycY2ZPsSuU44Osxw32tA6uXfSDPKAUqvbnCuDZgZsej2\n"
"""The password, hashed as cheaply as it can be."""


@asynccontextmanager
async def docker_registry(directory: Path, *, login: bool = False) -> AsyncIterator[str]:
    """The address of a running registry; with ``login`` only for ``USER``.

    A missing binary skips the test, but fails it where ``CI`` is set.
    """
    if (binary := shutil.which("docker-registry")) is None:
        reason = "docker-registry is not installed; get it with: apt install docker-registry"
        if os.environ.get("CI"):
            raise RuntimeError(reason)
        pytest.skip(reason)
    address = f"127.0.0.1:{free_port()}"
    _configure(directory, address, login=login)
    with (directory / "log").open("wb") as output:
        process = await processes.spawn(
            binary,
            "serve",
            directory / "config.yml",
            output=output,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        await _wait_answering(address, process, directory / "log")
        yield address
    finally:
        await processes.end(process, grace_s=2)


def _configure(directory: Path, address: str, *, login: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    passwords = directory / "htpasswd"
    passwords.write_text(HTPASSWD)
    configuration = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": address, "secret": "test"},
    }
    if login:
        configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(passwords)}}
    # JSON is YAML.
    (directory / "config.yml").write_text(json.dumps(configuration))


async def _wait_answering(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient() as client:
        while True:
            assert process.returncode is None, f"see {log}"
            with suppress(httpx.TransportError):
                await client.get(f"http://{address}/v2/")
                return
            await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked of the front."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the front gives back; ``content-length`` may lie."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[Answer | None]]
"""Answers in the registry's place; or writes what it likes and closes; or None: pass it on."""


class Front:
    """Listens on a port of its own and passes requests on to ``upstream``, if there is one."""

    def __init__(self, upstream: str | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient
        self.behaviour: Behaviour | None = None
        self.requests: list[Request] = []
        self.connections = 0
        self.address = ""

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(trust_env=False)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        while self._handlers:
            await asyncio.wait(self._handlers)
        await self._client.aclose()

    def asked(self, method: str, part: str) -> list[Request]:
        """The requests of this method whose target has this part."""
        return [r for r in self.requests if r.method == method and part in r.target]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        self.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(await _read(reader), writer):
                    pass
        finally:
            writer.transport.abort()

    async def _exchange(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        self.requests.append(request)
        answer = await self.behaviour(request, writer) if self.behaviour else None
        if writer.is_closing():
            return False
        if answer is None:
            answer = await self._passed_on(request)
        headers = {"content-length": str(len(answer.body))} | answer.headers
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)
        await writer.drain()
        return int(headers["content-length"]) == len(answer.body)

    async def _passed_on(self, request: Request) -> Answer:
        assert self.upstream is not None
        response = await self._client.request(
            request.method,
            f"http://{self.upstream}{request.target}",
            # The host's name stays as it was, so that the registry sends the client to us.
            headers=request.headers,
            content=request.body,
        )
        headers = {
            key: value
            for key, value in response.headers.items()
            if key not in {"transfer-encoding", "connection"}
        }
        body = b"" if request.method == "HEAD" else response.content
        return Answer(
            response.status_code, body, headers if body else headers | {"content-length": "0"}
        )


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)
