"""What a connection's looks come to: deaf, or only late."""

from dataclasses import replace

from lattice.bus.liveness import PROBE_MISSES_MAX, Fault, Liveness, Look

WELL = Look(working=True, echoed=True, passed=True, handled=True, received=1)
LATE = replace(WELL, echoed=False, passed=False)
UNROUTED = replace(WELL, echoed=False)


def test_what_comes_back_is_well() -> None:
    liveness = Liveness()

    assert [liveness.judge(WELL) for _ in range(10)] == [None] * 10
    assert liveness.proven


def test_a_client_that_stopped_is_told_at_once() -> None:
    assert Liveness().judge(replace(WELL, working=False)) is Fault.STOPPED


def test_silence_is_told_after_so_many_looks() -> None:
    liveness = Liveness()
    liveness.judge(WELL)

    found = [liveness.judge(LATE) for _ in range(PROBE_MISSES_MAX)]

    assert found == [None] * (PROBE_MISSES_MAX - 1) + [Fault.SILENT]


def test_whatever_arrives_ends_the_silence() -> None:
    liveness = Liveness()

    found = [liveness.judge(replace(LATE, received=n)) for n in range(100)]

    assert found == [None] * 100


def test_a_new_connection_has_been_silent_for_no_time() -> None:
    liveness = Liveness()
    for _ in range(PROBE_MISSES_MAX - 1):
        liveness.judge(replace(LATE, received=-1))
    liveness.start_over()

    assert liveness.judge(replace(LATE, received=-1)) is None


def test_a_message_that_the_ping_behind_it_overtook_is_lost() -> None:
    liveness = Liveness()
    liveness.judge(WELL)

    assert liveness.judge(UNROUTED) is Fault.UNROUTED


def test_a_message_that_waits_here_or_found_no_room_is_not_lost() -> None:
    liveness = Liveness()
    liveness.judge(WELL)

    assert liveness.judge(replace(UNROUTED, handled=False)) is None


def test_who_may_not_send_itself_messages_is_not_replaced_again_and_again() -> None:
    never, lost = Liveness(), Liveness()
    lost.judge(WELL)

    assert [never.judge(UNROUTED) for _ in range(10)] == [None] * 10
    assert [lost.judge(UNROUTED) for _ in range(10)] == [Fault.UNROUTED, *[None] * 9]
    # An echo shows that they are permitted again.
    lost.judge(WELL)
    assert lost.judge(UNROUTED) is Fault.UNROUTED
