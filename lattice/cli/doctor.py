"""``lattice doctor``: looks at everything a lattice stands on, and says what to do about it.

Nothing is changed by looking. What can't be found out is no finding, unless that is the finding.
"""

import asyncio
import json
import resource
import tempfile
import time
import urllib.request
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from rich.console import RenderableType
from rich.text import Text

from lattice import __version__, errors, limits, subjects
from lattice.bus import Message
from lattice.cli import checks, files, output
from lattice.cli.checks import Facts, Finding, Incident, Level, Machine, Monitor
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.control import diagnostics
from lattice.wire import apps, codec, control, events, reconciler
from lattice.wire.control import Host, HostInventory
from lattice.wire.provider import Health
from lattice.wire.reconciler import Leading

T = TypeVar("T")

LISTEN_S = 2.0
"""How long the lattice is listened to: every host beats in that time."""

LISTEN_S_MAX = 600.0

MONITOR_PORT = 8222
"""Where nats-server's monitoring usually listens, when it does."""

MONITOR_TIMEOUT_S = 0.5
"""It is beside the server or not there at all."""

MONITOR_BYTES_MAX = limits.MIB

ROUND_TRIPS = 3
"""The best of so many counts: the first one may wait for something else."""

INCIDENTS = frozenset(
    {
        "component_scale_failed",
        "component_throttled",
        "component_trapped",
        "connection_replaced",
        "health_check_failed",
        "linkdef_set_failed",
        "messages_dropped",
        "provider_crashed",
        "provider_gave_up",
        "provider_start_failed",
        "reconciler_stepped_back",
    }
)
"""Events that tell of something gone wrong."""

INCIDENTS_MAX = 10_000
"""Incidents that are kept; a lattice with more has one that matters."""

MARKS = {
    Level.OK: ("✓", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.PROBLEM: ("✗", "bold red"),
}


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "doctor", panel=panel, example="lattice doctor --listen 30")(doctor)


async def doctor(
    options: Options,
    *,
    listen: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=LISTEN_S_MAX,
            metavar="SECONDS",
            help="How long to listen for clocks, crashes and failures.",
        ),
    ] = LISTEN_S,
    monitor: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The nats-server's monitoring port.",
            show_default=f"http://SERVER:{MONITOR_PORT}, if it answers",
        ),
    ] = None,
    data_dir: Annotated[
        Path,
        typer.Option(
            envvar="LATTICE_DATA_DIR", metavar="DIR", help="Where a host here keeps its cache."
        ),
    ] = Path("~/.cache/lattice"),
) -> Result:
    """Check everything a lattice stands on, and say what to do about what is wrong.

    This machine, NATS and JetStream, the hosts with their versions and clocks, links and configs,
    providers, the reconciler. Nothing is changed. The exit status is 1 when something does not
    work; warnings leave it at 0.
    """
    with output.busy(f"examining the lattice, for {listen:.0f} seconds"):
        facts = await gather(options, listen_s=listen, monitor=monitor, data_dir=data_dir)
    findings = checks.examine(facts)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    summary = f"{checks.counted(problems, 'problem')}, {checks.counted(warnings, 'warning')}"
    return Result(
        fields={
            "findings": [finding_json(finding) for finding in findings],
            "problems": problems,
            "warnings": warnings,
        },
        text=[*(line for finding in findings for line in finding_text(finding)), "", summary],
        status=output.FAILED if problems else 0,
    )


def finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "what": finding.what,
        "remedy": finding.remedy,
    }


def finding_text(finding: Finding) -> list[RenderableType]:
    mark, style = MARKS[finding.level]
    lines = [Text.assemble((mark, style), f" {output.visible(finding.what)}")]
    if finding.remedy:
        lines.append(Text.assemble(("  remedy: ", "bold"), output.visible(finding.remedy)))
    return list(lines)


