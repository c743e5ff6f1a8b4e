"""What may be wrong with a lattice: small judgements over facts that were gathered, and remedies.

Each check is a function of the facts alone, so it can be tried on any lattice that can be imagined.
It returns what it found: nothing where it has nothing to look at, ``ok`` where all is well.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lattice import limits, subjects
from lattice.bus import AccountFacts, ServerFacts, StreamFacts, Usage
from lattice.wire.control import (
    Host,
    HostInventory,
    Link,
    ProviderCrashes,
    ProviderDescription,
)
from lattice.wire.diagnostics import HostDiagnostics
from lattice.wire.reconciler import Leading

SERVER_VERSION_MIN = (2, 10)
"""The first nats-server with what our buckets and object stores are made of."""

ROUND_TRIP_S_MAX = 0.25
"""A control request takes a few round trips, and commands wait two seconds for them."""

CLOCK_SKEW_S_MAX = 2.0
"""Clocks further apart make claims expire early and leases look old."""

SILENCE_S_MAX = 10.0
"""A server that takes longer to notice a frozen host sends calls to it all that time."""

NEARLY_FULL = 0.9
"""From here on a store is worth a look: what doesn't fit is refused."""

FULL = 0.99

MAP_COUNT_MIN = 65_530
"""Linux's default for ``vm.max_map_count``; an instance takes five mappings."""

OPEN_FILES_MIN = 4_096
"""Each provider, HTTP connection and compiled module takes some."""

CALLER = "cli"
"""The source of calls from a command line, which no host runs."""

LISTED_MAX = 5
"""How many things one finding names."""

