"""A lattice that exists only in memory: hosts that do as they are told, late, or never.

For tests of decisions. It keeps what a lattice really has, and shows it as ``Observed``; commands
take effect after a delay that the test sets, or get lost. It complains as soon as it is told what
no reconciler may say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lattice.manifest import desired, parse
from lattice.reconcile import planning
from lattice.reconcile.model import (
    App,
    AppStatus,
    Command,
    Decision,
    DeleteConfig,
    DeleteLink,
    HostState,
    Memory,
    Observed,
    ObservedComponent,
    ObservedHost,
    ObservedProvider,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    Step,
    StopProvider,
)
from lattice.wire.control import Link, LinkKey


@dataclass
class SimulatedHost:
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    state: HostState = "alive"
    draining: bool = False
    components: dict[str, ObservedComponent] = field(default_factory=dict)
    providers: dict[str, ObservedProvider] = field(default_factory=dict)


@dataclass
class SimulatedLattice:
    """Time, hosts, state, and a reconciler that keeps nothing but its stored memory."""

    now: float = 1_000.0
    delay_s: float = 0.0
    """From a command until it takes effect."""
    losing: bool = False
    """Whether commands get lost on their way."""
    broken: set[str] = field(default_factory=set)
    """References that no host can run."""
    hosts: dict[str, SimulatedHost] = field(default_factory=dict)
    links: dict[LinkKey, Link] = field(default_factory=dict)
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    statuses: dict[str, AppStatus] = field(default_factory=dict)
    sent: list[Step] = field(default_factory=list)
    """Every step that was ever taken."""
    wake_at: float | None = None
    _under_way: list[tuple[float, Command]] = field(default_factory=list)

    def add_host(self, host: str, **labels: str) -> SimulatedHost:
        self.hosts[host] = SimulatedHost(host, labels)
        return self.hosts[host]

    def kill(self, host: str) -> None:
        """A host and all that it ran is gone for good, though it may come back empty."""
        self.hosts[host].state = "dead"
        self.hosts[host].components.clear()
        self.hosts[host].providers.clear()

    def deploy(self, manifest: str, version: str = "v1") -> None:
        wanted = desired(parse(manifest.encode()), version)
        before = self.apps.get(wanted.name, App(name=wanted.name))
        fallbacks = dict(before.fallbacks)
        if before.desired is not None:
            fallbacks[before.desired.version] = before.desired
        self.apps[wanted.name] = App(
            name=wanted.name,
            generation=before.generation + 1,
            desired=wanted,
            previous=before.desired.version if before.desired else None,
            fallbacks=fallbacks,
        )

    def undeploy(self, name: str, *, delete: bool = False) -> None:
        before = self.apps[name]
        self.apps[name] = App(name=name, generation=before.generation + 1, deleting=delete)

    def observe(self) -> Observed:
        return Observed(
            hosts={
                host.id: ObservedHost(
                    id=host.id,
                    name=host.id,
                    labels=dict(host.labels),
                    state=host.state,
                    draining=host.draining,
                    components=dict(host.components),
                    providers=dict(host.providers),
                )
                for host in self.hosts.values()
            },
            links=tuple(self.links.values()),
            configs={name: dict(values) for name, values in self.configs.items()},
        )

    def decide(self) -> Decision:
        return planning.decide(list(self.apps.values()), self.observe(), self.memory, self.now)

    def tick(self) -> list[Step]:
        """Decide once, by a leader that knows only what was stored, and send the commands."""
        decision = self.decide()
        # What is not in the stored form is not remembered.
        self.memory = Memory.model_validate_json(decision.memory.model_dump_json())
        self.statuses = dict(decision.statuses)
        self.wake_at = decision.wake_at
        for step in decision.steps:
            self._check(step.command)
            if not self.losing:
                self._under_way.append((self.now + self.delay_s, step.command))
        self.sent += decision.steps
        self._take_effect()
        return decision.steps

    def run(self, seconds: float, *, every_s: float = 0.5) -> None:
        """Let time pass, deciding whenever something might be different."""
        end = self.now + seconds
        while self.now < end:
            self.tick()
            self.now += every_s
            self._take_effect()

    def count(self, component: str, host: str) -> int:
        copy = self.hosts[host].components.get(component)
        return copy.count if copy else 0

    def counts(self, component: str) -> dict[str, int]:
        """Instances by host, of hosts that are not dead."""
        return {
            host.id: self.count(component, host.id)
            for host in self.hosts.values()
            if host.state != "dead"
        }

    def running(self, provider: str) -> set[str]:
        return {host.id for host in self.hosts.values() if _runs(host, provider)}

    def give_up(self, provider: str, host: str) -> None:
        """Have a host cease to restart one that keeps crashing."""
        providers = self.hosts[host].providers
        providers[provider] = replace(providers[provider], given_up="it crashed")

    def references(self, component: str) -> set[str]:
        return {
            copy.reference
            for host in self.hosts.values()
            for name, copy in host.components.items()
            if name == component
        }

    def fail_calls(self, component: str, host: str, failures: int) -> None:
        """Have calls of an actor fail from now on."""
        copy = self.hosts[host].components[component]
        failed = (copy.failures or 0) + failures
        calls = (copy.calls or 0) + failures
        self.hosts[host].components[component] = replace(copy, failures=failed, calls=calls)

    def _check(self, command: Command) -> None:
        """Nobody may be told what can't be meant."""
        match command:
            case ScaleComponent(host=host) | StartProvider(host=host) | StopProvider(host=host):
                assert self.hosts[host].state == "alive", f"told a host that is away: {command}"
            case _:
                pass
        match command:
            case StartProvider(host=host, provider=provider):
                assert not self.hosts[host].draining
                assert not _runs(self.hosts[host], provider), f"runs there: {command}"
                assert not any(
                    isinstance(other, StartProvider) and other.key == command.key
                    for _, other in self._under_way
                ), f"started twice: {command}"
            case ScaleComponent(host=host, count=count) if count:
                assert not self.hosts[host].draining
            case ScaleComponent(config=configs) if configs:
                assert set(configs) <= self.configs.keys()
            case PutLink(link=link):
                assert {*link.source_config, *link.target_config} <= self.configs.keys()
            case _:
                pass

    def _take_effect(self) -> None:
        due = [command for at, command in self._under_way if at <= self.now]
        self._under_way = [(at, command) for at, command in self._under_way if at > self.now]
        for command in due:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case ScaleComponent(host=host):
                if self.hosts[host].state != "dead":
                    self._scale(self.hosts[host], command)
            case StartProvider(host=host, provider=provider):
                if self.hosts[host].state == "dead":
                    return
                if command.reference in self.broken:
                    self._refuse(command)
                elif not _runs(self.hosts[host], provider):
                    self.hosts[host].providers[provider] = ObservedProvider(
                        reference=command.reference, annotations=command.annotations
                    )
            case StopProvider(host=host, provider=provider):
                self.hosts[host].providers.pop(provider, None)
            case PutLink(link=link):
                self.links[link.order] = link
            case DeleteLink(link=link):
                self.links.pop(link.order, None)
            case PutConfig(name=name, values=values):
                self.configs[name] = dict(values)
            case DeleteConfig(name=name):
                self.configs.pop(name, None)

    def _scale(self, host: SimulatedHost, command: ScaleComponent) -> None:
        if not command.count:
            host.components.pop(command.component, None)
            return
        if command.reference in self.broken:
            self._refuse(command)
            return
        before = host.components.get(command.component)
        host.components[command.component] = ObservedComponent(
            reference=command.reference,
            count=command.count,
            annotations=command.annotations,
            calls=before.calls if before else 0,
            failures=before.failures if before else 0,
        )

    def _refuse(self, command: Command) -> None:
        self.memory = planning.failed(self.memory, command.key, "no such image", self.now)


def commands(steps: Sequence[Step]) -> list[Command]:
    return [step.command for step in steps]


def _runs(host: SimulatedHost, provider: str) -> bool:
    copy = host.providers.get(provider)
    return copy is not None and copy.given_up is None
