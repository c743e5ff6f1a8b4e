"""What a look at hosts and components shows."""

from lattice.cli import top
from lattice.control.figures import Change
from lattice.wire import figures
from lattice.wire.figures import ActorFigures, LinkFigures
from lattice.wire.histogram import Histogram


def test_the_longest_throttling_of_any_host_is_the_actor_s() -> None:
    here = ActorFigures(id="bad", count=1, running=0, waiting=0, throttled_ms=20)
    there = ActorFigures(id="bad", count=1, running=0, waiting=0)
    assert figures.together([there, here]).throttled_ms == 20
    shown = top.Component(figures=here, hosts=1, change=Change(), over_s=1.0)
    assert "throttled" in top._component_row(shown)
    assert top._component_fields(shown)["throttled_ms"] == 20


def test_what_was_metered_of_a_component_and_its_links_is_shown() -> None:
    durations = Histogram()
    for microseconds in (1, 2, 3, 10):
        durations.add(microseconds)
    link = LinkFigures(
        name="default",
        interface="wasmcloud:keyvalue",
        target="kv",
        calls=4,
        failures=0,
        durations=durations,
        bytes_in=5,
        bytes_out=6,
        cpu_us=7,
    )
    metered = ActorFigures(
        id="counter",
        count=1,
        running=0,
        waiting=0,
        fuel=8,
        host_calls=9,
        durations=durations,
        links=[link],
    )

    shown = top._component_fields(
        top.Component(figures=metered, hosts=1, change=Change(), over_s=1.0)
    )

    spread = {"min_us": 1, "avg_us": 4.0, "p50_us": 2, "p99_us": 10, "max_us": 10}
    assert shown.items() >= {**spread, "fuel": 8, "host_calls": 9}.items()
    assert shown["links"][0].items() >= {**spread, "bytes_in": 5, "bytes_out": 6}.items()
    assert shown["links"][0]["cpu_us"] == 7
