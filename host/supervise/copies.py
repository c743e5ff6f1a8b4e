"""The two ways a provider runs here: as a child process, or inside this host.

Both speak of the same things; what differs is how they are told. A process hears over NATS, on
wasmCloud 1.x's management subjects; a provider inside the host is called directly.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Any, Protocol

import structlog

from host.supervise.guardian import Guardian
from lattice import errors, installed, limits, subjects
from lattice.aio import processes
from lattice.aio.processes import LastWords
from lattice.bus import Bus
from lattice.rpc import Rpc
from lattice.wire import control
from lattice.wire.provider import Health, HostData, ResolvedLink, Shutdown

log = structlog.get_logger()

START_POLL_S = 0.05
"""Between two questions whether a starting process is up; it has not subscribed before it is."""

STDERR_LINES_MAX = 10
"""What is kept of a process's errors, to be told when it ended: the end of a traceback."""

STDERR_BYTES_MAX = 2_048
"""Of those lines, together: they travel in an event."""


class Copy(Protocol):
    """One running copy of a provider."""

    async def start(self, data: HostData) -> None:
        """Start it; returns when it answers.

        Raises:
            LatticeError: it did not come up; nothing of it is left.
        """
        ...

    async def put_link(self, link: ResolvedLink) -> None: ...

    async def delete_link(self, link: ResolvedLink) -> None: ...

    async def update_config(self, config: dict[str, str]) -> None: ...

    async def health(self) -> Health | None:
        """How it is; None when it did not answer in time.

        Raises:
            LatticeError: it could not be asked, by no fault of its own.
        """
        ...

    async def wait_ended(self) -> str:
        """Return only if it ends by itself, saying how."""
        ...

    def last_facts(self) -> dict[str, Any]:
        """What else is known of a copy that ended: ``exit_status``, and the end of ``stderr``."""
        ...

    async def stop(self, *, drain_s: float) -> None:
        """End it: in order, with ``drain_s`` for what runs there, by force after that."""
        ...


