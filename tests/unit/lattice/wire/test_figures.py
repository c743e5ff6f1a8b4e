"""A host's figures on the wire: bounded, checked, and added up over hosts."""

import pytest

from lattice import errors, limits
from lattice.wire import codec, figures
from lattice.wire.figures import ActorFigures, FiguresRequest, HostFigures, LinkFigures
from lattice.wire.histogram import Histogram

HOST = HostFigures(
    id="N1",
    name="alpha",
    uptime_s=3,
    load=0.25,
    running=1,
    waiting=2,
    instances_max=4,
    memory_bytes=1_000,
    draining=False,
)


def durations(*values: int) -> Histogram:
    result = Histogram()
    for value in values:
        result.add(value)
    return result


def link(*, calls: int, target: str = "kv") -> LinkFigures:
    return LinkFigures(
        name="default",
        interface="wasi:keyvalue",
        target=target,
        calls=calls,
        failures=1,
        durations=durations(calls),
        bytes_in=calls * 10,
        bytes_out=calls * 100,
        cpu_us=calls * 1_000,
    )


def actor(actor_id: str, *, completed: int = 5, memory: int = 10) -> ActorFigures:
    return ActorFigures(
        id=actor_id,
        count=2,
        running=1,
        waiting=0,
        completed=completed,
        fuel=completed * 7,
        host_calls=completed * 2,
        memory_bytes=memory,
        durations=durations(*range(completed)),
        links=[link(calls=completed)],
    )


def test_a_hosts_figures_arrive_as_they_were() -> None:
    actors = [actor("echo"), actor("counter", completed=9)]

    arrived = figures.decode_host(figures.encode_host(HOST, actors, total=2))

    assert arrived == HOST.model_copy(update={"actors": actors})


def test_actors_without_room_are_counted() -> None:
    actors = [actor(f"actor-{number}", completed=500) for number in range(10_000)]

    data = figures.encode_host(HOST, iter(actors), total=10_000)
    arrived = figures.decode_host(data)

    assert len(data) < limits.WATCH_ANSWER_BYTES * 1.1
    assert 100 < len(arrived.actors) < 10_000
    assert len(arrived.actors) + arrived.left_out == 10_000
    assert arrived.actors == actors[: len(arrived.actors)]


def test_an_actors_figures_add_up_over_hosts() -> None:
    one = actor("echo", completed=5, memory=10)
    other = actor("echo", completed=7, memory=30).model_copy(
        update={"links": [link(calls=7), link(calls=1, target="other")]}
    )

    both = figures.together([one, other])

    assert (both.completed, both.count, both.running) == (12, 4, 2)
    assert both.memory_bytes == 30
    assert (both.fuel, both.host_calls) == (84, 24)
    assert both.durations == durations(*range(5), *range(7))
    assert [(part.target, part.calls, part.failures) for part in both.links] == [
        ("kv", 12, 2),
        ("other", 1, 1),
    ]
    assert both.links[0].durations == durations(5, 7)
    merged = both.links[0]
    assert (merged.bytes_in, merged.bytes_out, merged.cpu_us) == (120, 1_200, 12_000)
    assert one.durations == durations(*range(5)), "what was added up is not touched"


def test_a_request_arrives_as_it_was() -> None:
    for request in (FiguresRequest(), FiguresRequest(ids=["a", "b"])):
        assert figures.decode_request(figures.encode_request(request)) == request
    assert figures.decode_request(b"") == FiguresRequest()


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"hello", codec.pack([]), codec.pack({"ids": "echo"}), codec.pack({"ids": [1]})],
    ids=repr,
)
def test_nonsense_is_no_request(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        figures.decode_request(data)


def test_a_request_names_a_bounded_number_of_actors() -> None:
    with pytest.raises(errors.InvalidRequest):
        figures.decode_request(codec.pack({"ids": ["a"] * (figures.IDS_MAX + 1)}))


@pytest.mark.parametrize(
    "change",
    [
        {"uptime_s": -1},
        {"load": float("nan")},
        {"load": 2.0},
        {"running": "1"},
        {"running": 2**63},
        {"draining": 0},
        {"actors": [{}]},
        {"actors": [actor("a").model_dump() | {"durations": [1]}]},
        {"actors": [actor("a").model_dump() | {"durations": "x"}]},
    ],
    ids=repr,
)
def test_figures_that_can_not_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidRequest):
        figures.decode_host(codec.pack(HOST.model_dump() | change))


def test_what_a_newer_host_says_besides_is_passed_over() -> None:
    assert figures.decode_host(codec.pack(HOST.model_dump() | {"mood": "fine"})) == HOST
