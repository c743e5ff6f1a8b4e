"""Whatever happens, in the end the lattice is what the apps say; and on the way nobody is hurt."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from lattice.manifest import APP_ANNOTATION
from lattice.reconcile import planning
from lattice.reconcile.model import Observed, ObservedComponent, ObservedProvider, Status
from lattice.wire.control import Link
from tests.support.simulated_lattice import SimulatedLattice
from tests.unit.lattice.reconcile.manifests import actor, app, link, provider

# Hours of a lattice's life are decided second by second, and shrinking a failure takes minutes.
pytestmark = pytest.mark.timeout(300)

HOSTS = ["a", "b", "c", "d", "e"]
ZONES = ["eu", "us"]
BROKEN = "file:///broken.wasm"

CALM_S = 1_800.0
"""Long enough for every pause between tries to end, and for every rollout."""


class Lattice(RuleBasedStateMachine):
    """Hosts come, go, hang and drain; commands are late or lost; people deploy and meddle."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SimulatedLattice()
        self.deployed = 0
        self.world.broken.add(BROKEN)

    @initialize(zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3))
    def begin(self, zones: list[str]) -> None:
        for host, zone in zip(HOSTS, zones, strict=False):
            self.world.add_host(host, zone=zone)

    @rule(
        image=st.sampled_from(["file:///one.wasm", "file:///two.wasm", BROKEN]),
        instances=st.integers(0, 9),
        zoned=st.booleans(),
        kept=st.sampled_from(["1", "2"]),
        copies=st.integers(0, 3),
        kv=st.sampled_from(["file:///kv1", "file:///kv2"]),
        linked=st.booleans(),
    )
    def deploy(
        self,
        image: str,
        instances: int,
        zoned: bool,
        kept: str,
        copies: int,
        kv: str,
        linked: bool,
    ) -> None:
        spread = [
            {"name": "eu", "weight": 70, "requirements": {"zone": "eu"}},
            {"name": "us", "weight": 30, "requirements": {"zone": "us"}},
        ]
        manifest = app(
            actor(
                image=image,
                instances=instances,
                spread=spread if zoned else [],
                config={"c": {"k": kept}},
                links=[link("kv", config={"u": {"url": kept}})] if linked else [],
            ),
            provider(image=kv, instances=copies),
        )
        self.deployed += 1
        self.world.deploy(manifest, f"v{self.deployed}")

    @precondition(lambda self: "shop" in self.world.apps)
    @rule()
    def undeploy(self) -> None:
        self.world.undeploy("shop")

    @rule(host=st.sampled_from(HOSTS), zone=st.sampled_from(ZONES))
    def join(self, host: str, zone: str) -> None:
        known = self.world.hosts.get(host)
        if known is None or known.state == "dead":
            self.world.add_host(host, zone=zone)

    @rule(host=st.sampled_from(HOSTS))
    def kill(self, host: str) -> None:
        if host in self.world.hosts:
            self.world.kill(host)

    @rule(host=st.sampled_from(HOSTS))
    def fall_silent(self, host: str) -> None:
        known = self.world.hosts.get(host)
        if known and known.state == "alive":
            known.state = "suspect"

    @rule(host=st.sampled_from(HOSTS))
    def give_up(self, host: str) -> None:
        """Take a silent host for dead though it lives, with all that it runs."""
        known = self.world.hosts.get(host)
        if known and known.state == "suspect":
            known.state = "dead"

    @rule(host=st.sampled_from(HOSTS))
    def return_to_life(self, host: str) -> None:
        known = self.world.hosts.get(host)
        if known and not known.draining:
            known.state = "alive"

    @rule(host=st.sampled_from(HOSTS))
    def drain(self, host: str) -> None:
        known = self.world.hosts.get(host)
        if known and known.state == "alive":
            known.draining = True

    @rule(host=st.sampled_from(HOSTS), zone=st.sampled_from(ZONES))
    def relabel(self, host: str, zone: str) -> None:
        if host in self.world.hosts:
            self.world.hosts[host].labels["zone"] = zone

    @rule(delay_s=st.sampled_from([0.0, 0.4, 2.0]), losing=st.booleans())
    def disturb(self, delay_s: float, losing: bool) -> None:
        self.world.delay_s, self.world.losing = delay_s, losing

    @rule(host=st.sampled_from(HOSTS), count=st.integers(1, 5))
    def meddle(self, host: str, count: int) -> None:
        """Scale by hand, without a word of whose it is."""
        known = self.world.hosts.get(host)
        copy = known.components.get("shop-counter") if known else None
        if known and copy:
            known.components["shop-counter"] = ObservedComponent(
                reference=copy.reference,
                count=count,
                annotations=copy.annotations,
                calls=copy.calls,
                failures=copy.failures,
            )

    @rule()
    def lose_links(self) -> None:
        self.world.links.clear()

    @rule(host=st.sampled_from(HOSTS))
    def run_something_else(self, host: str) -> None:
        if host in self.world.hosts:
            strange = ObservedComponent(reference="file:///strange.wasm", count=1)
            self.world.hosts[host].components["strange"] = strange
            kept = Link(source_id="strange", target="x", wit_namespace="n", wit_package="p")
            self.world.links[kept.order] = kept

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule()
    def calm_down(self) -> None:
        """Let everything that can happen, happen; then look."""
        world = self.world
        world.losing, world.delay_s = False, 0.4
        for host in world.hosts.values():
            if host.state == "suspect":
                host.state = "alive"
        strange = {host.id for host in world.hosts.values() if "strange" in host.components}
        world.run(CALM_S, every_s=2.0)

        # What can't be started is tried again now and then, for ever: it may be mended.
        restless = [step for step in world.tick() if BROKEN not in repr(step.command)]
        assert restless == [], "it never comes to rest"
        assert strange == {host.id for host in world.hosts.values() if "strange" in host.components}
        if "shop" in world.apps and any(host.state == "alive" for host in world.hosts.values()):
            self.look()

    def look(self) -> None:
        world = self.world
        status = world.statuses["shop"]
        wanted = world.apps["shop"].desired
        alive = [host for host in world.hosts.values() if host.state == "alive"]
        usable = [host for host in alive if not host.draining]
        if wanted is None:
            assert status.status is Status.UNDEPLOYED
            assert status.gone
            assert not world.configs
            for host in alive:
                copies_left: list[ObservedComponent | ObservedProvider]
                copies_left = [*host.components.values(), *host.providers.values()]
                for copy in copies_left:
                    assert copy.annotations.get(APP_ANNOTATION) != "shop"
            return
        rollout = world.memory.apps["shop"].rollout
        if rollout is not None:
            assert rollout.phase == "rolled_back"
            wanted = world.apps["shop"].fallbacks[rollout.base]
            assert status.status is Status.FAILED
            assert status.version == rollout.base
        [counter, kv] = wanted.scalers
        for config in wanted.configs:
            assert world.configs[config.name] == config.values
        for wanted_link in wanted.links:
            assert wanted_link.link.order in world.links
        copies = {host.id for host in alive if "shop-kv" in host.providers}
        if usable:
            assert len(copies) == min(kv.instances, len(usable))
            assert {host.providers["shop-kv"].reference for host in alive if host.id in copies} <= {
                kv.reference
            }
        if counter.reference == BROKEN:
            assert counter.instances == 0 or not usable or status.status is Status.FAILED
            return
        total = 0
        for group in counter.groups:
            takes = [host for host in usable if group.takes(host.labels)]
            counts = [world.count("shop-counter", host.id) for host in takes]
            assert not counts or max(counts) - min(counts) <= 1, "not even"
            total += sum(counts)
        if usable and all(
            any(group.takes(host.labels) for host in usable) for group in counter.groups
        ):
            assert total == counter.instances
            assert {
                host.components["shop-counter"].reference
                for host in alive
                if "shop-counter" in host.components
            } <= {counter.reference}
            if rollout is None and len(usable) >= kv.instances:
                assert status.status is Status.DEPLOYED

    @invariant()
    def an_empty_observation_stops_nothing(self) -> None:
        world = self.world
        apps = list(world.apps.values())
        assert planning.decide(apps, Observed(), world.memory, world.now).steps == []

    @invariant()
    def deciding_changes_nothing_that_was_passed_in(self) -> None:
        before = self.world.memory.model_copy(deep=True)
        self.world.decide()
        assert self.world.memory == before

    @invariant()
    def the_same_is_decided_again(self) -> None:
        assert self.world.decide() == self.world.decide()

    @invariant()
    def nobody_is_told_two_things_at_once(self) -> None:
        keys = Counter(step.command.key for step in self.world.decide().steps)
        assert all(count == 1 for count in keys.values())

    def teardown(self) -> None:
        self.calm_down()


TestLattice = Lattice.TestCase
TestLattice.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
