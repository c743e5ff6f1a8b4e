"""A load on a URL or an actor, from the command line, and what came of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from lattice import errors, limits, names
from lattice.aio.tasks import TaskGroup
from lattice.cli import calls, completion, load, output
from lattice.cli.calls import (
    InterfaceOption,
    JsonOption,
    LinkNameOption,
    PayloadFileOption,
    PayloadOption,
)
from lattice.cli.connection import connect
from lattice.cli.http_load import HttpLoad, Request
from lattice.cli.load import Outcome, Plan, Send
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result
from lattice.rpc import Rpc
from lattice.wire.histogram import Histogram, bounds_of
from lattice.wire.invocation import Invocation

CONCURRENCY = 16
DURATION_S = 10.0
CONCURRENCY_MAX = 10_000
"""More callers would be more open calls than one host has instances for."""

BAR_CHARS = 40
ROWS_MAX = 12
"""Lines of the histogram: neighbouring buckets are put together until it fits."""

REDRAW_S = 0.1
SHARES = (0.5, 0.9, 0.99, 0.999)


def register(app: typer.Typer, *, panel: str) -> None:
    command(
        app,
        "bench",
        panel=panel,
        example="lattice bench echo Echo.Say --payload hello --duration 5",
    )(bench)


async def bench(
    options: Options,
    target: Annotated[
        str,
        typer.Argument(
            metavar="URL|ACTOR",
            help="A URL of HTTP, or the id of the component or provider.",
            autocompletion=completion.entities,
        ),
    ],
    operation: Annotated[
        str | None,
        typer.Argument(metavar="OPERATION", help="What an actor shall do, as Service.Method."),
    ] = None,
    *,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=CONCURRENCY_MAX,
            metavar="N",
            help="Calls at a time, at most.",
        ),
    ] = CONCURRENCY,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration",
            "-d",
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help=f"How long; {DURATION_S:g} when no --count is given either.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, metavar="N", help="How many calls.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1_000_000,
            metavar="PER_SECOND",
            help="Begin so many calls each second, answered or not.",
        ),
    ] = None,
    payload: PayloadOption = None,
    payload_file: PayloadFileOption = None,
    json_text: JsonOption = None,
    interface: InterfaceOption = "",
    link_name: LinkNameOption = names.DEFAULT_LINK,
    method: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Of HTTP; GET, or POST where there is a payload."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header of HTTP; repeatable.")
    ] = None,
) -> Result:
    """Put a load on a URL or an actor, and show how it bore it.

    Exit status 1 when a call failed. With --rate a call's time counts from when it was due, so that
    a target that stands still is charged with every call that it kept waiting; without, from when
    it began. Figures are told to a sixteenth.
    """
    plan = Plan(
        concurrency=concurrency,
        calls=count,
        duration_s=DURATION_S if duration is None and count is None else duration,
        rate_per_s=rate,
    )
    body = calls.read_payload(text=payload, file=payload_file, json_text=json_text)
    timeout_s = options.timeout_ms / 1000 if options.timeout_ms else limits.CALL_TIMEOUT_S
    if is_url(target):
        if operation is not None:
            raise errors.InvalidRequest("an operation is for actors; a URL says it all")
        request = Request.to(
            target,
            method=(method or ("POST" if body else "GET")).upper(),
            headers=pairs(header or [], "header"),
            body=body,
        )
        http = HttpLoad(request, timeout_s=timeout_s)
        try:
            outcome = await _run(http.send, plan, target)
        finally:
            http.close()
    else:
        if operation is None:
            raise errors.InvalidRequest(
                f"which operation of {target}? lattice bench {target} Service.Method"
            )
        names.parse_entity(target)
        names.parse_link_name(link_name)
        if interface:
            names.parse_interface(interface)
        call = Invocation(
            source=calls.SOURCE,
            target=target,
            interface=interface,
            operation=operation,
            link_name=link_name,
            payload=body,
            deadline=0.0,
        )
        async with _actor(options, call, timeout_s) as send:
            outcome = await _run(send, plan, target)
    return result(outcome, plan, target)


def is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def result(outcome: Outcome, plan: Plan, target: str) -> Result:
    """The outcome in both forms."""
    durations = outcome.durations
    mean = durations.mean
    quantiles = {f"p{share * 100:g}": durations.quantile(share) for share in SHARES}
    fields: dict[str, Any] = {
        "target": target,
        "concurrency": plan.concurrency,
        "rate_per_s": plan.rate_per_s,
        "seconds": round(outcome.seconds, 3),
        "calls": outcome.succeeded + outcome.failed,
        "succeeded": outcome.succeeded,
        "failed": outcome.failed,
        "failures": dict(sorted(outcome.failures.items())),
        "not_begun": outcome.not_begun,
        "calls_per_s": round(outcome.calls_per_s, 1),
        "latency_us": {
            "min": durations.least,
            "avg": None if mean is None else round(mean, 1),
            **quantiles,
            "max": durations.greatest,
        },
        "histogram": [
            {"from_us": low, "to_us": high, "calls": calls} for low, high, calls in _rows(durations)
        ],
    }
    text: list[RenderableType] = [
        f"{outcome.succeeded} calls in {outcome.seconds:.2f} s: {outcome.calls_per_s:.1f} calls/s",
    ]
    if durations.total:
        told = ("min", durations.least), *quantiles.items(), ("max", durations.greatest)
        text += [
            "",
            output.table([name for name, _ in told], [[_duration(us) for _, us in told]]),
            "",
            output.table(("Latency", "Calls", ""), _bars(durations)),
        ]
    if outcome.failures:
        failures = outcome.failures.most_common()
        text += ["", output.table(("Failed", "Calls"), [(code, str(n)) for code, n in failures])]
    note = ""
    if outcome.not_begun:
        note = (
            f"{outcome.not_begun} calls were due and never began: {plan.concurrency} at a time are"
            " too few for this rate; see --concurrency"
        )
    status = output.FAILED if outcome.failed or not outcome.succeeded else 0
    return Result(fields=fields, text=text, note=note, status=status)


async def _run(send: Send, plan: Plan, target: str) -> Outcome:
    """Put the load on; Ctrl-C ends it early, and what came of it until then is told."""
    outcome = Outcome()
    tasks = TaskGroup("bench")
    try:
        with output.progress_bar(f"calls {target}") as draw, suppress(asyncio.CancelledError):
            tasks.spawn(_draw(draw, plan, outcome), name="progress")
            await load.run(send, plan, outcome)
    finally:
        await tasks.aclose()
    return outcome


async def _draw(draw: output.Draw, plan: Plan, outcome: Outcome) -> None:
    while True:
        elapsed_s = time.monotonic() - outcome.began_s
        ended = outcome.succeeded + outcome.failed
        shares = []
        if plan.duration_s is not None:
            shares.append(elapsed_s / plan.duration_s)
        if plan.calls_due is not None:
            shares.append(ended / plan.calls_due)
        failed = f", {outcome.failed} failed" if outcome.failed else ""
        draw(min(1.0, max(shares)), f"{ended} calls{failed}")
        await asyncio.sleep(REDRAW_S)


@asynccontextmanager
async def _actor(options: Options, call: Invocation, timeout_s: float) -> AsyncIterator[Send]:
    async with connect(options) as connection:
        rpc = Rpc(connection.bus, connection.lattice, at=calls.SOURCE)

        async def send() -> None:
            await rpc.call(
                Invocation(
                    source=call.source,
                    target=call.target,
                    interface=call.interface,
                    operation=call.operation,
                    link_name=call.link_name,
                    payload=call.payload,
                    deadline=rpc.now() + timeout_s,
                )
            )

        try:
            yield send
        finally:
            await rpc.aclose()


def _rows(durations: Histogram) -> list[tuple[int, int, int]]:
    """Least, greatest and count of each line of the histogram, none of the lines left out."""
    pairs_of = durations.pairs()
    if not pairs_of:
        return []
    counts = dict(zip(pairs_of[::2], pairs_of[1::2], strict=True))
    first, last = min(counts), max(counts)
    step = -(-(last - first + 1) // ROWS_MAX)
    return [
        (
            bounds_of(bucket)[0],
            bounds_of(min(bucket + step - 1, last))[1],
            sum(counts.get(each, 0) for each in range(bucket, bucket + step)),
        )
        for bucket in range(first, last + 1, step)
    ]


def _bars(durations: Histogram) -> list[tuple[str, str, str]]:
    rows = _rows(durations)
    most = max(calls for _, _, calls in rows)
    return [
        (f"to {_duration(high)}", str(calls), "█" * -(-calls * BAR_CHARS // most))
        for _, high, calls in rows
    ]


def _duration(microseconds: int | None) -> str:
    if microseconds is None:
        return "-"
    if microseconds < 1_000:
        return f"{microseconds} us"
    if microseconds < 1_000_000:
        return f"{microseconds / 1_000:.2f} ms"
    return f"{microseconds / 1_000_000:.2f} s"
