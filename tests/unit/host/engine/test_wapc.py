"""What guests may do through waPC, and what becomes of those that lie."""

import struct
from collections.abc import Awaitable, Callable

import pytest

from host.engine import CallLimits, Code, wapc
from lattice import errors, limits
from tests.support.host_calls import Host, execution, run

Load = Callable[[str], Awaitable[Code]]

PAGE = 64 * 1024

RESPONSE, ERROR, LOG, CALL_NAME, CALL_PAYLOAD, READ_RESPONSE, UNASKED, UNASKED_ERROR = range(8)


def lie(which: int, pointer: int, length: int = 0) -> bytes:
    """A payload for the liar: the function and its arguments, as 32-bit words."""
    return struct.pack("<III", which, pointer & 0xFFFFFFFF, length & 0xFFFFFFFF)


NAMES = {
    RESPONSE: "__guest_response",
    ERROR: "__guest_error",
    LOG: "__console_log",
    CALL_NAME: "__host_call",
    CALL_PAYLOAD: "__host_call",
}

RANGES = {
    "one byte past the end": (PAGE, 1),
    "across the end": (PAGE - 4, 8),
    "a negative pointer": (-4, 4),
    "a negative length": (0, -1),
    "a sum that wraps to zero": (0xFFFFFFFF, 1),
    "both near the top": (0xFFFFFFF0, 0xFFFFFFF0),
}


@pytest.mark.parametrize("which", list(NAMES))
@pytest.mark.parametrize(("pointer", "length"), list(RANGES.values()), ids=list(RANGES))
async def test_a_range_outside_the_memory_traps_naming_function_and_range(
    load: Load, which: int, pointer: int, length: int
) -> None:
    host = Host()
    limits = CallLimits(response_bytes=2**33, request_bytes=2**33)
    call = execution(await load("liar"), lie(which, pointer, length), host=host, limits=limits)
    with pytest.raises(errors.ActorTrapped) as caught:
        await run(call)
    kind = caught.value.detail["kind"]
    assert kind.startswith(f"{NAMES[which]}: {length & 0xFFFFFFFF} bytes at {pointer & 0xFFFFFFFF}")
    assert "@ 0x" in caught.value.detail["backtrace"]
    assert host.requests == []


@pytest.mark.parametrize("pointer", [PAGE, PAGE - 1, -1])
async def test_a_response_is_not_written_outside_the_memory(load: Load, pointer: int) -> None:
    host = Host(lambda _: b"four")
    with pytest.raises(errors.ActorTrapped, match="__host_response: 4 bytes"):
        await run(execution(await load("liar"), lie(READ_RESPONSE, pointer), host=host))


async def test_nothing_at_the_very_end_of_the_memory_is_a_valid_range(load: Load) -> None:
    call = execution(await load("liar"), lie(ERROR, PAGE, 0))
    with pytest.raises(errors.ActorError):
        await run(call)


@pytest.mark.parametrize(
    ("which", "said"),
    [(UNASKED, "__host_response: there is none"), (UNASKED_ERROR, "__host_error: there is none")],
)
async def test_a_response_that_is_not_there_traps(load: Load, which: int, said: str) -> None:
    with pytest.raises(errors.ActorTrapped, match=said):
        await run(execution(await load("liar"), lie(which, 0)))


async def test_taking_the_request_twice_traps(load: Load) -> None:
    with pytest.raises(errors.ActorTrapped, match="the request was taken already"):
        await run(execution(await load("requests_twice")))


async def test_a_name_that_is_far_too_long_is_an_error_of_the_host_call(load: Load) -> None:
    host = Host()
    payload = lie(CALL_NAME, 0, wapc.NAME_BYTES_MAX + 1)
    with pytest.raises(errors.ActorError, match=r"^invalid_request: "):
        await run(execution(await load("liar"), payload, host=host))
    assert host.requests == []


async def test_a_name_that_is_not_utf_8_is_an_error_of_the_host_call(load: Load) -> None:
    # The name is the liar's own payload: the words that hold its arguments.
    payload = lie(CALL_NAME, 1024, 13) + b"\xff"
    with pytest.raises(errors.ActorError, match=r"^invalid_request: "):
        await run(execution(await load("liar"), payload))


async def test_a_request_over_its_limit_is_an_error_of_the_host_call(load: Load) -> None:
    host = Host()
    call = execution(
        await load("liar"),
        lie(CALL_PAYLOAD, 0, 1001),
        host=host,
        limits=CallLimits(request_bytes=1000),
    )
    with pytest.raises(errors.ActorError, match=r"^payload_too_large: the payload is 1001"):
        await run(call)
    assert host.requests == []


async def test_a_response_over_its_limit_ends_the_call_with_both_figures(load: Load) -> None:
    call = execution(await load("shouts"), b"x", limits=CallLimits(response_bytes=PAGE - 1))
    with pytest.raises(errors.ActorError, match="over the limit") as caught:
        await run(call)
    assert caught.value.detail == {"size": PAGE, "limit": PAGE - 1}


async def test_an_error_text_without_end_is_cut(load: Load) -> None:
    with pytest.raises(errors.ActorError) as caught:
        await run(execution(await load("shouts")))
    assert len(caught.value.text) == limits.ERROR_TEXT_CHARS


async def test_log_lines_reach_the_host_in_order(load: Load) -> None:
    host = Host()
    await run(execution(await load("logs"), b"abc", host=host))
    assert host.lines == [("info", "abc")] * 3


async def test_a_long_log_line_is_cut_and_says_how_much_is_missing(load: Load) -> None:
    host = Host()
    length = limits.LOG_LINE_CHARS + 7
    call = execution(await load("logs"), b"x" * length, host=host, limits=CallLimits(log_lines=1))
    await run(call)
    assert host.lines[0] == ("info", "x" * limits.LOG_LINE_CHARS + " [7 more characters]")


async def test_log_lines_over_the_limit_are_dropped_and_counted(load: Load) -> None:
    host = Host()
    call = execution(await load("logs"), b"x" * 50, host=host, limits=CallLimits(log_lines=10))
    await run(call)
    assert host.lines == [("info", "x" * 50)] * 10 + [("warning", "40 log lines were dropped")]