class ProcessCopy:
    """A provider in a process of its own, our child."""

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        bus: Bus,
        environment: Mapping[str, str],
        guardian: Guardian,
        foreign: bool = False,
    ) -> None:
        """``foreign``: it may have been built for wasmCloud 1.x, not with our SDK."""
        self._command = command
        self._foreign = foreign
        self._bus = bus
        self._environment = environment
        self._guardian = guardian
        self._process: asyncio.subprocess.Process | None = None
        self._data: HostData | None = None
        self._words: LastWords | None = None

    async def start(self, data: HostData) -> None:
        await self._guardian.up()
        words = self._words = LastWords(
            lines_max=STDERR_LINES_MAX, bytes_max=STDERR_BYTES_MAX, onward=sys.stderr.fileno()
        )
        try:
            process = await processes.spawn(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                error_output=words.writer,
                env={**self._environment, **self._guardian.environment},
            )
        except OSError as error:
            words.close()
            raise errors.InvalidRequest(
                f"can't run {self._command[0]}: {error.strerror or error}"
            ) from None
        except BaseException:
            words.close()
            raise
        words.handed_over()
        self._guardian.watch(process.pid)
        self._process, self._data = process, data
        try:
            await self._hand_over(process, data)
            await self._wait_answering(process)
        except BaseException:
            await self._end(process, grace_s=0)
            raise

    async def put_link(self, link: ResolvedLink) -> None:
        await self._tell(subjects.link_put, link.model_dump_json().encode())

    async def delete_link(self, link: ResolvedLink) -> None:
        await self._tell(subjects.link_delete, link.model_dump_json().encode())

    async def update_config(self, config: dict[str, str]) -> None:
        await self._tell(subjects.config_update, json.dumps(config).encode())

    async def health(self) -> Health | None:
        assert self._data is not None
        for host in self._health_hosts(self._data):
            try:
                return await self._ask_health(host, limits.HEALTH_TIMEOUT_S)
            except errors.NotRunning:
                continue
            except (errors.DeadlineExceeded, errors.InvalidRequest):
                return None
        return None

    async def wait_ended(self) -> str:
        assert self._process is not None
        status = await self._process.wait()
        return f"its process {processes.ending(status)}"

    def last_facts(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._words is not None
        status = self._process.returncode
        facts: dict[str, Any] = {} if status is None else {"exit_status": status}
        return {**facts, "stderr": self._words.text}

    async def stop(self, *, drain_s: float) -> None:
        if self._process is None or self._data is None:
            return
        if self._process.returncode is None:
            await self._ask_to_stop(self._data, drain_s)
        await self._end(self._process, grace_s=limits.PROVIDER_STOP_TIMEOUT_S)

    async def _end(self, process: asyncio.subprocess.Process, *, grace_s: float) -> None:
        try:
            await processes.end(process, grace_s=grace_s)
        finally:
            self._guardian.forget(process.pid)
            if self._words is not None:
                self._words.close()

    async def _hand_over(self, process: asyncio.subprocess.Process, data: HostData) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(data.to_line())
            await process.stdin.drain()
            process.stdin.close()
            await process.stdin.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            status = await process.wait()
            raise self._ended(status, "at once") from None

    async def _wait_answering(self, process: asyncio.subprocess.Process) -> None:
        assert self._data is not None
        try:
            async with asyncio.timeout(limits.PROVIDER_START_TIMEOUT_S):
                hosts = itertools.cycle(self._health_hosts(self._data))
                while process.returncode is None:
                    try:
                        await self._ask_health(next(hosts), limits.HEALTH_TIMEOUT_S)
                    except errors.NotRunning:
                        await asyncio.sleep(START_POLL_S)
                    except errors.DeadlineExceeded:
                        continue
                    else:
                        return
        except TimeoutError:
            raise _silent() from None
        raise self._ended(process.returncode, "while starting")

    def _ended(self, status: int, when: str) -> errors.ProviderError:
        words = self._words.text.splitlines()[-1:] if self._words is not None else []
        return errors.ProviderError(": ".join((f"it {processes.ending(status)} {when}", *words)))

    def _health_hosts(self, data: HostData) -> tuple[str | None, ...]:
        """Whom to ask how the copy is.

        One of ours answers for its host alone. A 1.x provider knows only the shared subject, on
        which the copy of another host may answer as well: never ask there without need.
        """
        return (data.host_id, None) if self._foreign else (data.host_id,)

    async def _ask_health(self, host: str | None, timeout_s: float) -> Health:
        assert self._data is not None
        subject = subjects.provider_health(
            self._data.lattice_rpc_prefix, self._data.provider_key, host
        )
        deadline = asyncio.get_running_loop().time() + timeout_s
        message = await self._bus.request(subject, deadline=deadline)
        return control.parse(Health, message.data, what="health")

    async def _ask_to_stop(self, data: HostData, drain_s: float) -> None:
        subject = subjects.provider_shutdown(data.lattice_rpc_prefix, data.provider_key)
        request = Shutdown(
            host_id=data.host_id, drain_ms=None if self._foreign else int(drain_s * 1000)
        )
        deadline = asyncio.get_running_loop().time() + limits.PROVIDER_STOP_TIMEOUT_S
        assert self._process is not None
        try:
            await self._bus.request(
                subject, request.model_dump_json(exclude_none=True).encode(), deadline=deadline
            )
            async with asyncio.timeout_at(deadline + drain_s):
                await self._process.wait()
        except (errors.LatticeError, TimeoutError):
            # It will be told by signal instead.
            return

    async def _tell(self, subject: Callable[[str, str, str | None], str], payload: bytes) -> None:
        data = self._data
        assert data is not None
        await self._bus.publish(
            subject(data.lattice_rpc_prefix, data.provider_key, data.telling_host), payload
        )


class _Runtime(Protocol):
    async def start(self) -> None: ...

    async def put_link(self, link: ResolvedLink) -> None: ...

    async def delete_link(self, link: ResolvedLink) -> None: ...

    async def update_config(self, config: dict[str, str]) -> None: ...

    async def health(self) -> Health | None: ...

    async def aclose(self, *, drain_s: float) -> None: ...


class BuiltinCopy:
    """A provider inside this host."""

    def __init__(self, provider: Any, *, bus: Bus, rpc: Rpc) -> None:
        """``provider`` is its class, an SDK's, which this package must not import."""
        self._provider = provider
        self._bus = bus
        self._rpc = rpc
        self._runtime: _Runtime | None = None

    async def start(self, data: HostData) -> None:
        runtime: _Runtime = self._provider.embed(data, bus=self._bus, rpc=self._rpc)
        try:
            async with asyncio.timeout(limits.PROVIDER_START_TIMEOUT_S):
                await runtime.start()
        except TimeoutError:
            raise _silent() from None
        self._runtime = runtime

    async def put_link(self, link: ResolvedLink) -> None:
        await self._running().put_link(link)

    async def delete_link(self, link: ResolvedLink) -> None:
        await self._running().delete_link(link)

    async def update_config(self, config: dict[str, str]) -> None:
        await self._running().update_config(config)

    async def health(self) -> Health | None:
        return await self._running().health()

    async def wait_ended(self) -> str:
        # It ends with the host, or by ``stop``.
        await asyncio.get_running_loop().create_future()
        return ""

    def last_facts(self) -> dict[str, Any]:
        return {}

    async def stop(self, *, drain_s: float) -> None:
        if self._runtime is not None:
            runtime, self._runtime = self._runtime, None
            await runtime.aclose(drain_s=drain_s)

    def _running(self) -> _Runtime:
        assert self._runtime is not None
        return self._runtime


def _silent() -> errors.ProviderError:
    return errors.ProviderError(f"it did not start within {limits.PROVIDER_START_TIMEOUT_S:g} s")


def find_provider(name: str) -> EntryPoint:
    """An installed provider by its name; finding it does not import it.

    Raises:
        NotFound: nothing installed here has that name.
    """
    if (entry := installed.provider(name)) is None:
        known = ", ".join(installed.provider_names())
        raise errors.NotFound(f"no provider named {name!r} is installed here; known: {known}")
    return entry


def process_command(name: str) -> tuple[str, ...]:
    """The command that runs an installed provider in a process of its own.

    Raises:
        NotFound: nothing installed here has that name.
    """
    find_provider(name)
    return (sys.executable, "-m", "providers.sdk", name)
