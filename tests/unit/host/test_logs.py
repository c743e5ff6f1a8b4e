"""Which lines a host keeps, for whom it publishes them, and what its own log says."""

import pytest
from structlog.testing import capture_logs

from host import logs
from host.logs import Kept, Leases
from lattice import limits
from lattice.wire.logs import Level, Line, RecentRequest, Want


def line(number: int, actor: str = "echo", *, level: Level = "info", text: str = "hi") -> Line:
    return Line(actor=actor, number=number, time_ms=number, level=level, text=text, by="guest")


def numbers(kept: Kept, request: RecentRequest) -> list[int]:
    return [line.number for line in kept.last(request)[0]]


def want(follower: str = "f", *, ids: list[str] | None = None, level: Level = "debug") -> Want:
    return Want(follower=follower, ids=ids, level=level, ttl_ms=6_000)


@pytest.mark.parametrize(
    ("level", "logged"), [("warning", "warning"), ("critical", "critical"), ("__class__", "info")]
)
def test_a_guests_line_is_logged_at_a_level_of_ours(level: str, logged: str) -> None:
    with capture_logs() as lines:
        logs.write("shop", level, "hello", call="c1")
    assert lines == [
        {"log_level": logged, "event": "guest", "actor": "shop", "text": "hello", "call": "c1"}
    ]


def test_the_last_lines_of_each_actor_are_kept() -> None:
    kept = Kept()
    for number in range(1_000):
        kept.add(line(number, "chatter"))
    kept.add(line(1_000, "quiet"))

    assert numbers(kept, RecentRequest(lines=10_000)) == list(range(800, 1_001))
    assert numbers(kept, RecentRequest(ids=["quiet"])) == [1_000]
    assert numbers(kept, RecentRequest(ids=["nobody"])) == []


def test_the_last_lines_that_match_are_found() -> None:
    kept = Kept()
    for number in range(20):
        kept.add(line(number, f"actor-{number % 3}", level="error" if number % 5 == 0 else "info"))

    assert numbers(kept, RecentRequest(lines=3)) == [17, 18, 19]
    assert numbers(kept, RecentRequest(lines=2, level="warning")) == [10, 15]
    assert numbers(kept, RecentRequest(ids=["actor-0"], level="error")) == [0, 15]


def test_who_was_silent_longest_loses_lines_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES_KEPT", 10_000)
    kept = Kept()
    for number in range(5):
        kept.add(line(number, "early", text="x" * 1_000))
    for number in range(5, 12):
        kept.add(line(number, "late", text="x" * 1_000))

    assert numbers(kept, RecentRequest()) == [4, *range(5, 12)]
    for number in range(12, 100):
        kept.add(line(number, "late", text="x" * 1_000))
    assert numbers(kept, RecentRequest()) == list(range(92, 100))
    assert kept._bytes <= 10_000


def test_an_answer_has_the_latest_lines_and_counts_the_others() -> None:
    kept = Kept()
    for number in range(200):
        kept.add(line(number, text="x" * limits.LOG_LINE_CHARS))

    told, left_out = kept.last(RecentRequest())

    assert [line.number for line in told] == list(range(200 - len(told), 200))
    assert len(told) + left_out == 200
    assert 10 < len(told) < 200


def test_nothing_is_wanted_without_a_follower() -> None:
    assert not Leases().want(line(1), 0.0)


def test_a_line_is_wanted_until_the_follower_was_silent_too_long() -> None:
    leases = Leases()
    leases.note(want(), 10.0)

    assert leases.want(line(1), 15.9)
    assert not leases.want(line(1), 16.0)


def test_a_follower_gets_what_it_wants_now_and_nothing_after_its_end() -> None:
    leases = Leases()
    leases.note(want(ids=["echo"], level="warning"), 0.0)
    assert leases.want(line(1, level="error"), 1.0)
    assert not leases.want(line(1, level="info"), 1.0)
    assert not leases.want(line(1, "other", level="error"), 1.0)

    leases.note(want(ids=["other"]), 1.0)
    assert leases.want(line(1, "other"), 1.0)
    assert not leases.want(line(1, level="error"), 1.0)

    leases.note(Want(follower="f", ttl_ms=0), 2.0)
    assert not leases.want(line(1, "other"), 2.0)


def test_followers_are_bounded_and_make_room_when_their_time_is_up() -> None:
    leases = Leases()
    for number in range(limits.LOG_FOLLOWERS_MAX):
        leases.note(want(f"f{number}", ids=["nothing"]), 0.0)
    leases.note(want("late"), 1.0)
    assert not leases.want(line(1), 1.0)

    leases.note(want("late"), 7.0)
    assert leases.want(line(1), 7.0)