async def gather(
    options: Options, *, listen_s: float, monitor: str | None, data_dir: Path
) -> Facts:
    """Find out what the checks look at."""
    machine = this_machine(data_dir)
    try:
        async with connect(options) as connection:
            return await _gather(connection, machine, listen_s=listen_s, monitor=monitor)
    except (errors.Unavailable, errors.Denied) as error:
        return Facts(
            lattice=options.lattice_name,
            version=__version__,
            machine=machine,
            nats_fault=error.text,
            nats_remedy=error.remedy,
        )


def this_machine(cache_dir: Path) -> Machine:
    """What a host on this machine would find."""
    cache_dir = files.named(cache_dir)
    map_count = None
    with suppress(OSError, ValueError):
        map_count = int(Path("/proc/sys/vm/max_map_count").read_text())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fault = ""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir):
            pass
    except OSError as error:
        fault = f"{cache_dir} can't be written: {error.strerror}"
    return Machine(
        map_count=map_count,
        open_files=None if hard == resource.RLIM_INFINITY else hard,
        cache_dir=str(cache_dir),
        cache_fault=fault,
    )


async def _gather(
    connection: Connection, machine: Machine, *, listen_s: float, monitor: str | None
) -> Facts:
    ear = Ear()
    lattice, bus = connection.lattice, connection.bus
    for subject, hear in (
        (subjects.event(lattice, ">"), ear.hear_event),
        (subjects.own_event(lattice, ">"), ear.hear_event),
        (subjects.beat(lattice, "*"), ear.hear_beat),
    ):
        await bus.subscribe(subject, hear)
    await bus.flush()
    clock = asyncio.get_running_loop().time
    end = clock() + listen_s
    round_trip_s = await _round_trip_s(connection)
    account, account_fault = None, ""
    try:
        account = await bus.account.facts()
    except errors.LatticeError as error:
        account_fault = error.text
    hosts = await connection.control.hosts()
    inventories = await _inventories(connection, hosts)
    diagnosed = await _or(diagnostics.of_hosts(bus, lattice, timeout_s=connection.timeout_s), [])
    streams = await _or(bus.account.streams(), []) if account else []
    configs = (
        await _or(bus.account.keys(subjects.config_bucket(lattice)), None) if account else None
    )
    links = await _or(connection.control.links(), []) if hosts else []
    unhealthy = await _unhealthy(connection, inventories)
    leading, wadms, app_count = await _reconcilers(connection)
    url = monitor or _monitor_url(connection)
    found_monitor = await asyncio.to_thread(read_monitor, url)
    await asyncio.sleep(end - clock())
    return Facts(
        lattice=lattice,
        version=__version__,
        machine=machine,
        server=bus.server,
        round_trip_s=round_trip_s,
        monitor=found_monitor,
        account=account,
        account_fault=account_fault,
        streams=streams,
        hosts=hosts,
        inventories=inventories,
        skew_s=ear.skew_s,
        links=links,
        configs=None if configs is None else frozenset(configs),
        unhealthy=unhealthy,
        incidents=ear.incidents,
        listened_s=listen_s,
        diagnostics=diagnosed,
        reconciler=leading,
        wadms=wadms,
        apps=app_count,
    )


class Ear:
    """Hears what hosts say of themselves unasked."""

    def __init__(self) -> None:
        self.skew_s: dict[str, float] = {}
        self.incidents: list[Incident] = []

    async def hear_event(self, message: Message) -> None:
        if (event := events.decode(message.data)) is None:
            return
        name, source, data = event
        if (told := events.time_of(message.data)) is not None:
            self._note_clock(source, told)
        if name in INCIDENTS and len(self.incidents) < INCIDENTS_MAX:
            named = ("provider_id", "component_id", "source_id", "connection")
            entity = next((data[key] for key in named if data.get(key)), "")
            reason = data.get("reason") or data.get("error") or ""
            self.incidents.append(
                Incident(name=name, entity=str(entity or ""), host=source, reason=str(reason)[:200])
            )

    async def hear_beat(self, message: Message) -> None:
        with suppress(errors.LatticeError):
            beat = codec.unpack(message.data)
            if isinstance(beat, dict) and isinstance(told := beat.get("time"), int | float):
                self._note_clock(str(beat.get("id", "")), told)

    def _note_clock(self, host: str, told: float) -> None:
        # The one that was least on its way tells best.
        skew_s = told - time.time()
        if host not in self.skew_s or abs(skew_s) < abs(self.skew_s[host]):
            self.skew_s[host] = skew_s


