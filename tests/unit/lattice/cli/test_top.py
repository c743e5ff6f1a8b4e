"""What a look at hosts and components shows."""

from lattice.cli import top
from lattice.control.figures import Change
from lattice.wire import figures
from lattice.wire.figures import ActorFigures


def test_the_longest_throttling_of_any_host_is_the_actor_s() -> None:
    here = ActorFigures(id="bad", count=1, running=0, waiting=0, throttled_ms=20)
    there = ActorFigures(id="bad", count=1, running=0, waiting=0)
    assert figures.together([there, here]).throttled_ms == 20
    shown = top.Component(figures=here, hosts=1, change=Change(), over_s=1.0)
    assert "throttled" in top._component_row(shown)
    assert top._component_fields(shown)["throttled_ms"] == 20
