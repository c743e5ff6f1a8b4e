"""``lattice dev`` as its user has it: a process, files that change, and HTTP all the while."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from lattice.bus.server import NatsServer
from tests.support import command_line, wat
from tests.support.children import arguments, descendants, has_ended
from tests.support.command_line import LATTICE
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"

pytestmark = pytest.mark.timeout(180)

EVENT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 40.0

PROJECT = """
[actor]
name = "{name}"
language = "other"
kind = "http"
abi = "wapc"
output = "actor.wasm"

[build]
command = ["{python}", "make.py"]
sources = ["source.wasm", "make.py"]

[dev]
http = "127.0.0.1:{port}"
"""

STORE = """
[[dev.links]]
interface = "wasmcloud:keyvalue"
provider = "keyvalue"
"""

MAKE = """
import pathlib, sys
source = pathlib.Path("source.wasm").read_bytes()
if not source.startswith(b"\\0asm"):
    sys.exit(f"source.wasm:1: expected a module, found {source[:20]!r}")
pathlib.Path("actor.wasm").write_bytes(source)
"""

SAYS_AND_TRAPS = """
(module
  (import "wapc" "__console_log" (func $console_log (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "soon")
  (func $the_culprit (unreachable))
  (func (export "__guest_call") (param i32 i32) (result i32)
    (call $console_log (i32.const 0) (i32.const 4))
    (call $the_culprit)
    (i32.const 1)))
"""


def example(name: str) -> bytes:
    return (EXAMPLES / name / f"{name}.wasm").read_bytes()


def new_project(
    folder: Path, source: bytes, *, name: str = "hello", port: int = 0, more: str = ""
) -> Path:
    """A project whose compiler takes a module for its source; what is none is an error in it."""
    folder.mkdir(parents=True)
    (folder / "make.py").write_text(MAKE)
    (folder / "source.wasm").write_bytes(source)
    text = PROJECT.format(name=name, port=port, python=sys.executable)
    (folder / "lattice.toml").write_text(text + more)
    return folder


def write(path: Path, content: bytes) -> None:
    """Write a file as editors do: whole, in place of the one before."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(content)
    aside.replace(path)


@dataclass
class Session:
    """A running ``lattice dev``."""

    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    async def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The next event of a name that has these fields; those before it are passed over."""
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            while True:
                event = await self._next()
                if event.get("event") == name and fields.items() <= event.items():
                    return event

    async def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, f"it ended, after {self.events}"
        event: dict[str, Any] = json.loads(line)
        self.events.append(event)
        return event

    async def end(self) -> int:
        """Ctrl-C, and what it ends with."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(END_TIMEOUT_S):
            assert self.process.stdout is not None
            while line := await self.process.stdout.readline():
                self.events.append(json.loads(line))
            return await self.process.wait()


def environment(data: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("LATTICE_")}
    isolated = {"LATTICE_HOME": os.devnull, "WASH_CONTEXTS": os.devnull}
    return own | isolated | {"XDG_DATA_HOME": str(data)} | (more or {})


async def start(folder: Path, data: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        LATTICE, "dev", str(folder), "--output", "json", *options,
        env=environment(data), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def developing(
    folder: Path, data: Path, *options: str, nats_url: str | None = None
) -> AsyncIterator[Session]:
    """``lattice dev`` in a lattice of its own, or that at ``nats_url``; ended with Ctrl-C."""
    ground = ("--own-lattice",) if nats_url is None else ("--nats", nats_url)
    process = await start(folder, data, *ground, *options)
    session = Session(process)
    family = []
    try:
        yield session
        family = descendants(process.pid)
        if process.returncode is None:
            assert await session.end() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not [child for child in family if not has_ended(child)]


class Visitors:
    """People who ask for a page without a pause, each over a connection of their own."""

    COUNT = 8

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: list[int] = []
        self.bodies: set[str] = set()
        self.problems: list[str] = []
        self._gone = asyncio.Event()

    @asynccontextmanager
    async def visiting(self) -> AsyncIterator["Visitors"]:
        visits = [asyncio.ensure_future(self._visit()) for _ in range(self.COUNT)]
        try:
            yield self
        finally:
            self._gone.set()
            await asyncio.gather(*visits)

    async def some_more(self, count: int = 200) -> None:
        """Return when so many further answers have come."""
        wanted = len(self.statuses) + count
        await eventually(
            lambda: len(self.statuses) >= wanted or self.problems, timeout_s=EVENT_TIMEOUT_S
        )

    async def _visit(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            while not self._gone.is_set():
                try:
                    response = await client.get(self._url)
                except httpx.HTTPError as error:
                    self.problems.append(repr(error))
                    return
                self.statuses.append(response.status_code)
                self.bodies.add(response.text.partition(":")[0])


async def test_no_call_fails_while_the_actor_is_replaced_again_and_again(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"), more=STORE)
    async with developing(folder, tmp_path / "data") as session:
        ready = await session.event("ready")
        async with Visitors(ready["url"]).visiting() as visitors:
            for name in ("counter", "echo", "counter", "echo", "counter"):
                await visitors.some_more()
                write(folder / "source.wasm", example(name))
                await session.event("swapped")
            await visitors.some_more()

    assert visitors.problems == []
    assert set(visitors.statuses) == {200}
    assert visitors.bodies == {"GET /\n", '{"counter"'}, "both versions have answered"


async def test_a_build_that_fails_shows_the_compiler_s_words_and_the_old_actor_serves_on(
    tmp_path: Path,
) -> None:
    folder = new_project(tmp_path / "hello", example("echo"), more=STORE)
    async with developing(folder, tmp_path / "data") as session:
        url = (await session.event("ready"))["url"]

        write(folder / "source.wasm", b"int main(")
        failed = await session.event("build_failed")
        assert "source.wasm:1: expected a module, found b'int main('" in failed["error"]
        assert await get(url) == (200, "GET /")

        write(folder / "source.wasm", wat.actor("unknown_import"))
        refused = await session.event("problem", code="invalid_request")
        assert "env" in refused["error"]
        assert await get(url) == (200, "GET /")

        write(folder / "source.wasm", example("counter"))
        await session.event("swapped")
        assert await get(url) == (200, '{"counter": 1}')


async def test_a_changed_project_file_is_followed(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("counter"))
    text = (folder / "lattice.toml").read_text()
    async with developing(folder, tmp_path / "data") as session:
        url = (await session.event("ready"))["url"]
        status, body = await get(url)
        assert (status, "no_link" in body) == (503, True)

        write(folder / "lattice.toml", (text + STORE).encode())
        await session.event("unchanged")
        assert await get(url) == (200, '{"counter": 1}')

        write(folder / "lattice.toml", b"[actor\n")
        refused = await session.event("problem", code="invalid_request")
        assert "lattice.toml, line 1" in refused["error"]
        assert await get(url) == (200, '{"counter": 2}')

        renamed = text.replace('name = "hello"', 'name = "other"')
        write(folder / "lattice.toml", renamed.encode())
        assert "actor.name was hello" in (await session.event("problem"))["error"]

        write(folder / "lattice.toml", text.encode())
        await session.event("unchanged")
        assert (await get(url))[0] == 503


async def test_traps_and_log_lines_are_shown_as_they_happen(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", wat.assemble(SAYS_AND_TRAPS))
    async with developing(folder, tmp_path / "data") as session:
        url = (await session.event("ready"))["url"]

        assert (await get(url))[0] == 502
        said = await session.event("log", by="guest")
        trap = await session.event("log", by="host")

    assert said["text"] == "soon"
    assert trap["level"] == "warning"
    assert "unreachable" in trap["text"]
    assert "the_culprit" in trap["text"], "the backtrace names the function"


async def test_a_second_one_for_the_same_project_is_told_of_the_first(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    async with developing(folder, tmp_path / "data") as session:
        await session.event("ready")

        second = await command_line.run(
            "dev", str(folder), "--once", "--own-lattice", "--output", "json",
            environment={"XDG_DATA_HOME": str(tmp_path / "data")},
        )  # fmt: skip

    assert second.status == 5
    assert second.json["code"] == "conflict"
    assert f"process {session.process.pid}" in second.json["error"]


async def test_only_what_it_has_started_is_taken_down(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("counter"), more=STORE)
    async with command_line.up(tmp_path / "up") as lattice:
        echo = str(EXAMPLES / "echo" / "echo.wasm")
        assert (await lattice.run("start", "component", echo, "mine")).status == 0
        before = await everything(lattice)

        async with developing(folder, tmp_path / "data", nats_url=lattice.nats_url) as session:
            told = await session.event("lattice")
            assert (told["started"], told["nats_url"]) == (False, lattice.nats_url)
            assert await get((await session.event("ready"))["url"]) == (200, '{"counter": 1}')
            assert await everything(lattice) != before

        assert await everything(lattice) == before


async def test_what_a_killed_one_has_left_is_taken_over(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    async with command_line.up(tmp_path / "up") as lattice:
        before = await everything(lattice)
        async with developing(folder, tmp_path / "data", nats_url=lattice.nats_url) as session:
            await session.event("ready")
            session.process.kill()
            await session.process.wait()
        assert await everything(lattice) != before

        async with developing(folder, tmp_path / "data", nats_url=lattice.nats_url) as session:
            assert await get((await session.event("ready"))["url"]) == (200, "GET /")

        assert await everything(lattice) == before


async def test_an_actor_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("counter"))
    async with command_line.up(tmp_path / "up") as lattice:
        echo = str(EXAMPLES / "echo" / "echo.wasm")
        assert (await lattice.run("start", "component", echo, "hello")).status == 0
        before = await everything(lattice)

        refused = await command_line.run(
            "dev", str(folder), "--once", "--nats", lattice.nats_url, "--output", "json",
            environment={"XDG_DATA_HOME": str(tmp_path / "data")},
        )  # fmt: skip

        assert (refused.status, refused.json["code"]) == (5, "already_exists")
        assert await everything(lattice) == before


async def test_hosts_are_added_to_a_nats_server_that_has_none(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    server = await NatsServer.start()
    try:
        async with developing(folder, tmp_path / "data", nats_url=server.url) as session:
            assert (await session.event("lattice"))["started"] is True
            assert await get((await session.event("ready"))["url"]) == (200, "GET /")
    finally:
        await server.aclose()


async def test_once_says_by_its_status_whether_the_actor_came_to_work(tmp_path: Path) -> None:
    good = new_project(tmp_path / "good", example("echo"))
    bad = new_project(tmp_path / "bad", b"int main(")
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}

    done = await command_line.run("dev", str(good), "--once", "--own-lattice", environment=data)
    failed = await command_line.run("dev", str(bad), "--once", "--own-lattice", environment=data)

    assert done.status == 0, done.output + done.errors
    assert "http://127.0.0.1:" in done.output
    assert failed.status == 1
    assert "expected a module" in failed.output


async def test_a_taken_port_is_not_fought_over(tmp_path: Path) -> None:
    port = command_line.free_port()
    folder = new_project(tmp_path / "hello", example("echo"), port=port)
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port)
    async with taken, developing(folder, tmp_path / "data") as session:
        url = (await session.event("ready"))["url"]
        assert str(port) not in url
        assert await get(url) == (200, "GET /")


async def test_without_watching_it_stays_up_and_follows_nothing(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    async with developing(folder, tmp_path / "data", "--no-watch") as session:
        assert await get((await session.event("ready"))["url"]) == (200, "GET /")
        shutil.rmtree(folder)

    names = [event["event"] for event in session.events]
    assert "watching" not in names
    assert names[-1] == "ended"


async def test_ctrl_c_in_the_middle_of_a_build_ends_that_as_well(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    (folder / "make.py").write_text("import time; print('building'); time.sleep(3600)")
    process = await start(folder, tmp_path / "data", "--own-lattice")
    session = Session(process)
    await session.event("step")
    family = descendants(process.pid)

    status = await session.end()

    assert status == 130
    assert session.events[-1]["event"] == "ended"
    assert not [child for child in family if not has_ended(child)]


async def test_the_end_of_its_own_host_is_its_end_and_says_so(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    process = await start(folder, tmp_path / "data", "--own-lattice")
    session = Session(process)
    await session.event("watching")
    family = descendants(process.pid)
    (host,) = [child for child in family if "host" in arguments(child)]

    host.kill()

    async with asyncio.timeout(END_TIMEOUT_S):
        await process.wait()
    assert process.returncode == 1
    assert process.stdout is not None
    last = json.loads((await process.stdout.read()).splitlines()[-1])
    assert "host dev-hello was killed (SIGKILL)" in last["error"]
    assert not [child for child in family if not has_ended(child)]


async def test_instances_are_kept_from_when_the_project_file_says_so(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", wat.actor("keeps"))
    text = (folder / "lattice.toml").read_text()
    async with developing(folder, tmp_path / "data") as session:
        reached = {"LATTICE_NATS_URL": (await session.event("lattice"))["nats_url"]}
        await session.event("ready")

        async def two_calls() -> list[bytes]:
            """The number of calls that the instance of each had served."""
            words = ("call", "hello", "A.B", "--payload", "n", "--decode", "hex")
            outcomes = [await command_line.run(*words, environment=reached) for _ in range(2)]
            assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
            return [bytes.fromhex(outcome.output) for outcome in outcomes]

        first, second = await two_calls()
        assert first == second, "each call finds a fresh instance"
        write(folder / "lattice.toml", (text + 'instances = "reuse"\n').encode())
        await session.event("unchanged")
        first, second = await two_calls()
        assert first != second


async def test_the_end_of_a_lattice_that_was_used_is_noticed(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "hello", example("echo"))
    async with command_line.up(tmp_path / "up") as lattice:
        process = await start(folder, tmp_path / "data", "--nats", lattice.nats_url)
        session = Session(process)
        await session.event("watching")

        lattice.process.send_signal(signal.SIGINT)
        await lattice.process.wait()

        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
    assert process.returncode == 1
    assert process.stdout is not None
    last = json.loads((await process.stdout.read()).splitlines()[-1])
    assert "is gone, and with it the actor" in last["error"]


async def get(url: str) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        response = await client.get(url)
    return response.status_code, response.text.strip()


async def everything(lattice: command_line.Lattice) -> list[Any]:
    """What is in a lattice: actors, providers, links."""
    inventories = (await lattice.run("get", "inventory", "--output", "json")).json["inventories"]
    links = (await lattice.run("get", "links", "--output", "json")).json["links"]
    return [
        [(i["host_id"], i["components"], i["providers"]) for i in inventories],
        links,
    ]
