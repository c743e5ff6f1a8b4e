"""A host's word on itself, there and back, and never too large."""

import pytest

from lattice import errors, limits
from lattice.wire import codec, diagnostics
from lattice.wire.diagnostics import (
    BoundDiagnostics,
    ConnectionDiagnostics,
    FailureDiagnostics,
    HostDiagnostics,
    StallDiagnostics,
    TaskDiagnostics,
)

TASK = TaskDiagnostics(group="host", name="beat", eternal=True, age_s=1.5, restarts=2)
HOST = HostDiagnostics(
    id="N1",
    name="alpha",
    uptime_s=7,
    tasks=[TASK],
    failures=[FailureDiagnostics(group="rpc", count=1, last="ValueError: no")],
    connections=[
        ConnectionDiagnostics(
            purpose="calls",
            connected=True,
            server="n1",
            round_trip_s=0.001,
            dropped=2,
            dropped_by_subject={"a.*": 2},
        )
    ],
    stalls=StallDiagnostics(count=1, worst_s=2.0, last_s=2.0, last_at=1.0, last_stack="f"),
    bounds=[BoundDiagnostics(name="running instances", value=1, most=10)],
)


def test_what_a_host_says_arrives_as_it_was() -> None:
    assert diagnostics.decode(diagnostics.encode(HOST)) == HOST


def test_a_newer_host_may_say_more() -> None:
    more = HOST.model_dump() | {"mood": "fine"}

    assert diagnostics.decode(codec.pack(more)) == HOST


def test_an_answer_is_bounded_and_says_how_many_tasks_it_left_out() -> None:
    large = TASK.model_copy(update={"last_failure": "x" * 10_000})
    host = HOST.model_copy(update={"tasks": [large] * diagnostics.TASKS_MAX})

    data = diagnostics.encode(host)

    told = diagnostics.decode(data)
    assert len(data) <= limits.WATCH_ANSWER_BYTES
    assert 0 < len(told.tasks) < diagnostics.TASKS_MAX
    assert len(told.tasks) + told.tasks_left_out == diagnostics.TASKS_MAX


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", codec.pack([]), codec.pack({"id": 1}), codec.pack({"id": "N", "name": "n"})],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        diagnostics.decode(data)
