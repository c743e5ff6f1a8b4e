"""Commands of other people's tools, run to their end: bounded in time and in what they may say."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lattice import errors
from lattice.aio import processes

OUTPUT_BYTES_MAX = 64 * 1024
"""How much of the end of a tool's output is kept; a compiler can say the same thing for ever."""

END_GRACE_S = 2.0
"""From asking a tool to end until it is killed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it said."""

    status: int
    output: str
    """The end of its standard output and errors, together."""


async def run(
    words: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout_s: float
) -> Outcome:
    """Run a command in a folder. Cancelling ends it, and all that it started.

    Raises:
        NotFound: there is no such program.
        DeadlineExceeded: it took longer than ``timeout_s`` and was ended.
    """
    try:
        process = await processes.spawn(
            *words,
            output=asyncio.subprocess.PIPE,
            env=dict(environment),
            directory=folder,
        )
    except FileNotFoundError:
        raise errors.NotFound(f"there is no program {words[0]}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't run {words[0]}: {error.strerror}") from None
    said = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            assert process.stdout is not None
            while chunk := await process.stdout.read(OUTPUT_BYTES_MAX):
                said += chunk
                del said[:-OUTPUT_BYTES_MAX]
            status = await process.wait()
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"{words[0]} took longer than {timeout_s:.0f} s and was ended:\n{_text(said)}"
        ) from None
    finally:
        await processes.end(process, grace_s=END_GRACE_S)
    return Outcome(status, _text(said))


def _text(said: bytearray) -> str:
    return said.decode(errors="replace").strip()
