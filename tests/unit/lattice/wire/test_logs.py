"""Log lines on the wire: checked where they come in."""

import pytest

from lattice import errors, limits
from lattice.wire import codec, logs
from lattice.wire.logs import Line, Lines, RecentRequest, Want

LINE = Line(
    actor="echo", number=7, time_ms=1_700_000_000_000, level="info", text="hi", by="guest", call="c"
)
LINES = Lines(host="N1", name="alpha", lines=[LINE], dropped=3)


def test_lines_arrive_as_they_were() -> None:
    assert logs.decode_lines(logs.encode(LINES)) == LINES


def test_what_a_follower_wants_arrives_as_it_was() -> None:
    want = Want(follower="f", ids=["echo"], level="warning", ttl_ms=6_000)

    assert logs.decode_want(logs.encode(want)) == want


def test_a_request_for_recent_lines_arrives_as_it_was() -> None:
    request = RecentRequest(ids=["echo"], level="error", lines=3)

    assert logs.decode_recent(logs.encode(request)) == request
    assert logs.decode_recent(b"") == RecentRequest()


@pytest.mark.parametrize(
    "change",
    [
        {"follower": ""},
        {"ttl_ms": -1},
        {"ttl_ms": int(limits.LOG_LEASE_S * 1000) + 1},
        {"level": "loud"},
        {"ids": ["a"] * (logs.IDS_MAX + 1)},
        {"ids": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_nobody_can_want_is_refused(change: dict[str, object]) -> None:
    want = {"follower": "f", "ids": None, "level": "info", "ttl_ms": 1}
    assert logs.decode_want(codec.pack(want))

    with pytest.raises(errors.InvalidRequest):
        logs.decode_want(codec.pack(want | change))


@pytest.mark.parametrize("data", [b"", b"hello", codec.pack({"host": "N1"}), codec.pack(None)])
def test_nonsense_is_no_lines(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        logs.decode_lines(data)


def test_levels_are_in_the_order_of_their_severity() -> None:
    assert sorted(logs.LEVELS, key=logs.severity) == list(logs.LEVELS)
    assert logs.severity("warning") > logs.severity("info")