_VERSION = re.compile(r"(\d+)\.(\d+)")
_SECRET = "SECRET_"  # noqa: S105 - the name of a reference, not a secret


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Works, but not as it should, or not for long."""
    PROBLEM = "problem"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has to say."""

    check: str
    level: Level
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """What a server's monitoring port says of how it notices dead connections."""

    ping_interval_s: float
    pings_max: int

    @property
    def silence_s(self) -> float:
        """How long a peer may be silent, at the most, until its connection is dropped.

        The ping that is due right after it has spoken is left out.
        """
        return self.ping_interval_s * (self.pings_max + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine allows; None where it has no such limit."""

    map_count: int | None = None
    open_files: int | None = None
    """The limit that a process may raise its own to."""
    cache_dir: str = ""
    cache_fault: str = ""
    """Why the cache directory can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An event that tells of something gone wrong."""

    name: str
    entity: str
    host: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found out. None, or nothing, where it could not be."""

    lattice: str = "default"
    version: str = ""
    """Of this command."""
    machine: Machine | None = None
    nats_fault: str = ""
    """Why NATS could not be reached; then nothing of the rest is known."""
    nats_remedy: str = ""
    server: ServerFacts | None = None
    round_trip_s: float | None = None
    monitor: Monitor | None = None
    account: AccountFacts | None = None
    account_fault: str = ""
    streams: Sequence[StreamFacts] = ()
    hosts: Sequence[Host] = ()
    inventories: Mapping[str, HostInventory] = field(default_factory=dict)
    """By host id, of those that gave one."""
    skew_s: Mapping[str, float] = field(default_factory=dict)
    """How far each host's clock is before ours, by host id, of those that were heard."""
    links: Sequence[Link] = ()
    configs: frozenset[str] | None = None
    """Names of the configs there are."""
    unhealthy: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """What is wrong with providers, by host id and provider id."""
    incidents: Sequence[Incident] = ()
    """What was told while the lattice was listened to."""
    listened_s: float = 0
    diagnostics: Sequence[HostDiagnostics] = ()
    """What hosts say of themselves, of those that do."""
    reconciler: Leading | None = None
    """The reconciler that leads."""
    wadms: int = 0
    """How many real wadms serve this lattice."""
    apps: int | None = None


Check = Callable[[Facts], Iterable[Finding]]


def examine(facts: Facts) -> list[Finding]:
    """Everything that the checks find, in their order."""
    return [finding for check in CHECKS for finding in check(facts)]


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def machine(facts: Facts) -> Iterator[Finding]:
    """Whether a host could work well on this machine."""
    if (found := facts.machine) is None:
        return
    if found.map_count is not None:
        few = found.map_count < MAP_COUNT_MIN
        yield Finding(
            "vm.max_map_count",
            Level.WARNING if few else Level.OK,
            f"this machine lets a process have {found.map_count:,} memory mappings",
            "each running instance takes five: sysctl -w vm.max_map_count=262144" if few else "",
        )
    if found.open_files is not None:
        few = found.open_files < OPEN_FILES_MIN
        yield Finding(
            "open files",
            Level.WARNING if few else Level.OK,
            f"this machine lets a process open {found.open_files:,} files",
            f"raise it to {OPEN_FILES_MIN:,} or more: ulimit -n, or LimitNOFILE of systemd"
            if few
            else "",
        )
    if found.cache_dir:
        yield Finding(
            "cache directory",
            Level.PROBLEM if found.cache_fault else Level.OK,
            found.cache_fault or f"{found.cache_dir} can be written",
            "make it writable, or name another one with LATTICE_DATA_DIR"
            if found.cache_fault
            else "",
        )


def nats(facts: Facts) -> Iterator[Finding]:
    """Whether NATS is there, near, and new enough."""
    if facts.nats_fault:
        yield Finding("NATS", Level.PROBLEM, facts.nats_fault, facts.nats_remedy)
        return
    if (server := facts.server) is None:
        return
    trip_s = facts.round_trip_s or 0.0
    far = trip_s > ROUND_TRIP_S_MAX
    yield Finding(
        "NATS",
        Level.WARNING if far else Level.OK,
        f"nats-server answers in {trip_s * 1000:.1f} ms",
        "run hosts and commands nearer to it, or a leaf node beside them" if far else "",
    )
    old = _version(server.version) < SERVER_VERSION_MIN
    yield Finding(
        "NATS version",
        Level.PROBLEM if old else Level.OK,
        f"nats-server is {server.version or 'of a version that it does not say'}",
        "upgrade it to 2.10 or later" if old else "",
    )


def max_payload(facts: Facts) -> Iterator[Finding]:
    """Whether what we send inside a message fits into one."""
    if facts.server is None:
        return
    wanted = limits.INLINE_PAYLOAD_BYTES + limits.ENVELOPE_BYTES_MARGIN
    small = facts.server.max_payload < wanted
    yield Finding(
        "max_payload",
        Level.WARNING if small else Level.OK,
        f"nats-server takes messages of {facts.server.max_payload:,} bytes",
        f"larger payloads take the long way through JetStream: set max_payload to {wanted:,} bytes"
        " or more"
        if small
        else "",
    )


def silence(facts: Facts) -> Iterator[Finding]:
    """Whether the server notices soon that a host is frozen."""
    if (monitor := facts.monitor) is None:
        return
    slow = monitor.silence_s > SILENCE_S_MAX
    yield Finding(
        "NATS pings",
        Level.WARNING if slow else Level.OK,
        f"nats-server drops a silent connection after {monitor.silence_s:,.0f} s",
        'calls go to a frozen host so long: set ping_interval: "2s" and ping_max: 2'
        if slow
        else "",
    )


def jetstream(facts: Facts) -> Iterator[Finding]:
    """Whether JetStream is there, and has room."""
    if facts.account_fault:
        yield Finding(
            "JetStream",
            Level.PROBLEM,
            facts.account_fault,
            "links and configs are kept in it: start nats-server with --jetstream, and enable it"
            " for this account",
        )
    if (account := facts.account) is None:
        return
    room = {"storage": account.storage, "memory": account.memory, "streams": account.streams}
    scarce = [(name, usage) for name, usage in room.items() if _share(usage) >= NEARLY_FULL]
    for name, usage in scarce:
        yield Finding(
            "JetStream",
            Level.PROBLEM if _share(usage) >= FULL else Level.WARNING,
            f"JetStream has used {usage.used:,} of {usage.limit:,} of its {name}",
            f"delete what is not needed, or raise the account's limit of {name}",
        )
    if not scarce:
        yield Finding(
            "JetStream", Level.OK, f"JetStream is on and holds {account.storage.used:,} bytes"
        )


def stores(facts: Facts) -> Iterator[Finding]:
    """Whether a bucket or an object store of this lattice is nearly full."""
    lattice = facts.lattice
    kept = {
        f"KV_{subjects.state_bucket(lattice)}": "links",
        f"KV_{subjects.config_bucket(lattice)}": "configs",
        f"OBJ_{subjects.artefact_bucket(lattice)}": "uploaded artefacts",
        f"OBJ_{subjects.payload_bucket(lattice)}": "large payloads",
    }
    for stream in facts.streams:
        if stream.name in kept and (share := _share(stream.size)) >= NEARLY_FULL:
            yield Finding(
                "stores",
                Level.PROBLEM if share >= FULL else Level.WARNING,
                f"the store of {kept[stream.name]} ({stream.name}) is {share:.0%} full",
                "raise its max_bytes with: nats stream edit, or remove what is not needed",
            )


def older_streams(facts: Facts) -> Iterator[Finding]:
    """Whether wasmCloud 0.x has left something that nobody reads any more."""
    left = [
        stream.name for stream in facts.streams if stream.name == f"LATTICECACHE_{facts.lattice}"
    ]
    if left:
        yield Finding(
            "wasmCloud 0.x",
            Level.WARNING,
            f"stream {left[0]} is wasmCloud 0.x's and nobody reads it",
            f"if no such host is left, remove it with: nats stream rm {left[0]}",
        )


def hosts(facts: Facts) -> Iterator[Finding]:
    """Whether there are hosts, and whether all of them say what runs on them."""
    if facts.server is None:
        return
    if not facts.hosts:
        yield Finding(
            "hosts",
            Level.PROBLEM,
            f"no host answers on lattice {facts.lattice!r}",
            "start one with: lattice host, or name another lattice with --lattice",
        )
        return
    mute = [host for host in facts.hosts if host.id not in facts.inventories]
    for host in mute:
        yield Finding(
            "hosts",
            Level.PROBLEM,
            f"host {_named(host)} answers a ping, but does not say what runs on it",
            "it is stuck or overloaded: see its log, and restart it",
        )
    if not mute:
        yield Finding("hosts", Level.OK, f"{counted(len(facts.hosts), 'host')} answered")
    twice = _repeated(host.friendly_name for host in facts.hosts)
    if twice:
        yield Finding(
            "hosts",
            Level.WARNING,
            f"several hosts are called {_listed(twice)}",
            "commands can name them by their ids only: give each a name of its own with --name",
        )


def versions(facts: Facts) -> Iterator[Finding]:
    """Whether hosts of one lattice are of one version."""
    found = {host.version for host in facts.hosts if host.version}
    if len(found) > 1:
        yield Finding(
            "versions",
            Level.WARNING,
            f"hosts are of different versions: {_listed(sorted(found))}",
            "during an upgrade that is as it should be; otherwise upgrade the older ones",
        )
    elif found:
        yield Finding("versions", Level.OK, f"every host is of version {next(iter(found))}")


def clocks(facts: Facts) -> Iterator[Finding]:
    """Whether the hosts' clocks agree with ours."""
    wrong = False
    for host in facts.hosts:
        skew_s = facts.skew_s.get(host.id, 0.0)
        if abs(skew_s) > CLOCK_SKEW_S_MAX:
            wrong = True
            yield Finding(
                "clocks",
                Level.WARNING,
                f"the clock of host {_named(host)} is {abs(skew_s):,.1f} s"
                f" {'ahead of' if skew_s > 0 else 'behind'} the one here",
                "claims may expire early and leases look old: run NTP on both machines",
            )
    if facts.skew_s and not wrong:
        yield Finding(
            "clocks",
            Level.OK,
            f"the clocks of {counted(len(facts.skew_s), 'host')} agree with ours",
        )


def links(facts: Facts) -> Iterator[Finding]:
    """Whether links lead from something that runs to something that runs, and to one thing."""
    if not facts.links or not facts.inventories:
        return
    found = [*_stuck(facts), *_missing_configs(facts), *_overlapping(facts.links)]
    yield from found
    if not found:
        yield Finding("links", Level.OK, f"all of {counted(len(facts.links), 'link')} can be used")


def providers(facts: Facts) -> Iterator[Finding]:
    """Whether providers are well."""
    running = [
        (host, provider)
        for host, inventory in facts.inventories.items()
        for provider in inventory.providers
    ]
    names = {host.id: host.friendly_name for host in facts.hosts}
    crashed = [
        _crashed(provider, provider.crashes, host, names.get(host, host))
        for host, provider in running
        if provider.crashes is not None
    ]
    yield from crashed
    for (host_id, provider_id), reason in sorted(facts.unhealthy.items()):
        yield Finding(
            "providers",
            Level.PROBLEM,
            f"provider {provider_id} on host {names.get(host_id, host_id)} is not healthy:"
            f" {reason}",
            f"see its host's log; restart it with: lattice stop provider {provider_id} --host-id"
            f" {host_id}",
        )
    if running and not facts.unhealthy and not crashed:
        yield Finding(
            "providers", Level.OK, f"nothing is wrong with {counted(len(running), 'provider')}"
        )


def _crashed(
    provider: ProviderDescription, crashes: ProviderCrashes, host_id: str, host: str
) -> Finding:
    often = f"{crashes.count} crash{'' if crashes.count == 1 else 'es'}"
    if provider.is_given_up:
        return Finding(
            "providers",
            Level.PROBLEM,
            f"provider {provider.id} on host {host} was given up after {often}: {crashes.reason}",
            f"mend what ends it (see the host's log), then: lattice start provider"
            f" {provider.image_ref or 'REFERENCE'} {provider.id} --host-id {host_id}",
        )
    return Finding(
        "providers",
        Level.WARNING,
        f"provider {provider.id} on host {host} had {often} lately: {crashes.reason}",
        "see the host's log, and follow it with: lattice events",
    )


def incidents(facts: Facts) -> Iterator[Finding]:
    """What went wrong while the lattice was listened to."""
    names = {host.id: host.friendly_name for host in facts.hosts}
    seen: dict[tuple[str, str, str], int] = defaultdict(int)
    reasons: dict[tuple[str, str, str], str] = {}
    for incident in facts.incidents:
        key = (incident.name, incident.entity, incident.host)
        seen[key] += 1
        reasons[key] = incident.reason
    for (name, entity, host), count in sorted(seen.items()):
        reason = reasons[name, entity, host]
        times = "" if count == 1 else f" {count} times"
        yield Finding(
            "events",
            Level.WARNING,
            f"{name} of {entity or 'something'} on host {names.get(host, host)}{times} within"
            f" {facts.listened_s:.0f} s{f': {reason}' if reason else ''}",
            "follow it with: lattice events",
        )


def connections(facts: Facts) -> Iterator[Finding]:
    """Whether hosts hear everything that is said to them."""
    wrong = False
    for host in facts.diagnostics:
        for one in host.connections:
            where = f"the connection for {one.purpose} of host {_diagnosed(host)}"
            if one.dropped:
                wrong = True
                subjects_ = sorted(
                    one.dropped_by_subject, key=lambda name: -one.dropped_by_subject[name]
                )
                yield Finding(
                    "connections",
                    Level.WARNING,
                    f"{where} dropped {counted(one.dropped, 'message')}, on {_listed(subjects_)}",
                    "it gets more than it can take: start more hosts, or lower the count of what"
                    " floods it; see lattice get diagnostics",
                )
            if one.replaced:
                wrong = True
                yield Finding(
                    "connections",
                    Level.WARNING,
                    f"{where} was deaf and made anew {one.replaced} times, last as"
                    f" {one.replaced_for}",
                    "look for a proxy, firewall or overloaded nats-server between them; see the"
                    " host's log",
                )
            if one.revived:
                wrong = True
                yield Finding(
                    "connections",
                    Level.WARNING,
                    f"on {where} {counted(one.revived, 'subscription')} had ended by itself",
                    "that is a bug: please report it with the host's log",
                )
    if facts.diagnostics and not wrong:
        yield Finding("connections", Level.OK, "every host hears what is said to it")


def loops(facts: Facts) -> Iterator[Finding]:
    """Whether something keeps a host from answering at once."""
    for host in facts.diagnostics:
        if (stalls := host.stalls).count:
            where = stalls.last_stack.splitlines()[-1:] or ["an unknown place"]
            yield Finding(
                "event loops",
                Level.WARNING,
                f"the event loop of host {_diagnosed(host)} was blocked"
                f" {stalls.count} times, {stalls.worst_s:.1f} s at worst, last in {where[0]}",
                "nothing on the host is answered meanwhile: give it a processor of its own, or see"
                " what it did with: lattice get diagnostics",
            )
    if facts.diagnostics and not any(host.stalls.count for host in facts.diagnostics):
        yield Finding("event loops", Level.OK, "no host's event loop was blocked")


def tasks(facts: Facts) -> Iterator[Finding]:
    """Whether what runs in the background of a host fails."""
    wrong = False
    for host in facts.diagnostics:
        for task in host.tasks:
            if task.restarts:
                wrong = True
                yield Finding(
                    "tasks",
                    Level.WARNING,
                    f"task {task.name} of host {_diagnosed(host)} was started again"
                    f" {task.restarts} times: {task.last_failure}",
                    "see the host's log for why it failed",
                )
        for failed in host.failures:
            wrong = True
            yield Finding(
                "tasks",
                Level.WARNING,
                f"{counted(failed.count, 'task')} of {failed.group} on host {_diagnosed(host)}"
                f" failed, last {failed.last}",
                "that is a bug: please report it with the host's log",
            )
    if facts.diagnostics and not wrong:
        yield Finding("tasks", Level.OK, "no host's background task failed")


def reconciler(facts: Facts) -> Iterator[Finding]:
    """Whether somebody keeps apps as they shall be, and only one."""
    if facts.server is None:
        return
    if facts.wadms > 1:
        yield Finding(
            "reconciler",
            Level.OK,
            f"{facts.wadms} wadms serve the apps of this lattice together",
        )
    elif facts.wadms:
        yield Finding("reconciler", Level.OK, "a wadm serves the apps of this lattice")
    leading = facts.reconciler
    if leading is not None and leading.stepped_back:
        yield Finding(
            "reconciler",
            Level.WARNING,
            f"the reconciler on {leading.name or 'a host'} has stepped back, as a wadm serves this"
            " lattice",
            "apps are wadm's now; stop it, and the reconciler takes over within seconds",
        )
    elif leading is not None:
        yield Finding("reconciler", Level.OK, f"the reconciler on {leading.name or 'a host'} leads")
    elif not facts.wadms:
        yield Finding(
            "reconciler",
            Level.WARNING,
            "no reconciler answers: apps are neither deployed nor repaired",
            "hosts run one unless told otherwise; or run one alone with: lattice reconcile",
        )


CHECKS: tuple[Check, ...] = (
    machine,
    nats,
    max_payload,
    silence,
    jetstream,
    stores,
    older_streams,
    hosts,
    versions,
    clocks,
    links,
    providers,
    incidents,
    connections,
    loops,
    tasks,
    reconciler,
)


def _stuck(facts: Facts) -> Iterator[Finding]:
    """Links whose source or target no host runs."""
    running = {
        entity
        for inventory in facts.inventories.values()
        for entity in (
            *(component.id for component in inventory.components),
            *(provider.id for provider in inventory.providers),
        )
    }
    # With a host that does not say what it runs, nothing is known to be missing.
    if len(facts.inventories) < len(facts.hosts):
        return
    for end in ("source", "target"):
        absent: dict[str, int] = defaultdict(int)
        for link in facts.links:
            entity = link.source_id if end == "source" else link.target
            if entity not in running and entity != CALLER:
                absent[entity] += 1
        for entity, count in sorted(absent.items()):
            is_source = end == "source"
            yield Finding(
                "links",
                Level.WARNING,
                f"{count} {'link has' if count == 1 else 'links have'} {entity} as {end}, which no"
                " host runs",
                f"start it, or delete them: lattice get links --{end} {entity}"
                if is_source
                else f"calls over it fail: start {entity}, or see lattice get links --{end}"
                f" {entity}",
            )


def _missing_configs(facts: Facts) -> Iterator[Finding]:
    """Links that name configs which do not exist."""
    if facts.configs is None:
        return
    users: dict[str, set[str]] = defaultdict(set)
    for link in facts.links:
        for name in (*link.source_config, *link.target_config):
            if name not in facts.configs:
                users[name].add(f"{link.source_id} to {link.target}")
    for name, ends in sorted(users.items()):
        kind = "secret reference" if name.startswith(_SECRET) else "config"
        yield Finding(
            "links",
            Level.PROBLEM,
            f"{kind} {name}, which the link from {_listed(sorted(ends))} names, does not exist",
            f"put it with: lattice config put {name} key=value; or put the link without it",
        )


def _overlapping(found: Sequence[Link]) -> Iterator[Finding]:
    """Links of one source and name on the same interface, to different targets."""
    by_key: dict[tuple[str, str, str, str], list[Link]] = defaultdict(list)
    for link in found:
        by_key[link.key].append(link)
    for (source, name, namespace, package), links_ in sorted(by_key.items()):
        targets = {
            link.target
            for index, link in enumerate(links_)
            for other in (*links_[:index], *links_[index + 1 :])
            if link.target != other.target and _overlap(link.interfaces, other.interfaces)
        }
        if targets:
            yield Finding(
                "links",
                Level.PROBLEM,
                f"{source} has links named {name} on {namespace}:{package} to"
                f" {_listed(sorted(targets))}: which is taken is chance",
                f"delete all but one: lattice link del {source} {namespace} {package} -l {name}"
                " --target ID; or give them different names",
            )


def _overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists of interfaces have one in common; an empty one means all."""
    return not some or not others or not set(some).isdisjoint(others)


def _share(usage: Usage) -> float:
    return usage.used / usage.limit if usage.limit else 0.0


def _version(text: str) -> tuple[int, int]:
    """The first two numbers of a version; what says none is taken for the newest."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else (2**31, 0)


def _named(host: Host) -> str:
    return f"{host.friendly_name} ({host.id})"


def _diagnosed(host: HostDiagnostics) -> str:
    return f"{host.name} ({host.id})"


def _repeated(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = defaultdict(int)
    for name in names:
        seen[name] += 1
    return sorted(name for name, count in seen.items() if count > 1)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED_MAX
    return ", ".join(names[:LISTED_MAX]) + (f" and {more} more" if more > 0 else "")
