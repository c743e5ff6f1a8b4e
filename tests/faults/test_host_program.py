"""The wall clock of the hosts under test."""

from tests.faults.host_program import JUMP_S, WallClock


def test_a_wall_clock_jumps_ahead_and_back() -> None:
    clock = WallClock(lambda: 1000.0)
    times = [clock.time()]
    for _ in range(2):
        clock.jump()
        times.append(clock.time())

    assert times == [1000.0, 1000.0 + JUMP_S, 1000.0]


def test_its_nanoseconds_jump_with_it() -> None:
    clock = WallClock(lambda: 1000.0)
    clock.jump()

    assert clock.time_ns() == (1000 + JUMP_S) * 10**9
