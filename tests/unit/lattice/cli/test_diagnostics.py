"""How a host's diagnostics are shown."""

import io

from rich.console import Console

from lattice.cli.diagnostics import diagnostics_result
from lattice.wire.diagnostics import (
    ConnectionDiagnostics,
    FailureDiagnostics,
    HostDiagnostics,
    StallDiagnostics,
    TaskDiagnostics,
)


def shown(host: HostDiagnostics) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in diagnostics_result([host], "default").text:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_host_that_is_well_is_shown_briefly() -> None:
    text = shown(HostDiagnostics(id="N1", name="alpha", uptime_s=1))

    assert "alpha" in text
    assert "never blocked" in text


def test_what_went_wrong_is_shown_with_its_numbers() -> None:
    text = shown(
        HostDiagnostics(
            id="N1",
            name="alpha",
            uptime_s=1,
            tasks=[
                TaskDiagnostics(
                    group="host", name="beat", eternal=True, age_s=3.2, restarts=4, last_failure="E"
                )
            ],
            tasks_left_out=5,
            failures=[FailureDiagnostics(group="rpc", count=6, last="call: ValueError")],
            connections=[
                ConnectionDiagnostics(
                    purpose="calls",
                    connected=False,
                    server="n1",
                    round_trip_s=0.0015,
                    replaced=1,
                    replaced_for="nothing arrives",
                    dropped=9,
                    dropped_by_subject={"b": 2, "a": 7},
                )
            ],
            stalls=StallDiagnostics(
                count=2, worst_s=1.25, last_s=0.5, last_at=0.0, last_stack="x.py:1 in f", frozen=3
            ),
        )
    )

    for part in (
        "not connected",
        "1.5 ms",
        "nothing arrives",
        "7 on a, 2 on b",
        "and 5 more tasks",
        "failed in rpc: 6, last call: ValueError",
        "stood still 3 times",
        "blocked 2 times, 1.25 s at worst",
        "x.py:1 in f",
    ):
        assert part in text


def test_nobody_there_is_said() -> None:
    result = diagnostics_result([], "default")

    assert result.fields == {"diagnostics": []}
    assert "start one" in result.note