def read_monitor(url: str) -> Monitor | None:
    """How a nats-server notices dead connections; None when it does not say."""
    if not url.startswith(("http://", "https://")):
        return None
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/varz", timeout=MONITOR_TIMEOUT_S) as answer:  # noqa: S310 - http or https, checked above
            values = json.loads(answer.read(MONITOR_BYTES_MAX))
        # In nanoseconds, as Go has it.
        return Monitor(
            ping_interval_s=float(values["ping_interval"]) / 1e9, pings_max=int(values["ping_max"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _monitor_url(connection: Connection) -> str:
    host = urlsplit(connection.bus.settings.public_url).hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{MONITOR_PORT}"


async def _round_trip_s(connection: Connection) -> float:
    clock = asyncio.get_running_loop().time
    trips = []
    for _ in range(ROUND_TRIPS):
        begin = clock()
        await connection.bus.flush()
        trips.append(clock() - begin)
    return min(trips)


async def _inventories(connection: Connection, hosts: list[Host]) -> dict[str, HostInventory]:
    answers = await asyncio.gather(
        *(_or(connection.control.inventory(host.id), None) for host in hosts)
    )
    return {inventory.host_id: inventory for inventory in answers if inventory is not None}


async def _unhealthy(
    connection: Connection, inventories: dict[str, HostInventory]
) -> dict[tuple[str, str], str]:
    running = [
        (host_id, provider.id)
        for host_id, inventory in inventories.items()
        for provider in inventory.providers
    ]
    answers = await asyncio.gather(*(_fault(connection, *one) for one in running))
    return {one: fault for one, fault in zip(running, answers, strict=True) if fault}


async def _fault(connection: Connection, host_id: str, provider_id: str) -> str:
    """What is wrong with a provider; nothing when it is well, or can't be asked from here."""
    lattice, bus = connection.lattice, connection.bus
    for subject in (
        subjects.provider_health(lattice, provider_id, host_id),
        subjects.provider_health(lattice, provider_id),
    ):
        deadline = asyncio.get_running_loop().time() + limits.HEALTH_TIMEOUT_S
        try:
            message = await bus.request(subject, deadline=deadline)
            health = control.parse(Health, message.data, what="health")
        except errors.NotRunning:
            # It runs inside its host, which asks it there; or is of wasmCloud's.
            continue
        except errors.LatticeError as error:
            return error.text
        return "" if health.healthy else health.message or "it says so itself"
    return ""


async def _reconcilers(connection: Connection) -> tuple[Leading | None, int, int | None]:
    """The reconciler that leads, how many wadms there are, and how many apps."""
    lattice, bus = connection.lattice, connection.bus
    leading = None
    with suppress(errors.LatticeError):
        deadline = asyncio.get_running_loop().time() + connection.timeout_s
        message = await bus.request(subjects.reconciler_state(lattice), deadline=deadline)
        leading = reconciler.parse(message.data)
    answers = await bus.request_many(
        subjects.app_api(lattice, "get"), timeout_s=connection.timeout_s, quiet_s=0.5
    )
    wadms, count = 0, None
    for answer in answers:
        try:
            listed = apps.ListAnswer.model_validate_json(answer.data)
        except ValidationError:
            continue
        count = len(listed.models)
        wadms += listed.served_by is None
    return leading, wadms, count


async def _or(work: Awaitable[T], otherwise: T) -> T:
    try:
        return await work
    except errors.LatticeError:
        return otherwise
