"""A WASI program, run once from start to exit: how whole programs are tested against WASI."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from host.engine.descriptors import STDERR, STDOUT, Directory, World
from host.engine.engine import Engine
from host.engine.execution import Execution
from host.engine.guest import DEFAULT_LIMITS, CallLimits
from lattice import errors, limits
from lattice.wire.streams import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended, and what it wrote."""

    status: int
    output: bytes
    errors: bytes


class _Alone:
    """A program that is no actor has no lattice to call."""

    def call(self, binding: str, namespace: str, _operation: str, _payload: bytes) -> NoReturn:
        raise errors.Denied(f"a program has no links: {binding} {namespace}")

    async def exchange(
        self, binding: str, namespace: str, operation: str, payload: bytes, _stream: Source | None
    ) -> NoReturn:
        self.call(binding, namespace, operation, payload)

    def check_link(self, binding: str, namespace: str) -> NoReturn:
        raise errors.Denied(f"a program has no links: {binding} {namespace}")

    def log(self, level: str, text: str) -> None:
        """Nobody listens; what it writes is collected."""


async def run_command(
    engine: Engine,
    wasm: bytes,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    directories: Sequence[Directory] = (),
    call_limits: CallLimits = DEFAULT_LIMITS,
    timeout_s: float = limits.CALL_TIMEOUT_S,
) -> Finished:
    """Run a module's ``_start``; the first argument is the program's name.

    Raises:
        InvalidRequest: the module is no WASI program.
        LatticeError: it trapped, or came to one of its limits.
    """
    world = World(
        arguments=tuple(each.encode() for each in arguments),
        environment=tuple(
            f"{name}={value}".encode() for name, value in (environment or {}).items()
        ),
        directories=tuple(directories),
        collects_output=True,
    )
    execution = Execution(
        await engine.load(wasm, command=True),
        _Alone(),
        operation="",
        payload=b"",
        limits=call_limits,
        world=world,
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )
    if not execution.start():
        await execution.finish()
    execution.result()
    return Finished(
        status=execution.exit_code,
        output=execution.output(STDOUT),
        errors=execution.output(STDERR),
    )
